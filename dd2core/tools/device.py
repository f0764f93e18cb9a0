"""Choosing a device, and waiting for it."""

import torch

from dd2core.errors import DD2Error


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` is CUDA, else Apple MPS, else CPU.

    Raises:
        DD2Error: no such device on this machine.
    """
    have = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in have.items() if there))
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or not have.get(device.type, False):
        here = ", ".join(kind for kind, there in have.items() if there)
        raise DD2Error(f"device={name} is not on this machine: use auto or one of {here}.")
    return device


