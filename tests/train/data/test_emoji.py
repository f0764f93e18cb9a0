"""`train.emoji` on two small sets drawn for this: parts, copies, resuming, refusing."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dd2core.errors import DD2Error
from tests.support.emoji_sets import TWINS, make_packages
from train import emoji
from train.data.emoji import folder as folder_module
from train.data.emoji.catalogue import family_of
from train.data.pictures import open_pictures
from train.emoji import EmojiFolder


@pytest.fixture
def sets(tmp_path, monkeypatch):
    monkeypatch.setattr(emoji, "need_rasteriser", lambda: None)
    return make_packages(tmp_path / "packages", monkeypatch)


def made(sets: Path, name: str = "out", **settings) -> Path:
    """A folder that the command wrote."""
    out = sets.parent / name
    emoji.run(EmojiFolder(out=str(out), packages=str(sets), size=32, **settings))
    return out


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def files(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def families(part: Path) -> set[str]:
    return {family_of(re.sub(r"-copy\d.*", "", p.stem).partition("-")[2])
            for p in part.rglob("*.png")}


def test_no_emoji_is_in_both_parts_in_any_style_skin_tone_or_gender(sets):
    out = made(sets)
    train, val = families(out / "train"), families(out / "val")
    assert train and val and not train & val
    toned = [p.stem for p in (out / "val").rglob("*-1f3ff.png")]
    assert {name.partition("-")[0] for name in toned} == {"noto", "twemoji"}


def test_emoji_that_look_the_same_are_in_one_part(sets):
    out = made(sets)
    one, other = ([p.parts[-3] for p in out.rglob(f"noto-{t.lower()}.png")] for t in TWINS)
    assert one == other == ["val"]


def test_every_tenth_emoji_of_a_class_is_held_out(sets):
    out = made(sets)
    assert len(families(out / "val" / "mammals")) == 1
    assert len(families(out / "train" / "mammals")) == 11


def test_flags_are_never_mirrored_and_mammals_are_in_every_other_copy(sets):
    out = made(sets, copies=3)
    assert not list((out / "train" / "flags").glob("*mirrored*"))
    originals = [p for p in (out / "train" / "mammals").glob("*.png") if "copy" not in p.stem]
    for p in originals:
        assert {q.stem for q in p.parent.glob(f"{p.stem}-*")} == {
            f"{p.stem}-copy1-mirrored", f"{p.stem}-copy2", f"{p.stem}-copy3-mirrored"}


def test_copies_of_what_must_not_be_mirrored_have_left_where_it_was(sets):
    """The disc lies on the left, so the left half has more colour."""
    def ink(path):
        x = 255.0 - read(path)
        columns = x.sum((0, 2))
        return (columns * np.arange(len(columns))).sum() / columns.sum()

    out = made(sets, copies=1)
    for name, mirrored in (("flags", False), ("mammals", True)):
        for original in (out / "train" / name).glob("noto-*.png"):
            for copy in original.parent.glob(f"{original.stem}-copy1*"):
                moved = ink(copy) - ink(original)
                assert (moved > 4) if mirrored else (moved < 4), copy.name


def test_nothing_held_out_is_a_copy(sets):
    out = made(sets, copies=2)
    assert not list((out / "val").rglob("*copy*"))
    assert list((out / "train").rglob("*copy2*"))


def test_transparent_parts_are_white(sets):
    for path in made(sets).rglob("*.png"):
        picture = read(path)
        assert picture.shape == (32, 32, 3)
        assert (picture[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all(), path.name


def test_copies_stay_whole_and_the_hue_of_white_stays(sets):
    out = made(sets, copies=4)
    for path in (out / "train").rglob("*copy*"):
        edge = np.concatenate([read(path)[[0, -1]].reshape(-1, 3),
                               read(path)[:, [0, -1]].reshape(-1, 3)])
        assert edge.min() > 200, path.name  # nothing is cut


def test_the_reader_of_pictures_takes_the_folder(sets):
    out = made(sets, copies=1)
    found = open_pictures(out, 32, 3)
    assert found.class_names == ["flags", "hands and body", "mammals"]
    about = json.loads((out / "emoji.json").read_text())["totals"]
    assert len(found.parts["train"]) == about["train"] + about["copies"]
    assert len(found.parts["test"]) == about["val"]


def test_separate_styles_make_a_class_of_each(sets):
    out = made(sets, styles="separate", copies=0)
    names = {p.name for p in (out / "train").iterdir()}
    assert "mammals, noto" in names and "flags, twemoji" in names
    for p in (out / "train" / "mammals, noto").iterdir():
        assert p.name.startswith("noto-")


def test_a_finished_folder_holds_nothing_but_its_parts_and_what_they_are(sets):
    out = made(sets)
    assert {p.name for p in out.iterdir()} == {"train", "val", "emoji.json", ".gitignore"}
    assert {p.suffix for p in out.rglob("*") if p.is_file()} == {".png", ".json", ""}
    assert (out / ".gitignore").read_text() == "*\n"  # pictures are not committed
    assert sorted(p.name for p in sets.parent.iterdir()) == ["out", "packages"]


def test_the_same_command_again_changes_nothing(sets, monkeypatch):
    out = made(sets)
    before = files(out)
    monkeypatch.setattr(emoji, "build", lambda *a: pytest.fail("built again"))
    assert files(made(sets)) == before


def test_two_builds_are_the_same(sets):
    one, two = files(made(sets, "one")), files(made(sets, "two"))
    assert one == two and len(one) > 100


@pytest.mark.parametrize("after", [7, 60, 150])
def test_a_build_that_was_stopped_goes_on_and_ends_the_same(sets, monkeypatch, after):
    whole, put, n = files(made(sets, "whole")), folder_module._put, 0

    def stopped(path, data):
        nonlocal n
        n += 1
        if n > after:
            path.with_suffix(".tmp").write_bytes(data[:5])
            raise KeyboardInterrupt
        put(path, data)

    with monkeypatch.context() as m:
        m.setattr(folder_module, "_put", stopped)
        with pytest.raises(KeyboardInterrupt):
            made(sets)
    assert not (sets.parent / "out").exists()  # appears whole or not at all
    written = 0

    def counted(path, data):
        nonlocal written
        written += 1
        put(path, data)

    monkeypatch.setattr(folder_module, "_put", counted)
    assert files(made(sets)) == whole
    pngs = sum(name.endswith(".png") for name in whole)
    originals = sum(name.endswith(".png") and "copy" not in name for name in whole)
    assert written == pngs + originals - after


def test_a_stopped_build_of_other_settings_is_not_used(sets, monkeypatch):
    with monkeypatch.context() as m:
        m.setattr(folder_module, "write_json", lambda *a: 1 / 0)  # when all pictures are there
        with pytest.raises(ZeroDivisionError):
            made(sets, copies=5)
    one, two = files(made(sets)), files(made(sets, "fresh"))
    assert one == two


def test_other_settings_and_foreign_folders_are_refused(sets):
    made(sets)
    with pytest.raises(DD2Error, match="was made with other settings: name another folder"):
        made(sets, copies=1)
    (sets.parent / "mine").mkdir()
    (sets.parent / "mine" / "letter.txt").write_text("x")
    with pytest.raises(DD2Error, match="was not made by this command: name another folder"):
        made(sets, "mine")
    assert (sets.parent / "mine" / "letter.txt").read_text() == "x"


@pytest.mark.parametrize(("settings", "sentence"), [
    ({"styles": "both"}, "styles=both is unknown: use mixed or separate."),
    ({"copies": -1}, "must be from 8 to 512 and copies=-1 from 0 to 100"),
])
def test_impossible_settings_are_one_sentence(sets, settings, sentence):
    with pytest.raises(DD2Error, match=re.escape(sentence)):
        made(sets, **settings)


def test_a_dry_run_tells_the_counts_and_writes_nothing(sets, capsys):
    made(sets, dry_run=True)
    said = capsys.readouterr().out
    assert "| mammals | 12 | 12 | 24 |" in said and "would write" in said
    assert [p.name for p in sets.parent.iterdir()] == ["packages"]


def test_counts_are_printed_at_the_end(sets, capsys):
    made(sets)
    said = capsys.readouterr().out
    assert "| hands and body | 37 | 37 | 74 |" in said and "held out, 3 classes" in said
