"""What metadata costs and what a filter costs by itself: our index only, ten fields, none declared.

A filter is timed through ``index.count(filter)``, which evaluates it and searches nothing. Every call brings
constants of its own, so that no cached mask answers; `repeated` is one filter over and over.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.engines import OURS
from benchmarks.measure import Stopwatch, percentiles, time_each_us
from benchmarks.sections.common import Job, Result
from benchmarks.settings import SEED

Filter = dict[str, Any]
_VARIATIONS = 60
_TITLES = 10_000


def run(job: Job) -> Result:
    """Build without and with ten fields of metadata; then time filters of several kinds."""
    if OURS not in job.engines:
        return {"engines": {}}
    figures = job.attempt(OURS, _measure, job)
    return {"engines": {OURS: figures} if figures else {}}


def _measure(job: Job) -> Result:
    metadata = _metadata(len(job.data.vectors))
    bare, full = job.new(OURS), job.new(OURS)
    bare.warm_up(job.data.vectors)
    with Stopwatch() as without:
        bare.build(job.data.vectors)
    del bare
    with Stopwatch() as with_fields:
        full.build(job.data.vectors, metadata=metadata)
        # Indexing the fields may be put off until the first filter: that belongs to the adding.
        with Stopwatch() as folding:
            full.count({"doc_id": "doc-0"})
    kinds = _filters(len(metadata))
    return {
        "add_cpu_s": without.cpu_s,
        "add_with_metadata_cpu_s": with_fields.cpu_s,
        "first_filter_cpu_s": folding.cpu_s,
        "metadata_json_bytes": sum(len(json.dumps(each, separators=(",", ":"))) for each in metadata),
        "memory_bytes": full.memory_bytes(),
        "titles": min(_TITLES, len(metadata)),
        "filters": {name: _time(full.count, make) for name, make in kinds.items()},
    }


def _metadata(rows: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(SEED + 20)
    columns: dict[str, list[Any]] = {
        "doc_id": [f"doc-{row}" for row in range(rows)],
        "tenant": [f"tenant-{each:02}" for each in rng.integers(0, 100, rows).tolist()],
        "kind": rng.choice(["article", "note", "page", "mail", "code"], rows).tolist(),
        "year": rng.integers(1990, 2026, rows).tolist(),
        "price": rng.uniform(0, 1_000, rows).round(2).tolist(),
        "rating": rng.integers(1, 6, rows).tolist(),
        "is_public": (rng.random(rows) < 0.5).tolist(),
        "country": [f"country-{each}" for each in rng.integers(0, 50, rows).tolist()],
        "title": [f"the title of text {each}" for each in rng.integers(0, _TITLES, rows).tolist()],
        "tags": [[f"tag-{each}" for each in row] for row in rng.integers(0, 30, (rows, 3)).tolist()],
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _filters(rows: int) -> dict[str, Callable[[int], Filter]]:
    """Kinds of filters by what they ask; each a function from a number to a filter not asked before."""
    return {
        "equality, one match": lambda i: {"doc_id": f"doc-{1 + i * 37 % (rows - 1)}"},
        "equality, 1 %": lambda i: {"tenant": f"tenant-{i % 100:02}"},
        "membership, 3 of 100": lambda i: {
            "tenant": {"in": [f"tenant-{(i + j) % 100:02}" for j in (0, 31, 57)]}
        },
        "range, half": lambda i: {"price": {"gte": 250.0 + i, "lt": 750.0 + i}},
        "five conditions": lambda i: {
            "tenant": {"in": [f"tenant-{(i + j) % 100:02}" for j in range(20)]},
            "year": {"gte": 1995 + i % 20},
            "price": {"lt": 500.0 + i},
            "country": {"ne": f"country-{i % 50}"},
            "rating": {"exists": True},
        },
        "text contains": lambda i: {"title": {"contains": f"xt {i}"}},
        "array contains": lambda i: {"tags": {"contains": f"tag-{i % 30}"}},
        "repeated": lambda _: {"tenant": "tenant-07", "year": {"gte": 2000}},
    }


def _time(count: Callable[[Filter], int], make: Callable[[int], Filter]) -> Result:
    filters = [make(i) for i in range(_VARIATIONS)]
    matches = count(filters[0])
    return {"us": percentiles(time_each_us(count, filters[1:])), "matches": matches}
