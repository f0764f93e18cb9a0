"""Both samplers on one clock: the same warm-up, the same budget of seconds, in turns.

A ratio of two times is only as good as the worse of them. So after both have painted, both are run
again with nobody watching, whoever has used less of the budget next: what disturbs the machine for
a moment disturbs both, and the medians are taken over the same stretch of time.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

BUDGET = 0.75  # seconds that each sampler is measured for
LEAST = 3  # readings of each, of samplers that are quick enough
SLOW = 1.0  # seconds of one run, beyond which one reading each is enough
UNSEEN = 5.0  # seconds; a teacher that takes longer is not run again at all


@dataclass(frozen=True)
class Reading:
    """Seconds of one run: token generation, and decoding."""

    model: float
    decode: float

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


def in_turns(*samplers: Callable[[], Reading], least: int) -> Iterator[list[list[Reading]]]:
    """Run the samplers in turns, until each has used its budget and has `least` readings.

    Args:
        *samplers: each runs once and says how long it took.
        least (int): readings of each, at least.

    Yields:
        list[list[Reading]]: all readings so far, after each run.
    """
    taken: list[list[Reading]] = [[] for _ in samplers]
    while True:
        spent = [sum(r.seconds for r in readings) for readings in taken]
        due = [i for i, readings in enumerate(taken)
               if len(readings) < least or spent[i] < BUDGET]
        if not due:
            return
        one = min(due, key=lambda i: spent[i])
        taken[one].append(samplers[one]())
        yield taken
