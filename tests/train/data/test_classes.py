"""Labels follow names: an unknown name is never a permutation, and equal names are equal."""

import shutil
import unicodedata

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.pipeline import as_labels
from tests.support.train_helpers import PICTURES, config
from tests.train.engine.test_base import make_base
from train.convert import Convert, class_names
from train.data import labels, notes
from train.data.classes import folder_name, match, ordered, refuse_twice
from train.data.fashion import FASHION_CLASSES
from train.data.source import find_pictures

NUMBERS = [str(i) for i in range(12)]


@pytest.fixture
def numbers(monkeypatch):
    """`labels.numbers` for a base of given class names."""
    monkeypatch.setattr(notes, "_said", set())

    def found(own, names):
        monkeypatch.setattr(labels, "class_names", lambda cfg: list(names))
        return labels.numbers(config("base=somewhere"), list(own)).tolist()

    return found


def folders(names):
    """Class names as folders give them: in order, and without what no folder can hold."""
    return ordered([folder_name(name) for name in names])


def test_every_name_that_no_folder_can_hold_finds_its_class(numbers):
    own = folders(FASHION_CLASSES)
    assert own[0] == "Ankle boot" and "T-shirt_top" in own
    assert [FASHION_CLASSES[i] for i in numbers(own, FASHION_CLASSES)] == [
        name.replace("_", "/") for name in own]
    assert numbers(["T-shirt:top"], FASHION_CLASSES) == [0]  # what macOS makes of it
    assert numbers(["what_", "a_b_c"], ['a"b<c', "what?"]) == [1, 0]


@pytest.mark.parametrize("renamed", ["Ankle boots", "ankle boot", "T-shirt", "0"])
def test_one_unknown_name_is_refused_and_not_a_permutation(renamed, numbers):
    own = folders(FASHION_CLASSES)
    own[0] = renamed
    with pytest.raises(DD2Error, match=f"the base has no class '{renamed}'"):
        numbers(ordered(own), FASHION_CLASSES)


def test_the_nearest_name_is_suggested(numbers):
    with pytest.raises(DD2Error, match=r"'ankle boot' \(is it 'Ankle boot'\?\)"):
        numbers(["Bag", "ankle boot"], FASHION_CLASSES)


@pytest.mark.parametrize("own", [[name.lower() for name in FASHION_CLASSES],
                                 [f"kind of {i}" for i in range(10)]])
def test_names_of_which_the_base_knows_none_are_refused(own, numbers):
    with pytest.raises(DD2Error, match="none of them by the same name"):
        numbers(ordered(own), FASHION_CLASSES)


@pytest.mark.parametrize(("own", "names"), [
    (NUMBERS, [f"name {c}" for c in "abcdefghijkl"]), (list("abcdefghijkl"), NUMBERS),
    (list("abcdefghijkl"), [f"class {i}" for i in range(12)]),
    ([f"n{i:08d}" for i in range(12)], [f"name {c}" for c in "abcdefghijkl"])])
def test_numbers_and_wordnet_folders_count_in_their_order_and_it_is_said(own, names, numbers,
                                                                         capsys):
    assert numbers(ordered(own[::-1]), names) == list(range(12))
    assert f"{own[0]} is {names[0]}, …, {own[-1]} is {names[-1]}" in capsys.readouterr().out
    with pytest.raises(DD2Error, match="has 11 classes and base=somewhere has 12"):
        numbers(own[1:], names)


def test_numbered_folders_are_numbered_by_their_numbers(tmp_path):
    for name in NUMBERS:
        shutil.copytree(PICTURES / "disc", tmp_path / name)
    found = find_pictures(config(f"data={tmp_path}"))
    assert found.class_names == NUMBERS
    assert {found.paths[i].split("/")[-2] for i in range(len(found.paths))
            if found.labels[i] == 2} == {"2"}
    assert ordered(["10", "9", "a"]) == ["10", "9", "a"]  # a name among them: by text


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_composed_and_decomposed_names_are_one(form, numbers, tmp_path):
    names = ["Krähe", "Möwe", "Şahin"]
    own = [unicodedata.normalize(form, name) for name in names]
    other = [unicodedata.normalize({"NFC": "NFD", "NFD": "NFC"}[form], name) for name in names]
    assert numbers(own[::-1], other) == [2, 1, 0]
    for name in own:
        shutil.copytree(PICTURES / "disc", tmp_path / name)
    assert find_pictures(config(f"data={tmp_path}")).class_names == names


@pytest.mark.parametrize("pair", [("Möwe", unicodedata.normalize("NFD", "Möwe")), ("a_b", "a:b")])
def test_two_folders_of_one_name_are_refused(pair, tmp_path):
    for name in pair:
        shutil.copytree(PICTURES / "disc", tmp_path / name)
    with pytest.raises(DD2Error, match="which are one class by name"):
        find_pictures(config(f"data={tmp_path}"))


def test_a_base_with_one_name_twice_is_refused_by_name(numbers):
    with pytest.raises(DD2Error, match="twice 'crane', which are one class by name"):
        numbers(["crane", "owl"], ["crane", "owl", "crane"])
    assert numbers(["0", "1", "2"], ["crane", "owl", "crane"]) == [0, 1, 2]
    with pytest.raises(DD2Error, match="2 classes are called 'crane': name it by number"):
        as_labels(["crane"], ["crane", "owl", "crane"])
    assert as_labels(["owl", 2], ["crane", "owl", "crane"]) == [1, 2]


def test_converted_models_have_no_name_twice(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("crane\nowl\ncrane\n")
    with pytest.raises(DD2Error, match="twice 'crane'"):
        class_names(Convert(class_names=str(path)), 3)


def test_refusing_tells_both_names():
    refuse_twice(["a", "b", "A"], "here")
    with pytest.raises(DD2Error, match=r"here has 'a/b' and 'a_b'"):
        refuse_twice(["a/b", "a_b"], "here")
    assert match(["x"], ["y"], "here") is None


def test_folders_are_matched_with_a_real_base(tmp_path):
    made = make_base(tmp_path / "made", ["frame", "dis/c", "cross"])
    for name in ("frame", "dis_c", "cross"):
        shutil.copytree(PICTURES / name.replace("_", ""), tmp_path / "data" / name)
    found = labels.load_data(config(f"base={made}", f"data={tmp_path / 'data'}"))
    assert found.class_names == ["frame", "dis/c", "cross"]
    own = find_pictures(config(f"data={tmp_path / 'data'}"))
    assert own.class_names == ["cross", "dis_c", "frame"]
    assert torch.equal(found.labels, 2 - own.labels[own.parts["train"]])
