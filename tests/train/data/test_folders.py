"""Ways a folder of pictures may be laid out: recognised, used or refused, never misunderstood."""

import os
import shutil

import pytest

from dd2core.errors import DD2Error
from tests.support.train_helpers import PICTURES, config
from train.data import notes
from train.data.folders import find_classes
from train.data.source import find_pictures

CLASSES = ["cross", "disc", "frame"]


def put(folder, *names, n=4, ending=".png"):
    """Class folders with n pictures each."""
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            shutil.copy(PICTURES / "disc" / f"{i:02d}.png", folder / name / f"{i:02d}{ending}")
    return folder


def opened(folder):
    return find_pictures(config(f"data={folder}"))


def refused(folder) -> str:
    """The one sentence that a folder is refused with."""
    with pytest.raises(DD2Error) as error:
        opened(folder)
    sentence = str(error.value)
    assert "\n" not in sentence and sentence.endswith(".")
    return sentence


def count(pictures) -> tuple[int, int]:
    return len(pictures.parts["train"]), len(pictures.parts["test"])


@pytest.fixture(autouse=True)
def unsaid(monkeypatch):
    monkeypatch.setattr(notes, "_said", set())


# Two parts ------------------------------------------------------------------------------------

@pytest.mark.parametrize(("train", "held"), [
    ("train", "val"), ("train", "test"), ("train", "valid"), ("Train", "Val"), ("TRAIN", "TEST"),
    ("training", "validation"), ("train", "testing")])
def test_train_beside_a_held_out_part(train, held, tmp_path):
    put(tmp_path / train, *CLASSES, n=6)
    put(tmp_path / held, *CLASSES, n=2)
    found = opened(tmp_path)
    assert found.class_names == CLASSES and count(found) == (18, 6)
    parts = {name: {found.paths[i] for i in pick} for name, pick in found.parts.items()}
    assert all(f"/{train}/" in path for path in parts["train"])
    assert all(f"/{held}/" in path for path in parts["test"])


def test_val_comes_before_test_and_what_is_left_out_is_said(tmp_path, capsys):
    put(tmp_path / "train", *CLASSES, n=6)
    put(tmp_path / "val", *CLASSES, n=2)
    put(tmp_path / "test", *CLASSES, n=3)
    (tmp_path / "annotations").mkdir()
    assert count(opened(tmp_path)) == (18, 6)
    said = capsys.readouterr().out
    assert f"left out in {tmp_path}: annotations/, test/" in said


def test_train_alone_holds_every_tenth_out(tmp_path):
    put(tmp_path / "train", *CLASSES, n=20)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "all.txt").write_text("x")
    assert opened(tmp_path).class_names == CLASSES and count(opened(tmp_path)) == (54, 6)


def test_a_flat_val_is_refused(tmp_path):
    put(tmp_path / "train", *CLASSES, n=6)
    put(tmp_path, "val", n=6)
    assert f"{tmp_path / 'val'} holds 6 pictures and no class folders" in refused(tmp_path)
    flat = put(tmp_path / "flat", "train", "val")
    assert "train, val hold pictures and no class folders" in refused(flat)
    (tmp_path / "empty" / "val").mkdir(parents=True)
    put(tmp_path / "empty" / "train", *CLASSES, n=6)
    assert "val holds no class folders with pictures" in refused(tmp_path / "empty")


def test_classes_of_one_part_alone_are_named(tmp_path):
    put(tmp_path / "train", "a", "b", "c")
    put(tmp_path / "valid", "a", "b", "d")
    assert "c is only in train and d is only in valid" in refused(tmp_path)


def test_two_folders_of_one_part_are_refused(tmp_path):
    put(tmp_path / "train", "a")
    put(tmp_path / "Train", "a")
    assert "Train and train" in refused(tmp_path)


def test_train_may_be_a_class(tmp_path):
    put(tmp_path, "bus", "car", "train", n=20)
    assert opened(tmp_path).class_names == ["bus", "car", "train"]
    put(tmp_path / "train", "night", n=10)  # pictures at any depth
    found = opened(tmp_path)
    assert found.class_names == ["bus", "car", "train"] and sum(count(found)) == 70


# One level too high or too low ------------------------------------------------------------------

@pytest.mark.parametrize("inner", ["images", "data/images"])
def test_one_level_too_high_is_descended(inner, tmp_path, capsys):
    put(tmp_path / inner, *CLASSES, n=20)
    (tmp_path / "readme").mkdir()
    (tmp_path / "readme" / "a.txt").write_text("x")
    assert opened(tmp_path).class_names == CLASSES
    said = capsys.readouterr().out
    assert f"3 classes in {tmp_path / inner}: cross 20, disc 20, frame 20" in said
    assert f"left out in {tmp_path}: readme/" in said


def test_one_level_above_train_and_val_is_descended(tmp_path):
    put(tmp_path / "set" / "train", *CLASSES, n=6)
    put(tmp_path / "set" / "val", *CLASSES, n=2)
    assert count(opened(tmp_path)) == (18, 6)


@pytest.mark.parametrize("names", [("one", "two"), ("val", "test"), ("part 1", "part 2", "part 3")])
def test_several_folders_of_class_folders_are_refused(names, tmp_path):
    for name in names:
        put(tmp_path / name, *CLASSES)
    sentence = refused(tmp_path)
    assert "hold folders (cross, disc, frame) and no pictures" in sentence
    assert f"as in data={tmp_path / sorted(names)[0]}" in sentence


def test_one_level_too_low_is_refused(tmp_path):
    put(tmp_path, *CLASSES)
    assert "name the folder above if this is a class" in refused(tmp_path / "disc")
    put(tmp_path / "disc", "best", n=2)
    assert "holds 4 pictures beside its folders, more than in them" in refused(tmp_path / "disc")


def test_a_few_pictures_beside_the_classes_are_left_out(tmp_path, capsys):
    put(tmp_path, *CLASSES, n=20)
    shutil.copy(PICTURES / "disc" / "00.png", tmp_path / "cover.png")
    assert sum(count(opened(tmp_path))) == 60
    assert "1 picture beside the class folders" in capsys.readouterr().out


# What is no class -------------------------------------------------------------------------------

@pytest.mark.parametrize("name", [".ipynb_checkpoints", ".thumbnails", "__MACOSX", ".git",
                                  "@eaDir", "$RECYCLE.BIN", "__pycache__"])
def test_hidden_and_archive_folders_are_no_classes(name, tmp_path):
    put(tmp_path, *CLASSES, name, n=20)
    put(tmp_path / "disc", name, n=3)
    found = opened(tmp_path)
    assert found.class_names == CLASSES and sum(count(found)) == 60


def test_hidden_files_are_no_pictures(tmp_path):
    put(tmp_path, *CLASSES, n=20)
    (tmp_path / "disc" / "._00.png").write_bytes(b"\0\5\x16\7 AppleDouble")
    assert sum(count(opened(tmp_path))) == 60


def test_an_empty_class_is_named(tmp_path):
    put(tmp_path, *CLASSES, n=20)
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'} is a class without pictures" in refused(tmp_path)
    for i in range(3):
        (tmp_path / "empty" / f"{i}.HEIC").write_bytes(b"ftypheic")
    (tmp_path / "empty" / "notes.txt").write_text("x")
    assert "(3 of .heic, 1 of .txt are not read)" in refused(tmp_path)


def test_kinds_that_are_not_read_are_counted(tmp_path, capsys):
    put(tmp_path, *CLASSES, n=20)
    put(tmp_path, "disc", n=5, ending=".heic")
    put(tmp_path, "frame", n=2, ending=".svg")
    (tmp_path / "frame" / "plain").write_text("x")
    assert sum(count(opened(tmp_path))) == 60
    assert f"not read in {tmp_path}: 5 of .heic, 2 of .svg, 1 of no ending" in (
        capsys.readouterr().out)
    only = put(tmp_path / "only", "a", n=3, ending=".heic")
    assert "(3 of .heic are not read)" in refused(only)


def test_the_classes_are_printed_once(tmp_path, capsys):
    put(tmp_path, *CLASSES, *(f"more {i}" for i in range(5)), n=10)
    opened(tmp_path)
    opened(tmp_path)
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert said.startswith(f"data: 8 classes in {tmp_path}: cross 10, disc 10, frame 10, "
                           "more 0 10, more 1 10 and 3 more pictures; 72 to train on, 8 held out")


# What is no picture -----------------------------------------------------------------------------

@pytest.mark.parametrize(("make", "says"), [
    (lambda p: os.mkfifo(p), "is a pipe"),
    (lambda p: p.symlink_to(p.parent / "nothing.png"), "is a link to nothing"),
    (lambda p: p.symlink_to(p), "is a link to nothing"),
    (lambda p: p.symlink_to("/dev/null"), "is a device or socket"),
])
def test_what_only_looks_like_a_picture_is_named(make, says, tmp_path):
    put(tmp_path, *CLASSES, n=20)
    bad = tmp_path / "disc" / "bad.png"
    make(bad)
    assert f"{bad} {says}" in refused(tmp_path)


@pytest.mark.parametrize("where", ["loop", "disc/loop", "disc/deep/loop"])
def test_a_folder_linked_into_itself_is_named(where, tmp_path):
    put(tmp_path, *CLASSES, n=20)
    (tmp_path / "disc" / "deep").mkdir()
    (tmp_path / where).symlink_to((tmp_path / where).parent)
    assert "is a link to a folder that it lies in" in refused(tmp_path)


def test_links_to_pictures_and_folders_are_followed(tmp_path):
    real = put(tmp_path / "real", *CLASSES, n=20)
    (tmp_path / "linked" / "cross").mkdir(parents=True)
    for path in (real / "cross").iterdir():
        (tmp_path / "linked" / "cross" / path.name).symlink_to(path)
    (tmp_path / "linked" / "disc").symlink_to(real / "disc")
    assert sum(count(opened(tmp_path / "linked"))) == 40


def test_a_folder_that_may_not_be_opened_is_named(tmp_path, monkeypatch):
    put(tmp_path, *CLASSES, n=20)
    scan = os.scandir

    def denied(path):
        if str(path).endswith("disc"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr("train.data.listing.os.scandir", denied)
    assert f"{tmp_path / 'disc'} cannot be opened (Permission denied)" in refused(tmp_path)


def test_names_that_cannot_be_shown_are_refused_and_escaped(tmp_path):
    put(tmp_path, *CLASSES, "two\nlines", n=10)
    assert "two\\nlines has a name that cannot be shown" in refused(tmp_path)
    os.rename(tmp_path / "two\nlines", os.fsencode(tmp_path) + b"/caf\xe9")
    assert "caf\\xe9 has a name that cannot be shown" in refused(tmp_path)


def test_a_home_that_nobody_has_is_one_sentence():
    assert "home of a user who is not known" in refused("~nosuchuser/pictures")


def test_pictures_keep_the_order_that_torchvision_gave_them(tmp_path):
    from torchvision.datasets import ImageFolder

    put(tmp_path, *CLASSES, "Z", "a b", n=7)
    put(tmp_path / "disc", "b", "a", n=2)
    put(tmp_path / "disc" / "a", "deep", n=2)
    found, _ = find_classes(tmp_path)
    assert [p for paths in found.pictures.values() for p in paths] == [
        path for path, _ in ImageFolder(str(tmp_path)).samples]
