"""The perceptual term: LPIPS's distance without learned weights, of our classifier or of VGG16."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from dd2core.errors import DD2Error
from dd2core.store.files import write_tensors
from tests.harness.damage import is_sentence
from tests.support.train_helpers import config
from train.measure.classifier import Classifier, sizes_of
from train.tokenizers.perceptual import VGG_LAYERS, Perceptual, load_perceptual


def loaded(tmp_path, *words) -> Perceptual:
    """The term of a run whose classifier is random."""
    cfg = config("tokenizer.perceptual=1", f"out={tmp_path}", *words)
    torch.manual_seed(1)
    (tmp_path / "classifier").mkdir(exist_ok=True)
    net = Classifier(**sizes_of(cfg, 3))
    for layer in net.body.modules():
        if isinstance(layer, nn.BatchNorm2d):  # as if it had been trained
            layer.running_mean.normal_(), layer.running_var.uniform_(0.5, 2)
    write_tensors(tmp_path / "classifier" / "classifier.safetensors", net.state_dict())
    return load_perceptual(cfg)


def test_the_distance_is_that_of_unit_channels_over_positions_and_layers():
    torch.manual_seed(2)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU())
    x, y = torch.randn(2, 3, 1, 8, 8)
    one = [net[:2](a) for a in (x, y)]
    two = [net(a) for a in (x, y)]
    total = 0.0
    for a, b in (one, two):
        a, b = (v / v.norm(dim=1, keepdim=True).clamp(min=1e-5) for v in (a, b))
        total += (a - b).pow(2).sum(1).mean().item() / 2
    assert Perceptual(net, (1, 3))(x, y).item() == pytest.approx(total, rel=1e-5)


def test_a_picture_is_at_no_distance_from_itself_and_blur_at_some(tmp_path):
    net = loaded(tmp_path)
    x = torch.rand(4, 1, 16, 16) * 2 - 1
    blurred = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0)
    assert net(x, x).item() == 0 and 0.01 < net(x, blurred).item() < 4


def test_only_the_reconstruction_learns_and_the_network_stands_still(tmp_path):
    net = loaded(tmp_path).train(False)
    before = {k: a.clone() for k, a in net.state_dict().items()}
    x, y = torch.rand(2, 3, 1, 16, 16).requires_grad_()
    x.retain_grad(), y.retain_grad()
    net(x, y).backward()
    assert x.grad is None and y.grad.abs().sum() > 0
    assert all(torch.equal(a, before[k]) for k, a in net.state_dict().items())
    assert not any(m.training for m in net.modules())
    assert not any(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("arch, layers, scales", [("plain", 6, 4), ("residual", 3, 3)])
def test_all_levels_of_the_classifier_count(arch, layers, scales, tmp_path):
    net = loaded(tmp_path, f"classifier.arch={arch}")
    found = net.features(torch.rand(2, 1, 16, 16))
    assert len(found) == layers and len({f.shape[-1] for f in found}) == scales
    for f in found:  # of length 1, or 0 where nothing was active
        length = f.norm(dim=1)
        assert ((length - 1).abs() < 1e-3).logical_or(length < 1e-3).all() and length.max() > 0.9


def test_off_there_is_none_and_before_the_classifier_it_is_one_sentence(tmp_path):
    assert load_perceptual(config()) is None
    words = ("tokenizer.perceptual=0.5", f"out={tmp_path}")
    with pytest.raises(DD2Error, match="run train.classifier first") as error:
        load_perceptual(config(*words))
    assert is_sentence(str(error.value))
    assert load_perceptual(config(*words, "dry_run=true")) is not None


# VGG16 ----------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    """A file as torchvision's, with random weights and without those for the classes."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    state = {f"features.{k}": a for k, a in make_layers(cfgs["D"]).state_dict().items()}
    torch.save(state | {"classifier.6.bias": torch.zeros(3)}, path)
    return path


def test_vgg_sees_pictures_as_it_was_trained_on_them(vgg):
    net = load_perceptual(config("tokenizer.perceptual=1", f"tokenizer.perceptual_net={vgg}"))
    seen = []
    net.layers[0].register_forward_hook(lambda m, args, out: seen.append(args[0]))
    x = torch.rand(1, 1, 16, 16) * 2 - 1
    found = net.features(x)
    assert [f.shape[1] for f in found] == [64, 128, 256, 512, 512]
    assert all(isinstance(net.layers[i], nn.ReLU) and not net.layers[i].inplace
               for i in VGG_LAYERS)
    red = ((x[:, 0] + 1) / 2 - 0.485) / 0.229
    assert seen[0].shape == (1, 3, 16, 16)
    torch.testing.assert_close(seen[0][:, 0], red)


def test_what_is_no_vgg_is_one_sentence(vgg, tmp_path):
    (tmp_path / "text.pth").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    wrong = {"text.pth": "holds no weights", "list.pth": "holds no weights", "": "holds no",
             "other.pth": "does not fit", "none.pth": "is missing", "n.safetensors": "is missing"}
    for name, says in wrong.items():
        with pytest.raises(DD2Error, match=says) as error:
            load_perceptual(config("tokenizer.perceptual=1",
                                   f"tokenizer.perceptual_net={tmp_path / name}"))
        assert is_sentence(str(error.value)), name
    with pytest.raises(DD2Error, match="image_size=12 is too small for VGG16"):
        load_perceptual(config("tokenizer.perceptual=1", f"tokenizer.perceptual_net={vgg}",
                               "image_size=12"))
