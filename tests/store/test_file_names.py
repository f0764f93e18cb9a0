"""Names as file names: nothing that a person can write leaves its folder."""

import random
from pathlib import Path

import pytest

from dd2core.store.names import LONGEST, as_file_name

WRONG = ["/abs/x", "a/b", "..", ".", "../../x", "", "\\\\host\\share", "C:\\x", "a\0b", "a\nb", "-",
         ".hidden", "~/x", "CON", "nul.txt", "com1", "x" * 5000, "é" * 300, " ", "a:b", "x.", "x ",
         "\u202egnp.exe", "\ud800", "%2e%2e%2f", "a..b", "−−help", "-rf"]


@pytest.mark.parametrize("name", ["fashion-llamagen", "t10k_images", "v1.2", "Bücher", "猫-7"])
def test_a_plain_name_stays_as_it_is(name):
    assert as_file_name(name) == name


@pytest.mark.parametrize("text", WRONG, ids=lambda text: ascii(text[:12]))
def test_a_name_stays_in_its_folder(text, tmp_path):
    check(as_file_name(text), tmp_path)


def test_any_text_becomes_one_file_of_its_folder(tmp_path):
    rng = random.Random(0)
    letters = "/\\.~-: \0\n\tab1é猫\u202e\ud800%\"'$`|<>*?"
    for _ in range(500):
        check(as_file_name("".join(rng.choices(letters, k=rng.randint(0, 60)))), tmp_path)


def check(name: str, folder: Path) -> None:
    assert 1 <= len(name.encode()) <= LONGEST and name == Path(name).name and ".." not in name
    assert not set(name) & set('/\\:*?"<>| \0\n\t~') and name[0] not in ".-" and name[-1] != "."
    assert name.partition(".")[0].lower() not in {"con", "nul", "aux", "com1"}
    path = folder / f"{name}-seed-0.zip"
    path.write_bytes(b"")
    assert path.resolve().parent == folder.resolve()
    path.unlink()


def test_the_two_normal_forms_of_a_name_are_one_file():
    assert as_file_name("Bu\u0308cher") == as_file_name("B\u00fccher")


def test_a_name_of_nothing_gets_the_fallback():
    assert as_file_name("///", "model") == "model"
