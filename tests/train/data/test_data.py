"""Data: IDX files, class folders, the download, batches."""

import gzip
import hashlib
import http.client
import io
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from dd2core.errors import DD2Error
from dd2core.tools.images import to_float, to_uint8
from tests.support.train_helpers import PICTURES, config, write_idx, write_idx_set
from train.data import batches as data_batches
from train.data import fashion as data
from train.data.batches import batch_indices
from train.data.source import load_data
from train.settings.cli import load_config


def idx_config(folder, *words):
    return load_config(["preset=fashion-llamagen", f"data={folder}", *words])


def refused(cfg) -> str:
    """The sentence that a data set is refused with."""
    with pytest.raises(DD2Error) as error:
        load_data(cfg)
    assert "\n" not in str(error.value)
    return str(error.value)


# IDX files ------------------------------------------------------------------------------------

@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read(tmp_path, suffix):
    plain = write_idx_set(tmp_path, suffix)
    d = load_data(idx_config(tmp_path))
    assert d.images.shape == (20, 1, 28, 28) and d.test_images.shape == (10, 1, 28, 28)
    assert d.images.dtype == torch.uint8 and d.labels.dtype == torch.int64
    assert d.images.numpy().tobytes() == plain["train-images-idx3-ubyte"][16:]
    assert d.test_labels.tolist() == list(range(10))
    assert d.class_names == list(data.FASHION_CLASSES)


def test_idx_files_of_other_classes_get_numbers_for_names(tmp_path):
    write_idx_set(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(20) % 3)
    assert "class 3 has no training images" in refused(idx_config(tmp_path))
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", np.arange(10) % 3)
    assert load_data(idx_config(tmp_path)).class_names == ["0", "1", "2"]


@pytest.mark.parametrize("keep", [0, 3, 10, 4000])
def test_a_truncated_idx_file_is_named(tmp_path, keep):
    path = tmp_path / "t10k-images-idx3-ubyte"
    write_idx_set(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    sentence = refused(idx_config(tmp_path))
    assert str(path) in sentence and "not a whole IDX file" in sentence


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no gzip"])
def test_a_damaged_gzip_is_named(tmp_path, damage):
    write_idx_set(tmp_path, ".gz")
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    raw = bytearray(path.read_bytes())
    if damage == "truncated":
        raw = raw[: len(raw) // 2]
    elif damage == "flipped":
        raw[12] ^= 0xFF
    else:
        raw = b"<html>not found</html>"
    path.write_bytes(bytes(raw))
    assert str(path) in refused(idx_config(tmp_path))


@pytest.mark.parametrize("name", sorted(data.FASHION_FILES))
def test_a_missing_idx_file_is_named(tmp_path, name):
    write_idx_set(tmp_path)
    (tmp_path / name).unlink()
    sentence = refused(idx_config(tmp_path))
    # Without the first file the folder is taken for one of class folders.
    assert name in sentence or (name.startswith("train-images") and "class folders" in sentence)


def test_as_many_labels_as_images(tmp_path):
    write_idx_set(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(19) % 10)
    assert "train-labels-idx1-ubyte" in refused(idx_config(tmp_path))


# Fashion-MNIST --------------------------------------------------------------------------------

def test_fashion_mnist_of_the_debian_package():
    if not data.DEBIAN_FOLDER.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    for name, digest in data.FASHION_FILES.items():
        raw = gzip.decompress((data.DEBIAN_FOLDER / f"{name}.gz").read_bytes())
        assert hashlib.sha256(raw).hexdigest() == digest, name
    d = load_data(load_config(["preset=fashion-llamagen"]))
    assert d.images.shape == (60_000, 1, 28, 28) and d.test_images.shape == (10_000, 1, 28, 28)
    assert d.labels.bincount().tolist() == [6000] * 10
    assert d.test_labels.bincount().tolist() == [1000] * 10 and len(d.class_names) == 10


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A stand-in for the download: name → reply, over tiny files; nothing is on this machine."""
    plain = write_idx_set(tmp_path / "server", ".gz")
    replies = {name: (tmp_path / "server" / f"{name}.gz").read_bytes() for name in plain}
    monkeypatch.setattr(data, "FASHION_FILES",
                        {name: hashlib.sha256(raw).hexdigest() for name, raw in plain.items()})
    monkeypatch.setattr(data, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    asked = []

    def urlopen(url, timeout):
        name = url.rpartition("/")[2].removesuffix(".gz")
        asked.append(name)
        reply = replies[name]
        if isinstance(reply, Exception):
            raise reply
        return io.BytesIO(reply)

    monkeypatch.setattr(data.urllib.request, "urlopen", urlopen)
    return replies, asked, tmp_path / "cache"


def test_the_download_is_checked_kept_and_used_again(server):
    replies, asked, cache = server
    first = load_data(load_config([]))
    assert len(first.images) == 20 and sorted(asked) == sorted(replies)
    load_data(load_config([]))
    assert len(asked) == 4 and len(list(cache.iterdir())) == 4


@pytest.mark.parametrize("damage", ["other", "truncated", "flipped", "page"])
def test_a_damaged_download_is_refused_and_not_kept(server, damage):
    replies, _, cache = server
    name = "train-labels-idx1-ubyte"
    raw = bytearray(replies[name])
    raw[12] ^= 0xFF
    replies[name] = {
        "other": replies["t10k-labels-idx1-ubyte"], "truncated": replies[name][:20],
        "flipped": bytes(raw), "page": b"<html>503</html>",
    }[damage]
    sentence = refused(load_config([]))
    assert name in sentence and "damaged" in sentence
    assert not list(cache.glob(f"*{name}*"))


@pytest.mark.parametrize("error", [OSError("no network"), http.client.IncompleteRead(b"12")])
def test_without_network_the_sentence_names_the_package(server, error):
    replies, _, cache = server
    replies["train-images-idx3-ubyte"] = error
    sentence = refused(load_config([]))
    assert "dataset-fashion-mnist" in sentence and "data=FOLDER" in sentence
    assert not cache.exists()


# Class folders --------------------------------------------------------------------------------

@pytest.mark.parametrize("channels", [1, 3])
def test_class_folders_are_read_resized_and_split(channels):
    d = load_data(config(f"channels={channels}", "image_size=20"))
    assert d.class_names == ["cross", "disc", "frame"]
    assert d.images.shape == (54, channels, 20, 20) and d.test_images.shape == (6, channels, 20, 20)
    assert d.images.dtype == torch.uint8 and d.images.float().std() > 20
    assert d.test_labels.bincount().tolist() == [2, 2, 2]


def test_colours_survive_only_with_three_channels():
    rgb = load_data(config("channels=3")).images.float()
    assert (rgb[:, 0] - rgb[:, 2]).abs().mean() > 5
    grey = load_data(config("channels=1")).images.float()
    luma = 0.299 * rgb[:, 0] + 0.587 * rgb[:, 1] + 0.114 * rgb[:, 2]
    assert (grey[:, 0] - luma).abs().mean() < 2


def test_the_held_out_pictures_are_never_trained_on():
    d = load_data(config("channels=3", "image_size=28"))
    train = {x.numpy().tobytes() for x in d.images}
    assert len(train) == 54 and not train & {x.numpy().tobytes() for x in d.test_images}


def test_a_folder_that_is_not_there(tmp_path):
    assert "is no folder" in refused(config(f"data={tmp_path / 'nothing'}"))


def test_a_folder_without_class_folders(tmp_path):
    assert "class folders" in refused(config(f"data={tmp_path}"))
    shutil.copy(PICTURES / "disc" / "00.png", tmp_path)
    assert "sub-folder" in refused(config(f"data={tmp_path}"))
    (tmp_path / "empty").mkdir()
    assert "class folders" in refused(config(f"data={tmp_path}"))


@pytest.mark.parametrize("damage", [b"", b"not a picture", None])
def test_an_unreadable_picture_is_named(tmp_path, damage):
    shutil.copytree(PICTURES, tmp_path / "p")
    bad = tmp_path / "p" / "disc" / "03.png"
    bad.write_bytes(bad.read_bytes()[:120] if damage is None else damage)
    sentence = refused(config(f"data={tmp_path / 'p'}"))
    assert "cannot be read" in sentence and str(bad) in sentence


def test_too_few_pictures(tmp_path):
    for i in range(9):
        (tmp_path / "a").mkdir(exist_ok=True)
        shutil.copy(PICTURES / "disc" / f"{i:02d}.png", tmp_path / "a")
    assert "9 pictures" in refused(config(f"data={tmp_path}"))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA"])
def test_other_kinds_of_png_are_pictures_too(tmp_path, mode):
    (tmp_path / "a").mkdir()
    for i in range(40):
        source = Image.open(PICTURES / "disc" / f"{i % 20:02d}.png")
        source.convert(mode).save(tmp_path / "a" / f"{i}.png")
    d = load_data(config(f"data={tmp_path}", "channels=3"))
    assert d.images.shape == (36, 3, 16, 16) and d.images.max() > 100


def test_the_wrong_size_says_what_to_set(tmp_path):
    write_idx_set(tmp_path, size=20)
    assert "channels=1 image_size=20" in refused(idx_config(tmp_path))
    assert "channels=1" in refused(idx_config(tmp_path, "channels=3", "image_size=20"))
    assert "channels=3" in refused(config("channels=2"))


def test_bytes_survive_floats():
    x = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(to_uint8(to_float(x)), x)
    assert to_float(x).min() == -1 and to_float(x).max() == 1
    assert to_uint8(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]


# Batches --------------------------------------------------------------------------------------

@pytest.mark.parametrize(("n", "batch"), [(12, 4), (10, 4), (7, 7), (5, 12), (1, 3)])
def test_batches_cover_every_epoch_exactly_once(n, batch):
    stream = torch.cat([batch_indices(n, batch, i, 3) for i in range(3 * n)])
    assert len(stream) == 3 * n * batch
    epochs = stream.view(-1, n)
    assert (epochs.sort(1).values == torch.arange(n)).all()


def test_batches_are_a_function_of_seed_and_step():
    def batches(seed, steps):
        return {i: batch_indices(50, 8, i, seed).tolist() for i in steps}

    forward = batches(0, range(30))
    data_batches._permutations.clear()
    torch.manual_seed(123)
    assert batches(0, reversed(range(30))) == forward
    assert batches(1, range(30)) != forward
    epochs = torch.tensor([forward[i] for i in range(25)]).view(4, 50)
    assert len({tuple(e.tolist()) for e in epochs}) == 4  # a new order each time
