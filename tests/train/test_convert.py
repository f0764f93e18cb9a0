"""`train.convert`: official files become a model folder that paints the same pictures."""

import argparse
from pathlib import Path

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.official import load_llamagen, load_var
from dd2core.pipeline import load_pipeline
from dd2core.store.files import read_json, sha256
from dd2core.store.folder import describe, resolve
from tests.support import plain_llamagen as plain
from tests.support.parity import description, meta_state, seeded_state
from train import convert
from train.settings.cli import load_settings

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LLAMAGEN = ("c2i_B_256.pt", "vq_ds16_c2i.pt")
VAR = ("var_d16.pth", "vae_ch160v4096z32.pth")


def run(*words):
    convert.run(load_settings(convert.Convert, list(words)))


@pytest.fixture(scope="module")
def llamagen(tmp_path_factory):
    """A folder with the two files, one of them with its trainer's options."""
    folder = tmp_path_factory.mktemp("llamagen")
    gpt, vq = plain.states(depth=1, ch=32, mult=(1, 1))
    torch.save({"model": gpt, "args": argparse.Namespace(lr=1)}, folder / LLAMAGEN[0])
    torch.save({"model": vq}, folder / LLAMAGEN[1])
    return folder


@pytest.fixture(scope="module")
def var(tmp_path_factory):
    """A folder with the two files of the recorded VAR."""
    folder, d = tmp_path_factory.mktemp("var"), description("var_tiny")
    torch.save(seeded_state(d["var_keys"]), folder / VAR[0])
    torch.save(seeded_state(d["vqvae_keys"]), folder / VAR[1])
    return folder


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@torch.no_grad()
def test_llamagen_becomes_a_folder_that_paints_the_same(llamagen, tmp_path, capsys):
    out = tmp_path / "official"
    run(f"source={llamagen}", f"out={out}", "num_heads=4", "grid=3")
    assert "family llamagen" in capsys.readouterr().out
    pipe = load_pipeline(str(out), "cpu")
    gpt, vq = plain.states(depth=1, ch=32, mult=(1, 1))
    direct = load_llamagen(gpt, vq, num_heads=4, grid=3)
    assert same(pipe.teacher.state_dict(), direct.state_dict())
    a, b = (t.sample(torch.tensor([0, 2]), cfg=2.0, top_k=1) for t in (pipe.teacher, direct))
    assert torch.equal(a, b) and torch.equal(pipe.teacher.decode(a), direct.decode(b))
    assert pipe.class_names == ["class 0", "class 1", "class 2"]
    assert (pipe.name, pipe.sampling.cfg, pipe.generator) == ("official", 2.0, None)
    assert pipe.sample_teacher([1], cfg=1.5).images.shape == (1, 6, 6, 3)
    kept = read_json(out / "config.json")["source"]
    assert kept == {"files": {name: sha256(llamagen / name) for name in LLAMAGEN}}


@torch.no_grad()
def test_var_becomes_a_folder_that_paints_the_same(var, tmp_path, capsys):
    names = tmp_path / "names.txt"
    d = description("var_tiny")
    c = d["config"]
    names.write_text("\n".join(f"kind {i}" for i in range(c["num_classes"])) + "\n")
    out = tmp_path / "made"
    run(f"source={var / VAR[1]},{var / VAR[0]}", f"out={out}", "patch_nums=[1,2,3,4]",
        f"class_names={names}", "name=mine")
    assert "in 4 steps" in capsys.readouterr().out
    pipe = load_pipeline(str(out), "cpu")
    direct = load_var(seeded_state(d["var_keys"]), seeded_state(d["vqvae_keys"]),
                      patch_nums=c["patch_nums"])
    assert same(pipe.teacher.state_dict(), direct.state_dict())
    assert pipe.class_names[1] == "kind 1" and pipe.name == "mine"
    y = torch.tensor([0, 2])
    assert torch.equal(pipe.teacher.sample(y, cfg=1.5, top_k=1), direct.sample(y, 1.5, top_k=1))


def test_one_file_of_vars_trainer_is_enough(tmp_path):
    d = description("var_tiny")
    torch.save({"args": argparse.Namespace(), "trainer": {
        "var_wo_ddp": seeded_state(d["var_keys"]),
        "vae_local": seeded_state(d["vqvae_keys"])}}, tmp_path / "ar-ckpt-last.pth")
    run(f"source={tmp_path / 'ar-ckpt-last.pth'}", f"out={tmp_path / 'out'}",
        "patch_nums=[1,2,3,4]")
    assert describe(tmp_path / "out").family == "var"


def test_half_precision_is_stored_on_demand(llamagen, tmp_path):
    words = (f"source={llamagen}", "num_heads=4", "grid=3")
    run(*words, f"out={tmp_path / 'full'}")
    run(*words, f"out={tmp_path / 'half'}", "dtype=float16")
    sizes = [(tmp_path / n / "teacher.safetensors").stat().st_size for n in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]


# What is recognised ---------------------------------------------------------------------------

def wanted(keys, name="c2i_B_256.pt", **settings):
    """Grid or scales that `load` would choose, with the loaders left out."""
    seen = {}
    source = convert.Source(Path(name), Path("vq.pt"), "var" if "pos_1LC" in keys else "llamagen",
                            {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "read_state", lambda path: meta_state(keys))
        patch.setattr(convert, "load_llamagen", lambda a, b, heads, grid: seen.update(it=grid))
        patch.setattr(convert, "load_var", lambda a, b, heads, nums: seen.update(it=nums))
        convert.load(convert.Convert(**settings), source)
    return seen["it"]


def test_grid_and_scales_are_those_of_the_official_models():
    for size, grid in {768: 16, 1024: 16, 1280: 24, 1536: 24}.items():
        assert wanted({"tok_embeddings.weight": [16384, size]}) == grid
    assert wanted({"tok_embeddings.weight": [16384, 768]}, "c2i_B_384.pt") == 24
    assert wanted({"tok_embeddings.weight": [16384, 1280]}, grid=32) == 32
    assert wanted({"pos_1LC": [1, 680, 1024]})[-1] == 16
    assert wanted({"pos_1LC": [1, 2240, 2304]})[-1] == 32
    assert wanted({"pos_1LC": [1, 680, 1024]}, patch_nums=[1, 2]) == [1, 2]


# The hub --------------------------------------------------------------------------------------

@pytest.fixture
def hub(monkeypatch, llamagen):
    """A hub whose one repository is the LlamaGen folder; returns what it was asked for."""
    asked = []

    def snapshot_download(repo, revision=None, allow_patterns=None):
        asked.append((repo, revision, allow_patterns))
        folder = llamagen.parent / "snapshots" / COMMIT
        folder.mkdir(parents=True, exist_ok=True)
        for name in allow_patterns:
            if (llamagen / name).exists() and not (folder / name).exists():
                (folder / name).symlink_to(llamagen / name)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return asked


@pytest.mark.parametrize(("words", "revision"), [
    (["source=owner/llamagen"], None),
    (["source=owner/llamagen@v1"], "v1"),
    (["source=owner/llamagen", f"revision={COMMIT}"], COMMIT),
])
def test_hub_ids_are_pinned_and_the_commit_is_kept(words, revision, hub, tmp_path):
    run(*words, "size=B", f"out={tmp_path / 'out'}", "num_heads=4", "grid=3")
    assert hub == [("owner/llamagen", revision, list(LLAMAGEN))]
    kept = read_json(tmp_path / "out" / "config.json")["source"]
    assert (kept["repo"], kept["revision"]) == ("owner/llamagen", COMMIT)
    assert set(kept["files"]) == set(LLAMAGEN)


def test_a_file_that_the_repository_does_not_have_is_one_sentence(hub, tmp_path):
    with pytest.raises(DD2Error, match="c2i_L_256.pt is missing"):
        run("source=owner/llamagen", "size=l", f"out={tmp_path / 'out'}")


def test_the_official_names(tmp_path):
    assert convert.hub_files("", "d24") == ("var_d24.pth", "vae_ch160v4096z32.pth")
    assert convert.hub_files("", "xl") == ("c2i_XL_384.pt", "vq_ds16_c2i.pt")
    assert convert.hub_files("", "B") == LLAMAGEN
    for size in (None, "huge"):
        with pytest.raises(DD2Error, match="source=a/b holds several models: name one, size=d16"):
            convert.hub_files("a/b", size)


def test_offline_without_the_files_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DD2Error, match="nobody/nothing-dd2 cannot be had .*HF_HUB_OFFLINE is set"):
        run("source=nobody/nothing-dd2", "size=d16", f"out={tmp_path}")
    with pytest.raises(DD2Error, match="nobody/nothing-dd2 at revision abc cannot be had"):
        resolve("nobody/nothing-dd2@abc")


# Errors ---------------------------------------------------------------------------------------

def test_a_folder_of_several_models_needs_the_size(llamagen, tmp_path):
    for name in LLAMAGEN:
        (tmp_path / name).symlink_to(llamagen / name)
    torch.save(plain.states(depth=2)[0], tmp_path / "c2i_L_256.pt")
    out = tmp_path / "out"
    with pytest.raises(DD2Error, match="must be one transformer and its tokenizer, found c2i_B"):
        run(f"source={tmp_path}", f"out={out}", "num_heads=4", "grid=3")
    assert not out.exists()
    run(f"source={tmp_path}", f"out={out}", "num_heads=4", "grid=3", "size=b")
    assert describe(out).transformer.depth == 1


@pytest.mark.parametrize(("words", "says"), [
    (["out=x"], "source= and out= are needed"),
    (["source=x"], "source= and out= are needed"),
    (["source=/nowhere", "out=x"], "source=/nowhere is neither a hub id, nor a folder"),
    (["source=nowhere.pt,other.pt", "out=x"], "nowhere.pt is missing"),
    (["source=x", "out=x", "dtype=int8"], "dtype=int8 is unknown"),
    (["sauce=x", "out=x"], "Setting sauce: .*there are source, out"),
    (["source"], "'source' is no setting"),
])
def test_mistakes_are_one_sentence(words, says):
    with pytest.raises(DD2Error, match=says):
        run(*words)


def test_what_does_not_fit_is_one_sentence(llamagen, var, tmp_path):
    a, b, out = llamagen / LLAMAGEN[0], var / VAR[1], f"out={tmp_path / 'x'}"
    with pytest.raises(DD2Error, match="must be one transformer and its tokenizer"):
        run(f"source={a},{b}", out)
    with pytest.raises(DD2Error, match="family=var does not fit"):
        run(f"source={llamagen}", out, "family=var")
    with pytest.raises(DD2Error, match="num_heads=None does not cut the width 48"):
        run(f"source={llamagen}", out)
    names = tmp_path / "names.txt"
    names.write_text("one\ntwo\n")
    with pytest.raises(DD2Error, match="has 2 lines, the model 3 classes"):
        run(f"source={llamagen}", out, "num_heads=4", f"class_names={names}")
    with pytest.raises(DD2Error, match="cannot be read: give a text file"):
        run(f"source={llamagen}", out, "num_heads=4", f"class_names={tmp_path}")
    torch.save({"a": torch.zeros(1)}, tmp_path / "foreign.pt")
    with pytest.raises(DD2Error, match="foreign.pt is no LlamaGen or VAR checkpoint"):
        run(f"source={tmp_path}", out)
