"""The folder of the static page: page, engine, graphs, and `files.json` with a digest of each.

python -m app.static_page.assemble                        # build/web, from the shipped models
python -m app.static_page.assemble out=FOLDER models=fashion-var,path/to/model
"""

import shutil
import sys
from pathlib import Path

import torch

from app.shipped import shipped
from app.static_page.runtime import WEBGPU, fetch
from dd2core import DD2Error
from dd2core.graphs import ABOUT, DECODER, GENERATOR, STEP
from dd2core.graphs.export import weights_of, write_graphs
from dd2core.store.files import read_json, sha256, write_json
from dd2core.store.folder import Model, load_folder, resolve

ROOT = Path(__file__).parents[2]
PAGE = Path(__file__).parent / "page"
BUILD = ROOT / "build"
WEB = BUILD / "web"
LIST = "files.json"
NOT_LISTED = (LIST, "sw.js", "README.md", ".gitattributes")  # the last two are the Space's


def assemble(out: Path, names: list[str]) -> Path:
    """Write the page with some models; what is there already and right is kept.

    Args:
        out (Path): made if it is not there.
        names (list[str]): shipped presets, model folders or hub ids; the first is shown first.

    Raises:
        DD2Error: a model without a generator or graphs, a library or the engine is missing, or
            `out` holds something else.
    """
    if out.exists() and any(out.iterdir()) and not (out / LIST).is_file():
        raise DD2Error(f"{out} holds something that is no static page: name a new folder.")
    out.mkdir(parents=True, exist_ok=True)
    (out / LIST).touch()  # from here on the folder is the page's, even after a broken start
    engine = fetch(BUILD / "onnxruntime-web")
    shutil.copytree(engine, out / "ort", dirs_exist_ok=True,
                    ignore=shutil.ignore_patterns("VERSION"))
    for path in PAGE.iterdir():
        shutil.copy(path, out / path.name)
    shutil.copy(ROOT / "app" / "page.css", out / "page.css")
    for name in ("LICENSE", "NOTICE.md"):
        shutil.copy(ROOT / name, out / name)
    models = [load_folder(resolve(name), torch.device("cpu")) for name in names]
    for model in models:
        _graphs(out / "models" / model.name, model)
    for folder in (out / "models").iterdir():
        if folder.name not in [model.name for model in models]:
            shutil.rmtree(folder)
    write_json(out / LIST, listing(out, [model.name for model in models]))
    return out


def _graphs(folder: Path, model: Model) -> None:
    """Graphs of this very model, written unless they are there and whole."""
    about = read_json(folder / ABOUT) if (folder / ABOUT).is_file() else {}
    whole = about.get("weights") == weights_of(model) and all(
        (folder / name).is_file() and sha256(folder / name) == entry["sha256"]
        for name, entry in about["files"].items())
    if not whole:
        write_graphs(folder, model)


def listing(out: Path, models: list[str]) -> dict[str, dict]:
    """Name, bytes and sha256 of every file; models in their order, as the page offers them."""
    paths = [p for p in sorted(out.rglob("*")) if p.is_file()
             and p.relative_to(out).as_posix() not in NOT_LISTED and not p.name.startswith(".")]
    order = {name: i for i, name in enumerate(models)}
    paths.sort(key=lambda p: order.get(p.relative_to(out).parts[1], 0)
               if p.relative_to(out).parts[0] == "models" else -1)
    return {p.relative_to(out).as_posix(): {"bytes": p.stat().st_size, "sha256": sha256(p)}
            for p in paths}


def check(folder: Path) -> None:
    """See that an assembled page is whole.

    Raises:
        DD2Error: names the first file that is missing or damaged.
    """
    files = read_json(folder / LIST)
    models = {name.split("/")[1] for name in files if name.startswith("models/")}
    needed = [f"models/{model}/{name}" for model in models
              for name in (ABOUT, GENERATOR, DECODER, STEP)]
    for name in ("index.html", "main.js", "worker.js", *needed, *files):
        path = folder / name
        if name not in files or not path.is_file() or sha256(path) != files[name]["sha256"]:
            raise DD2Error(f"{path} is missing or damaged: assemble the page anew.")
    if not models:
        raise DD2Error(f"{folder} has no model: assemble the page anew.")


def download_bytes(folder: Path) -> int:
    """Bytes that a visitor fetches for the first model, teacher included, uncompressed; see
    `webgpu_bytes` for what comes on top where there is WebGPU."""
    files = {name: entry for name, entry in read_json(folder / LIST).items() if not _later(name)}
    first = next(name for name in files if name.startswith("models/")).rsplit("/", 1)[0]
    return sum(entry["bytes"] for name, entry in files.items()
               if not name.startswith("models/") or name.startswith(f"{first}/"))


def _later(name: str) -> bool:
    return name in [f"ort/{file}" for file in WEBGPU]


def webgpu_bytes(folder: Path) -> int:
    """Bytes of the engine that a browser with WebGPU fetches on top."""
    return sum(entry["bytes"] for name, entry in read_json(folder / LIST).items() if _later(name))


def asked(arguments: list[str], doc: str | None, settings: dict[str, str]) -> bool:
    """Whether help is asked for; prints a command's docstring and `setting=default  meaning`."""
    if not {"--help", "-h", "help"} & set(arguments):
        return False
    lines = [f"  {setting.ljust(34)}{meaning}" for setting, meaning in settings.items()]
    print("\n".join([(doc or "").strip(), "", "Settings, their defaults, and what they are:",
                     *lines]))
    return True


def main(arguments: list[str]) -> None:
    """`out=FOLDER models=NAME,NAME`."""
    given = {"out": str(WEB), "models": ",".join(shipped())}
    if asked(arguments, __doc__, {
            f"out={WEB.name}": "folder to write, by default build/web of the repository",
            f"models={given['models']}": "model folders, shipped presets or hub ids"}):
        return
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in given:
            raise DD2Error(f"{argument} is unknown: use out=FOLDER, models=NAME,NAME.")
        given[key] = value
    out = assemble(Path(given["out"]), [n for n in given["models"].split(",") if n])
    check(out)
    print(f"{out} is a whole static page: {download_bytes(out) / 1e6:.1f} MB for a visitor. "
          f"To see it: python -m http.server -d {out}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except DD2Error as error:
        raise SystemExit(f"app.static_page: {error}") from None
