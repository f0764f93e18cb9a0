"""The models that the page offers: the shipped ones, or the one named by DD2_MODEL."""

import threading
from collections.abc import Callable
from typing import Any

from app.requests import quote, refuse
from app.serve.runs import Samplers
from app.shipped import shipped
from dd2core import DD2Error, load_pipeline


class Models:
    """Samplers by name of their model, loaded when first asked for.

    Attributes:
        names (list[str]): what may be asked for; the first is the default.
        crowded: tells whether others wait for a sampler; the page sets it.
    """

    def __init__(self, names: list[str], device: str = "auto") -> None:
        self.names, self.device = names, device
        self.crowded: Callable[[], bool] = lambda: False
        self._loaded: dict[str, Samplers] = {}
        self._loading = {name: threading.Lock() for name in names}

    @classmethod
    def of(cls, *pipes: Any) -> "Models":
        """Those of pipelines at hand."""
        models = cls([pipe.name for pipe in pipes])
        models._loaded = {pipe.name: Samplers(pipe) for pipe in pipes}
        return models

    @classmethod
    def on_disk(cls, first: str, device: str = "auto") -> "Models":
        """`first` (a preset, a folder or a hub id), loaded now, and everything that is shipped.

        Raises:
            DD2Error: `first` cannot be loaded.
        """
        pipe = load_pipeline(first, device=device)
        models = cls([pipe.name, *(name for name in shipped() if name != pipe.name)], device)
        models._loaded[pipe.name] = Samplers(pipe)
        return models

    @property
    def default(self) -> Samplers:
        """The first one."""
        return self.get(None)

    def get(self, name: Any) -> Samplers:
        """The samplers of a model; None is the default.

        Raises:
            gr.Error: no such model, or its folder cannot be loaded.
        """
        name = self.names[0] if name is None else name
        if not isinstance(name, str) or name not in self.names:
            raise refuse(f"Unknown model {quote(name)}: choose one of {', '.join(self.names)}.")
        if (ready := self._loaded.get(name)) is not None:
            return ready
        with self._loading[name]:  # of this one alone: nobody else waits for it
            if name not in self._loaded:
                try:
                    self._loaded[name] = Samplers(load_pipeline(name, device=self.device))
                except DD2Error as error:
                    raise refuse(str(error)) from None
            return self._loaded[name]

    def load_all(self) -> None:
        """Load every model now, not when first asked for."""
        for name in self.names:
            self.get(name)
