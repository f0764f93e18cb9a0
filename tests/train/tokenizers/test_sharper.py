"""The tokenizer stage with perceptual and adversarial terms: gradients, balance, resuming, init."""

import shutil

import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.store.files import read_json, read_tensors, write_tensors
from dd2core.store.state import load_state
from tests.harness.damage import is_sentence
from tests.support.train_helpers import config, copy_stages, grey, same_state
from tests.train.engine.test_loop import stops_at
from train.all import commands
from train.engine.origin import differences
from train.settings.stages import order
from train.tokenizer import TokenizerJob, energy_ratio, measure
from train.tokenizers.adversary import balance
from train.tokenizers.images import Images
from train.tokenizers.sharpness import gradient_energy

CPU = torch.device("cpu")
SHARP = ("tokenizer.perceptual=0.7", "tokenizer.adversarial=0.5", "tokenizer.adversarial_from=2")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A run folder with a classifier."""
    out = tmp_path_factory.mktemp("run")
    assert grey("classifier", out, "classifier.steps=2") is None
    return out


@pytest.fixture
def job(classifier):
    """Makes the job of the tokenizer stage."""
    def make(*words) -> TokenizerJob:
        cfg = config(f"out={classifier}", *words)
        images = Images(cfg)
        torch.manual_seed(5)
        return TokenizerJob(cfg, images, CPU)

    return make


def grads(model) -> list[torch.Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def moved(module, before) -> bool:
    return any(not torch.equal(a, before[k]) for k, a in module.state_dict().items())


def state(module) -> dict[str, torch.Tensor]:
    return {k: a.clone() for k, a in module.state_dict().items()}


# Sharpness ------------------------------------------------------------------------------------

def test_gradient_energy_is_the_mean_step_between_neighbours():
    x = torch.zeros(2, 1, 4, 4)
    x[1, 0, :, 2:] = 1  # one step across, none down
    assert gradient_energy(x).tolist() == pytest.approx([0, (0 + 1 / 3) / 2])
    noise = torch.rand(2, 3, 8, 8)
    assert energy_ratio(noise, noise) == 1
    assert energy_ratio(torch.nn.functional.avg_pool2d(noise, 3, 1, 1), noise) < 0.7


def test_what_is_measured_of_a_tokenizer_that_changes_nothing_and_of_one_that_blurs(job):
    images = next(job().data.test())

    class Copy(torch.nn.Module):
        blur = False

        def encode(self, x):
            self.x = x
            return torch.arange(len(x))[:, None]

        def decode(self, tokens):
            return self.x.mean((2, 3), keepdim=True).expand_as(self.x) if self.blur else self.x

    model = Copy()
    n = len(images)
    assert measure(model, [images], CPU) == {
        "test_mse": 0, "gradient_energy": 1, "codes_used": n, "n": n}
    model.blur = True
    found = measure(model, [images], CPU)
    assert found["gradient_energy"] == 0 and found["test_mse"] > 0


# Gradients ------------------------------------------------------------------------------------

def test_without_the_terms_there_are_no_other_networks_and_no_other_losses(job):
    j = job()
    assert j.sharper is None and set(j.networks) == {"model", "ema", "used"}
    found = j.step(0)
    assert set(found) == {"loss", "mse", "l1", "commitment", "codes_used", "energy"}
    other = job("tokenizer.perceptual_net=nowhere", "tokenizer.r1=3", "tokenizer.disc_width=9")
    assert other.step(0) == found and not moved(other.model, state(j.model))


def test_the_gradient_is_that_of_the_whole_loss(job):
    j = job("tokenizer.perceptual=0.7", "tokenizer.clip=1e9")
    o, x = j.opts, j.batch(0)
    recon, _, codebook, commitment = j.model(x)
    loss = (o.l1 * (recon - x).abs().mean() + o.l2 * (recon - x).square().mean() + codebook
            + o.commitment * commitment + 0.7 * j.sharper.perceptual(x, recon))
    loss.backward()
    expected = grads(j.model)
    j.step(0)
    for a, b in zip(grads(j.model), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_adversarial_gradient_is_as_long_as_its_weight_says_at_the_last_layer(job):
    j = job("tokenizer.adversarial=0.5", "tokenizer.warmup=1")
    last, x = j.model.decoder.conv_out.weight, j.batch(0)
    recon = j.model(x)[0]
    leaf = recon.detach().requires_grad_().clone()
    error = leaf - x
    (pull,) = torch.autograd.grad(error.abs().mean() + error.square().mean(), leaf)
    grad, found = j.sharper.pull(0, x, recon, last)

    def at_last(g):
        return torch.autograd.grad(recon, last, g, retain_graph=True)[0]

    own, whole = at_last(pull), at_last(grad)
    push = j.sharper.adversary.push(leaf)
    length = min(1, own.norm().item() / at_last(push).norm().item())
    assert found["balance"] == pytest.approx(length, rel=0.01)
    torch.testing.assert_close(grad, pull + 0.5 * found["balance"] * push)
    assert (whole - own).norm().item() == pytest.approx(
        0.5 * found["balance"] * at_last(push).norm().item(), rel=0.01)
    strong = 1000 * push
    assert balance(recon, pull, strong, last) == pytest.approx(
        own.norm().item() / at_last(strong).norm().item(), rel=0.01)
    assert balance(recon, pull, 0 * push, last) == 1  # it never lifts what hardly pushes
    fixed = job("tokenizer.adversarial=0.5", "tokenizer.warmup=1", "tokenizer.adaptive=false")
    grad, found = fixed.sharper.pull(0, x, recon, last)
    assert found["balance"] == 1
    torch.testing.assert_close(grad, pull + 0.5 * fixed.sharper.adversary.push(leaf))


def test_the_discriminator_begins_when_it_is_told_to_and_each_moves_its_own(job):
    j, seen = job(*SHARP), []
    d = j.sharper.adversary
    for i in range(4):
        before = state(d.model)
        seen.append((set(j.step(i)) >= {"d_loss", "balance"}, moved(d.model, before)))
        assert "perceptual" in j.step(i)
    assert seen == [(False, False), (False, False), (True, True), (True, True)]
    before = state(d.model), state(j.model)
    images, recon = j.batch(4), j.model(j.batch(4))[0]
    j.sharper.pull(4, images, recon, j.model.decoder.conv_out.weight)
    assert not moved(d.model, before[0])
    j.sharper.after(4, images, recon)
    assert moved(d.model, before[0]) and not moved(j.model, before[1])


@pytest.mark.parametrize("family", [(), ("family=var", "tokenizer.patch_nums=[1,2,4]")],
                         ids=["llamagen", "var"])
@pytest.mark.parametrize("norm", ["group", "spectral"])
def test_both_families_train_with_all_terms(job, family, norm):
    j = job(*SHARP, *family, "tokenizer.bf16=true", "tokenizer.r1=1",
            "tokenizer.adversarial_from=0", f"tokenizer.disc_norm={norm}")
    first = j.step(0)
    for i in range(1, 8):
        found = j.step(i)
    assert all(torch.tensor(v).isfinite() for v in found.values())
    assert found["mse"] < first["mse"] and found["d_loss"] < 2


# The stage ------------------------------------------------------------------------------------

def test_a_stopped_run_with_all_terms_goes_on_bit_by_bit(classifier, tmp_path):
    whole = copy_stages(classifier, tmp_path / "a", "classifier")
    parts = copy_stages(classifier, tmp_path / "b", "classifier")
    assert grey("tokenizer", whole, *SHARP) is None
    with stops_at(4):
        assert "the same command again resumes" in grey("tokenizer", parts, *SHARP)
    assert load_state(parts / "tokenizer" / "state.pt")["step"] == 3
    torch.manual_seed(99)
    assert grey("tokenizer", parts, *SHARP) is None
    assert same_state(whole / "tokenizer", parts / "tokenizer")
    saved = load_state(whole / "tokenizer" / "state.pt")
    assert saved["networks"]["discriminator"] and saved["optimizers"]["discriminator"]["state"]
    found = read_json(whole / "tokenizer" / "result.json")
    assert set(found) == {"test_mse", "gradient_energy", "codes_used", "n"}
    assert found["gradient_energy"] > 0


def test_the_classifier_it_looks_with_is_part_of_what_it_is_made_of(classifier, tmp_path):
    out = copy_stages(classifier, tmp_path, "classifier")
    assert grey("tokenizer", out, *SHARP) is None
    origin = read_json(out / "tokenizer" / "origin.json")
    assert set(origin["files"]) == {"classifier/classifier.safetensors"}
    path = out / "classifier" / "classifier.safetensors"
    write_tensors(path, {k: a + 1 for k, a in read_tensors(path).items()})
    stopped = grey("tokenizer", out, *SHARP)
    assert "another classifier/classifier.safetensors" in stopped and is_sentence(stopped)


def test_a_run_begins_from_the_weights_it_is_given_and_says_which(classifier, tmp_path):
    assert grey("tokenizer", tmp_path / "first") is None
    path = tmp_path / "first" / "tokenizer" / "tokenizer.safetensors"
    out, word = tmp_path / "second", f"tokenizer.init={path}"
    assert grey("tokenizer", out, word, "tokenizer.steps=1", "tokenizer.lr=0") is None
    first, second = read_tensors(path), read_tensors(out / "tokenizer" / path.name)
    assert all(torch.equal(a, second[k]) for k, a in first.items() if k != "embedding")
    origin = read_json(out / "tokenizer" / "origin.json")
    assert set(origin["files"]) == {"init/tokenizer.safetensors"}
    moved_to = tmp_path / "elsewhere" / path.name
    moved_to.parent.mkdir()
    shutil.copy(path, moved_to)
    words = ("tokenizer.steps=1", "tokenizer.lr=0")
    assert grey("tokenizer", out, f"tokenizer.init={moved_to}", *words) is None
    write_tensors(moved_to, {k: a * 2 for k, a in first.items()})
    stopped = grey("tokenizer", out, f"tokenizer.init={moved_to}", *words)
    assert "another init/tokenizer.safetensors" in stopped


def test_a_tokenizer_of_the_other_family_gives_its_encoder_and_decoder(tmp_path, capsys):
    sizes = ("tokenizer.z_channels=16", "tokenizer.width=16", "tokenizer.steps=1")
    assert grey("tokenizer", tmp_path / "first", *sizes) is None
    path = tmp_path / "first" / "tokenizer" / "tokenizer.safetensors"
    words = (*sizes, "family=var", f"tokenizer.init={path}", "tokenizer.lr=0",
             "tokenizer.patch_nums=[1,2,4]")
    assert grey("tokenizer", tmp_path / "second", *words) is None
    assert "encoder and decoder are taken" in capsys.readouterr().out
    first = read_tensors(path)
    second = read_tensors(tmp_path / "second" / "tokenizer" / path.name)
    shared = [k for k in first if k.startswith(("encoder.", "decoder."))]
    assert len(shared) > 20 and all(torch.equal(first[k], second[k]) for k in shared)
    assert not torch.equal(first["embedding"], second["embedding"])


@pytest.mark.parametrize("name, says", [("none.safetensors", "is missing"),
                                        ("other.safetensors", "does not fit")])
def test_weights_to_begin_from_that_are_none_are_one_sentence(name, says, tmp_path):
    write_tensors(tmp_path / "other.safetensors", {"a": torch.zeros(3)})
    stopped = grey("tokenizer", tmp_path / "run", f"tokenizer.init={tmp_path / name}")
    assert says in stopped and is_sentence(stopped)


def test_a_setting_that_is_newer_than_a_run_does_not_stop_it_at_its_default():
    was = {"settings": {"seed": 0, "tokenizer": {"lr": 0.1}}}
    assert differences(was, {"settings": {"seed": 0, "tokenizer": {"lr": 0.1, "perceptual": 0.0}},
                             "files": {}}) == []
    assert differences(was, {"settings": {"seed": 0, "tokenizer": {"lr": 0.1, "perceptual": 1.0}},
                             "files": {}}) == ["tokenizer.perceptual=0.0 (now 1.0)"]


def test_the_classifier_is_trained_first_where_the_tokenizer_looks_with_it():
    def stages(*words):
        return [words[0] for words in commands([], set(), order(config(*words)))]

    assert stages()[:2] == ["tokenizer", "classifier"]
    assert stages("tokenizer.perceptual_net=classifier")[:2] == ["tokenizer", "classifier"]
    assert stages("tokenizer.perceptual=1")[:3] == ["classifier", "tokenizer", "teacher"]
    assert stages("tokenizer.perceptual=1", "tokenizer.perceptual_net=a.pth")[0] == "tokenizer"
    assert sorted(stages("tokenizer.perceptual=1")) == sorted(stages())


def test_a_missing_classifier_is_one_sentence(tmp_path):
    stopped = grey("tokenizer", tmp_path, *SHARP)
    assert "run train.classifier first" in stopped and is_sentence(stopped)
    with pytest.raises(DD2Error):
        TokenizerJob(config(*SHARP, f"out={tmp_path}"), Images(config()), CPU)
    assert not list(tmp_path.rglob("*.safetensors"))
