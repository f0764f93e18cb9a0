"""Files that are foreign, hostile or damaged: refused in one sentence before use."""

import json

import pytest
import torch
from safetensors.torch import save_file

from dd2core.errors import DD2Error
from dd2core.store.atomic import sweep
from dd2core.store.files import (
    load_strict,
    read_json,
    read_tensors,
    write_json,
    write_manifest,
    write_tensors,
)
from dd2core.store.folder import load_folder, resolve, save_folder
from dd2core.store.state import load_state, save_state
from tests.harness.damage import SIZES, is_sentence, make_model
from tests.support import tiny
from train.measure.classifier import find_classifier


def refused(call, *parts: str) -> bool:
    with pytest.raises(DD2Error) as error:
        call()
    assert all(p in str(error.value) for p in parts), error.value
    return is_sentence(str(error.value))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, '{"a": NaN}', "\ufeff{}",
                                  '{"a": ' + "9" * 5000 + "}", '{"a": Infinity}', "\0", ""])
def test_json_that_is_deep_huge_or_no_json(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    assert refused(lambda: read_json(tmp_path / "a.json"), "a.json is not JSON")


def test_json_that_is_too_large_is_not_read(tmp_path):
    with open(tmp_path / "a.json", "wb") as f:
        f.truncate(2**40)  # no such memory
    assert refused(lambda: read_json(tmp_path / "a.json"), "larger than 64 MiB")


@pytest.mark.parametrize("name", ["~nosuchuser/model", "~nosuchuser", "x" * 5000, "a\0b"])
def test_a_model_where_no_path_can_be(name):
    assert refused(lambda: resolve(name))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_not_loaded(value):
    module = torch.nn.Linear(2, 2)
    before = module.weight.clone()
    state = {**module.state_dict(), "weight": torch.full((2, 2), value)}
    assert refused(lambda: load_strict(module, state, "w"), "weight", "not finite")
    assert torch.equal(module.weight, before)


def test_weights_that_float32_cannot_hold_are_not_loaded():
    module = torch.nn.Linear(2, 2)
    state = {**module.state_dict(), "weight": torch.full((2, 2), 1e300, dtype=torch.float64)}
    assert refused(lambda: load_strict(module, state, "w"), "not finite")


@pytest.mark.parametrize("parts", [["tokenizer"], ["teacher"], ["generator", "guidance"], [],
                                   ["tokenizer", "teacher", "../x"]])
def test_needed_parts_are_demanded_not_skipped(parts, tmp_path):
    save_folder(tmp_path, tiny.model())
    write_json(tmp_path / "config.json", {**read_json(tmp_path / "config.json"), "parts": parts})
    write_manifest(tmp_path)
    assert refused(lambda: load_folder(tmp_path, torch.device("cpu")), "config.json")


@pytest.mark.parametrize("bit", [0, 4, 7])
def test_a_flipped_bit_anywhere_in_a_state_is_found(bit, tmp_path):
    save_state(tmp_path / "s", {"a": torch.arange(50.0), "n": 3})
    whole = (tmp_path / "s").read_bytes()
    for at in range(0, len(whole), 7):
        data = bytearray(whole)
        data[at] ^= 1 << bit
        (tmp_path / "s").write_bytes(data)
        assert refused(lambda: load_state(tmp_path / "s"), "not a whole training state")


@pytest.mark.parametrize("bit", [0, 4, 7])
def test_a_flipped_bit_anywhere_in_sealed_tensors_is_found(bit, tmp_path):
    write_tensors(tmp_path / "t", {"a": torch.arange(20.0), "b": torch.arange(5)})
    whole = (tmp_path / "t").read_bytes()
    for at in range(0, len(whole), 3):
        data = bytearray(whole)
        data[at] ^= 1 << bit
        (tmp_path / "t").write_bytes(data)
        try:
            found = read_tensors(tmp_path / "t", sealed=True)
        except DD2Error as error:
            assert is_sentence(str(error))
        else:  # a space of the header's JSON
            assert torch.equal(found["a"], torch.arange(20.0)), at
            assert torch.equal(found["b"], torch.arange(5)), at


def test_tensors_without_a_seal_are_no_runs(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "t")
    assert torch.equal(read_tensors(tmp_path / "t")["a"], torch.zeros(2))
    assert refused(lambda: read_tensors(tmp_path / "t", sealed=True), "no sha256")


def test_a_classifier_without_a_seal_is_checked_by_its_manifest(tmp_path):
    make_model(tmp_path)
    path = tmp_path / "classifier.safetensors"
    save_file(read_tensors(path), path)  # as shipped ones are
    write_manifest(tmp_path)
    assert find_classifier(tmp_path)[1] == SIZES
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    assert refused(lambda: find_classifier(tmp_path), "classifier.safetensors is damaged")


def test_only_what_dead_processes_left_is_swept(tmp_path):
    import os

    names = {f".a.{os.getpid()}.tmp": True, f".a.{2**22 + 5}.tmp": False, ".a.tmp": True,
             "a.5.tmp": True, ".notes.txt": True}
    for name in names:
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert {n for n, kept in names.items() if kept} == {p.name for p in tmp_path.iterdir()}


def test_a_manifest_names_files_alike_on_every_system(tmp_path):
    (tmp_path / "results").mkdir()
    write_json(tmp_path / "results" / "a.json", {})
    write_manifest(tmp_path)
    assert list(json.loads((tmp_path / "manifest.json").read_text())) == ["results/a.json"]
