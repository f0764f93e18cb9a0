"""Files: atomic, strict, checked; every way in which they can be wrong is one sentence."""

import errno
import itertools
import json
import os
import pickle
import subprocess
import sys
import time

import pytest
import torch

from dd2core import Pipeline, load_pipeline
from dd2core.errors import DD2Error
from dd2core.store import files as checkpoint
from dd2core.store.files import (
    check_manifest,
    load_strict,
    read_json,
    read_tensors,
    write_atomic,
    write_json,
    write_manifest,
    write_tensors,
)
from dd2core.store.folder import Model, load_folder, resolve, save_folder
from dd2core.store.state import load_state, save_state
from tests.support import tiny

CPU = torch.device("cpu")


def one_sentence(error) -> bool:
    text = str(error.value)
    return text.endswith(".") and "\n" not in text and "Traceback" not in text


# One file ------------------------------------------------------------------------------------

WRITERS = {
    "atomic": lambda path, n: write_atomic(path, bytes([n]) * 1000),
    "json": lambda path, n: write_json(path, {"n": n}),
    "tensors": lambda path, n: write_tensors(path, {"a": torch.full((9,), float(n))}),
    "state": lambda path, n: save_state(path, {"n": n}),
}
writers = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())


@writers
@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(write, broken, tmp_path, monkeypatch):
    path = tmp_path / "deep" / "file"
    write(path, 1)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(DD2Error, match="disk full") as error:
        write(path, 2)
    assert one_sentence(error)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["file"]


@writers
def test_a_second_write_replaces_the_first(write, tmp_path):
    write(tmp_path / "a", 1)
    write(tmp_path / "a", 2)
    write(tmp_path / "b", 2)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_process_killed_while_saving_leaves_a_readable_state(tmp_path):
    path = tmp_path / "state.pt"
    code = ("import sys, torch; from dd2core.store.state import save_state\n"
            "for n in range(10**9): save_state(sys.argv[1], {'n': n, 'a': torch.zeros(10**6)})")
    child = subprocess.Popen([sys.executable, "-c", code, str(path)])
    while not path.exists():
        assert child.poll() is None
        time.sleep(0.01)
    time.sleep(0.2)  # in the middle of one of the next saves
    child.kill()
    child.wait()
    assert load_state(path)["a"].shape == (10**6,)


def test_tensors_come_back_as_they_were_and_dtype_converts_the_floating_ones(tmp_path):
    tensors = {"f": torch.randn(3, 4), "view": torch.randn(5, 6).T, "i": torch.arange(5),
               "b": torch.randn(2).bfloat16(), "scalar": torch.tensor(3)}
    write_tensors(tmp_path / "a", tensors)
    back = read_tensors(tmp_path / "a")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[k], tensors[k]) and back[k].dtype == tensors[k].dtype
               for k in tensors)
    write_tensors(tmp_path / "h", tensors, torch.float16)
    half = read_tensors(tmp_path / "h")
    assert half["f"].dtype == torch.float16 and half["i"].dtype == torch.int64


def test_a_state_of_tensors_and_numbers_comes_back(tmp_path):
    optimizer = torch.optim.Adam([torch.zeros(2, requires_grad=True)])
    state = {"step": 3, "name": "x", "rng": torch.get_rng_state(), "opt": optimizer.state_dict()}
    save_state(tmp_path / "s", state)
    back = load_state(tmp_path / "s")
    assert back["step"] == 3 and torch.equal(back["rng"], state["rng"])
    assert back["opt"] == state["opt"]


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('code from a checkpoint was run')",)


def bad_files(folder):
    """Files of the wrong kind, by name."""
    write_tensors(folder / "whole", {"a": torch.zeros(1000)})
    torch.save({"a": torch.zeros(1000)}, folder / "torch")
    (folder / "truncated safetensors").write_bytes((folder / "whole").read_bytes()[:-7])
    (folder / "truncated state").write_bytes((folder / "torch").read_bytes()[:500])
    (folder / "empty").write_bytes(b"")
    (folder / "text").write_text("hello")
    (folder / "bytes").write_bytes(bytes(range(256)) * 8)
    (folder / "json list").write_text("[1, 2]")
    (folder / "half json").write_text('{"a": 1')
    (folder / "pickle").write_bytes(pickle.dumps(Evil()))
    (folder / "directory").mkdir()
    torch.save(Evil(), folder / "evil")
    torch.save([1, 2], folder / "list")


FOREIGN = {
    read_tensors: ["nowhere", "truncated safetensors", "torch", "empty", "text", "bytes",
                   "directory"],
    load_state: ["nowhere", "truncated state", "whole", "empty", "text", "bytes", "pickle", "evil",
                 "list", "directory"],
    read_json: ["nowhere", "half json", "json list", "empty", "text", "bytes", "directory"],
}


@pytest.mark.parametrize("read, name", [(f, n) for f, names in FOREIGN.items() for n in names],
                         ids=lambda a: getattr(a, "__name__", a))
def test_a_missing_truncated_or_foreign_file_is_one_sentence_that_names_it(read, name, tmp_path):
    bad_files(tmp_path)
    with pytest.raises(DD2Error, match=name) as error:
        read(tmp_path / name)
    assert one_sentence(error)


# Strict loading ------------------------------------------------------------------------------


def unchanged_after_refusal(module, tensors, *parts: str) -> bool:
    before = {k: v.clone() for k, v in module.state_dict().items()}
    with pytest.raises(DD2Error) as error:
        load_strict(module, tensors, "weights.safetensors")
    assert one_sentence(error) and all(p in str(error.value) for p in parts)
    return all(torch.equal(v, before[k]) for k, v in module.state_dict().items())


def test_weights_that_do_not_fit_are_named_and_change_nothing():
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    good = {k: torch.ones_like(v) for k, v in module.state_dict().items()}
    missing = {k: v for k, v in good.items() if k != "1.bias"}
    assert unchanged_after_refusal(module, missing, "missing: 1.bias")
    extra = {**good, "2.weight": torch.ones(1)}
    assert unchanged_after_refusal(module, extra, "unexpected: 2.weight")
    shape = {**good, "0.weight": torch.ones(4, 5)}
    assert unchanged_after_refusal(module, shape, "shape: 0.weight (4, 5) for (4, 3)")
    foreign = {str(i): torch.ones(1) for i in range(500)}
    assert unchanged_after_refusal(module, foreign, "missing", "unexpected", "and 495 more")
    load_strict(module, good, "weights.safetensors")
    assert all((v == 1).all() for v in module.state_dict().values())


# Folders -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    save_folder(tmp_path / "model", tiny.model())
    return tmp_path / "model"


@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_gives_back_the_same_images(channels, tmp_path):
    model = tiny.model(channels)
    save_folder(tmp_path, model, extra={"note": "kept"})
    here, there = Pipeline(model), load_pipeline(str(tmp_path), "cpu")
    assert there.class_names == tiny.CLASSES and there.sampling == model.sampling
    assert there.image_size == 16 and read_json(tmp_path / "config.json")["note"] == "kept"
    for a, b in ((here.sample_teacher([0, 2]), there.sample_teacher([0, 2])),
                 (here.sample_one_step([0, 2]), there.sample_one_step([0, 2]))):
        assert (a.images == b.images).all() and torch.equal(a.tokens, b.tokens)
    assert not any(p.requires_grad for m in (there.generator, there.guidance, there.teacher)
                   for p in m.parameters())


def test_a_folder_without_score_networks_still_has_its_teacher(tmp_path):
    m = tiny.model()
    save_folder(tmp_path, Model(m.name, m.family, m.class_names, m.sampling, m.teacher, None,
                                None, m.image_size))
    pipe = load_pipeline(str(tmp_path), "cpu")
    assert pipe.sample_teacher([0]).passes == 16
    with pytest.raises(DD2Error, match="no generator"):
        pipe.sample_one_step([0])


PARTS = ["config.json", "tokenizer.safetensors", "teacher.safetensors", "generator.safetensors",
         "guidance.safetensors"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_any_damaged_or_missing_file_stops_the_load_in_one_sentence(part, harm, folder):
    path = folder / part
    data = bytearray(path.read_bytes())
    if harm == "flip":  # one bit, in a place where the file stays readable
        at = data.index(b"cat") if part == "config.json" else len(data) - 5
        data[at] ^= 1
    path.write_bytes(data if harm == "flip" else data[:-9])
    if harm == "remove":
        path.unlink()
    with pytest.raises(DD2Error, match="config" if part == "config.json" else part) as error:
        load_pipeline(str(folder), "cpu")
    assert one_sentence(error)


def test_the_manifest_lists_every_file_and_catches_one_it_does_not_know(folder):
    known = read_json(folder / "manifest.json")
    assert set(known) == set(PARTS)
    check_manifest(folder, PARTS)
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(DD2Error, match="config.json"):
        load_folder(folder, CPU)
    (folder / ".x.tmp").write_text("left by a killed save")
    write_manifest(folder)
    assert read_json(folder / "manifest.json") == known


@pytest.mark.parametrize("writes", range(6))
def test_a_save_killed_between_files_is_never_taken_for_a_model(writes, folder, monkeypatch):
    before, done = load_folder(folder, CPU), []

    def write(path, data, real=checkpoint.write_atomic):
        if len(done) == writes:
            raise KeyboardInterrupt
        done.append(path)
        real(path, data)

    other = tiny.model()
    with torch.no_grad():
        for module in (other.teacher, other.generator, other.guidance):
            for p in module.parameters():
                p.add_(0.01)
    monkeypatch.setattr(checkpoint, "write_atomic", write)
    with pytest.raises(KeyboardInterrupt):
        save_folder(folder, other, extra={"n": 2})
    if writes == 0:
        after = load_folder(folder, CPU).teacher.state_dict()
        assert all(torch.equal(v, after[k]) for k, v in before.teacher.state_dict().items())
    else:
        with pytest.raises(DD2Error, match="damaged"):
            load_folder(folder, CPU)


@pytest.mark.parametrize("config", [
    {}, [], 3, None, {"model_type": "bert"}, {"format": 2, "family": "llamagen"},
    {"format": 1, "family": "var"}, {"format": 1, "family": "llamagen"},
    {"format": 1, "family": "llamagen", "parts": ["tokenizer"]},
], ids=json.dumps)
def test_a_foreign_config_is_one_sentence(config, folder):
    write_json(folder / "config.json", config)
    write_manifest(folder)
    with pytest.raises(DD2Error, match="config.json") as error:
        load_pipeline(str(folder), "cpu")
    assert one_sentence(error)


KEYS = ["parts", "class_names", "sampling", "tokenizer", "transformer", "head"]


@pytest.mark.parametrize("key, value", [("name", "absent"), *itertools.product(
    KEYS, ["absent", None, 7])])
def test_a_config_without_one_of_its_entries_is_one_sentence(key, value, folder):
    config = read_json(folder / "config.json")
    config[key] = value
    if value == "absent":
        del config[key]
    write_json(folder / "config.json", config)
    write_manifest(folder)
    with pytest.raises(DD2Error) as error:
        load_pipeline(str(folder), "cpu")
    assert one_sentence(error)


def test_weights_of_another_size_are_refused(folder):
    write_tensors(folder / "teacher.safetensors",
                  tiny.teacher(depth=1).transformer.state_dict())
    write_manifest(folder)
    with pytest.raises(DD2Error, match="does not fit") as error:
        load_pipeline(str(folder), "cpu")
    assert one_sentence(error)


# Finding a model -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "no-such-preset", "./nowhere", "/nowhere/at/all", "~/none/x",
                                  "nobody/nothing-dd2", "a/b/c", "bad name/with spaces", "../.."])
def test_an_unknown_model_is_one_sentence(name):
    with pytest.raises(DD2Error) as error:
        load_pipeline(name, "cpu")
    assert one_sentence(error)


def test_a_folder_without_a_config_is_named(tmp_path):
    with pytest.raises(DD2Error, match="no config.json") as error:
        resolve(str(tmp_path))
    assert one_sentence(error) and str(tmp_path) in str(error.value)


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "", "xla", "gpu"])
def test_an_unknown_device_is_one_sentence(device, folder):
    with pytest.raises(DD2Error, match="device=") as error:
        load_pipeline(str(folder), device)
    assert one_sentence(error)
