"""Quantized indexes: memory, build, disk, and recall against speed, beside the unquantized ones.

Each is built in fresh processes (`footprint.py`), which tell what it costs and leave it saved; all of them are
then taken up in this one process, on one core, and searched in turn.
"""

from __future__ import annotations

import shutil
import time
from typing import Any

from benchmarks import truth
from benchmarks.engines import VARIANTS
from benchmarks.engines.base import Call, ids_of
from benchmarks.engines.quantized import Effort, Variant
from benchmarks.measure import Point, median, qps_at, time_pass
from benchmarks.sections.common import RUN_IN_CALLS, Job, Result, in_a_process, loops_of
from benchmarks.settings import QUANTIZED_TARGETS, TRAINING_SIZE

# Beyond this there is no target left to interpolate; and what two settings did not raise by this, none will.
_ENOUGH_RECALL = 0.9975
_LEAST_RISE = 0.0005
# Who takes so long is built once: a second build would say no more.
_LONG_BUILD_CPU_S = 10.0


def run(job: Job) -> Result:
    """Measure every variant of the libraries that take part."""
    is_smoke = job.scale.name == "quick"
    names = [
        name
        for name, variant in VARIANTS.items()
        if variant.family in job.engines and not (is_smoke and variant.takes_minutes)
    ]
    builds = _build(job, names)
    results: dict[str, Any] = {name: _costs(every) for name, every in builds.items()}
    _, true_distances = truth.exact_neighbors(job.data.vectors, job.data.queries, job.data.space)
    plans: dict[str, _Plan] = {}
    for name in builds:
        plan = job.attempt(name, _climb, job, name, true_distances)
        if plan is not None:
            plans[name] = plan
    _time(job, list(plans.values()))
    for name, plan in plans.items():
        results[name].update(plan.to_dict())
    return {"training_size": _training_size(job), "engines": results}


def _training_size(job: Job) -> int:
    return min(TRAINING_SIZE, len(job.data.vectors) // 2)


def _variant(job: Job, name: str) -> Variant:
    return VARIANTS[name](job.data.dim, job.data.space, job.saved_path(name), _training_size(job))


# ----------------------------------------------------------------------------------------------- building


def _build(job: Job, names: list[str]) -> dict[str, list[Result]]:
    """Readings of every build, in turn; who fails once is left out, the place then holds nothing of use."""
    builds: dict[str, list[Result]] = {}
    job.indexes.mkdir(parents=True, exist_ok=True)
    for repeat in range(job.scale.build_repeats):
        for name in names if repeat == 0 else list(builds):
            if repeat and builds[name][0]["cpu_s"] > _LONG_BUILD_CPU_S:
                continue
            reading = job.attempt(name, _build_once, job, name)
            if reading is None:
                builds.pop(name, None)
                continue
            builds.setdefault(name, []).append(reading)
            job.say(f"built {name}: {reading['cpu_s']:.2f} CPU s ({repeat + 1}/{job.scale.build_repeats})")
    return {name: builds[name] for name in names if name in builds}


def _build_once(job: Job, name: str) -> Result:
    place = job.indexes / f"{name}.index"
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    order = {
        "engine": name,
        "dataset": str(job.folder),
        "space": job.data.space,
        "place": str(place),
        "training_size": _training_size(job),
    }
    return in_a_process("footprint", order, job.indexes / name)


def _costs(every: list[Result]) -> Result:
    """Medians over the builds of one variant."""
    medians = {
        key: None if every[0][key] is None else median(reading[key] for reading in every)
        for key in every[0]
        if key != "parts"
    }
    return {"costs": {**medians, "parts": every[0]["parts"], "builds": len(every)}}


# ---------------------------------------------------------------------------------------------- searching


class _Plan:
    """The points of one variant, their calls per reading, and its recall by an exhaustive search of codes."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.points: list[Point] = []
        self.efforts: list[Effort] = []
        self.loops: list[int] = []
        self.recall_by_codes: float | None = None

    def to_dict(self) -> Result:
        pairs = [(point.recall, point.qps) for point in self.points]
        return {
            "points": [point.to_dict() for point in self.points],
            "default": self.points[0].to_dict(),
            "qps_at": {f"{target:.2f}": qps_at(pairs, target) for target in QUANTIZED_TARGETS},
            "highest_recall": max(point.recall for point in self.points),
            "recall_by_codes": self.recall_by_codes,
        }


def _climb(job: Job, name: str, true_distances: truth.Distances) -> _Plan:
    """Find the recall of each setting; each chain of them ends where there is enough of it."""
    variant = _variant(job, name)
    variant.reopen()
    plan = _Plan(variant)
    warm = variant.at(Effort())
    for query in variant.prepare(job.data.warm_up):
        warm(query)
    for chain in variant.efforts(job.scale):
        recalls: list[float] = []
        for effort in chain:
            reached, taken = _recall(job, variant, variant.at(effort), true_distances)
            plan.points.append(Point(effort.label, reached, effort.ef))
            plan.efforts.append(effort)
            plan.loops.append(loops_of(job, taken))
            recalls.append(reached)
            if reached >= _ENOUGH_RECALL or (len(recalls) > 2 and reached < recalls[-3] + _LEAST_RISE):
                break
    by_codes = variant.by_codes()
    if by_codes is not None:
        plan.recall_by_codes, _ = _recall(job, variant, by_codes, true_distances)
    job.say(f"{name}: {len(plan.points)} settings, recall up to {max(p.recall for p in plan.points):.4f}")
    return plan


def _recall(job: Job, variant: Variant, call: Call, true_distances: truth.Distances) -> tuple[float, float]:
    prepared = variant.prepare(job.data.queries)
    start = time.perf_counter()
    answers = [call(query) for query in prepared]
    taken = time.perf_counter() - start
    found = ids_of(variant, answers)
    data = job.data
    return truth.recall(found, data.vectors, data.queries, data.space, true_distances), taken


def _time(job: Job, plans: list[_Plan]) -> None:
    """Time every point of every variant in turn; each repeat starts with another variant."""
    prepared = [plan.variant.prepare(job.data.queries) for plan in plans]
    run_in = [plan.variant.prepare(job.data.warm_up[:RUN_IN_CALLS]) for plan in plans]
    for repeat in range(job.scale.repeats):
        job.say(f"timing, repeat {repeat + 1}/{job.scale.repeats}")
        order = [(i + repeat) % len(plans) for i in range(len(plans))]
        for step in range(max((len(plan.points) for plan in plans), default=0)):
            for i in order:
                plan = plans[i]
                if step >= len(plan.points):
                    continue
                call = plan.variant.at(plan.efforts[step])
                for query in run_in[i]:
                    call(query)
                plan.points[step].readings.append(time_pass(call, prepared[i], plan.loops[step]))
