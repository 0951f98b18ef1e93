"""All queries in one call on two threads. Not pinned; wall time, as it is the answer that is waited for."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from benchmarks import truth
from benchmarks.engines import ENGINES, Engine
from benchmarks.machine import available_cores
from benchmarks.measure import loops_for, median, qps_at
from benchmarks.sections.common import Job, Result
from benchmarks.settings import RECALL_TARGETS

THREADS = 2
_BATCH = 2_000
_ENOUGH_RECALL = 0.995


def run(job: Job) -> Result:
    """Measure batches of queries on two cores, engines interleaved."""
    cores = available_cores()
    if hasattr(os, "sched_setaffinity") and len(cores) > THREADS:
        os.sched_setaffinity(0, set(cores[:THREADS]))
    times = -(-_BATCH // len(job.data.queries))
    queries = np.tile(job.data.queries, (times, 1))
    _, true_distances = truth.exact_neighbors(job.data.vectors, job.data.queries, job.data.space)
    plans: dict[str, tuple[Engine, list[dict[str, Any]]]] = {}
    for name in job.engines:
        if not ENGINES[name].can_batch:
            continue
        plan = job.attempt(name, _climb, job, name, queries, true_distances)
        if plan is not None:
            plans[name] = plan
    for repeat in range(job.scale.repeats):
        names = list(plans)
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            engine, points = plans[name]
            for point in points:
                start = time.perf_counter()
                for _ in range(point["loops"]):
                    engine.batch(queries, point["ef"], THREADS)
                point["every_qps"].append(point["loops"] * len(queries) / (time.perf_counter() - start))
    return {
        "threads": THREADS,
        "batch": len(queries),
        "engines": {n: _result(p) for n, (_, p) in plans.items()},
    }


def _climb(
    job: Job, name: str, queries: np.ndarray[Any, np.dtype[np.float32]], true_distances: truth.Distances
) -> tuple[Engine, list[dict[str, Any]]]:
    engine = job.built_or_loaded(name)
    engine.batch(job.data.warm_up, 64, THREADS)
    points: list[dict[str, Any]] = []
    for ef in job.scale.efs:
        start = time.perf_counter()
        answer = engine.batch(queries, ef, THREADS)
        taken = time.perf_counter() - start
        found = engine.batch_ids(answer)[: len(job.data.queries)]
        reached = truth.recall(found, job.data.vectors, job.data.queries, job.data.space, true_distances)
        loops = loops_for(job.scale.pass_s, taken)
        points.append({"ef": ef, "recall": reached, "loops": loops, "every_qps": []})
        if reached >= _ENOUGH_RECALL:
            break
    return engine, points


def _result(points: list[dict[str, Any]]) -> Result:
    for point in points:
        point["qps_wall"] = median(point["every_qps"])
    pairs = [(point["recall"], point["qps_wall"]) for point in points]
    return {"points": points, "qps_at": {f"{target:.2f}": qps_at(pairs, target) for target in RECALL_TARGETS}}
