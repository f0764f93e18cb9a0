"""Living bytes, and the most of them between marks in a step."""

import weakref
from collections.abc import Callable, Iterable

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Alive(TorchDispatchMode):
    """Counts the bytes of all tensors made inside it, as long as they live.

    Attributes:
        now, peak: bytes alive, and the most that ever were.
        peaks: the most between one `mark` and the next.
    """

    def __init__(self):
        super().__init__()
        self.seen = weakref.WeakSet()
        self.now = self.peak = self.high = 0
        self.peaks: list[int] = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        out = op(*args, **(kwargs or {}))
        for a in tree_leaves(out):
            if isinstance(a, Tensor) and a.untyped_storage() not in self.seen:
                storage = a.untyped_storage()
                self.seen.add(storage)
                self.now += storage.nbytes()
                self.high, self.peak = max(self.high, self.now), max(self.peak, self.now)
                weakref.finalize(storage, self._gone, storage.nbytes())
        return out

    def _gone(self, nbytes: int) -> None:
        self.now -= nbytes

    def mark(self, keep: bool = True) -> None:
        """Note the most since the mark before; without `keep`, forget it."""
        if keep:
            self.peaks.append(self.high)
        self.high = self.now


def mark_blocks(networks: Iterable[nn.Module], mark: Callable[[bool], None]) -> None:
    """Call `mark` where the first and the last transformer block begin and end, in both directions.

    What is between them, the middle blocks, is marked with False. So two networks that differ in
    depth alone have the same marks.

    Args:
        networks (Iterable[nn.Module]): with `backbone.blocks`, two at least.
        mark (Callable[[bool], None]): whether what was before counts.
    """
    def before(keep: bool):
        return lambda block, args: mark(keep)

    def backward(keep: bool):
        def hook(block, args):
            if args[0].requires_grad:
                args[0].register_hook(lambda gradient: mark(keep))
        return hook

    def after(block, args, out):
        mark(True)
        if out.requires_grad:
            out.register_hook(lambda gradient: mark(True))

    for network in networks:
        first, second, last = (network.backbone.blocks[i] for i in (0, 1, -1))
        for block, hook in ((first, before(True)), (first, backward(True)),
                            (second, before(True)), (last, before(False)),
                            (last, backward(True)), (second, backward(False))):
            block.register_forward_pre_hook(hook)
        last.register_forward_hook(after)
