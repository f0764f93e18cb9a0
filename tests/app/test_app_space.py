"""The folder of a Hugging Face Space: what is in it, and that it starts with no network."""

import re

import pytest

from app import space
from app.shipped import first_shipped
from dd2core import DD2Error


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("space") / "new"
    space.assemble(out)
    return out


def front_matter(folder) -> dict[str, str]:
    head = (folder / "README.md").read_text().split("---\n")[1]
    return dict(line.split(": ", 1) for line in head.splitlines())


def test_it_holds_all_that_the_page_needs_and_nothing_else(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == {"app.py", "app", "dd2core", "assets", "requirements.txt", "README.md",
                     "LICENSE", "NOTICE.md", "CITATION.cff", ".gitattributes"}
    found = {path.name for path in folder.rglob("*")}
    assert "generator.safetensors" in found
    assert not {"__pycache__", "train", "reference.npz"} & found


def test_the_front_matter_fits_the_rules_of_a_space(folder):
    head = front_matter(folder)
    assert head["sdk"] == "gradio" and head["app_file"] == "app.py" and head["license"] == "mit"
    assert re.fullmatch(r"\d+\.\d+\.\d+", head["sdk_version"])
    colours = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {head["colorFrom"], head["colorTo"]} <= colours
    assert len(head["short_description"]) <= 60 and len(head["emoji"]) == 1


def test_the_page_imports_nothing_that_the_space_does_not_install(folder):
    used = set()
    for path in [*folder.glob("app/*.py"), *folder.glob("dd2core/*.py")]:
        used |= set(re.findall(r"^(?:import|from) (\w+)", path.read_text(), re.M))
    named = {re.split(r"[<>=;]", line)[0].lower()
             for line in (folder / "requirements.txt").read_text().splitlines()}
    assert "train" not in used and "gradio" not in named  # the SDK brings Gradio
    foreign = used & {"torch", "torchvision", "numpy", "PIL", "safetensors", "omegaconf", "tqdm",
                      "torch_fidelity", "scipy", "huggingface_hub"}
    assert {name.lower().replace("pil", "pillow") for name in foreign} <= named


def test_weights_from_the_hub_leave_assets_out_and_are_named(tmp_path):
    space.assemble(tmp_path, "owner/name@v1")
    assert not (tmp_path / "assets").exists()
    assert front_matter(tmp_path)["models"] == "[owner/name]"
    assert "`DD2_MODEL` to `owner/name@v1`" in (tmp_path / "README.md").read_text()
    space.assemble(tmp_path)  # a Space may be written over
    assert (tmp_path / "assets").is_dir()


def test_a_folder_with_other_things_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(DD2Error, match="is no Space: name a new folder"):
        space.assemble(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("words", [[], ["out"], ["out=x", "chek=false"], ["out=x", "check=no"]])
def test_wrong_arguments_are_one_sentence(words):
    with pytest.raises(DD2Error, match=r"^.*\.$"):
        space.main(words)


def test_it_starts_offline_and_paints(folder):
    assert f"paints with {first_shipped()} on cpu" in space.check(folder)


def test_one_that_cannot_start_says_why(folder, tmp_path):
    (tmp_path / "app.py").write_text("raise SystemExit('app: no weights.')")
    with pytest.raises(DD2Error, match="its last words: app: no weights."):
        space.check(tmp_path)


def test_one_that_is_only_slow_is_told_from_one_that_cannot_start(folder, monkeypatch):
    monkeypatch.setattr(space, "PATIENCE", 0.0)
    with pytest.raises(DD2Error, match="is whole, but its page did not answer in 0 s"):
        space.check(folder)
