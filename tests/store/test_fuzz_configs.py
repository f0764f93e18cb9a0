"""Model folders whose config.json was changed at random paint what it says or are refused; 300 by
`python -m tests.harness.mutate_configs`."""

import json
import shutil
from collections import Counter

import pytest

from dd2core.errors import DD2Error
from dd2core.store.folder import describe
from tests.harness import mutate_configs


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folders = mutate_configs.folders(tmp_path_factory.mktemp("models"))
    return folders, {family: mutate_configs.paint(folder) for family, folder in folders.items()}


def test_changed_configs_paint_what_they_say_or_are_refused_in_one_sentence(made, tmp_path):
    found = Counter(mutate_configs.case(19, i, *made, tmp_path / "case") for i in range(40))
    ends = {end.partition(": ")[0] for end in found}
    assert ends == {"same", "value", "bytes", "stale"} and found["same: the same images"]


@pytest.mark.parametrize("sizes", [
    {"tokenizer": {"mult": 4}}, {"tokenizer": {"attention": 1}}, {"tokenizer": {"mult": []}},
    {"tokenizer": {"image_size": 16.0}}, {"transformer": {"token_input": None}},
    {"transformer": {"depth": True}}, {"head": {"depth": "2"}}, {"head": {"t_init": [0.5]}},
    {"class_names": "cat"}, {"class_names": ["cat", "dog", ""]}, {"class_names": {"a": 1}},
    {"parts": "teacher"},
])
def test_values_of_another_type_are_refused(sizes, made, tmp_path):
    folder = shutil.copytree(made[0]["llamagen"], tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    [(section, value)] = sizes.items()
    config[section] = {**config[section], **value} if isinstance(value, dict) and (
        isinstance(config[section], dict)) else value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DD2Error, match="is not a model's") as error:
        describe(folder)
    assert "\n" not in str(error.value)
