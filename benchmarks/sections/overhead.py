"""What a call costs beside the search itself: queries against an index of 1,000 rows."""

from __future__ import annotations

from itertools import cycle, islice
from typing import Any

from benchmarks.engines import OURS, Engine
from benchmarks.measure import percentiles, time_each_us
from benchmarks.sections.common import RUN_IN_CALLS, Job, Result

ROWS = 1_000
_BLOCK = 500


def run(job: Job) -> Result:
    """Wall microseconds of single calls at each library's default effort, engines taking turns in blocks."""
    callers: dict[str, tuple[Engine, str]] = {}
    for name in job.engines:
        engine = job.attempt(name, _build, job, name)
        if engine is None:
            continue
        modes = ("search", "search_ids", "search_arrays") if name == OURS else engine.modes[:1]
        for mode in modes:
            callers[name if mode == "search" else f"{name} {mode}"] = (engine, mode)
    taken: dict[str, list[float]] = {key: [] for key in callers}
    for first in range(0, job.scale.overhead_calls, _BLOCK):
        for key, (engine, mode) in callers.items():
            taken[key] += job.attempt(engine.name, _block, job, engine, mode, first) or []
    results: dict[str, Any] = {key: {"us": percentiles(values)} for key, values in taken.items() if values}
    return {"rows": ROWS, "calls": job.scale.overhead_calls, "engines": results}


def _build(job: Job, name: str) -> Engine:
    engine = job.new(name)
    engine.warm_up(job.data.vectors)
    engine.build(job.data.vectors[:ROWS])
    return engine


def _block(job: Job, engine: Engine, mode: str, first: int) -> list[float]:
    call = engine.caller(mode, None)
    for query in engine.prepare(job.data.warm_up[:RUN_IN_CALLS]):
        call(query)
    return time_each_us(call, islice(cycle(engine.prepare(job.data.queries)), first, first + _BLOCK))
