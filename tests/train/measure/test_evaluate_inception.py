"""`train.evaluate features=inception`: the whole road, on a tiny model and no network."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.pipeline import load_pipeline
from dd2core.results.collection import load_results
from dd2core.results.tables import guidance_table, quality_table, tried_table
from dd2core.store.folder import save_folder
from tests.support import tiny
from tests.support.forked import forked
from tests.support.inception import pictures, random_weights, use_tiny
from tests.support.measurements import named, write
from tests.support.train_helpers import PICTURES, cli, snapshot, split_pictures
from train.evaluate import SAMPLERS
from train.measure import inception
from train.measure.inception import features, load_inception
from train.measure.sample import batch_seed, sample_batch
from train.measure.stream import balanced, batches, resized, to_npz
from train.publish.card import card
from train.settings.cli import PRESETS, load_config


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return split_pictures(tmp_path_factory.mktemp("split"))


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """The words of an RGB preset whose model folder is there."""
    folder = tmp_path_factory.mktemp("model")
    save_folder(folder / "model", tiny.model(channels=3))
    return ["preset=tiny", f"data={PICTURES}", f"out={folder}", "features=inception",
            f"reference={PICTURES}", "n=24", "batch=7", "cfg=2"]


@pytest.fixture
def evaluate(words, monkeypatch, capsys):
    """`python -m train.evaluate` with the tiny Inception; returns result, images and line."""
    monkeypatch.setattr(inception, "load_inception", use_tiny)

    def run(*more):
        assert cli("evaluate", *words, *more) is None
        given = dict(w.split("=", 1) for w in [*words, "sampler=one_step", *more])
        folder = load_config([f"out={given['out']}"]).out
        stem = f"{folder}/evaluate/{given.get('tag', given['sampler'])}"
        with open(f"{stem}.json") as f:
            result = json.load(f)
        return result, f"{stem}-images", capsys.readouterr().out

    return run


# The command ----------------------------------------------------------------------------------

def test_the_real_network_from_a_file_of_weights(words, tmp_path, monkeypatch, capsys):
    """The one test of the full architecture, 24 million random weights, FID and all."""
    weights = random_weights(tmp_path / "inception.pth", monkeypatch)
    x = pictures(10, 0)
    np.savez(tmp_path / "ref.npz", arr_0=pictures(10, 1, 16))
    network = load_inception(str(weights), torch.device("cpu"))
    pooled, logits = features(network, batches(x, 5), 10, "x")
    assert pooled.shape == (10, 2048) and logits.shape == (10, 1008)
    assert pooled.std(0).mean() > 1e-3 and network.fc.in_features == 2048
    assert cli("evaluate", *words, "n=10", f"inception={weights}", "tag=real",
               f"reference={tmp_path / 'ref.npz'}") is None
    said = capsys.readouterr().out
    assert re.search(r"one_step: FID [\d.]+ \(estimate, N = 10, against ref.npz, 10 images\), "
                     r"Inception Score [\d.]+ ± ", said)


@pytest.mark.parametrize("sampler", SAMPLERS[:-1])
def test_every_sampler_is_measured(sampler, evaluate, split, words):
    out = next(w.removeprefix("out=") for w in words if w.startswith("out="))
    own = [f"weights={out}/model/generator.safetensors"] * (sampler == "dd1_two_steps")
    r, images, line = evaluate(f"sampler={sampler}", "start=15", f"data={split}", *own)
    n = 15 if sampler == "tokenizer" else 24
    assert r["sampler"] == sampler and r["n"] == n and r["estimate"] is True
    assert r["fd"] > 0 and r["fd_percent"] > 0 and 1 <= r["inception_score"] <= 5
    assert 0 <= r["precision"] <= 1 and 0 <= r["recall"] <= 1 and "accuracy" not in r
    passes = {"teacher": 16, "refine": 2, "tokenizer": 0, "skip_last": 14, "euler": 16,
              "dd1_two_steps": 2}
    passes = passes.get(sampler, 1)
    assert r["passes"] == passes and (r.get("seconds", 0) > 0) == (sampler not in (
        "parallel", "tokenizer", "skip_last", "euler", "dd1_two_steps"))
    assert r["teacher_nll"] > 0 and r["token_entropy"] > 0
    assert r["teacher_settings"] == {"cfg": 2, "temperature": 1, "top_k": 0, "top_p": 1}
    assert r["reference"] == "60 pictures of pictures" and "torch-fidelity" in r["extractor"]
    assert f"{sampler}: FID {r['fd']:.3f} (estimate, N = {n}" in line and "Score" in line
    stored = np.load(f"{images}.npy")
    assert stored.shape == (n, 16, 16, 3) and stored.dtype == np.uint8


def test_the_samples_are_the_pipelines_batch_by_batch(evaluate, words):
    _, images, _ = evaluate("sampler=one_step", "seed=3")
    cfg = load_config([w for w in words if "=" in w and w.startswith(("preset", "out"))])
    cfg.evaluate.sampler, stored = "one_step", np.load(f"{images}.npy")
    pipe = load_pipeline(f"{cfg.out}/model", "cpu")
    for i, labels in enumerate(balanced(24, 3).split(7)):
        x, _, _ = sample_batch(pipe, cfg, labels, batch_seed(3, i))
        assert np.array_equal(stored[7 * i : 7 * i + 7], x.permute(0, 2, 3, 1).numpy())


def test_labels_are_balanced():
    assert torch.equal(balanced(50_000, 1000).bincount(), torch.full((1000,), 50))
    assert balanced(7, 3).tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_statistics_alone_leave_precision_and_recall_out(evaluate, tmp_path):
    np.savez(tmp_path / "stats.npz", mu=np.zeros(12), sigma=np.eye(12))
    r, _, line = evaluate(f"reference={tmp_path / 'stats.npz'}", "tag=stats")
    assert r["precision"] is None and r["recall"] is None and r["fd"] > 0
    assert "no precision and recall (the reference has statistics alone)" in line
    assert r["reference"] == "statistics in stats.npz"


def test_save_npz_is_what_the_adm_evaluation_reads(evaluate):
    _, images, _ = evaluate("tag=plain")
    _, zipped, _ = evaluate("tag=zipped", "save_npz=true")
    with np.load(f"{zipped}.npz") as file:
        assert file.files == ["arr_0"]
        assert np.array_equal(file["arr_0"], np.load(f"{images}.npy"))
    assert not Path(f"{zipped}.npy").exists()


def test_samples_of_another_size_are_resized(evaluate):
    _, images, _ = evaluate("tag=small", "resize=8")
    _, whole, _ = evaluate("tag=whole")
    small, whole = (torch.from_numpy(np.load(f"{p}.npy")).permute(0, 3, 1, 2)
                    for p in (images, whole))
    assert small.shape == (24, 3, 8, 8) and torch.equal(small, resized(whole, 8))
    flat = torch.full((1, 3, 24, 24), 77, dtype=torch.uint8)
    assert torch.equal(resized(flat, 16), flat[..., :16, :16]) and resized(flat, 24) is flat


@pytest.mark.parametrize(("more", "says"), [
    (["features=vgg"], "use one of classifier, inception"), (["n=9"], "n=9 must be at least 10"),
    (["resize=0"], "resize=0"), (["sampler=train_set"], "needs features=classifier"),
    (["reference=/nowhere"], "reference=/nowhere is not there"), (["seed=-1"], "seed=-1"),
    (["sampler=teacher", "top_p=0"], "top_p"),
    (["sampler=tokenizer", "data=fashion-mnist"], "give data=FOLDER"),
    (["sampler=tokenizer"], "has 6 held-out pictures: at least 10"),
    (["weights=/nowhere.safetensors"], "/nowhere.safetensors"),
])
def test_mistakes_are_one_sentence_and_leave_nothing(more, says, words, tmp_path, monkeypatch):
    monkeypatch.setattr(inception, "load_inception", use_tiny)
    here = [w for w in words if not w.startswith("out=")]
    model = next(w for w in words if w.startswith("out=")).removeprefix("out=") + "/model"
    stopped = cli("evaluate", *here, f"out={tmp_path}", f"model={model}", *more)
    assert stopped.startswith("error: ") and says in stopped and "\n" not in stopped
    assert not snapshot(tmp_path)


def test_a_full_disk_is_said_before_painting(words, tmp_path, monkeypatch):
    monkeypatch.setattr(inception, "load_inception", use_tiny)
    monkeypatch.setattr("train.measure.stream.shutil.disk_usage",
                        lambda path: type("Usage", (), {"free": 1000}))
    stopped = cli("evaluate", *words, "tag=full")
    assert "full-images.npy needs 0.0 GB and 0.0 GB are free: make room" in stopped


def test_grey_pictures_are_refused(tmp_path, monkeypatch):
    save_folder(tmp_path / "model", tiny.model())
    stopped = cli("evaluate", "preset=tiny", f"out={tmp_path}", "features=inception", "channels=1")
    assert "features=inception takes RGB pictures" in stopped


def measure(rank, words):
    assert cli("evaluate", *words) is None


def test_two_processes_paint_the_same_images(evaluate, words, tmp_path):
    alone, images, _ = evaluate("sampler=teacher", "tag=alone")
    done = forked(tmp_path, measure, [*words, "sampler=teacher", "tag=both"])
    assert [code for code, _ in done] == [0, 0], done
    assert sum(said.count("FID") for _, said in done) == 1
    both = images.replace("alone-", "both-")
    assert np.array_equal(np.load(f"{images}.npy"), np.load(f"{both}.npy"))
    with open(both.replace("-images", ".json")) as f:
        r = json.load(f)
    own = {"seconds", "decode_seconds", "command", "tag", "provenance"}
    # The marginal numbers may differ in the last bits: threads of another count add up otherwise.
    for key in alone.keys() - own:
        same = pytest.approx(alone[key], rel=1e-5) if isinstance(alone[key], float) else alone[key]
        assert r[key] == same, key


def test_the_classifier_is_measured_in_one_process(words, monkeypatch):
    monkeypatch.setattr("train.engine.distributed.world", lambda: 2)
    monkeypatch.setattr("train.evaluate.loop.setup", lambda cfg: "cpu")  # no second one is there
    stopped = cli("evaluate", *words, "features=classifier")
    assert "features=classifier is measured in one process" in stopped


# What becomes of the results ------------------------------------------------------------------

def test_tables_and_card_show_them(evaluate, words, tmp_path):
    np.savez(tmp_path / "stats.npz", mu=np.zeros(12), sigma=np.eye(12))
    for tag, more in (("preset", ["sampler=teacher"]), ("one_step", []),
                      ("stats", [f"reference={tmp_path / 'stats.npz'}", "table=tried"])):
        r, *_ = evaluate(f"tag={tag}", *more)
        write(tmp_path / "model", r)
    save_folder(tmp_path / "model", tiny.model(channels=3))
    results = load_results(tmp_path / "model" / "results")
    head, _, *rows = quality_table(results).splitlines()
    assert head.startswith("| sampler | passes | FID ↓ | IS ↑ |") and "accuracy" not in head
    one = json.loads((results.folder / "one_step.json").read_text())
    assert rows[0].startswith("| AR teacher (guidance 2) | 16 | ")
    assert rows[1].startswith(f"| **DD2, one step** | 1 | {one['fd']:.2f} | ")
    assert f" {one['inception_score']:.1f} |" in rows[1] and len(rows) == 2
    assert "| – |" in guidance_table(results)
    assert "| stats |" in tried_table(results) and "| – | – |" in tried_table(results)
    text = card(load_config(["preset=tiny"]), tmp_path / "model")
    assert "Inception's features (torch-fidelity), against 60 pictures of pictures; statis" in text
    assert "classifier.safetensors" not in text
    write(tmp_path / "model", named("parallel", accuracy=0.5, sampler="parallel"))
    head, _, *rows = quality_table(load_results(results.folder)).splitlines()
    assert "| FD ↓ | IS ↑ |" in head and "| accuracy ↑ |" in head
    assert "| – |" in rows[0] and "| 0.500 |" in rows[-1]
    assert "classifier.safetensors" in card(load_config(["preset=tiny"]), tmp_path / "model")


OFFICIAL = sorted(p.stem for p in PRESETS.glob("*.yaml")
                  if p.stem.startswith(("var-d", "llamagen-")))


@pytest.mark.parametrize("name", OFFICIAL)
def test_presets_of_imagenet_are_measured_so(name):
    cfg = load_config([f"preset={name}"])
    o = cfg.evaluate
    assert (o.features, o.n, "evaluate" in cfg.skip) == ("inception", 50_000, True)
    assert (o.resize or cfg.image_size) == 256
    assert [o.cfg, o.temperature, o.top_k, o.top_p] == [None] * 4  # the model's own


def test_an_npz_half_written_is_not_left(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", pictures(12, 0))

    def stop(*args):
        raise OSError("disk full")

    monkeypatch.setattr("dd2core.store.atomic.os.replace", stop)
    with pytest.raises(DD2Error, match="a.npz cannot be written .disk full.: make room"):
        to_npz(tmp_path / "a.npy")
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]
