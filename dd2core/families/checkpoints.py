"""Foreign checkpoints: reading them safely, unwrapping them, and taking them apart strictly.

Mapping official names onto our modules is `dd2core.official`'s; here is what every mapping needs.
"""

import argparse
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from dd2core.errors import DD2Error, some
from dd2core.store.files import LFS_POINTER, is_lfs_pointer, read_tensors

WRAPPERS = ("model", "module", "ema", "state_dict", "trainer")  # looked into in this order
PREFIXES = ("module.", "_orig_mod.")  # left by data parallelism and torch.compile


def read_state(path: str | Path) -> dict:
    """The content of a `.safetensors` or pickled checkpoint, on the CPU; see `unwrap`.

    Pickles are read with `weights_only=True`; the one class allowed beside tensors and plain
    containers is `argparse.Namespace`, which trainers store their options in.

    Raises:
        DD2Error: the file is missing, damaged, or holds anything else.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return read_tensors(path)
    if not path.is_file():
        raise DD2Error(f"{path} is missing: name a checkpoint file that exists.")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(path, map_location="cpu", weights_only=True,
                               mmap=zipfile.is_zipfile(path))  # tensors stay on disk until used
    except Exception as error:  # torch.load raises many kinds; all mean the same to the user
        if is_lfs_pointer(path):
            raise DD2Error(f"{path} is {LFS_POINTER}.") from None
        raise DD2Error(
            f"{path} cannot be read safely ({type(error).__name__}): it is damaged, or holds more "
            "than tensors, plain containers and an argparse.Namespace."
        ) from None
    if not isinstance(state, dict):
        raise DD2Error(f"{path} holds a {type(state).__name__}: a checkpoint is a dictionary.")
    return state


def choose(state: Mapping, wanted: str | None = None, depth: int = 4
           ) -> tuple[Mapping, list[str], str | None]:
    """A checkpoint with one set of weights in place of several, for `unwrap`.

    Trainers keep `model` and its average `ema` in one file.

    Args:
        state (Mapping): what a checkpoint file holds.
        wanted (str | None): the wrapper to take, where it is there; None is `unwrap`'s own order.
        depth (int): wrappers inside each other that are looked into.

    Returns:
        Mapping: the checkpoint without the others.
        list[str]: the wrappers that lie beside each other in it, in `unwrap`'s order; may be empty.
        str | None: the one that is taken; None where it has no wrapper.
    """
    present = [k for k in WRAPPERS if isinstance(state.get(k), Mapping)]
    if not present or depth == 0:
        return state, [], None
    if len(present) == 1 and present[0] != wanted:
        inner, within, taken = choose(state[present[0]], wanted, depth - 1)
        return {present[0]: inner}, within or present, taken or present[0]
    taken = wanted if wanted in present else present[0]
    return {taken: state[taken]}, present, taken


def unwrap(state: Mapping, trainer_part: str = "var_wo_ddp") -> dict[str, Tensor]:
    """The flat dictionary of tensors in a checkpoint, bare or wrapped.

    Wrappers are looked into in the order `model`, `module`, `ema`, `state_dict`, `trainer`, as
    deep as they go; prefixes that all names share (`module.`, `_orig_mod.`) are cut off. Of a file
    with several, `choose` takes another and tells which there are.

    Args:
        state (Mapping): what a checkpoint file holds.
        trainer_part (str): the entry of `trainer` to take: `var_wo_ddp` or `vae_local`.

    Raises:
        DD2Error: there is no dictionary of tensors in it.
    """
    for _ in range(4):
        if not isinstance(state, Mapping):
            break
        key = next((k for k in WRAPPERS if isinstance(state.get(k), Mapping)), None)
        if key is None:
            break
        state = state[key]
        if key == "trainer":
            state = state.get(trainer_part, {})
    if not isinstance(state, Mapping) or not state:
        raise DD2Error("The checkpoint holds no state dict: use a file of model weights.")
    wrong = [k for k, v in state.items() if not (isinstance(k, str) and isinstance(v, Tensor))]
    if wrong:
        raise DD2Error(f"The checkpoint is no state dict: {some(wrong)} is not a tensor.")
    for prefix in PREFIXES * 2:
        if all(k.startswith(prefix) for k in state):
            state = {k.removeprefix(prefix): v for k, v in state.items()}
    return dict(state)


class Keys:
    """A state dict that is used up key by key, so that nothing in it goes unnoticed.

    Args:
        state (Mapping): bare or wrapped, see `unwrap`.
        what (str): what it is, for the errors: "the VAR checkpoint".
        trainer_part (str): see `unwrap`.
    """

    def __init__(self, state: Mapping, what: str, trainer_part: str = "var_wo_ddp"):
        self.left, self.what = unwrap(state, trainer_part), what
        self.device = next(iter(self.left.values())).device
        self.missing: list[str] = []
        self.misshapen: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self.left

    def shape(self, name: str, ndim: int) -> tuple[int, ...]:
        """The shape of a tensor of `ndim` dimensions, to infer sizes from; takes nothing.

        Raises:
            DD2Error: it is missing or has another number of dimensions.
        """
        if name not in self.left:
            raise DD2Error(f"{self.what} has no {name}: it is not of this family.")
        shape = tuple(self.left[name].shape)
        if len(shape) != ndim:
            raise DD2Error(f"{self.what}: {name} has shape {shape}, expected {ndim} dimensions.")
        return shape

    def count(self, prefix: str) -> int:
        """How many of `prefix`0, `prefix`1, … there are, by the largest number found.

        `prefix` ends before the number: `count("blocks.")` of `blocks.0.attn…` and the like.
        """
        heads = (k[len(prefix):].partition(".")[0] for k in self.left if k.startswith(prefix))
        return 1 + max((int(h) for h in heads if h.isdecimal()), default=-1)

    def take(self, name: str, shape: Iterable[int]) -> Tensor:
        """A tensor by its official name, as float32 if it is floating; it counts as used.

        Where it is missing or of another shape, zeros stand in until `finish` says so.
        """
        a, shape = self.left.pop(name, None), tuple(shape)
        if a is not None and tuple(a.shape) == shape:
            return a.detach().float() if a.is_floating_point() else a.detach()
        if a is None:
            self.missing.append(name)
        else:
            self.misshapen.append(f"{name} has shape {tuple(a.shape)}, expected {shape}")
        return torch.zeros((), device=self.device).expand(shape)

    def drop(self, *names: str) -> None:
        """Accept these without using them, where they are: buffers that hold no knowledge."""
        for name in names:
            self.left.pop(name, None)

    def finish(self) -> None:
        """Check that `take` found everything, and that nothing is left.

        Raises:
            DD2Error: names the keys that are missing, of another shape, or left.
        """
        faults = {"it has no": self.missing, "": self.misshapen,
                 "it has keys that this model does not:": sorted(self.left)}
        wrong = [f"{text} {some(names, 20)}".strip() for text, names in faults.items() if names]
        if wrong:
            raise DD2Error(f"{self.what} is incomplete or of another model: {'; '.join(wrong)}.")


def fill(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put tensors, by our names, in the place of a module's own; a mapping must name all of them.

    Works for modules on the meta device, and for meta tensors. Keys and shapes were checked by
    `Keys.take(name, shape)`; what is wrong here is a wrong mapping, so torch's error stands.
    """
    module.load_state_dict(tensors, strict=True, assign=True)
