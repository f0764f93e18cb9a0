"""FID, Inception Score, precision and recall, the reference, and the network, on a tiny one."""

import re
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset
from torch_fidelity import (
    FeatureExtractorInceptionV3,
    calculate_metrics,
    feature_extractor_inceptionv3,
    register_feature_extractor,
)
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from dd2core.errors import DD2Error
from tests.support.inception import TinyInception, pictures
from tests.support.train_helpers import PICTURES
from train.measure import inception
from train.measure.inception import compare, features, load_inception
from train.measure.reference import Reference, open_reference
from train.measure.stream import batches

CPU = torch.device("cpu")
DIM = 12  # of the tiny network


def reference(images, batch=64):
    return Reference("test", None, None, lambda: batches(images, batch), len(images))


def measured(a, b):
    return compare(TinyInception(), batches(a, 16), len(a), b)


# The numbers ----------------------------------------------------------------------------------

def test_a_set_is_like_itself():
    a = pictures(60, 0)
    f = measured(a, reference(a))
    assert abs(f.fd_percent) < 1e-3
    assert f.precision > 0.95 and f.recall > 0.95
    assert f.inception_score > 1
    far = measured(pictures(60, 1) // 2, reference(a))
    assert far.fd_percent > 10 and far.recall < 0.5  # dark pictures vary less


class Listed(Dataset):
    def __init__(self, images):
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i]


def test_the_numbers_are_those_of_torch_fidelitys_own_command():
    class Registered(FeatureExtractorInceptionV3):
        """The tiny network under the layers' names."""

        def __init__(self, name, features_list, **kwargs):
            torch.nn.Module.__init__(self)
            self.name, self.features_list, self.tiny = name, features_list, TinyInception()

        def forward(self, x):
            found = dict(zip(inception.LAYERS, self.tiny(x), strict=True))
            return tuple(found[k] for k in self.features_list)

    register_feature_extractor("tiny-inception", Registered)
    try:
        a, b = pictures(50, 0), pictures(40, 1) // 2
        theirs = calculate_metrics(
            input1=Listed(a), input2=Listed(b), isc=True, fid=True, prc=True, cuda=False,
            feature_extractor="tiny-inception", cache=False, verbose=False, save_cpu_ram=True)
    finally:
        del FEATURE_EXTRACTORS_REGISTRY["tiny-inception"]
    f = measured(a, reference(b))
    assert f.fd == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    assert f.inception_score == pytest.approx(theirs["inception_score_mean"], rel=1e-5)
    assert f.inception_score_std == pytest.approx(theirs["inception_score_std"], rel=1e-4)
    assert (f.precision, f.recall) == (theirs["precision"], theirs["recall"])


def test_statistics_give_the_fid_of_their_images(tmp_path):
    a, b = pictures(40, 0), pictures(50, 1)
    x = features(TinyInception(), batches(b, 64), len(b), "b")[0].double().numpy()
    moments = {"mu": x.mean(0), "sigma": np.cov(x, rowvar=False)}
    whole = measured(a, reference(b))
    for name, arrays in (("mu", moments), ("images", {"arr_0": b}),
                         ("both", {**moments, "arr_0": b[:30], "mu_s": x[0]})):
        np.savez(tmp_path / f"{name}.npz", **arrays)
        found = open_reference(str(tmp_path / f"{name}.npz"), 32, DIM)
        f = measured(a, found)
        assert f.fd == pytest.approx(whole.fd, rel=1e-5)
        assert f.fd_percent == pytest.approx(whole.fd_percent)
        if name == "mu":
            assert (f.precision, f.recall, found.read, found.n) == (None, None, None, 0)
        else:
            fewer = measured(a, reference(b if name == "images" else b[:30]))
            assert (f.precision, f.recall) == (fewer.precision, fewer.recall)


def test_precision_and_recall_take_an_even_part_of_many_images(monkeypatch):
    a, b = pictures(40, 0), pictures(60, 1)
    part = measured(a, reference(b[::3]))
    monkeypatch.setattr(inception, "MOST", 20)
    f = measured(a, reference(b))
    assert (f.precision, f.recall) == (part.precision, part.recall) and f.fd != part.fd


# The reference --------------------------------------------------------------------------------

def test_pictures_at_any_depth_are_cropped_as_for_training(tmp_path):
    from torchvision import transforms as T

    crop = T.Compose([T.Resize(16, antialias=True), T.CenterCrop(16), T.PILToTensor()])
    found = torch.cat(list(open_reference(str(PICTURES), 16, DIM, batch=7).read()))
    paths = sorted(PICTURES.rglob("*.png"))
    expected = torch.stack([crop(Image.open(p).convert("RGB")) for p in paths])
    assert torch.equal(found, expected) and len(found) == 60
    for path in paths[:10]:
        Image.open(path).convert("L").save(tmp_path / f"{path.parent.name}-{path.stem}.JPEG")
    flat = open_reference(str(tmp_path), 16, DIM)
    assert next(flat.read()).shape == (10, 3, 16, 16) and "10 pictures" in flat.name


def npz(**arrays):
    return lambda path: np.savez(path, **arrays)


EYE, IMAGES = np.eye(DIM), pictures(12, 0)


@pytest.mark.parametrize(("write", "says"), [
    (None, "is not there"),
    (lambda p: p.mkdir(), "has 0 pictures: at least 10"),
    (lambda p: p.write_bytes(b"PK\3\4 half of it"), "is not a whole .npz"),
    (lambda p: p.write_text("text"), "is not a whole .npz"),
    (lambda p: np.save(p.open("wb"), EYE), "is not a whole .npz"),
    (npz(arr_0=np.array([{}], object)), "is not a whole .npz"),
    (npz(mu=np.array(["a"]), sigma=EYE), "is not a whole .npz"),
    (npz(other=EYE), "has neither mu and sigma nor arr_0"),
    (npz(mu=EYE[0]), "has only one of mu and sigma"),
    (npz(mu=EYE[0, :5], sigma=EYE), r"the mean \(12,\) and covariance \(12, 12\)"),
    (npz(mu=EYE[0] * np.nan, sigma=EYE), "or not finite"),
    (npz(arr_0=IMAGES[:, :16]), r"uint8 \(N, 32, 32, 3\) as the samples are, not uint8 \(12, 16"),
    (npz(arr_0=IMAGES / 255), "not float64"),
    (npz(arr_0=IMAGES[:9]), "has 9 pictures: at least 10"),
])
def test_a_bad_reference_is_one_sentence(write, says, tmp_path):
    path = tmp_path / "reference.npz"
    if write:
        write(path)
    with pytest.raises(DD2Error, match=says) as stopped:
        open_reference(str(path), 32, DIM)
    assert "\n" not in str(stopped.value) and str(path) in str(stopped.value)


def test_no_reference_says_what_to_give():
    with pytest.raises(DD2Error, match="reference= is missing: give a folder of pictures"):
        open_reference(None, 32, DIM)


# The network ----------------------------------------------------------------------------------

def test_no_weights_and_no_network_name_file_and_url(tmp_path, monkeypatch):
    def refuse(url, progress):
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(feature_extractor_inceptionv3, "load_state_dict_from_url", refuse)
    url = feature_extractor_inceptionv3.URL_INCEPTION_V3
    with pytest.raises(DD2Error, match=f"no route to host.*{re.escape(url)}.*inception=FILE") as e:
        load_inception(None, CPU)
    at = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
    assert str(at) in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize(("content", "says"), [
    (None, "is not there: download https"), ("no pickle", "cannot be read safely"),
    ({"conv.weight": torch.ones(2)}, "does not hold the weights of inception-v3-compat"),
    ({"x": subprocess.Popen}, "cannot be read safely"),
])
def test_wrong_weights_are_one_sentence(content, says, tmp_path):
    path = tmp_path / "weights.pth"
    if isinstance(content, str):
        path.write_text(content)
    elif content:
        torch.save(content, path)
    with pytest.raises(DD2Error, match=says) as stopped:
        load_inception(str(path), CPU)
    assert "\n" not in str(stopped.value)
