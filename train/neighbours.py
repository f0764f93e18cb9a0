"""The index of nearest training images: `python -m train.neighbours preset=fashion-llamagen`.

Writes `neighbours.safetensors` beside the weights of a finished model that has a classifier, and
its digest into the manifest: with it the page shows the nearest training images of a sample. Of
many images every second, fourth, … is in it, so that it has at most `neighbours_mb`.
"""

from dd2core.errors import DD2Error
from dd2core.novelty.classifier import find_classifier
from dd2core.novelty.index import make
from dd2core.store.files import read_json, sha256, write_json, write_tensors
from dd2core.store.names import MANIFEST, NEIGHBOURS
from train.data.labels import load_data
from train.engine import loop
from train.evaluate import model_folder
from train.settings.cli import main
from train.settings.schema import Config


def run(cfg: Config) -> None:
    """Write the index into the preset's model folder."""
    folder = model_folder(cfg)
    loop.setup(cfg)
    known = find_classifier(folder)
    if known is None:
        raise DD2Error(f"{folder} has no classifier: run train.classifier, then train.export.")
    if cfg.dry_run:
        print(f"neighbours: of {folder}; dry run, nothing written")
        return
    data = load_data(cfg)
    tensors = make(known[0], data.images, data.test_images, int(1e6 * cfg.neighbours_mb))
    write_tensors(folder / NEIGHBOURS, tensors)
    listed = read_json(folder / MANIFEST) | {NEIGHBOURS: sha256(folder / NEIGHBOURS)}
    write_json(folder / MANIFEST, dict(sorted(listed.items())))
    median, near, agreement = tensors["held"].tolist()
    size = (folder / NEIGHBOURS).stat().st_size / 1e6
    print(f"neighbours: {folder / NEIGHBOURS}, {size:.2f} MB, "
          f"{len(tensors['codes']):,} of {len(data.images):,} training images; N = "
          f"{len(data.test_images):,} held-out images: median distance {median:.3f}, 5% are nearer "
          f"than {near:.3f}, nearest by all features among the three shown {agreement:.1%}")


if __name__ == "__main__":
    main(run)
