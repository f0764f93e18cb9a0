"""Every file of numbers says its commit, date, machine, versions, seed and weights."""

import dataclasses
import json
import subprocess

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.results import schema
from dd2core.results.provenance import BEFORE, told
from dd2core.results.record import from_json, to_json
from dd2core.results.speed import read_speed
from dd2core.store.files import sha256, write_manifest
from tests.support.measurements import SPEED, named, write
from train.engine.record import provenance as record
from train.engine.record.provenance import checkout, digests, machines, note_machine, provenance

CPU = torch.device("cpu")


def git(folder, *words):
    own = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", "-C", str(folder), *own, *words], check=True,
                          capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A checkout with one commit."""
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "x")
    checkout.cache_clear()
    return tmp_path


def test_the_commit_is_the_checkouts_and_changes_to_tracked_files_are_said(repository):
    commit = git(repository, "rev-parse", "HEAD")
    (repository / "untracked").write_text("1")
    assert checkout(repository) == (commit, False)
    (repository / "a").write_text("2")
    checkout.cache_clear()
    assert checkout(repository) == (commit, True)


def test_a_copy_inside_another_checkout_has_no_commit(repository):
    (repository / "copy").mkdir()
    assert checkout(repository / "copy") == (None, None)


def test_it_says_all_that_is_needed_to_measure_again(monkeypatch):
    monkeypatch.setattr(record, "checkout", lambda root: ("a" * 40, False))
    found = provenance(CPU, 7, {"x.safetensors": "0" * 64})
    assert found.seed == 7 and found.weights == {"x.safetensors": "0" * 64} and found.cores >= 1
    assert {"python", "torch", "numpy"} <= set(found.versions)
    assert found.versions["torch"] == torch.__version__ and len(found.device) > 2
    assert found.date[10] == "T" and found.date.endswith("Z")
    assert from_json(type(found), json.loads(json.dumps(dataclasses.asdict(found)))) == found
    assert told(found).startswith(f"commit aaaaaaaaaa, {found.date[:10]}, {found.device}, ")
    assert told(None) == BEFORE


def test_the_weights_of_a_model_folder_are_known_by_their_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(name.encode())
    plain = digests(tmp_path)
    assert plain == {f"{n}.safetensors": sha256(tmp_path / f"{n}.safetensors") for n in "ab"}
    write_manifest(tmp_path)
    other = tmp_path / "other" / "b.safetensors"
    other.parent.mkdir()
    other.write_bytes(b"c")
    assert digests(tmp_path, other) == {**plain, "weights=b.safetensors": sha256(other)}


def test_a_measurement_keeps_it_and_older_files_have_none(tmp_path):
    now = dataclasses.asdict(provenance(CPU, 0))
    path = write(tmp_path, {**named("one_step"), "provenance": now, "trained_on": "a, then b"})
    found = schema.read(path)
    assert dataclasses.asdict(found.provenance) == now and found.trained_on == "a, then b"
    assert to_json(found)["provenance"] == now
    assert schema.read(write(tmp_path, named("teacher", sampler="teacher"))).provenance is None
    speed = tmp_path / "benchmark.json"
    for values, known in ((SPEED, None), ({**SPEED, "provenance": now}, now)):
        speed.write_text(json.dumps(values))
        found = read_speed(speed).provenance
        assert found == known or dataclasses.asdict(found) == known


@pytest.mark.parametrize("wrong", [{"commit": "abc"}, {"date": "today"}, {"device": 3}, {"x": 1}])
def test_a_damaged_provenance_is_one_sentence(tmp_path, wrong):
    now = dataclasses.asdict(provenance(CPU, 0))
    path = write(tmp_path, {**named("one_step"), "provenance": {**now, **wrong}})
    with pytest.raises(DD2Error, match="is no whole measurement"):
        schema.read(path)


def test_a_stage_notes_every_machine_that_trains_it(tmp_path, monkeypatch):
    assert machines(tmp_path) is None
    for device in ("one", "two", "two"):
        monkeypatch.setattr(record, "device_model", lambda d, name=device: name)
        note_machine(tmp_path, CPU, 0)
    assert machines(tmp_path, tmp_path / "nothing") == "one, then two"
    path = tmp_path / "machines.jsonl"
    assert len(path.read_text().splitlines()) == 3
    path.write_text(path.read_text()[:-40])  # a line that was cut off
    note_machine(tmp_path, CPU, 0)
    assert machines(tmp_path) == "one, then two"
    assert len([json.loads(line) for line in path.read_text().splitlines()[-1:]]) == 1
