"""Clocks and what is made of their readings.

Speed is given in calls per CPU second (`time.process_time`, all threads of the process): on a machine that
others use too it moves far less than wall time. Wall time is kept beside it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Call = Callable[[Any], Any]


@dataclass(frozen=True)
class Reading:
    """CPU and wall seconds of `calls` calls."""

    calls: int
    cpu_s: float
    wall_s: float

    @property
    def qps(self) -> float:
        """Calls per CPU second."""
        return self.calls / self.cpu_s


class Stopwatch:
    """Reads both clocks around a block: ``with Stopwatch() as watch: ...; watch.cpu_s``."""

    cpu_s: float
    wall_s: float

    def __enter__(self) -> Stopwatch:
        gc.collect()
        self._wall = time.perf_counter()
        self._cpu = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu_s = time.process_time() - self._cpu
        self.wall_s = time.perf_counter() - self._wall


def time_pass(call: Call, arguments: Sequence[Any], loops: int = 1) -> Reading:
    """Make one call per argument, `loops` times over, and time the whole."""
    wall = time.perf_counter()
    cpu = time.process_time()
    for _ in range(loops):
        for argument in arguments:
            call(argument)
    cpu = time.process_time() - cpu
    wall = time.perf_counter() - wall
    return Reading(loops * len(arguments), cpu, wall)


def time_whole(call: Call, queries: Any, loops: int = 1) -> Reading:
    """Make one call with all queries, `loops` times over; a reading counts the queries."""
    wall = time.perf_counter()
    cpu = time.process_time()
    for _ in range(loops):
        call(queries)
    cpu = time.process_time() - cpu
    wall = time.perf_counter() - wall
    return Reading(loops * len(queries), cpu, wall)


def time_each_us(call: Call, arguments: Iterable[Any]) -> list[float]:
    """Wall microseconds of every single call."""
    clock = time.perf_counter_ns
    taken: list[float] = []
    for argument in arguments:
        start = clock()
        call(argument)
        taken.append((clock() - start) / 1e3)
    return taken


def loops_for(budget_s: float, pass_s: float, most: int = 50) -> int:
    """How many times a pass that takes `pass_s` goes into `budget_s`, at least once."""
    return max(1, min(most, int(budget_s / max(pass_s, 1e-9))))


def median(values: Iterable[float]) -> float:
    return float(np.median(np.fromiter(values, dtype=np.float64)))


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p90, p99, p99.9 and the largest of `values`, in their unit."""
    array = np.asarray(values)
    named = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
    return {name: float(np.percentile(array, q)) for name, q in named.items()}


@dataclass
class Point:
    """One setting of one engine: its recall, and its readings over the repeats."""

    setting: str
    recall: float
    ef: int | None = None
    readings: list[Reading] = field(default_factory=list)

    @property
    def qps(self) -> float:
        return median(reading.qps for reading in self.readings)

    def to_dict(self) -> dict[str, Any]:
        speeds = [reading.qps for reading in self.readings]
        wall = median(reading.calls / reading.wall_s for reading in self.readings)
        return {
            "setting": self.setting,
            "ef": self.ef,
            "recall": self.recall,
            "qps": self.qps,
            "qps_wall": wall,
            "qps_lowest": min(speeds),
            "qps_highest": max(speeds),
            "repeats": len(speeds),
            "calls_per_repeat": self.readings[0].calls,
        }


def frontier(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (recall, qps) pairs that no other beats in both, by rising recall."""
    kept: list[tuple[float, float]] = []
    best = -math.inf
    for recall, qps in sorted(points, key=lambda pair: (-pair[0], -pair[1])):
        if qps > best:
            kept.append((recall, qps))
            best = qps
    return kept[::-1]


def qps_at(points: Iterable[tuple[float, float]], target: float) -> float | None:
    """QPS at recall `target`, log QPS interpolated linearly in recall; None where never reached.

    When even the fastest setting has more recall than asked for, its speed counts: nothing is extrapolated.
    """
    curve = frontier(points)
    above = next((i for i, (recall, _) in enumerate(curve) if recall >= target), None)
    if above is None:
        return None
    if above == 0:
        return curve[0][1]
    (low_recall, low_qps), (high_recall, high_qps) = curve[above - 1], curve[above]
    share = (target - low_recall) / (high_recall - low_recall)
    return math.exp((1 - share) * math.log(low_qps) + share * math.log(high_qps))


def resident_bytes() -> int:
    """Resident set size after a garbage collection."""
    psutil: Any = importlib.import_module("psutil")
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def give_back_memory() -> None:
    """Collect garbage and hand what the allocator keeps free back to the system, so that no one can build in it."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@dataclass(frozen=True)
class Resident:
    """Resident bytes of this process: its own, and pages of files that the system can drop and read again."""

    anonymous: int
    mapped: int

    def __sub__(self, other: Resident) -> Resident:
        return Resident(self.anonymous - other.anonymous, self.mapped - other.mapped)


def resident() -> Resident | None:
    """What is resident once all that is free has been given back; None where the system does not tell."""
    give_back_memory()
    try:
        text = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return None
    kib = {fields[0]: int(fields[1]) for line in text.splitlines()[1:] if (fields := line.split())}
    anonymous = kib["Anonymous:"] * 1024
    return Resident(anonymous, kib["Rss:"] * 1024 - anonymous)
