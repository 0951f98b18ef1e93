"""Filtered search, from half of the rows down to one in ten thousand.

Workloads
    random  the matching rows are a random subset: one filter, all queries
    near    the matching rows are those nearest to an anchor, the queries are those in the same region
    far     the matching rows are those farthest from the anchor, for the same queries
    fresh   as random, but every query brings a filter of its own, so that no cached mask can help

The peers without metadata are handed a mask: hnswlib a callback, faiss a bitmap selector. Theirs and ours are
measured after one untimed pass with the same filter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import truth
from benchmarks.engines import ENGINES, OURS, Engine
from benchmarks.engines.base import Condition, ids_of
from benchmarks.measure import Point, Reading, Stopwatch, qps_at, time_pass
from benchmarks.sections.common import RUN_IN_CALLS, Job, Result, measure_point
from benchmarks.settings import SEED, SELECTIVITIES, K

ANCHORS = 4
_FEWEST_QUERIES = 40
_ENOUGH_RECALL = 0.99
_PEER_TARGET = 0.95
_OWN_EFS: tuple[int | None, ...] = (None, 64, 96, 192, 384)
_OWN_FILTERED_EFS: tuple[int | None, ...] = (None, 14, 18, 24, 32)
_REPEATS = 3


@dataclass(frozen=True)
class _Part:
    """One filter and the queries asked with it."""

    condition: Condition
    rows: list[int]
    true_distances: truth.Distances


def run(job: Job) -> Result:
    """Measure every engine that can filter; fresh filters for ours only."""
    metadata, ranks = _attributes(job)
    engines: dict[str, Engine] = {}
    for name in job.engines:
        if not ENGINES[name].can_filter:
            continue
        engine = job.attempt(name, _engine, job, name, metadata)
        if engine is not None:
            engines[name] = engine
    results: dict[str, Any] = {}
    if OURS in engines:
        results["unfiltered"] = job.attempt(OURS, _unfiltered, job, engines[OURS])
    for selectivity in SELECTIVITIES:
        random = _random_part(job, ranks["rank"], selectivity)
        row: dict[str, Any] = {"matches": random.condition.matches}
        workloads = {
            "random": [random],
            "near": _region_parts(job, ranks, selectivity, "near"),
            "far": _region_parts(job, ranks, selectivity, "far"),
        }
        for workload, parts in workloads.items():
            row[workload] = {
                name: job.attempt(name, _best, job, engine, parts) for name, engine in engines.items()
            }
        if OURS in engines:
            ours = engines[OURS]
            row["path"] = job.attempt(OURS, ours.explain, job.data.queries[0], random.condition)
            row["fresh"] = job.attempt(OURS, _fresh, job, ours, random)
        results.setdefault("selectivities", {})[f"{selectivity:g}"] = row
        job.say(f"filter {selectivity:.2%} done")
    return results


def _attributes(job: Job) -> tuple[list[dict[str, Any]], dict[str, NDArray[np.int64]]]:
    """Metadata of every row: a random rank, and the rank of its nearness to each of four anchors."""
    vectors = job.data.vectors
    rng = np.random.default_rng(SEED + 10)
    ranks = {"rank": rng.permutation(len(vectors))}
    for number in range(ANCHORS):
        anchor = job.data.warm_up[number]
        order = np.argsort(
            truth.exact_distances(vectors, np.arange(len(vectors)), anchor, job.data.space), kind="stable"
        )
        nearness = np.empty(len(vectors), dtype=np.int64)
        nearness[order] = np.arange(len(vectors))
        ranks[f"anchor_{number}"] = nearness
    columns = {name: values.tolist() for name, values in ranks.items()}
    metadata = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return metadata, ranks


def _engine(job: Job, name: str, metadata: list[dict[str, Any]]) -> Engine:
    """Indexes with metadata are built here; the others take the one that the search section saved."""
    if not ENGINES[name].stores_metadata:
        return job.built_or_loaded(name)
    engine = job.new(name)
    engine.warm_up(job.data.vectors)
    with Stopwatch() as watch:
        engine.build(job.data.vectors, metadata=metadata)
    job.say(f"built {name} with metadata: {watch.cpu_s:.2f} CPU s")
    return engine


def _random_part(job: Job, rank: NDArray[np.int64], selectivity: float) -> _Part:
    matches = max(1, round(selectivity * len(rank)))
    return _part(
        job, Condition({"rank": {"lt": matches}}, rank < matches), list(range(len(job.data.queries)))
    )


def _region_parts(
    job: Job, ranks: dict[str, NDArray[np.int64]], selectivity: float, kind: str
) -> list[_Part]:
    parts: list[_Part] = []
    share = max(5, len(job.data.queries) // 8)
    for number in range(ANCHORS):
        field = f"anchor_{number}"
        rank = ranks[field]
        matches = max(1, round(selectivity * len(rank)))
        if kind == "near":
            condition = Condition({field: {"lt": matches}}, rank < matches)
        else:
            condition = Condition({field: {"gte": len(rank) - matches}}, rank >= len(rank) - matches)
        to_anchor = truth.exact_distances(
            job.data.queries, np.arange(len(job.data.queries)), job.data.warm_up[number], job.data.space
        )
        parts.append(_part(job, condition, np.argsort(to_anchor, kind="stable")[:share].tolist()))
    return parts


def _part(job: Job, condition: Condition, rows: list[int]) -> _Part:
    distances = np.full((len(job.data.queries), 10), np.inf)
    _, of_rows = truth.exact_neighbors(
        job.data.vectors, job.data.queries[rows], job.data.space, mask=condition.mask
    )
    distances[rows] = of_rows
    return _Part(condition, rows, distances)


def _best(job: Job, engine: Engine, parts: list[_Part]) -> Result:
    """Ours at its default; a peer up its grid until recall is enough, then its fastest setting with .95.

    `qps_at_95` is the fastest setting with .95 of either, None where there is none; `short` counts answers with
    fewer hits than there could be.
    """
    is_ours = engine.name == OURS
    points: list[Point] = []
    short = 0
    for ef in _OWN_FILTERED_EFS if is_ours else job.scale.filter_efs:
        point, missing = _measure(job, engine, ef, parts)
        points.append(point)
        short += missing
        if point.recall >= _ENOUGH_RECALL and not is_ours:
            break
    holding = [point for point in points if point.recall >= _PEER_TARGET]
    fastest = max(holding, key=lambda point: point.qps) if holding else None
    shown = points[0] if is_ours else fastest or max(points, key=lambda point: point.recall)
    return {
        "recall": shown.recall,
        "qps": shown.qps,
        "setting": shown.setting,
        "holds_95": bool(holding),
        "qps_at_95": None if fastest is None else fastest.qps,
        "short": short,
        "points": [point.to_dict() for point in points],
    }


def _measure(job: Job, engine: Engine, ef: int | None, parts: list[_Part]) -> tuple[Point, int]:
    """Recall and speed over all parts, and how many answers were too short.

    Slow settings get fewer queries, never fewer than 40.
    """
    budget_s = job.scale.filter_s / len(parts)
    recall_sum, asked, short = 0.0, 0, 0
    plans: list[tuple[_Part, list[Any], int]] = []
    for part in parts:
        trial, trial_s = measure_point(
            job, engine, "search", ef, part.rows[:5], part.true_distances, part.condition
        )
        affordable = int(budget_s / (trial_s / len(part.rows[:5])))
        fewest = max(5, _FEWEST_QUERIES // len(parts))
        rows = part.rows[: max(fewest, min(len(part.rows), affordable))]
        point, taken = measure_point(job, engine, "search", ef, rows, part.true_distances, part.condition)
        recall_sum += point.recall * len(rows)
        asked += len(rows)
        short += _short_answers(job, engine, ef, part, rows[:_FEWEST_QUERIES])
        plans.append(
            (part, engine.prepare(job.data.queries[rows]), max(1, min(50, int(budget_s / taken / 2))))
        )
    result = Point(trial.setting, recall_sum / asked, ef)
    for _ in range(min(_REPEATS, job.scale.repeats)):
        readings: list[Reading] = []
        for part, prepared, loops in plans:
            call = engine.caller("search", ef, part.condition)
            for query in prepared[: min(RUN_IN_CALLS, len(prepared) // 4)]:
                call(query)
            readings.append(time_pass(call, prepared, loops))
        result.readings.append(
            Reading(
                sum(r.calls for r in readings),
                sum(r.cpu_s for r in readings),
                sum(r.wall_s for r in readings),
            )
        )
    return result, short


def _short_answers(job: Job, engine: Engine, ef: int | None, part: _Part, rows: list[int]) -> int:
    """How many of some queries get fewer hits than ten, or than there are matches."""
    call = engine.caller("search", ef, part.condition)
    found = ids_of(engine, [call(query) for query in engine.prepare(job.data.queries[rows])])
    return int(((found >= 0).sum(axis=1) < min(K, part.condition.matches)).sum())


def _fresh(job: Job, engine: Engine, part: _Part) -> Result:
    """Every call with a filter never seen before: another window of ranks, just as wide."""
    prepared = engine.prepare(job.data.queries)
    matches, rows = part.condition.matches, len(job.data.vectors)
    starts = np.linspace(1, rows - matches, len(prepared)).astype(int).tolist()
    windows = [{"rank": {"gte": start, "lt": start + matches}} for start in starts]
    calls = [
        (engine.caller("search", None, Condition(window, part.condition.mask)), query)
        for window, query in zip(windows, prepared, strict=True)
    ]
    reading = time_pass(lambda pair: pair[0](pair[1]), calls)
    return {"qps": reading.qps}


def _unfiltered(job: Job, engine: Engine) -> Result:
    """Our own search on the very same index without a filter: what the filtered figures are held against."""
    _, true_distances = truth.exact_neighbors(job.data.vectors, job.data.queries, job.data.space)
    everything = list(range(len(job.data.queries)))
    points: list[Point] = []
    for ef in _OWN_EFS:
        point, taken = measure_point(job, engine, "search", ef, everything, true_distances)
        loops = max(1, int(job.scale.pass_s / taken))
        prepared = engine.prepare(job.data.queries)
        call = engine.caller("search", ef)
        point.readings = [time_pass(call, prepared, loops) for _ in range(min(_REPEATS, job.scale.repeats))]
        points.append(point)
    pairs = [(point.recall, point.qps) for point in points]
    return {
        "points": [point.to_dict() for point in points],
        "qps_at_0.99": qps_at(pairs, 0.99),
    }
