"""Token sequences on disk: the same bytes whoever writes them, resumed, checked, read in place."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from dd2core.errors import DD2Error
from dd2core.store.files import read_json
from dd2core.store.folder import load_teacher
from dd2core.tools.images import to_float
from tests.support.forked import forked
from tests.support.train_helpers import config, grey, kept_tokens, snapshot, write_idx_set
from tests.train.engine.test_base import make_base
from train.data import tokens
from train.data.shards import encode, samples
from train.data.shards.file import map_file, token_type, write_file
from train.data.shards.originals import Originals
from train.data.shards.sequences import Sequences
from train.data.source import load_data
from train.engine import assemble, distributed, loop
from train.engine.assemble import load_tokenizer

CPU = torch.device("cpu")
SMALL = ("tokens.per_file=2", "samples.per_file=3", "samples.n=20", "samples.batch=2")


class Killed(Exception):
    """Stands for the end of a process."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("base") / "made")


@pytest.fixture
def words(made, tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "encode_batch", lambda size: 2)
    return (f"base={made}", f"out={tmp_path / 'run'}", "threads=1", *SMALL)


def make_both(words, out=None) -> Path:
    """Tokens and samples by one process."""
    cfg = config(*words, *((f"out={out}",) if out else ()))
    teacher = load_teacher(Path(cfg.base), CPU)
    tokens.load_tokens(cfg, teacher.tokenizer, CPU)
    samples.load_samples(cfg, teacher)
    return Path(cfg.out)


def resume(rank: int, words: tuple[str, ...]) -> None:
    """Tokens and samples by four processes."""
    cfg = config(*words)
    loop.setup(cfg)
    teacher = assemble.load_teacher(cfg, CPU)
    tokens.load_tokens(cfg, teacher.tokenizer, CPU)
    found = samples.load_samples(cfg, teacher)
    assert distributed.world() == 4 and len(found.tokens) == 18 and len(found.test_tokens) == 2


def kept(out: Path) -> dict[str, bytes]:
    """All that is written, without times and the paths in the settings."""
    return {f"{kind}/{k}": v for kind in ("tokens", "samples")
            for k, v in snapshot(out / kind).items() if k not in ("log.jsonl", "config.yaml")}


def test_killed_at_half_and_resumed_by_four_processes_the_bytes_are_those_of_one(
        words, tmp_path, monkeypatch):
    whole = kept(make_both(words))
    half = tmp_path / "half"

    def stop(after, real):
        calls = []

        def call(self, shard, *args):
            calls.append(shard)
            if len(calls) > after:
                raise Killed
            return real(self, shard, *args)
        return call

    for owner, name, after in ((encode.Encoding, "_rows", 4), (samples.Drawing, "_draw", 3)):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, stop(after, getattr(owner, name)))
            with pytest.raises(Killed):
                make_both(words, half)
    before = {p: p.stat().st_mtime_ns for p in half.rglob("*.safetensors")}
    assert 0 < len(before) < sum(name.endswith(".safetensors") for name in whole)
    torn = sorted(before)[0]  # what no atomic writer leaves, but a disk may
    torn.write_bytes(torn.read_bytes()[:-40])
    for code, said in forked(tmp_path, resume, (*words, f"out={half}"), world=4):
        assert code == 0, said
    assert kept(half) == whole
    again = {p for p, then in before.items() if p.stat().st_mtime_ns != then}
    assert again == {torn}  # what was finished stays
    data, own = load_data(config()), kept_tokens(half)
    assert len(own["tokens"]) == len(data.images) and torch.equal(
        own["labels"], 2 - data.labels)  # the base counts backwards


def test_the_tokens_are_those_of_the_tokenizer_each_picture_once(words, made):
    found, data, teacher = kept_tokens(make_both(words)), load_data(config()), load_teacher(
        made, CPU)
    assert torch.equal(found["tokens"], teacher.encode(to_float(data.images)))
    assert torch.equal(found["test_tokens"], teacher.encode(to_float(data.test_images)))


def test_a_damaged_file_is_made_again(words):
    out = make_both(words)
    whole = kept(out)
    for damaged in (sorted(out.rglob("*.safetensors"))[::5], list(out.rglob("manifest.json"))):
        for path in damaged:
            raw = bytearray(path.read_bytes())
            raw[len(raw) // 2] ^= 1
            path.write_bytes(raw)
        assert kept(out) != whole
        assert kept(make_both(words)) == whole


def test_tokens_of_other_squares_or_another_tokenizer_are_not_read(words, tmp_path):
    def rows(*change):
        cfg = config(*words, *change)
        return tokens.load_tokens(cfg, load_tokenizer(cfg, CPU), CPU).tokens[:]

    other = make_base(tmp_path / "other", seed=1)
    for change in ("tokens.flips=true", "tokens.transform=var", f"base={other}"):
        first = rows()  # what would be read by mistake
        assert rows(change).tolist() != first.tolist(), change
        assert len(list((tmp_path / "run" / "tokens").glob("*/manifest.json"))) == 1
    assert torch.equal(rows(), first)


def test_mirror_images_are_a_second_set_of_tokens(words, made):
    cfg = config(*words, "tokens.flips=true", "tokens.workers=1")
    found = tokens.load_tokens(cfg, load_tokenizer(cfg, CPU), CPU)
    data, teacher = load_data(config()), load_teacher(made, CPU)
    assert torch.equal(found.tokens[:][::2], teacher.encode(to_float(data.images)))
    assert torch.equal(found.tokens[:][1::2], teacher.encode(to_float(data.images.flip(-1))))
    assert torch.equal(found.labels, (2 - data.labels).repeat_interleave(2))
    assert len(found.test_tokens) == len(data.test_images)


def test_idx_images_are_mirrored_too_but_not_the_held_out_ones(tmp_path):
    write_idx_set(tmp_path / "idx", size=16)
    found = Originals(config(f"data={tmp_path / 'idx'}", "tokens.flips=true"))
    for part, n, variants in (("train", 20, 2), ("test", 10, 1)):
        assert len(found.labels[part]) == n and found.variants(part) == variants
        assert found[part, 3].shape == (variants, 1, 16, 16)
    a, b = found["train", 3]
    assert torch.equal(b, a.flip(-1))
    with pytest.raises(DD2Error, match="tokens.crops=10 is for pictures"):
        Originals(config(f"data={tmp_path / 'idx'}", "tokens.crops=10"))


def test_reading_pictures_does_not_move_the_numbers_that_first_weights_are_drawn_from(words):
    cfg = config(*words)
    tokenizer = load_tokenizer(cfg, CPU)
    torch.manual_seed(3)
    tokens.load_tokens(cfg, tokenizer, CPU)
    moved = torch.rand(4)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(4), moved)


def many_pictures(folder: Path, broken: int) -> Path:
    from PIL import Image

    source = np.random.default_rng(0)
    for name in ("frame", "disc", "cross"):
        (folder / name).mkdir(parents=True)
        for i in range(50):
            Image.fromarray(source.integers(0, 256, (16, 16), np.uint8)).save(
                folder / name / f"{i:03d}.png")
    for i in range(broken):  # the first of them in a file of two classes
        (folder / "cross" / f"{48 - 2 * i:03d}.png").write_bytes(b"no picture")
    return folder


def test_unreadable_pictures_are_listed_and_left_out(words, tmp_path, capsys):
    data = many_pictures(tmp_path / "data", 1)
    words = (*words, f"data={data}", "tokens.per_file=20", "tokens.workers=1")
    for _ in range(2):  # made, then read
        cfg = config(*words)
        found = tokens.load_tokens(cfg, load_tokenizer(cfg, CPU), CPU)
        assert found.labels.bincount().tolist() == [45, 45, 44] and len(found.tokens) == 134
        assert found.test_labels.bincount().tolist() == [5, 5, 5]
    [listed] = (tmp_path / "run" / "tokens").glob("*/left-out.txt")
    assert listed.read_text() == f"{data / 'cross' / '048.png'}\n"
    assert "1 pictures cannot be read and are left out" in capsys.readouterr().out


def test_more_than_one_in_a_hundred_is_an_error(words, tmp_path):
    said = grey("tokens", tmp_path / "run", *words, f"data={many_pictures(tmp_path / 'data', 3)}")
    assert "pictures, more than 1 in 100, cannot be read" in said and said.count("\n") == 0


@pytest.mark.parametrize(("codes", "dtype"), [
    (2**15, torch.int16), (2**15 + 1, torch.uint16), (2**16, torch.uint16),
    (2**16 + 1, torch.int32)])
def test_every_code_comes_back(codes, dtype, tmp_path):
    rows = torch.tensor([[0, 1], [codes // 2, codes - 1]])
    write_file(tmp_path / "a.safetensors", rows, torch.tensor([3, 999]), [7], codes)
    found, labels, left_out = map_file(tmp_path / "a.safetensors")
    assert token_type(codes) == dtype and found.dtype.itemsize == dtype.itemsize
    assert torch.equal(Sequences([found])[torch.tensor([1, 0])], rows.flip(0))
    assert labels.tolist() == [3, 999] and left_out.tolist() == [7]


def test_parts_and_batches_of_sequences_are_those_of_the_whole():
    rows = np.arange(24, dtype=np.int16).reshape(12, 2)
    s, whole = Sequences([rows[:5], rows[5:5], rows[5:]]), torch.from_numpy(rows.astype(int))
    assert len(s) == 12 and s.shape == (12, 2)
    part, pick = s.part(3, 9), torch.tensor([5, 0, 2, 2])
    assert torch.equal(part[pick], whole[3:9][pick]) and torch.equal(part[1:3], whole[4:6])
    assert torch.equal(torch.cat(list(part.split(4))), whole[3:9])
    assert [len(x) for x in part.split(4)] == [4, 2]
    for bad in (6, -1):
        with pytest.raises(IndexError):
            part[torch.tensor([bad])]


def own_memory() -> int:
    """Bytes of this process that no other shares."""
    [line] = [x for x in Path("/proc/self/status").read_text().splitlines()
              if x.startswith("RssAnon")]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells it there")
def test_reading_adds_little_memory_at_full_size(tmp_path):
    n, length, files = 1_281_167, 680, 8
    each = -(-n // files)
    for i in range(files):  # sparse: nothing but the header takes room
        rows, size = min(each, n - i * each), 2 * length
        head = json.dumps({
            "tokens": {"dtype": "I16", "shape": [rows, length], "data_offsets": [0, rows * size]},
            "labels": {"dtype": "I32", "shape": [rows],
                       "data_offsets": [rows * size, rows * (size + 4)]},
            "left_out": {"dtype": "I64", "shape": [0],
                         "data_offsets": [rows * (size + 4)] * 2}}).encode()
        head += b" " * (-len(head) % 8)
        with open(tmp_path / f"{i}.safetensors", "wb") as f:
            f.write(len(head).to_bytes(8, "little") + head)
            f.truncate(8 + len(head) + rows * (size + 4))
    before = own_memory()
    found = [map_file(tmp_path / f"{i}.safetensors") for i in range(files)]
    s = Sequences([a for a, *_ in found])
    labels = torch.cat([torch.from_numpy(y.astype("int64")) for _, y, _ in found])
    assert s.shape == (n, length) and len(labels) == n
    source = torch.Generator().manual_seed(0)
    for _ in range(20):
        assert not s[torch.randint(n, (512,), generator=source)].any()
    assert own_memory() - before < 0.1 * 2**30
    shutil.rmtree(tmp_path)


def test_source_json_of_usual_settings_says_what_it_always_has(words, tmp_path):
    make_both(words)
    assert list(read_json(tmp_path / "run" / "tokens" / "source.json")) == [
        "data", "image_size", "channels", "tokenizer_sha256", "classes_sha256"]
