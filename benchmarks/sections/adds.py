"""Adding one vector at a time to an index of 10,000."""

from __future__ import annotations

from benchmarks.engines import ENGINES, Engine
from benchmarks.engines.base import Floats
from benchmarks.measure import Stopwatch, percentiles, time_each_us
from benchmarks.sections.common import Job, Result

ROWS_BEFORE = 10_000
_BLOCK = 50
# The first adds after a bulk build may set things up (grow arrays, find the scales); users meet that once.
_RUN_IN = 10


def run(job: Job) -> Result:
    """Single adds, engines taking turns in blocks; median and p99 of wall microseconds a call."""
    vectors = job.data.vectors
    adds = job.scale.adds
    rows_before = min(ROWS_BEFORE, len(vectors) - adds - _RUN_IN)
    total = rows_before + adds + _RUN_IN
    engines: dict[str, Engine] = {}
    for name in job.engines:
        if ENGINES[name].can_add and (engine := job.attempt(name, _build, job, name, rows_before, total)):
            engines[name] = engine
    taken: dict[str, list[float]] = {name: [] for name in engines}
    cpu_s = dict.fromkeys(engines, 0.0)
    for first in range(rows_before + _RUN_IN, total, _BLOCK):
        rows = range(first, min(first + _BLOCK, total))
        for name, engine in engines.items():
            with Stopwatch() as watch:
                block = job.attempt(name, _add_each, engine, vectors, rows)
            taken[name] += block or []
            cpu_s[name] += watch.cpu_s
    return {
        "rows_before": rows_before,
        "adds": adds,
        "engines": {
            name: {"us": percentiles(taken[name]), "cpu_us_mean": cpu_s[name] / adds * 1e6}
            for name in engines
            if len(taken[name]) == adds
        },
    }


def _build(job: Job, name: str, rows_before: int, total: int) -> Engine:
    vectors = job.data.vectors
    engine = job.new(name)
    engine.warm_up(vectors)
    engine.build(vectors[:rows_before], capacity=total)
    for row in range(rows_before, rows_before + _RUN_IN):
        engine.add_one(row, vectors[row])
    return engine


def _add_each(engine: Engine, vectors: Floats, rows: range) -> list[float]:
    return time_each_us(lambda row: engine.add_one(row, vectors[row]), rows)
