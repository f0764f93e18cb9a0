"""Both samplers on one clock: the same warm-up, the same budget of seconds, in turns.

A ratio of two times is only as good as the worse of them. So after both have painted, both are run
again with nobody watching, whoever has used less of the budget next: what disturbs the machine for
a moment disturbs both, and the medians are taken over the same stretch of time. Some machines are
slower for seconds on end: so readings are kept, and what is asked for again with the same settings
is measured over the newest of all its readings.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

BUDGET = 1.5  # seconds that each sampler is measured for, those of before included
NEW = 0.75  # seconds of it that are new
SETTLE = 0.3  # seconds that a page is given to draw the finished pictures before they begin
KEPT = 6.0  # seconds of readings of each that are kept for the next comparison like it
AGE = 600.0  # seconds after which they are forgotten
MOST = 64  # settings whose readings are kept
LEAST = 3  # readings of each, of samplers that are quick enough
SLOW = 1.0  # seconds of one run, beyond which one reading each is enough
UNSEEN = 5.0  # seconds; a teacher that takes longer is not run again at all


@dataclass(frozen=True)
class Reading:
    """Seconds of one run: token generation, and decoding."""

    model: float
    decode: float
    at: float = field(default_factory=time.monotonic, compare=False)  # when it was taken

    @property
    def seconds(self) -> float:
        """Both."""
        return self.model + self.decode


@dataclass(frozen=True)
class Clock:
    """What all readings of a sampler say: the median one, and where half of them lie."""

    median: Reading
    low: float  # seconds; a quarter of the readings is below
    high: float  # seconds; a quarter of the readings is above
    readings: int


def summary(readings: list[Reading]) -> Clock:
    """The clock of at least one reading."""
    ordered = sorted(readings, key=lambda reading: reading.seconds)
    last = len(ordered) - 1
    return Clock(
        median=ordered[len(ordered) // 2],
        low=ordered[round(last / 4)].seconds,
        high=ordered[last - round(last / 4)].seconds,
        readings=len(ordered),
    )


class Readings:
    """The newest readings of both samplers, by their settings."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, list[list[Reading]]] = OrderedDict()
        self._lock = threading.Lock()  # visitors may ask for the same at the same time

    def of(self, settings: Hashable) -> list[list[Reading]]:
        """Those of one step and those of the teacher; none is older than `AGE`."""
        oldest = time.monotonic() - AGE
        with self._lock:
            kept = self._kept.get(settings, [[], []])
            return [[reading for reading in readings if reading.at >= oldest] for readings in kept]

    def keep(self, settings: Hashable, taken: list[list[Reading]]) -> None:
        """Remember them in place of those that were known; the settings not asked for longest
        are forgotten."""
        with self._lock:
            self._kept[settings] = [list(readings) for readings in taken]
            self._kept.move_to_end(settings)
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)


def in_turns(
    *samplers: Callable[[], Reading], least: int, taken: list[list[Reading]] | None = None
) -> Iterator[list[list[Reading]]]:
    """Run the samplers in turns, until each has used its budget, `NEW` seconds of it anew, and has
    `least` new readings. Fewer would all fall into the moment when the page is still being drawn.

    Args:
        *samplers: each runs once and says how long it took.
        least (int): new readings of each, at least.
        taken (list[list[Reading]] | None): those of before, which count and are added to.

    Yields:
        list[list[Reading]]: the newest readings, `KEPT` seconds of each, after each run.
    """
    taken = [[] for _ in samplers] if taken is None else taken
    new: list[list[float]] = [[] for _ in samplers]
    while True:
        spent = [sum(r.seconds for r in readings) for readings in taken]
        due = [i for i in range(len(samplers))
               if len(new[i]) < least or sum(new[i]) < NEW or spent[i] < BUDGET]
        if not due:
            return
        one = min(due, key=lambda i: sum(new[i]))
        taken[one].append(samplers[one]())
        new[one].append(taken[one][-1].seconds)
        _forget(taken[one], least)
        yield taken


def _forget(readings: list[Reading], least: int) -> None:
    """Drop the oldest beyond `KEPT` seconds, in place."""
    spent = sum(reading.seconds for reading in readings)
    while len(readings) > least and spent - readings[0].seconds >= KEPT:
        spent -= readings.pop(0).seconds
