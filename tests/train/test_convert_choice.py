"""Checkpoints that hold their weights more than once, and files that Git-LFS left behind."""

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.families.checkpoints import choose, read_state, unwrap
from dd2core.official import load_llamagen
from dd2core.pipeline import load_pipeline
from dd2core.store.files import read_json, read_tensors
from tests.support import plain_llamagen as plain
from tests.support import tiny
from train import convert
from train.data.fashion import _read_idx
from train.measure.reference import open_reference
from train.settings.cli import load_settings

POINTER = (b"version https://git-lfs.github.com/spec/v1\n"
           b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
           b"size 12345\n")


def other(state):
    return {k: v + 1 if v.is_floating_point() else v for k, v in state.items()}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A folder with LlamaGen's two files, of which the tokenizer's holds two sets of weights."""
    folder = tmp_path_factory.mktemp("both")
    gpt, vq = plain.states(depth=1, ch=32, mult=(1, 1))
    torch.save({"model": gpt}, folder / "c2i_B_256.pt")
    torch.save({"ema": other(vq), "model": vq, "optimizer": {"state": {}}},
               folder / "vq_ds16_c2i.pt")
    return folder


def run(folder, out, *words):
    convert.run(load_settings(convert.Convert, [f"source={folder}", f"out={out}", "num_heads=4",
                                                "grid=3", *words]))
    return load_pipeline(str(out), "cpu").teacher.tokenizer.state_dict()


@pytest.mark.parametrize(("words", "taken"), [
    ([], "model"), (["weights=model"], "model"), (["weights=ema"], "ema")])
def test_which_weights_were_taken_is_said_kept_and_can_be_chosen(words, taken, both, tmp_path,
                                                                 capsys):
    found = run(both, tmp_path / "out", *words)
    gpt, vq = plain.states(depth=1, ch=32, mult=(1, 1))
    wanted = load_llamagen(gpt, other(vq) if taken == "ema" else vq, 4, 3).tokenizer.state_dict()
    assert all(torch.equal(found[k], v) for k, v in wanted.items())
    said = f"vq_ds16_c2i.pt holds model and ema, {taken} is taken; weights= chooses"
    assert said in capsys.readouterr().out
    kept = read_json(tmp_path / "out" / "config.json")["source"]["weights"]
    assert kept["vq_ds16_c2i.pt"] == taken


def test_weights_that_no_file_has_are_refused(both, tmp_path):
    with pytest.raises(DD2Error, match="has no weights=average: leave that setting out"):
        run(both, tmp_path / "out", "weights=average")
    assert not (tmp_path / "out").exists()


def test_nothing_is_said_where_there_is_no_choice(tmp_path, capsys):
    gpt, vq = plain.states(depth=1, ch=32, mult=(1, 1))
    (tmp_path / "in").mkdir()
    torch.save({"model": gpt}, tmp_path / "in" / "c2i_B_256.pt")
    torch.save({"state_dict": vq}, tmp_path / "in" / "vq_ds16_c2i.pt")
    run(tmp_path / "in", tmp_path / "out")
    assert "is taken" not in capsys.readouterr().out
    assert "weights" not in read_json(tmp_path / "out" / "config.json")["source"]


A, B, C = ({"w": torch.full((2,), float(i))} for i in range(3))


@pytest.mark.parametrize(("state", "wanted", "present", "taken", "value"), [
    (A, None, [], None, 0), (A, "ema", [], None, 0),
    ({"model": A}, None, ["model"], "model", 0), ({"ema": A}, "ema", ["ema"], "ema", 0),
    ({"ema": A, "model": B}, None, ["model", "ema"], "model", 1),
    ({"ema": A, "model": B}, "ema", ["model", "ema"], "ema", 0),
    ({"ema": A, "model": B}, "state_dict", ["model", "ema"], "model", 1),
    ({"module": A, "state_dict": B, "ema": C}, "state_dict", ["module", "ema", "state_dict"],
     "state_dict", 1),
    ({"state_dict": {"ema": A, "model": B}}, "ema", ["model", "ema"], "ema", 0),
    ({"state_dict": {"ema": A, "model": B}}, None, ["model", "ema"], "model", 1),
    ({"trainer": {"var_wo_ddp": A, "vae_local": B}}, None, ["trainer"], "trainer", 0),
])
def test_one_set_of_weights_is_chosen(state, wanted, present, taken, value):
    left, found, key = choose(state, wanted)
    assert (found, key) == (present, taken)
    assert unwrap(left)["w"].tolist() == [value] * 2
    if wanted is None:
        assert torch.equal(unwrap(state)["w"], unwrap(left)["w"])


# Git-LFS --------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "read"), [
    ("a.pt", read_state), ("a.safetensors", read_state), ("a.safetensors", read_tensors),
    ("config.json", read_json), ("a.npz", lambda path: open_reference(str(path), 32, 2048)),
    ("train-labels-idx1-ubyte.gz", lambda path: _read_idx(path.parent, path.stem)),
    ("train-labels-idx1-ubyte", lambda path: _read_idx(path.parent, path.name)),
])
def test_a_git_lfs_pointer_is_called_one(name, read, tmp_path):
    (tmp_path / name).write_bytes(POINTER)
    with pytest.raises(DD2Error) as error:
        read(tmp_path / name)
    assert f"{name} is a Git-LFS pointer" in str(error.value) and "git lfs pull" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_folder_of_pointers_is_called_one(tmp_path):
    from dd2core.store.folder import save_folder

    save_folder(tmp_path / "m", tiny.model())
    (tmp_path / "m" / "teacher.safetensors").write_bytes(POINTER)
    with pytest.raises(DD2Error, match="teacher.safetensors is a Git-LFS pointer"):
        load_pipeline(str(tmp_path / "m"), "cpu")
