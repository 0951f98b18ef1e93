"""Filtered search end to end, through the handle: whatever a filter chooses, and whichever way is taken to it."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date, datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

import filter_oracle as meaning
import filter_strategies as some
import numpy as np
import oracle
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from zeusdb_vs import VectorDatabase, field, repair
from zeusdb_vs import fields as fields_module
from zeusdb_vs import searching as searching_module
from zeusdb_vs.errors import ArgumentTypeError, CorruptIndexError, FilterError
from zeusdb_vs.filtering import columns as columns_module
from zeusdb_vs.filtering import segments as segments_module
from zeusdb_vs.filters import And, Comparison, Filter, Not, Or
from zeusdb_vs.index import HNSWIndex
from zeusdb_vs.kernels import layout
from zeusdb_vs.linking import SMALLEST_GRAPH
from zeusdb_vs.planner import Plan, exact_plan, rerank_depth, scan_plan
from zeusdb_vs.views import Matching

EXAMPLES = int(os.environ.get("ZEUSDB_VS_FILTER_EXAMPLES", "200"))
"""Random filters in all; 5,000 take some minutes."""
TREES_EACH = 5
GROUPS = {"and": And, "or": Or, "none": Not}


def tree_of(plan: tuple) -> Filter:
    if plan[0] == "is":
        _, name, operator, operand, source, missing = plan
        return Comparison(name, operator, operand, source=source, missing=missing)
    return GROUPS[plan[0]](*map(tree_of, plan[1]))


# ------------------------------------------------------------------------------------ against the oracle


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrink the parts of the field indexes, so that a dozen records are in segments, beside them and in the tail."""
    monkeypatch.setattr(segments_module, "SCARCE_SHARE", 4)
    for name, size in (("TAIL_ROWS", 4), ("FOLD_ROWS", 6), ("MAX_SIZE", 12), ("MAX_CHANGED", 2)):
        monkeypatch.setattr(fields_module, name, size)
    monkeypatch.setattr(columns_module, "NARROW_SIZE", 5)


class Model:
    """An index beside a plain dict of what must be in it, in order."""

    def __init__(self) -> None:
        self.index = VectorDatabase().create("hnsw", dim=3, space="l2")
        self.records: dict[str, tuple[dict | None, dict | None]] = {}
        self.vectors: dict[str, NDArray[np.float32]] = {}
        self.rng = np.random.default_rng(0)

    def add(self, names: list[str], records: list[tuple]) -> None:
        batch = []
        for name, (metadata, payload) in zip(names, records, strict=True):
            vector = self.rng.standard_normal(3, dtype=np.float32)
            record: dict[str, Any] = {"id": name, "vector": vector}
            if metadata is not None:
                record["metadata"] = metadata
            if payload is not None:
                record["payload"] = payload
            batch.append(record)
        assert self.index.add(batch, on_error="raise").is_success()
        for record, pair in zip(batch, records, strict=True):
            self.records.pop(record["id"], None)
            self.records[record["id"]] = pair
            self.vectors[record["id"]] = record["vector"]

    def matching(self, plan: tuple) -> list[str]:
        return [name for name, record in self.records.items() if meaning.matches(plan, *record)]

    def check(self, plan: tuple, filter: Any) -> None:
        """Every call that takes a filter agrees with the plain evaluator."""
        names = self.matching(plan)
        assert self.index.count(filter) == len(names)
        assert [name for name, _ in self.index.list(number=99, filter=filter)] == names
        query = self.rng.standard_normal(3, dtype=np.float32)
        near = sorted(float(np.linalg.norm(self.vectors[name] - query)) for name in names)
        for top_k in (2, 99):
            hits = self.index.search(query, filter=filter, top_k=top_k)
            assert len(hits) == min(top_k, len(names))
            assert {hit["id"] for hit in hits} <= set(names)
            np.testing.assert_allclose([hit["score"] for hit in hits], near[:top_k], rtol=1e-5, atol=1e-6)
        ids, distances = self.index.search_arrays(query[np.newaxis].repeat(2, 0), top_k=3, filter=filter)
        assert [sum(name is not None for name in row) for row in ids] == [min(3, len(names))] * 2
        np.testing.assert_allclose(distances[1][: len(near)], near[:3], rtol=1e-5, atol=1e-6)


def _apply(model: Model, step: tuple, folder: Path) -> None:
    kind, *rest = step
    if kind == "add":
        (records,) = rest
        model.add([f"r{len(model.vectors) + i}" for i in range(len(records))], records)
    elif kind == "replace":
        at, record = rest
        model.add([_named(model, at)], [record])
    elif kind == "update":
        at, metadata, merge = rest
        name = _named(model, at)
        before, payload = model.records[name]
        assert model.index.update_metadata(name, metadata, merge=merge) is True
        model.records[name] = {**(before or {}), **metadata} if merge else metadata, payload
    elif kind == "update where":
        plan, metadata = rest
        chosen = model.matching(plan)
        if _restricts(plan):
            assert model.index.update_metadata(where=tree_of(plan), metadata=metadata) == len(chosen)
            for name in chosen:
                model.records[name] = metadata, model.records[name][1]
    elif kind == "patch":
        at, patch = rest
        name = _named(model, at)
        metadata, payload = model.records[name]
        assert model.index.update_payload(name, patch) == 1
        model.records[name] = metadata, {**(payload or {}), **patch}
    elif kind == "delete":
        name = _named(model, rest[0])
        assert model.index.delete(name) == 1
        del model.records[name]
    elif kind == "delete where":
        (plan,) = rest
        chosen = model.matching(plan)
        if _restricts(plan):
            assert model.index.delete(where=tree_of(plan)) == len(chosen)
            for name in chosen:
                del model.records[name]
    elif kind == "compact":
        model.index.compact()
    else:
        model.index.save(folder / "saved.zdb")
        model.index = VectorDatabase().load(folder / "saved.zdb")


def _named(model: Model, at: int) -> str:
    return list(model.records)[at % len(model.records)]


def _restricts(plan: tuple) -> bool:
    """Groups may match everything by their shape, which writes refuse; a comparison does not."""
    return plan[0] == "is"


_STEPS = st.one_of(
    st.tuples(st.just("add"), st.lists(some.records, min_size=1, max_size=8)),
    st.tuples(st.just("replace"), st.integers(0, 50), some.records),
    st.tuples(st.just("update"), st.integers(0, 50), some.documents, st.booleans()),
    st.tuples(st.just("update where"), some.plans, some.documents),
    st.tuples(st.just("patch"), st.integers(0, 50), some.documents),
    st.tuples(st.just("delete"), st.integers(0, 50)),
    st.tuples(st.just("delete where"), some.plans),
    st.tuples(st.just("compact")),
    st.tuples(st.just("save and load")),
)


@settings(
    max_examples=max(1, EXAMPLES // TREES_EACH),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    st.lists(some.records, min_size=1, max_size=14),
    st.lists(_STEPS, max_size=5),
    st.lists(some.plans, min_size=3, max_size=3),
    st.lists(some.dict_filters, min_size=2, max_size=2),
)
def test_random_filters_match_what_the_oracle_matches(
    small_parts: None,
    tmp_path_factory: pytest.TempPathFactory,
    records: list[tuple],
    steps: list[tuple],
    plans: list[tuple],
    filters: list[dict],
) -> None:
    model = Model()
    model.add([f"r{i}" for i in range(len(records))], records)
    folder = tmp_path_factory.mktemp("filters", numbered=True)
    for step in (None, *steps):
        if step is not None:
            if not model.records:
                return
            _apply(model, step, folder)
        for plan in plans:
            model.check(plan, tree_of(plan))
        for filter in filters:
            model.check(meaning.plan_of(filter), filter)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(some.hostile_filters)
def test_hostile_filters_raise_nothing_foreign(filter: Any) -> None:
    index = _small()
    for ask in (
        lambda: index.search(np.ones(4), filter=filter),
        lambda: index.search(np.ones((2, 4)), filter=filter, explain=True),
        lambda: index.search_arrays(np.ones(4), filter=filter, exact=True),
        lambda: index.count(filter),
        lambda: index.count(filter, strict=True),
        lambda: index.list(filter=filter),
        lambda: index.distinct("kind", filter=filter),
    ):
        with suppress(FilterError, ArgumentTypeError):
            ask()


# ------------------------------------------------------------------------------------ ways through a graph

ROWS, DIM, K, CLUSTERS = 8_000, 48, 10, 40
EF = 120
SHARES = (0.9, 0.5, 0.2, 0.1, 0.05, 0.02, 0.005, 0.0005)
LEAST_RECALL = 0.98
QUERIES = 24


@lru_cache(maxsize=1)
def _clustered() -> tuple[HNSWIndex, NDArray[np.float32], dict[str, NDArray[np.int64]], NDArray[np.float32]]:
    """An index with a graph, its vectors, ranks that filters choose by, and queries in the anchor's region."""
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((CLUSTERS, DIM), dtype=np.float32) * 2
    cluster = rng.integers(0, CLUSTERS, ROWS + QUERIES)
    cluster[ROWS:] = cluster[ROWS]
    points = centres[cluster] + rng.standard_normal((ROWS + QUERIES, DIM), dtype=np.float32)
    vectors, queries = points[:ROWS], np.ascontiguousarray(points[ROWS:])
    order = np.argsort(np.linalg.norm(vectors - centres[cluster[ROWS]], axis=1))
    near = np.empty(ROWS, np.int64)
    near[order] = np.arange(ROWS)
    ranks = {"random": rng.permutation(ROWS), "near": near, "far": ROWS - 1 - near}
    index = VectorDatabase().create("hnsw", dim=DIM, space="l2")
    columns = {name: rank.tolist() for name, rank in ranks.items()}
    metadata = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    added = index.add({"ids": [f"v{i}" for i in range(ROWS)], "vectors": vectors, "metadatas": metadata})
    assert added.is_success()
    return index, vectors, ranks, queries


def _force(monkeypatch: pytest.MonkeyPatch, path: str, budget: int = 1 << 60) -> None:
    """Make the planner choose one way, whatever it costs."""

    def forced(*, n: int, matches: int, k: int, rerank: int, **_: Any) -> Plan:
        depth = rerank_depth(k, rerank) if rerank else k
        if path == "exact":
            return exact_plan(k)
        if path == "scan":
            return scan_plan(k, rerank)
        if path == "two-hop":
            return Plan(path, layout.WALK_TWO_HOP, EF, max(EF, depth), k, depth, budget)
        capacity = min(n, int(2 * max(EF, depth) * n / matches) + 64)
        return Plan(path, layout.WALK_FILTERED, EF, capacity, max(EF, depth), depth, budget)

    monkeypatch.setattr(searching_module, "plan", forced)


@pytest.fixture(autouse=True)
def plans_forgotten() -> Iterator[None]:
    """Plans are remembered per view; those that a test forces must not outlive it."""
    yield
    if _clustered.cache_info().currsize:
        _clustered()[0]._collection.view.plans.clear()


def _recall(index: HNSWIndex, filter: Any, mask: NDArray[np.bool_], ask: Callable[..., Any]) -> float:
    """Recall of one way of asking, which must give exactly as many hits as there can be."""
    _, vectors, _, queries = _clustered()
    slots = np.flatnonzero(mask)
    wanted = min(K, len(slots))
    true = np.sort(oracle.distances(queries, vectors[slots], "l2"), axis=1)[:, :wanted]
    found = 0
    for query, limits, ids in zip(queries, true, ask(index, queries, filter), strict=True):
        rows = [int(name[1:]) for name in ids]
        assert len(set(rows)) == len(rows) == wanted
        assert mask[rows].all()
        distances = oracle.distances(query[np.newaxis], vectors[rows], "l2")
        found += int((distances <= limits[-1] * (1 + 1e-5)).sum()) if wanted else 0
    return found / (wanted * len(queries)) if wanted else 1.0


def _one_by_one(index: HNSWIndex, queries: NDArray[np.float32], filter: Any) -> list[list[str]]:
    return [[hit["id"] for hit in index.search(query, filter=filter, top_k=K)] for query in queries]


def _as_batch(index: HNSWIndex, queries: NDArray[np.float32], filter: Any) -> list[list[str]]:
    return [[hit["id"] for hit in hits] for hits in index.search(queries, filter=filter, top_k=K)]


def _as_arrays(index: HNSWIndex, queries: NDArray[np.float32], filter: Any) -> list[list[str]]:
    ids, _ = index.search_arrays(queries, top_k=K, filter=filter)
    return [[name for name in row if name is not None] for row in ids.tolist()]


@pytest.mark.parametrize("kind", ["random", "near", "far"])
@pytest.mark.parametrize("path", ["planned", "exact", "scan", "filtered walk", "two-hop"])
def test_every_way_keeps_recall_at_any_selectivity(
    monkeypatch: pytest.MonkeyPatch, path: str, kind: str
) -> None:
    index, _, ranks, _ = _clustered()
    index._collection.view.plans.clear()
    if path != "planned":
        _force(monkeypatch, path)
    for share in SHARES:
        matches = max(1, round(share * ROWS))
        filter, mask = {kind: {"lt": matches}}, ranks[kind] < matches
        for ask in (_one_by_one, _as_batch, _as_arrays):
            recall = _recall(index, filter, mask, ask)
            assert recall >= LEAST_RECALL, (share, ask.__name__, recall)


@pytest.mark.parametrize("path", ["planned", "filtered walk", "two-hop"])
def test_removed_records_do_not_lower_recall(
    monkeypatch: pytest.MonkeyPatch, path: str, tmp_path: Path
) -> None:
    """Half of those near the queries are gone, so that walks begin among tombstones."""
    original, _, ranks, _ = _clustered()
    original.save(tmp_path / "index.zdb")
    index = VectorDatabase().load(tmp_path / "index.zdb")
    assert index.delete(where={"near": {"lt": 1000}, "random": {"lt": ROWS // 2}}) > 400
    left = ~((ranks["near"] < 1000) & (ranks["random"] < ROWS // 2))
    assert len(index) == left.sum()
    if path != "planned":
        _force(monkeypatch, path)
    # Only narrow filters of huge indexes are worth two hops.
    for share in (0.1, 0.02) if path == "two-hop" else (0.5, 0.1, 0.02):
        matches = round(share * ROWS)
        for kind, rank in ranks.items():
            mask = (rank < matches) & left
            recall = _recall(index, {kind: {"lt": matches}}, mask, _one_by_one)
            assert recall >= LEAST_RECALL, (kind, share, recall)
            assert _recall(index, {kind: {"lt": matches}}, mask, _as_batch) >= LEAST_RECALL


@pytest.mark.parametrize("path", ["filtered walk", "two-hop"])
@pytest.mark.parametrize("budget", [1, 60, 400])
def test_scan_takes_over_where_the_budget_of_a_walk_runs_out(
    monkeypatch: pytest.MonkeyPatch, path: str, budget: int
) -> None:
    index, _, ranks, queries = _clustered()
    index._collection.view.plans.clear()
    _force(monkeypatch, path, budget)
    filter, mask = {"random": {"lt": 800}}, ranks["random"] < 800
    for ask in (_one_by_one, _as_batch, _as_arrays):
        assert _recall(index, filter, mask, ask) >= 0.98
    explanation = index.search(queries, filter=filter, top_k=K, explain=True).explanation
    assert explanation.path == f"{path}, then scan"
    assert explanation.distances > 800


@pytest.mark.parametrize("path", ["filtered walk", "two-hop"])
def test_walk_gives_up_where_the_filter_keeps_away_from_the_query(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Nothing it meets first matches: without giving up it would return what it happens upon."""
    index, _, _, queries = _clustered()
    index._collection.view.plans.clear()
    _force(monkeypatch, path)
    explanation = index.search(queries, filter={"far": {"lt": 800}}, top_k=K, explain=True).explanation
    assert explanation.path == f"{path}, then scan"


def test_limits_and_ids_are_kept_on_every_way(monkeypatch: pytest.MonkeyPatch) -> None:
    index, vectors, ranks, queries = _clustered()
    filter, mask = {"random": {"lt": 2000}}, ranks["random"] < 2000
    chosen = [f"v{i}" for i in range(0, ROWS, 2)]
    both = mask.copy()
    both[1::2] = False
    distances = oracle.distances(queries[:1], vectors, "l2")[0]
    limit = float(np.sort(distances[both])[4]) * (1 + 1e-6)
    for path in ("planned", "exact", "scan", "filtered walk", "two-hop"):
        index._collection.view.plans.clear()
        if path != "planned":
            _force(monkeypatch, path)
        hits = index.search(queries[0], filter=filter, ids=[*chosen, "nobody"], top_k=K)
        assert len(hits) == K
        assert all(both[int(hit["id"][1:])] for hit in hits)
        near = index.search(queries[0], filter=filter, ids=chosen, top_k=K, max_distance=limit)
        assert 4 <= len(near) <= 5
        assert all(hit["score"] <= limit for hit in near)
        exact = index.search(queries[0], filter=filter, ids=chosen, top_k=K, exact=True)
        np.testing.assert_allclose([hit["score"] for hit in exact], np.sort(distances[both])[:K], rtol=1e-5)
        ids, found = index.search_arrays(
            queries[:1], top_k=K, filter=filter, ids=chosen, max_distance=limit, exact=True
        )
        assert [name for name in ids[0] if name is not None] == [hit["id"] for hit in exact[:5]]
        assert np.isinf(found[0, 5:]).all()
    assert index.search(queries[0], filter=filter, ids=[]) == []
    assert index.search(queries[0], filter=filter, ids=["nobody"]) == []


def test_explanation_says_how_a_filtered_search_went(monkeypatch: pytest.MonkeyPatch) -> None:
    index, _, _, queries = _clustered()
    filter = {"$or": [{"random": {"lt": 100}}, {"near": {"in": [1, 2, 3]}}], "far": {"exists": True}}
    for query in (queries[0], queries):
        explanation = index.search(query, filter=filter, top_k=5, explain=True).explanation
        assert explanation.path == "scan"
        assert explanation.approximate
        assert explanation.matches == index.count(filter)
        assert explanation.total == ROWS
        assert explanation.distances >= explanation.matches
        assert 0 < explanation.mask_s + explanation.search_s <= explanation.elapsed_s * (1 + 1e-9)
        by_condition = {each["condition"]: each for each in explanation.conditions}
        assert by_condition["field('random') < 100"]["index"] == "range"
        assert by_condition["field('random') < 100"]["matches"] == 100
        assert by_condition["field('near').isin([1, 2, 3])"]["index"] == "equality"
        assert by_condition["field('far').exists()"]["index"] == "presence"
        for each in explanation.conditions:
            assert each["indexed"] + each["scanned"] == ROWS
            assert each["indexed"] > 0.9 * ROWS
    assert index.search(queries[0], filter={"random": 5}, explain=True).explanation.path == "exact"
    nothing = index.search(queries[0], filter={"random": -1}, explain=True)
    assert (list(nothing), nothing.explanation.path, nothing.explanation.matches) == ([], "empty", 0)
    _force(monkeypatch, "filtered walk")
    wide = index.search(queries[0], filter={"random": {"lt": ROWS * 9 // 10}}, explain=True).explanation
    assert wide.path == "filtered walk"
    assert wide.distances < ROWS // 2


# ------------------------------------------------------------------------------------ calls with filters


@lru_cache(maxsize=1)
def _shared_small() -> HNSWIndex:
    return _new_small()


def _small() -> HNSWIndex:
    """A small index that nobody changes."""
    return _shared_small()


def _new_small() -> HNSWIndex:
    index = VectorDatabase().create("hnsw", dim=4, space="cosine")
    rng = np.random.default_rng(2)
    metadata: list[dict[str, Any]] = [
        {
            "number": i,
            "kind": ["news", "note", "page"][i % 3],
            "day": datetime(2024, 1, 1 + i % 28, tzinfo=timezone.utc),
            "author": {"name": f"author {i % 5}", "age": 30 + i % 5},
            "tags": ["even" if i % 2 == 0 else "odd", f"t{i % 4}"],
            "mixed": [i, str(i), None, i % 2 == 0][i % 4],
        }
        for i in range(600)
    ]
    index.add(
        {
            "ids": [f"s{i}" for i in range(600)],
            "vectors": rng.standard_normal((600, 4)),
            "metadatas": metadata,
        }
    )
    return index


def test_calls_with_a_filter_count_and_change_what_matches() -> None:
    index = _new_small()
    recent = {"day": {"gte": "2024-01-20"}, "kind": "news"}
    wanted = [i for i in range(600) if 1 + i % 28 >= 20 and i % 3 == 0]
    assert index.count(recent) == len(wanted)
    assert [name for name, _ in index.list(number=600, filter=recent)] == [f"s{i}" for i in wanted]
    assert index.list(number=3, offset=2, filter=recent) == index.list(number=5, filter=recent)[2:]
    after = index.list(number=2, after=f"s{wanted[1]}", filter=recent)
    assert [name for name, _ in after] == [f"s{i}" for i in wanted[2:4]]
    assert index.distinct("author.name", filter={"author.age": {"gt": 32}}) == [
        ("author 3", 120),
        ("author 4", 120),
    ]
    assert index.distinct("tags", filter={"number": {"lt": 3}}) == [
        ("even", 2),
        ("odd", 1),
        ("t0", 1),
        ("t1", 1),
        ("t2", 1),
    ]
    summary = {each.name: each for each in index.fields()}
    assert summary["number"].types == {"int": 600}
    assert summary["day"].types == {"datetime": 600}
    assert summary["mixed"].types == {"bool": 150, "int": 150, "null": 150, "str": 150}
    assert summary["author.age"].count == 600

    assert index.update_metadata(where=recent, metadata={"seen": True}, merge=True) == len(wanted)
    assert index.count({"seen": True}) == len(wanted) == index.count({**recent, "seen": True})
    assert index.update_metadata(where={"seen": True, "number": {"lt": 100}}, metadata={"kind": "old"}) > 0
    assert index.count({"kind": "old", "seen": {"$exists": False}}) == index.count({"kind": "old"})
    removed = index.remove_where({"kind": "old"})
    assert removed == len([i for i in wanted if i < 100])
    assert index.count({"kind": "old"}) == 0
    assert index.delete(ids=[f"s{i}" for i in range(10)], where={"kind": "note"}) == 3
    assert index.delete(where=field("number") >= 300) == 300
    assert len(index) == index.count() == 600 - removed - 3 - 300
    assert len(index.search(np.ones(4), filter={"number": {"gte": 290}}, top_k=50)) == index.count(
        {"number": {"gte": 290}}
    )


def test_dates_come_back_as_dates_and_compare_with_strings() -> None:
    index = VectorDatabase().create("hnsw", dim=2, space="l2")
    aware = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
    for name, value in (
        ("aware", aware),
        ("naive", datetime(2024, 5, 1, 12)),
        ("day", date(2024, 5, 1)),
        ("text", "2024-05-01"),
    ):
        index.add({"id": name, "vector": [1, 2], "metadata": {"when": value}})
    hits = index.search([1, 2], filter={"when": {"gte": date(2024, 5, 1), "lt": date(2024, 5, 2)}}, top_k=9)
    assert {hit["id"] for hit in hits} == {"aware", "naive", "day", "text"}
    assert {hit["id"]: hit["metadata"]["when"] for hit in hits}["aware"] == aware
    assert {name for name, _ in index.list(filter={"when": aware})} == {"aware", "naive"}  # naive is UTC
    assert {name for name, _ in index.list(filter={"when": {"gt": "2024-05-01"}})} == {"aware", "naive"}


def test_strict_refuses_what_otherwise_does_not_match() -> None:
    index = _new_small()
    assert index.count({"mixed": {"gt": 100}}) == index.count(And(field("mixed") > 100))
    filter = {"mixed": {"gt": 100}}
    for ask in (
        lambda: index.search(np.ones(4), filter=filter, strict=True),
        lambda: index.search(np.ones((2, 4)), filter=filter, strict=True),
        lambda: index.search_arrays(np.ones(4), filter=filter, strict=True),
        lambda: index.count(filter, strict=True),
        lambda: index.list(filter=filter, strict=True),
        lambda: index.distinct("kind", filter=filter, strict=True),
        lambda: index.update_metadata(where=filter, metadata={}, strict=True),
        lambda: index.remove_where(filter, strict=True),
        lambda: index.delete(where=filter, strict=True),
    ):
        with pytest.raises(FilterError, match=r"'mixed' holds values of type bool, str"):
            ask()
    assert len(index) == 600
    assert index.count({"number": {"gt": 100}}, strict=True) == 499
    # Removed records do not count.
    index.delete(where={"mixed": {"is_null": False}, "$not": {"mixed": {"gte": -1}}})
    assert index.count(filter, strict=True) == index.count(filter) > 0
    with pytest.raises(ArgumentTypeError, match="strict"):
        index.count(filter, strict=1)  # type: ignore[arg-type]


def test_filters_that_python_calls_equal_are_told_apart() -> None:
    index = VectorDatabase().create("hnsw", dim=2, space="l2")
    for name, value in (("int", 1), ("bool", True), ("text", "1"), ("list", [1]), ("none", None)):
        index.add({"id": name, "vector": [1, 2], "metadata": {"x": value}})

    def found(filter: Any) -> set[str]:
        return {hit["id"] for hit in index.search([1, 2], filter=filter)}

    for _ in range(2):
        assert found({"x": 1}) == {"int"} == found({"x": 1.0}) == found({"x": np.int64(1)})
        assert found({"x": True}) == {"bool"} == found({"x": np.bool_(True)})
        assert found({"x": np.float64(5e-324)}) == set()  # the bytes of np.int64(1)
        assert found({"x": "1"}) == {"text"}
        assert found({"x": [1]}) == {"list"} == found({"x": (1,)})
        assert found({"x": {"in": [1, "1"]}}) == {"int", "text"}
        assert found({"x": {"in": {1, "1"}}}) == {"int", "text"}
    changing: dict[str, Any] = {"x": {"in": [1]}}
    assert found(changing) == {"int"}
    changing["x"]["in"].append(True)
    assert found(changing) == {"int", "bool"}
    changing["x"] = "1"
    assert found(changing) == {"text"}
    index.update_metadata("int", {"x": "1"})
    assert found(changing) == {"int", "text"}


def test_damaged_field_indexes_are_told_of_and_made_again(tmp_path: Path) -> None:
    index = _new_small()
    path = tmp_path / "index.zdb"
    index.save(path)
    data = bytearray((path / "fields.bin").read_bytes())
    data[len(data) // 2] ^= 1
    (path / "fields.bin").write_bytes(data)
    with pytest.raises(CorruptIndexError, match=r"fields\.bin"):
        VectorDatabase().load(path)
    repair(path)
    again = VectorDatabase().load(path)
    for filter in ({"kind": "news"}, {"tags": {"contains": "odd"}}, {"author.age": {"gte": 32}}):
        assert [name for name, _ in again.list(number=600, filter=filter)] == [
            name for name, _ in index.list(number=600, filter=filter)
        ]


def test_reloaded_index_answers_from_saved_field_indexes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = _new_small()
    index.save(tmp_path / "index.zdb")

    def refused(*_: Any) -> None:
        raise AssertionError("opening built the field indexes again")

    monkeypatch.setattr(fields_module.FieldIndexes, "append", refused)
    again = VectorDatabase().load(tmp_path / "index.zdb")
    assert again.count({"kind": "news", "number": {"lt": 300}}) == 100


def test_searches_below_the_size_of_a_graph_are_exact() -> None:
    assert len(_small()) < SMALLEST_GRAPH
    assert _small().search(np.ones(4), filter={"kind": "news"}, explain=True).explanation.path == "exact"


def test_threads_that_search_the_same_selection_share_one_mask() -> None:
    """Kernels read it while the GIL is released: one that another thread has replaced would be freed under them."""
    threads, rounds = 8, 200
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(rounds):
            matching = Matching(np.arange(0, 50_000, 3), 50_000)
            start = threading.Barrier(threads)
            addresses: list[int] = []

            def ask(matching: Matching = matching, start: Any = start, addresses: Any = addresses) -> None:
                start.wait()
                addresses.append(matching.mask_address())

            workers = [threading.Thread(target=ask) for _ in range(threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            assert set(addresses) == {matching.mask_address()}
    finally:
        sys.setswitchinterval(usual)


def test_rows_that_one_thread_has_located_stay_when_another_locates_them_too() -> None:
    matching = Matching(np.arange(3), 3)
    rows = [np.zeros(3, np.int64), np.ones(3, np.int64)]
    alive = [weakref.ref(each) for each in rows]
    addresses = [matching.keep_rows(each) for each in rows]
    rows.clear()
    assert all(each() is not None for each in alive)
    assert matching.rows_address == addresses[-1]
