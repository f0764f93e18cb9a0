"""Held-out pictures above what tokenizers make of them, as one PNG:

    python -m train.publish.reconstructions preset=emoji-llamagen \
        of=[A.safetensors,B.safetensors,C.safetensors] out=docs/figures/emoji-reconstructions.png

where A is runs/emoji-plain/tokenizer/tokenizer, B runs/emoji-sharp/tokenizer/tokenizer and C
assets/emoji-llamagen/tokenizer. Rows: the originals, then one for each file of `of`, of the
preset's sizes but for the decoder's blocks.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from dd2core.errors import DD2Error
from dd2core.store.files import load_strict, read_tensors, write_atomic
from dd2core.tools.images import grid_image, png, to_float, to_uint8
from train.data.batches import spaced
from train.data.source import load_data
from train.engine.assemble import new_tokenizer
from train.settings import cli
from train.tokenizers.start import decoder_blocks

COLUMNS = 16


@dataclass
class Reconstructions:
    """Settings of the picture."""

    preset: str = "fashion-llamagen"  # its data and the sizes of its tokenizer
    of: list[str] = field(default_factory=list)  # files of tokenizer weights, a row each
    out: str = "reconstructions.png"  # file that is written


@torch.no_grad()
def rows(preset: str, files: list[Path]) -> Tensor:
    """uint8 (1 + files, COLUMNS, channels, H, W): held-out pictures from all over the classes, and
    their reconstructions.

    Raises:
        DD2Error: the data or a file is missing, or a file is of another size.
    """
    cfg = cli.load_config([f"preset={preset}"])
    data = load_data(cfg, test_only=True)
    order = data.test_labels.argsort(stable=True)
    images = data.test_images[order[spaced(COLUMNS, len(order))]]
    found = [images]
    for path in files:
        sealed = not (path.parent / "manifest.json").is_file()
        weights = read_tensors(path, sealed=sealed)
        cfg.tokenizer.decoder_res_blocks = decoder_blocks(weights, len(cfg.tokenizer.mult))
        model = new_tokenizer(cfg).eval()
        load_strict(model, weights, str(path))
        found.append(to_uint8(model.decode(model.encode(to_float(images)))))
    return torch.stack(found)


def run(o: Reconstructions) -> None:
    """Write the picture."""
    if not o.of:
        raise DD2Error("of= names no tokenizer: give one or more files of weights.")
    found = rows(o.preset, [Path(file) for file in o.of])
    picture = grid_image(found.flatten(0, 1).permute(0, 2, 3, 1).numpy(), columns=COLUMNS, zoom=1)
    write_atomic(Path(o.out), png(Image.fromarray(picture)))
    print(f"reconstructions: {o.out}, {COLUMNS} held-out pictures, {len(o.of)} tokenizers")


if __name__ == "__main__":
    cli.main(run, kind=Reconstructions)
