"""A moving picture of both samplers at work: `python -m train.movie preset=fashion-llamagen`.

Writes `painting.gif` beside the weights: left the one-step images, right the teacher's as its
tokens arrive, the newest outlined, both slowed down alike, with clocks. Times are medians of
`ROUNDS` runs in turns, decoding included.
"""

from dd2core.pipeline import load_pipeline
from dd2core.store.files import write_atomic, write_manifest
from train.engine import loop
from train.evaluate import model_folder
from train.publish.gif import race
from train.settings.cli import main
from train.settings.schema import Config


def run(cfg: Config) -> None:
    """Write `painting.gif` into the preset's model folder."""
    folder, device = model_folder(cfg), loop.setup(cfg)
    pipe = load_pipeline(str(folder), str(device))
    if cfg.dry_run:
        print(f"movie: of {folder}; dry run, nothing written")
        return
    data, one, teacher = race(pipe)
    write_atomic(folder / "painting.gif", data)
    write_manifest(folder)
    print(f"movie: {folder / 'painting.gif'}, {len(data) / 2**10:.0f} KiB, one step "
          f"{1e3 * one.seconds:.1f} ms, teacher {1e3 * teacher.seconds:.1f} ms, decoding "
          "included")


if __name__ == "__main__":
    main(run)
