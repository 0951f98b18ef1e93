"""Searches beside a writer: latency of a reader while bulk adds run in another thread, and its recall."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import truth
from benchmarks.engines import OURS, Engine
from benchmarks.measure import percentiles
from benchmarks.sections.common import Job, Result
from benchmarks.settings import K

_BULK_CALLS = 5
_QUIET_PASSES = 2


def run(job: Job) -> Result:
    """Half of the rows are in; a thread adds the rest in five bulk calls while this one keeps searching.

    Recall of a search is counted over the records that it has to see (those whose `add` had returned when it
    began) and those it did return: how many of the nearest k among these came back.
    """
    if OURS not in job.engines:
        return {"engines": {}}
    figures = job.attempt(OURS, _measure, job)
    return {"engines": {OURS: figures} if figures else {}}


def _measure(job: Job) -> Result:
    data = job.data
    half = len(data.vectors) // 2
    engine = job.new(OURS)
    engine.warm_up(data.vectors)
    engine.build(data.vectors[:half], capacity=len(data.vectors))
    distances = _distances(data.vectors, data.queries, data.space)
    quiet_before = _search(engine, data.queries, lambda: half, passes=_QUIET_PASSES)

    done = half
    failure: list[BaseException] = []
    finished = threading.Event()
    bounds = np.linspace(half, len(data.vectors), _BULK_CALLS + 1).astype(int)

    def write() -> None:
        nonlocal done
        try:
            for first, last in itertools.pairwise(bounds.tolist()):
                engine.add_bulk(first, data.vectors[first:last])
                done = last
        except BaseException as error:
            failure.append(error)
        finally:
            finished.set()

    writer = threading.Thread(target=write, name="bulk-writer")
    start = time.perf_counter()
    writer.start()
    beside = _search(engine, data.queries, lambda: done, until=finished)
    writer.join()
    writer_s = time.perf_counter() - start
    if failure:
        raise failure[0]
    quiet_after = _search(engine, data.queries, lambda: len(data.vectors), passes=_QUIET_PASSES)
    phases = {"quiet_before": quiet_before, "beside_writer": beside, "quiet_after": quiet_after}
    result: dict[str, Any] = {name: _summary(log, distances) for name, log in phases.items()}
    result.update(rows_before=half, rows_added=len(data.vectors) - half, writer_wall_s=writer_s)
    return result


_Log = list[tuple[int, int, float, truth.Ids]]


def _search(engine: Engine, queries: Any, seen: Any, passes: int | None = None, until: Any = None) -> _Log:
    """Search back to back; log (query, records whose add had returned, microseconds, ids)."""
    call = engine.caller("search", None)
    prepared = engine.prepare(queries)
    clock = time.perf_counter_ns
    log: _Log = []
    laps = 0
    while (passes is None or laps < passes) and not (until is not None and until.is_set()):
        laps += 1
        for number, query in enumerate(prepared):
            visible = seen()
            start = clock()
            answer = call(query)
            taken_us = (clock() - start) / 1e3
            # An array, not the dicts: keeping those would feed the garbage collector and show up as latency.
            log.append((number, visible, taken_us, engine.ids(answer)))
            if until is not None and until.is_set():
                break
    return log


def _distances(vectors: truth.Floats, queries: truth.Floats, space: str) -> NDArray[np.float32]:
    products = queries @ vectors.T
    if space == "cosine":
        return np.asarray(1 - products, dtype=np.float32)
    half = 0.5 * np.einsum("ij,ij->i", vectors, vectors)
    return np.asarray(half - products, dtype=np.float32)


def _summary(log: _Log, distances: NDArray[np.float32]) -> dict[str, Any]:
    recalls = np.array([_recall(distances[query], visible, found) for query, visible, _, found in log])
    tenths = np.array_split(recalls, min(10, len(recalls)))
    return {
        "searches": len(log),
        "us": percentiles([microseconds for *_, microseconds, _ in log]),
        "recall": float(recalls.mean()),
        "recall_by_tenth": [float(tenth.mean()) for tenth in tenths],
    }


def _recall(distances: NDArray[np.float32], visible: int, found: truth.Ids) -> float:
    returned = np.unique(found)
    later = returned[returned >= visible]
    pool = np.concatenate([distances[:visible], distances[later]])
    k = min(K, len(pool))
    kth = np.partition(pool, k - 1)[k - 1]
    return min(int((distances[returned] <= kth + 2e-6).sum()), k) / k
