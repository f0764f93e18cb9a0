"""What goes wrong while several processes make tokens is one sentence in each of them."""

import shutil
from pathlib import Path

import pytest

from dd2core.errors import DD2Error
from dd2core.store.names import MANIFEST
from tests.support.forked import forked
from tests.support.train_helpers import grey
from tests.train.engine.test_base import make_base
from train.data.shards import sets


@pytest.fixture(scope="module")
def words(tmp_path_factory) -> tuple[str, ...]:
    """A base, and files of four images."""
    made = make_base(tmp_path_factory.mktemp("base") / "made")
    return f"base={made}", "tokens.per_file=4", "timeout=20", "threads=1"


def tokens(rank: int, out: Path, words: tuple[str, ...], full: int | None) -> None:
    """`train.tokens`, where the disk of process `full` takes no file."""
    write_file = sets.write_file

    def write(path: Path, *a) -> None:
        if rank == full:
            raise DD2Error(f"{path} cannot be written: make room.")
        write_file(path, *a)

    sets.write_file = write
    raise SystemExit(grey("tokens", out, *words))


def said_by(tmp_path: Path, words: tuple[str, ...], full: int | None) -> list[str]:
    """The last line of each of two processes, which end with 1."""
    done = forked(tmp_path, tokens, tmp_path / "run", words, full)
    assert [code for code, _ in done] == [1, 1], done
    assert not any("Traceback" in said for _, said in done), done
    return [said.strip().splitlines()[-1] for _, said in done]


def test_a_full_disk_of_one_process_is_a_sentence_in_both_and_files_stay(words, tmp_path):
    other, full = said_by(tmp_path, words, 1)
    assert full.startswith("error: ") and full.endswith("cannot be written: make room.")
    assert other.startswith("error: Another process has ended")
    files = list((tmp_path / "run").rglob("*.safetensors"))
    assert files and not list((tmp_path / "run").rglob(MANIFEST))
    before = {p: p.stat().st_mtime_ns for p in files}
    assert grey("tokens", tmp_path / "run", *words) is None
    assert {p: p.stat().st_mtime_ns for p in files} == before


def test_a_folder_of_other_tokens_under_this_name_is_refused_by_both(words, tmp_path):
    assert grey("tokens", tmp_path / "run", *words) is None
    [right] = (tmp_path / "run" / "tokens").glob(f"*/{MANIFEST}")
    assert grey("tokens", tmp_path / "other", *words, "tokens.flips=true") is None
    [wrong] = (tmp_path / "other" / "tokens").glob(f"*/{MANIFEST}")
    shutil.rmtree(right.parent)
    shutil.copytree(wrong.parent, right.parent)
    first, second = said_by(tmp_path, words, None)
    assert first == second and first.startswith(f"error: {right.parent} holds sequences of another")
