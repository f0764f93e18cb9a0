"""Images → tokens, file by file: what the processes do with their shards."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dd2core.errors import DD2Error
from dd2core.tools.images import to_float
from train.data.shards.originals import Key, Originals, Read
from train.data.shards.sets import Rows, Shard
from train.engine.distributed import is_main, world

MOST_LEFT_OUT = 0.01  # share of the pictures that may be unreadable


def encode_batch(size: int) -> int:
    """Images of `size` pixels a side that one pass of the tokenizer takes: 256 small ones, 64 at
    256 px."""
    return max(8, min(256, 2**22 // size**2))


@torch.no_grad()
def encode_all(tokenizer: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """uint8 images (N, channels, H, W) → tokens (N, L) on the CPU."""
    parts = images.split(encode_batch(images.shape[-1]))
    bar = tqdm(parts, desc="tokens", mininterval=2.0, disable=len(images) < 10_000)
    return torch.cat([tokenizer.encode(to_float(part).to(device)).cpu() for part in bar])


class Encoding:
    """Makes the rows of shards from images. An image's V squares stand one after the other."""

    def __init__(self, originals: Originals, tokenizer: nn.Module, device: torch.device):
        self.originals, self.tokenizer, self.device = originals, tokenizer, device
        self.unreadable = 0

    def __call__(self, shards: list[Shard]) -> Iterator[tuple[Shard, Rows]]:
        """The shards with their rows.

        Raises:
            DD2Error: too many pictures cannot be read.
        """
        read = self.originals.read(keys for shard in shards for keys in self._batches(shard))
        total = sum(s.stop - s.first for s in shards)
        with tqdm(total=total * world(), desc="tokens", mininterval=2.0, dynamic_ncols=True,
                  disable=not is_main() or total < 10_000) as bar:
            for shard in shards:
                found = []
                for keys in self._batches(shard):
                    batch = next(read)
                    found.append((batch.fine, self._encode(batch.images)))
                    self._count(batch)
                    bar.update(len(keys) * world())
                yield shard, self._rows(shard, found)

    def _batches(self, shard: Shard) -> Iterator[list[Key]]:
        size = self.originals.cfg.image_size
        n = max(1, encode_batch(size) // self.originals.variants(shard.part))
        for a in range(shard.first, shard.stop, n):
            yield [(shard.part, i) for i in range(a, min(a + n, shard.stop))]

    @torch.no_grad()
    def _encode(self, images: Tensor) -> Tensor:
        """uint8 (n, V, channels, H, W) → tokens (n · V, L) on the CPU."""
        if not len(images):
            return torch.empty(0, self.tokenizer.cfg.num_tokens, dtype=torch.int64)
        return self.tokenizer.encode(to_float(images.flatten(0, 1)).to(self.device)).cpu()

    def _count(self, batch: Read) -> None:
        self.unreadable += int((~batch.fine).sum())
        total = sum(len(y) for y in self.originals.labels.values())
        if self.unreadable > MOST_LEFT_OUT * total:
            if self.unreadable == 1:
                raise DD2Error(str(batch.reason))
            raise DD2Error(f"data={self.originals.cfg.data}: {self.unreadable} pictures, more than "
                           f"1 in 100, cannot be read; the last: {batch.reason}")

    def _rows(self, shard: Shard, found: list[tuple[Tensor, Tensor]]) -> Rows:
        fine = torch.cat([fine for fine, _ in found])
        labels = self.originals.labels[shard.part][shard.first : shard.stop][fine]
        left_out = ((~fine).nonzero()[:, 0] + shard.first).tolist()
        return Rows(torch.cat([tokens for _, tokens in found]),
                    labels.repeat_interleave(self.originals.variants(shard.part)), left_out)
