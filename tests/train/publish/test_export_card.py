"""What `train.export` writes can be put on the hub and loaded from there by its id."""

import shutil

import pytest
import torch
import yaml

from dd2core.errors import DD2Error
from dd2core.pipeline import load_pipeline
from dd2core.store import hub
from dd2core.store.files import read_json, sha256
from dd2core.store.folder import load_folder, save_folder
from tests.support import tiny
from tests.support.measurements import named, write
from tests.support.train_helpers import config, grey
from tests.train.engine.test_base import STEPS, make_base
from train.publish.card import card
from train.publish.repository import repository

CPU = torch.device("cpu")
COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The words of a finished run on a base that was converted."""
    made = make_base(tmp_path_factory.mktemp("base") / "made")
    model = load_folder(made, CPU)
    save_folder(made, model, extra={"source": {
        "repo": "FoundationVision/var", "revision": COMMIT, "files": {"a.pth": "0" * 64}}})
    words = (tmp_path_factory.mktemp("run") / "run", f"base={made}", *STEPS)
    for stage in ("gts", "csd", "export"):
        assert grey(stage, *words) is None
    return words


@pytest.fixture(scope="module")
def folder(run):
    return run[0] / "model"


def front_matter(text):
    head, _, body = text.removeprefix("---\n").partition("\n---\n")
    assert text.startswith("---\n") and body.startswith("\n# ")
    return yaml.safe_load(head), body


# The card -------------------------------------------------------------------------------------

def test_the_card_has_the_hubs_front_matter(folder):
    head, body = front_matter((folder / "README.md").read_text())
    assert head["license"] == "mit" and head["library_name"] == "dd2"
    assert head["pipeline_tag"] == "unconditional-image-generation"
    assert {"one-step", "llamagen"} <= set(head["tags"])
    assert head["base_model"] == "FoundationVision/var"
    assert "load_pipeline(\"OWNER/NAME\")" in body and "sample_one_step" in body
    assert "3 classes: frame, disc, cross" in body and COMMIT in body
    for heading in ("## Intended use", "## Data", "## Limits", "## Cite"):
        assert len(body.split(heading)[1].split("\n## ")[0].strip()) > 60
    assert "sample_one_step([0, 1, 2], seed=0)" in body  # labels that the model has
    assert body.count(repository()) >= 3 and "ImageNet's terms of access" in body
    assert "\n\n\n" not in body and "None" not in body


def test_the_manifest_covers_the_card(folder):
    assert read_json(folder / "manifest.json")["README.md"] == sha256(folder / "README.md")
    assert read_json(folder / "config.json")["source"]["revision"] == COMMIT


def test_numbers_are_those_of_the_results(folder, tmp_path):
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    assert "## Measured" not in card(config(), copy)
    write(copy, named("early", "tried"))
    assert "## Measured" not in card(config(), copy)
    write(copy, named("one_step", fd=12.345, n=1234))
    text = card(config(), copy)
    assert "## Measured" in text and "| 12.35 |" in text and "| 1,234 |" in text
    assert "small classifier's features" in text and "Inception's" not in text
    (copy / "results" / "one_step.json").write_text('{"fd": 1}')
    with pytest.raises(DD2Error, match=r"one_step\.json is no whole measurement"):
        card(config(), copy)


def test_the_data_set_and_licence_are_named(tmp_path):
    save_folder(tmp_path, tiny.model())
    config_words = {"data=fashion-mnist": ["zalando-datasets/fashion_mnist"], "data=mine": None}
    for word, datasets in config_words.items():
        head, body = front_matter(card(config(word, "export_license=cc-by-4.0"), tmp_path))
        assert head.get("datasets") == datasets and head["license"] == "cc-by-4.0"
        said = "MIT licence, Zalando" if datasets else "pictures of whoever exported it"
        assert said in body and "cc-by-4.0" in body
        assert "base_model" not in head


def test_a_teacher_alone_is_said_to_be_one(tmp_path):
    make_base(tmp_path / "made")
    text = card(config(), tmp_path / "made")
    assert "not yet distilled" in text and "sample_one_step" not in text


# The hub --------------------------------------------------------------------------------------

class FakeApi:
    """What `HfApi` does for an upload, into a folder."""

    store = None

    def create_repo(self, repo_id, exist_ok):
        assert exist_ok
        (self.store / repo_id).mkdir(parents=True)

    def upload_folder(self, repo_id, folder_path, commit_message):
        shutil.copytree(folder_path, self.store / repo_id, dirs_exist_ok=True)
        return f"https://hub/{repo_id}/commit/{COMMIT}"


@pytest.fixture
def fake_hub(monkeypatch, tmp_path):
    """A hub in a folder; returns the downloads that were asked for."""
    asked = []

    def snapshot_download(repo, revision=None, allow_patterns=None):
        asked.append((repo, revision))
        target = tmp_path / "cache" / (revision or COMMIT)
        for pattern in allow_patterns:
            for path in (tmp_path / "hub" / repo).rglob(pattern):
                at = target / path.relative_to(tmp_path / "hub" / repo)
                at.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, at)
        return str(target)

    FakeApi.store = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.HfApi", FakeApi)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return asked


def test_an_upload_loads_again_by_its_id(run, fake_hub, capsys):
    assert grey("export", *run, "export_hub=owner/name") is None
    assert f"https://hub/owner/name/commit/{COMMIT}" in capsys.readouterr().out
    here = load_pipeline(str(run[0] / "model"), "cpu")
    for name, revision in (("owner/name", None), ("owner/name@v1", None), ("owner/name", "v2")):
        there = load_pipeline(name, "cpu", revision)
        a, b = (p.sample_one_step([0, 1, 2], seed=3).images for p in (here, there))
        assert (a == b).all()
    shown = [sorted(p.name for p in pipe.model.folder.rglob("*") if p.suffix in (".jsonl", ".png"))
             for pipe in (here, there)]
    assert shown[0] == shown[1] and "csd.jsonl" in shown[0]  # what the page shows comes along
    assert fake_hub == [("owner/name", None), ("owner/name", "v1"), ("owner/name", "v2")]
    text = (run[0] / "model" / "README.md").read_text()
    assert 'load_pipeline("owner/name")' in text


def test_the_hub_id_serves_as_a_base(run, fake_hub, tmp_path):
    assert grey("export", *run, "export_hub=owner/name") is None
    assert grey("gts", tmp_path / "run", "base=owner/name@v1", *STEPS) is None
    assert (tmp_path / "run" / "gts" / "generator.safetensors").exists()


class Answer(Exception):
    """An error of the hub with a status code."""

    def __init__(self, code):
        super().__init__("no")
        self.response = type("Response", (), {"status_code": code})


@pytest.mark.parametrize(("error", "says"), [
    (Answer(401), "the token is missing or may not write there, log in with `hf auth login`"),
    (Answer(403), "the token is missing or may not write there"),
    (ConnectionError("x"), "ConnectionError, check its name and the network"),
])
def test_an_upload_that_fails_is_one_sentence(error, says, monkeypatch, tmp_path):
    def fail(self, repo_id, exist_ok):
        raise error

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", fail)
    with pytest.raises(DD2Error, match=says) as stopped:
        hub.upload(tmp_path, "owner/name", "message")
    assert "the folder itself is done" in str(stopped.value)


def test_uploading_without_a_token_says_how_to_log_in(monkeypatch, tmp_path):
    from huggingface_hub.errors import LocalTokenNotFoundError

    def fail(self, repo_id, exist_ok):
        raise LocalTokenNotFoundError("no token")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", fail)
    with pytest.raises(DD2Error, match="there is no token, log in with `hf auth login`"):
        hub.upload(tmp_path, "owner/name", "message")


def test_offline_uploads_and_wrong_ids_are_one_sentence(run, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    stopped = grey("export", *run, "export_hub=owner/name")
    assert "cannot be uploaded to owner/name: HF_HUB_OFFLINE is set" in stopped
    with pytest.raises(DD2Error, match="export_hub=name is no hub id: write owner/name"):
        hub.upload(tmp_path, "name", "message")
