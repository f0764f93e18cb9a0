"""A set of files of token sequences: written by all processes, resumed, checked, mapped.

A set is what a *plan* says (teacher or tokenizer, data, settings, seed), and lies in a folder named
by the plan's digest, so one of another plan is never read. File i holds a range of items, whoever
writes it; finished files are kept. `manifest.json` comes last and has the sha256 of each.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dd2core.errors import DD2Error
from dd2core.store.atomic import sweep
from dd2core.store.files import read_json, read_tensors, sha256, write_json
from dd2core.store.names import MANIFEST, weights
from train.data.shards.file import map_file, write_file
from train.data.shards.sequences import Sequences
from train.engine.distributed import gather, is_main, rank, world
from train.engine.processes.guard import lost_is_a_sentence, together
from train.settings.schema import Config


@dataclass(frozen=True)
class Shard:
    """The items first … stop − 1 of a part, which go into one file."""

    part: str
    first: int
    stop: int

    @property
    def name(self) -> str:
        """Of its file."""
        return weights(f"{self.part}-{self.first:08d}-{self.stop - self.first}")


@dataclass(frozen=True)
class Rows:
    """What becomes of a shard: tokens (n, L), labels (n,), numbers of items that have none."""

    tokens: Tensor
    labels: Tensor
    left_out: list[int]


def from_main(make: Callable[[], Any]) -> Any:
    """What `make` returns on rank 0, on every rank; what it refuses, all refuse."""
    found = {}
    with together():
        if is_main():
            found[0] = make()
    return gather(found)[0]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class ShardSet:
    """The files of one plan.

    Attributes:
        folder: theirs.
        shards: what each holds, in order.
    """

    def __init__(self, above: Path, plan: dict, per_file: int,
                 parts: dict[str, int] | Callable[[], dict[str, int]]):
        """Args:
            above (Path): the folder in which the set has its own.
            plan (dict): all that the sequences depend on, as JSON.
            per_file (int): items in a file.
            parts (dict | Callable): items of each part; a function is asked, on rank 0, where no
                manifest knows them.
        """
        self.plan = plan
        self.folder = above / _digest([plan, per_file])[:16]
        if callable(parts):
            ask = parts
            parts = from_main(lambda: self._manifest().get("parts") or ask())
        self.parts = parts
        self.shards = [Shard(part, a, min(a + per_file, n)) for part, n in self.parts.items()
                       for a in range(0, n, per_file)]

    def path(self, shard: Shard) -> Path:
        """Its file."""
        return self.folder / shard.name

    def missing(self) -> list[Shard]:
        """Shards whose file is not there or damaged; the files are read."""
        known = self._files()
        return [s for s in self.shards if not self._is_whole(s, known.get(s.name))]

    def complete(self) -> bool:
        """Whether the manifest names all the files and they are as it says; they are read."""
        known = self._files()
        return all(s.name in known and self._is_whole(s, known[s.name]) for s in self.shards)

    def _manifest(self) -> dict[str, Any]:
        """What the manifest says; nothing where there is none, or a damaged one.

        Raises:
            DD2Error: it is of another plan: somebody has moved or renamed the folder.
        """
        try:
            found = read_json(self.folder / MANIFEST)
        except DD2Error:
            return {}
        if found.pop("sha256", None) != _digest(found):
            return {}
        if _digest(found.get("plan")) != _digest(self.plan):
            raise DD2Error(f"{self.folder} holds sequences of another teacher, tokenizer, data or "
                           "settings under this one's name: move it away.")
        return found

    def _files(self) -> dict[str, str]:
        return self._manifest().get("files", {})

    def _is_whole(self, shard: Shard, expected: str | None) -> bool:
        path = self.path(shard)
        if not path.is_file():
            return False
        if expected is not None:
            return sha256(path) == expected
        try:
            return set(read_tensors(path, sealed=True)) == {"tokens", "labels", "left_out"}
        except DD2Error:
            return False

    def fill(self, produce: Callable[[list[Shard]], Iterator[tuple[Shard, Rows]]],
             codes: int, timeout: float = Config.timeout) -> None:
        """Write the missing files, each by one of the processes, then the manifest.

        Args:
            produce (Callable): a process's shards → each with its rows, in that order.
            codes (int): V, which decides how tokens are stored.
            timeout (float): seconds that processes wait for each other, for the sentence.

        Raises:
            DD2Error: a file cannot be written or made, or another process has ended.
        """
        todo = from_main(self.missing)
        with lost_is_a_sentence(timeout):
            for shard, rows in produce(todo[rank() :: world()]):
                write_file(self.path(shard), rows.tokens, rows.labels, rows.left_out, codes)
            gather({rank(): True})  # all are done
            from_main(self._finish)

    def _finish(self) -> None:
        sweep(self.folder)
        files = {s.name: sha256(self.path(s)) for s in self.shards}
        content = {"plan": self.plan, "parts": self.parts, "files": files}
        write_json(self.folder / MANIFEST, {**content, "sha256": _digest(content)})

    def read(self, part: str) -> tuple[Sequences, Tensor]:
        """Sequences and labels (N,) of a part; the sequences stay on disk."""
        found = [map_file(self.path(s)) for s in self.shards if s.part == part]
        labels = [torch.from_numpy(labels.astype("int64")) for _, labels, _ in found]
        return Sequences([tokens for tokens, *_ in found]), torch.cat(labels)

    def left_out(self) -> list[tuple[str, int]]:
        """Part and number of every item that has no sequence."""
        return [(s.part, int(i)) for s in self.shards for i in map_file(self.path(s))[2]]
