"""Picture → square, in the ways in which the public teachers had their pictures.

`square`: the shorter side to `size` (bilinear, antialiased), centre. `var`: the shorter side to
1.125 `size` by Lanczos, centre. `adm`: halved by box averages while the shorter side is at least
twice `size`, then the shorter side to `size` (bicubic), centre; LlamaGen has it from ADM.
"""

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from dd2core.errors import DD2Error

LARGER = 1.125  # VAR's resized side / what it crops


def square(picture: Image.Image, size: int) -> Image.Image:
    """This project's own way; see the module."""
    from torchvision import transforms as T

    return T.CenterCrop(size)(T.Resize(size, antialias=True)(picture))


def var(picture: Image.Image, size: int) -> Image.Image:
    """VAR's way; see the module."""
    from torchvision import transforms as T

    larger = T.Resize(round(LARGER * size), T.InterpolationMode.LANCZOS)(picture)
    return T.CenterCrop(size)(larger)


def adm(picture: Image.Image, size: int) -> Image.Image:
    """ADM's way, and LlamaGen's; see the module."""
    width, height = picture.size
    while min(width, height) >= 2 * size:
        width, height = width // 2, height // 2
        picture = picture.resize((width, height), Image.Resampling.BOX)
    scale = size / min(width, height)
    width, height = round(width * scale), round(height * scale)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return picture.crop((left, top, left + size, top + size))


WAYS: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "square": square, "var": var, "adm": adm}


def to_square(picture: Image.Image, how: str, size: int, channels: int) -> Image.Image:
    """A square of `size` pixels a side, grey (1 channel) or RGB (3).

    Raises:
        DD2Error: `how` is none of `WAYS`.
    """
    if how not in WAYS:
        raise DD2Error(f"tokens.transform={how} is unknown: use {', '.join(WAYS)}.")
    return WAYS[how](picture.convert("L") if channels == 1 else picture, size)


def to_tensor(picture: Image.Image) -> Tensor:
    """uint8 (channels, H, W)."""
    from torchvision.transforms.functional import pil_to_tensor

    return pil_to_tensor(picture)


def read_square(picture: Image.Image, how: str, size: int, channels: int) -> Tensor:
    """`to_square` as uint8 (channels, size, size)."""
    return to_tensor(to_square(picture, how, size, channels))


def variants(picture: Image.Image, how: str, size: int, channels: int, flips: bool, crops: int
             ) -> Tensor:
    """All squares of a picture that become tokens.

    Args:
        picture (PIL.Image.Image): of any shape.
        how (str): of `WAYS`.
        size (int): pixels a side.
        channels (int): 1 grey, 3 RGB.
        flips (bool): the mirror image, too.
        crops (int): 1; or 10: of a square 1.1 times as large, its four corners and its centre,
            and their mirror images, as LlamaGen takes them.

    Returns:
        Tensor: uint8 (V, channels, size, size), V = `count(flips, crops)`.
    """
    if crops == 10:
        from torchvision.transforms.functional import ten_crop

        larger = to_square(picture, how, int(1.1 * size), channels)
        return torch.stack([to_tensor(a) for a in ten_crop(larger, [size, size])])
    return mirrored(read_square(picture, how, size, channels), flips)


def mirrored(image: Tensor, flips: bool) -> Tensor:
    """uint8 (channels, H, W) → (V, channels, H, W): itself, with `flips` its mirror image too."""
    return torch.stack([image, image.flip(-1)]) if flips else image[None]


def count(flips: bool, crops: int) -> int:
    """V, how many squares `variants` makes of a picture."""
    return crops if crops == 10 else 1 + flips
