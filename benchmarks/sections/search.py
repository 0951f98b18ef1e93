"""Build, save, and recall against QPS: all engines in one process on one core, one call per query."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks import truth
from benchmarks.engines import Engine
from benchmarks.engines.base import Floats, disk_bytes
from benchmarks.measure import Point, Stopwatch, median, qps_at, time_pass, time_whole
from benchmarks.sections.common import RUN_IN_CALLS, Job, Result, loops_of, measure_point
from benchmarks.settings import RECALL_TARGETS

# Beyond this there is no target left to interpolate, and the slow end of the grid costs the most time.
_ENOUGH_RECALL = 0.9975


@dataclass
class _Series:
    """One engine asked in one way: a curve of the plot."""

    engine: Engine
    mode: str
    points: list[Point] = field(default_factory=list)
    loops: list[int] = field(default_factory=list)
    # All queries in one call, as users of arrays ask; the recall is that of the same mode asked one by one.
    is_whole: bool = False

    @property
    def label(self) -> str:
        return f"{self.mode}, one call" if self.is_whole else self.mode


def run(job: Job) -> Result:
    """Measure all of `job.engines` on `job.data`."""
    results: dict[str, Any] = {}
    engines = _build(job, results)
    for name, engine in engines.items():
        job.attempt(name, _save, job, name, engine, results[name])
    _, true_distances = truth.exact_neighbors(job.data.vectors, job.data.queries, job.data.space)
    series = [
        one
        for name, engine in engines.items()
        for mode in engine.modes
        if (one := job.attempt(name, _climb, job, engine, mode, true_distances)) is not None
    ]
    series += [_as_whole(one) for one in series if one.mode in one.engine.whole_modes]
    _time(job, series)
    for one in series:
        results[one.engine.name].setdefault("series", {})[one.label] = _series_result(one)
    return {"engines": results}


def _build(job: Job, results: dict[str, Any]) -> dict[str, Engine]:
    """Build every engine `build_repeats` times in turn; the last ones built are searched."""
    engines: dict[str, Engine] = {}
    builds: dict[str, list[Stopwatch]] = {}
    for name in job.engines:
        watch = job.attempt(name, _timed, job.new(name).warm_up, job.data.vectors)
        if watch is not None:
            results[name] = {"warm_up_cpu_s": watch.cpu_s}
    for repeat in range(job.scale.build_repeats):
        for name in list(results):
            engines.pop(name, None)  # the one before goes first, so that memory holds one of each
            engine = job.new(name)
            watch = job.attempt(name, _timed, engine.build, job.data.vectors)
            if watch is None:
                del results[name]
                continue
            job.say(f"built {name}: {watch.cpu_s:.2f} CPU s ({repeat + 1}/{job.scale.build_repeats})")
            engines[name] = engine
            builds.setdefault(name, []).append(watch)
    for name in engines:
        results[name]["build"] = {
            "cpu_s": median(watch.cpu_s for watch in builds[name]),
            "wall_s": median(watch.wall_s for watch in builds[name]),
            "every_cpu_s": [watch.cpu_s for watch in builds[name]],
        }
    return {name: engines[name] for name in job.engines if name in engines}


def _timed(action: Callable[[Floats], None], vectors: Floats) -> Stopwatch:
    with Stopwatch() as watch:
        action(vectors)
    return watch


def _save(job: Job, name: str, engine: Engine, result: dict[str, Any]) -> None:
    watch = job.save(name, engine)
    size = disk_bytes(job.saved_path(name))
    result["save"] = {"cpu_s": watch.cpu_s, "wall_s": watch.wall_s, "bytes": size}


def _climb(job: Job, engine: Engine, mode: str, true_distances: truth.Distances) -> _Series:
    """Find the recall of each setting of the grid, upwards until there is enough of it."""
    series = _Series(engine, mode)
    warm = engine.caller(mode, 64)
    for query in engine.prepare(job.data.warm_up):
        warm(query)
    everything = list(range(len(job.data.queries)))
    grid: list[int | None] = list(job.scale.efs)
    if engine.has_useful_default:
        grid.insert(0, None)
    for ef in grid:
        point, taken = measure_point(job, engine, mode, ef, everything, true_distances)
        series.points.append(point)
        series.loops.append(loops_of(job, taken))
        if ef is not None and point.recall >= _ENOUGH_RECALL:
            break
    return series


def _as_whole(one: _Series) -> _Series:
    points = [Point(point.setting, point.recall, point.ef) for point in one.points]
    return _Series(one.engine, one.mode, points, one.loops, is_whole=True)


def _time(job: Job, series: list[_Series]) -> None:
    """Time every point of every series in turn; each repeat starts with another engine."""
    prepared = [one.engine.prepare(job.data.queries) for one in series]
    run_in = [one.engine.prepare(job.data.warm_up[:RUN_IN_CALLS]) for one in series]
    for repeat in range(job.scale.repeats):
        job.say(f"timing, repeat {repeat + 1}/{job.scale.repeats}")
        order = [(i + repeat) % len(series) for i in range(len(series))]
        for step in range(max((len(one.points) for one in series), default=0)):
            for i in order:
                one = series[i]
                if step >= len(one.points):
                    continue
                call = one.engine.caller(one.mode, one.points[step].ef)
                for query in run_in[i]:
                    call(query)
                if one.is_whole:
                    reading = time_whole(call, job.data.queries, one.loops[step])
                else:
                    reading = time_pass(call, prepared[i], one.loops[step])
                one.points[step].readings.append(reading)


def _series_result(one: _Series) -> Result:
    pairs = [(point.recall, point.qps) for point in one.points]
    return {
        "points": [point.to_dict() for point in one.points],
        "qps_at": {f"{target:.2f}": qps_at(pairs, target) for target in RECALL_TARGETS},
        "highest_recall": max(point.recall for point in one.points),
    }
