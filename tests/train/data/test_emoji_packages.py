"""The packages of emoji: fetched by npm, checked, used again; one sentence when that fails."""

import shutil
import stat
import subprocess

import pytest

from dd2core.errors import DD2Error
from tests.support.emoji_sets import make_packages
from train.data.emoji import packages
from train.data.emoji.packages import PACKAGES, Package, find_packages, members


@pytest.fixture
def sets(tmp_path, monkeypatch):
    return make_packages(tmp_path / "packages", monkeypatch)


@pytest.fixture
def npm(sets, tmp_path, monkeypatch):
    """A command `npm` that packs what lies in the folder `shop`; its file `log` tells the calls."""
    shop, tools = tmp_path / "shop", tmp_path / "bin"
    shutil.move(sets, shop)
    tools.mkdir()
    command = tools / "npm"
    command.write_text('#!/bin/sh\n'
                       f'echo "$1 $2" >> {tools}/log\n'
                       'file=$(echo "$2" | sed "s/^@//; s#/#-#; s/@/-/")\n'
                       f'exec cp "{shop}/$file.tgz" .\n')
    command.chmod(command.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    return shop


def refused(folder) -> str:
    with pytest.raises(DD2Error) as error:
        find_packages(folder)
    sentence = str(error.value)
    assert "\n" not in sentence and sentence.endswith(".")
    return sentence


def test_what_is_missing_is_fetched_and_the_rest_used_again(npm, tmp_path):
    folder = tmp_path / "got"
    first = find_packages(folder)
    log = tmp_path / "bin" / "log"
    assert log.read_text().split("\n")[:2] == ["pack set-one@1.0.0", "pack @scope/set-two@1.0.0"]
    assert find_packages(folder) == first and len(log.read_text().splitlines()) == 2
    first["set-one"].unlink()
    find_packages(folder)
    assert log.read_text().splitlines()[2:] == ["pack set-one@1.0.0"]
    assert {p.name for p in folder.iterdir()} == {"set-one-1.0.0.tgz", "scope-set-two-1.0.0.tgz"}


def test_a_download_that_is_not_the_one_expected_is_refused_and_not_kept(npm, tmp_path):
    path = npm / "set-one-1.0.0.tgz"
    path.write_bytes(path.read_bytes() + b"x")
    assert "is not set-one@1.0.0 as it was published (its sha256 differs)" in refused(
        tmp_path / "got")
    assert list((tmp_path / "got").iterdir()) == []


def test_a_damaged_tarball_is_refused(sets):
    path = sets / "set-one-1.0.0.tgz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    said = refused(sets)
    assert "set-one-1.0.0.tgz is not set-one@1.0.0" in said and "remove it" in said


def test_a_truncated_tarball_is_one_sentence_when_read(sets):
    path = sets / "set-one-1.0.0.tgz"
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(DD2Error, match="is no whole .tgz file: remove it"):
        list(members(path, lambda name: True))


def test_without_npm_the_sentence_says_how_to_get_the_packages_by_hand(sets, monkeypatch):
    monkeypatch.setattr(packages.shutil, "which", lambda name: None)
    find_packages(sets)  # all are there: npm is not needed
    (sets / "set-one-1.0.0.tgz").unlink()
    assert refused(sets) == (
        "The command npm, which fetches 1 packages, is not installed: install Node.js, or run "
        "`npm pack set-one@1.0.0` on another machine and name the folder with its .tgz files as "
        "packages=FOLDER.")


def test_npm_that_fails_or_takes_too_long_is_one_sentence(npm, tmp_path, monkeypatch):
    (npm / "set-one-1.0.0.tgz").unlink()
    assert "npm pack set-one@1.0.0 failed" in refused(tmp_path / "got")

    def late(*a, **k):
        raise subprocess.TimeoutExpired("npm", 1)

    monkeypatch.setattr(packages.subprocess, "run", late)
    assert "took more than" in refused(tmp_path / "got")


def test_a_file_too_large_to_be_one_of_the_package_is_refused(sets, monkeypatch):
    monkeypatch.setattr(packages, "MOST_MEMBER", 10)
    with pytest.raises(DD2Error, match="holds package/emoji.json of .* bytes: it is foreign"):
        list(members(sets / "set-one-1.0.0.tgz", lambda name: name.endswith("emoji.json")))


def test_every_package_has_an_exact_version_a_digest_and_a_credit():
    for p in PACKAGES:
        assert p.version.count(".") == 2 and p.version.replace(".", "").isdigit()
        assert len(p.sha256) == 64 and int(p.sha256, 16) and "opyright" in p.credit
    assert Package("@a/b", "1.2.3", "", 1, "").file == "a-b-1.2.3.tgz"
