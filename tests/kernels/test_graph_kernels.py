"""Building, walking and repairing a graph, against the algorithms in plain words on the same distances."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from kernel_harness import (
    CODES,
    JIT_DISABLED,
    ROWS,
    KernelIndex,
    assert_same_hits,
    clustered,
    make_index,
    neighbours,
    pruned,
)

from zeusdb_vs.graph import HNSWGraph
from zeusdb_vs.kernels import layout

DIM = 16
M = 6
EF_CONSTRUCTION = 16 if JIT_DISABLED else 40


@functools.cache
def _built(space: str = "l2", bits: int = 8) -> KernelIndex:
    """An index that tests read and leave as it is."""
    return _own(space, bits, cuts=(ROWS // 3,))


def _own(space: str, bits: int, n: int = ROWS, *, cuts: tuple[int, ...] = ()) -> KernelIndex:
    # Clusters that run into one another: apart, so few links would not tie them together.
    index = make_index(space, bits, clustered(n, DIM, seed=1, spread=1.5))
    index.build(M, EF_CONSTRUCTION, cuts=cuts)
    return index


def _graph(index: KernelIndex) -> HNSWGraph:
    assert index.graph is not None
    return index.graph


def _levels(index: KernelIndex) -> np.ndarray:
    return np.concatenate(_graph(index).levels.pieces(index.n))[:, 0]


def _reached(index: KernelIndex) -> np.ndarray:
    """Which slots level 0 leads to from the entry point, bool (n,)."""
    seen, border = {_graph(index).entry_point}, [_graph(index).entry_point]
    while border:
        new = set(neighbours(_graph(index), border.pop())) - seen
        seen |= new
        border += new
    reached = np.zeros(index.n, bool)
    reached[list(seen)] = True
    return reached


def _nearest_first(by_code: np.ndarray, slots: set[int]) -> list[int]:
    return sorted(slots, key=lambda slot: (by_code[slot], slot))


def _walked(index: KernelIndex, by_code: np.ndarray, ef: int, capacity: int, n: int) -> list[int]:
    """HNSW's search in plain words: the pool at the end, nearest first."""
    graph = _graph(index)
    nearest = graph.entry_point
    for level in range(graph.top_level, 0, -1):
        while True:
            row = [slot for slot in neighbours(graph, nearest, level) if slot < n]
            better = min(row, key=lambda slot: by_code[slot], default=nearest)
            if not by_code[better] < by_code[nearest]:
                break
            nearest = better
    pool, seen, expanded = [nearest], {nearest}, set()
    while True:
        following = next((slot for slot in pool[:ef] if slot not in expanded), None)
        if following is None:
            return pool
        expanded.add(following)
        new = {slot for slot in neighbours(graph, following) if slot < n} - seen
        seen |= new
        pool = _nearest_first(by_code, set(pool) | new)[:capacity]


# ------------------------------------------------------------------------------------------------ building


@pytest.mark.parametrize(("space", "bits"), CODES)
def test_built_graph_is_whole(space: str, bits: int) -> None:
    """Levels, entry point, links within range and on their level, nobody linked to itself, all reachable."""
    index = _built(space, bits)
    graph, levels = _graph(index), _levels(index)
    assert graph.count == index.n
    assert levels[graph.entry_point] == graph.top_level == levels.max()
    for slot in range(index.n):
        for level in range(levels[slot] + 1):
            row = neighbours(graph, slot, level)
            assert len(row) <= (2 * M if level == 0 else M)
            assert slot not in row
            assert all(0 <= other < index.n and levels[other] >= level for other in row)
    # Under an inner product short vectors are nobody's nearest, and some have no link to them.
    assert _reached(index).mean() >= (0.9 if space == "dot" else 0.99)


@pytest.mark.parametrize("space", ["l2", "dot"])
def test_no_row_holds_a_slot_twice(space: str) -> None:
    """Two slots of one batch may choose each other: the reverse link is there already."""
    index = _built(space)
    for slot in range(index.n):
        for level in range(_levels(index)[slot] + 1):
            row = neighbours(_graph(index), slot, level)
            assert len(set(row)) == len(row)


def test_rows_of_the_first_batch_are_pruned_from_all_of_it() -> None:
    """The first slots see only one another: their rows follow from the distances alone."""
    n = min(ROWS, 40)
    index = make_index("l2", 32, clustered(n, DIM, seed=2))
    graph = index.build(20, n)  # room for everybody's links: nobody is pruned a second time
    between = index.between(index.describe(), index.scratch())
    for slot in range(n):
        others = [other for other in range(n) if other != slot]
        wanted = pruned(between, slot, others, 20, 40)
        assert set(wanted) <= set(neighbours(graph, slot))


def test_links_lead_to_near_slots() -> None:
    index = _built("l2", 32)
    between = index.between(index.describe(), index.scratch())
    near = 0
    for slot in range(index.n):
        order = np.argsort(between[slot], kind="stable")
        first = next(int(other) for other in order if other != slot)
        near += first in neighbours(_graph(index), slot)
    assert near >= 0.95 * index.n


@pytest.mark.parametrize("order", ["random", "sorted by cluster", "one by one"])
def test_build_finds_its_way_in_any_order_of_input(order: str) -> None:
    rows = clustered(ROWS, DIM, seed=3, spread=1.0)
    if order == "sorted by cluster":
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
    index = make_index("l2", 8, rows)
    index.build(M, EF_CONSTRUCTION, cuts=tuple(range(ROWS - 20, ROWS)) if order == "one by one" else ())
    assert _reached(index).mean() >= 0.99
    queries = clustered(20, DIM, seed=3, spread=1.0)
    status, slots, found = index.search_graph(queries, 5, ef=ROWS, depth=ROWS)
    assert status == 0
    assert_same_hits(queries, index, slots, found, 5, _reached(index))


# ------------------------------------------------------------------------------------------------ walking


@pytest.mark.parametrize(("space", "bits"), CODES)
@pytest.mark.parametrize(("ef", "depth"), [(1, 10), (8, 10), (30, 12)])
def test_search_walks_as_the_paper_says(space: str, bits: int, ef: int, depth: int) -> None:
    """The slots reranked are those of a walk in plain words on the same code distances."""
    index = _built(space, bits)
    ix, scratch = index.describe(), index.scratch()
    queries = clustered(3, DIM, seed=5)
    # As many results as are reranked: what comes out is the head of the pool.
    status, slots, _ = index.search_graph(queries, depth, ef=ef, depth=depth)
    assert status == 0
    for query, found in zip(queries, slots, strict=True):
        by_code = index.code_distances(index.prepare(query, ix, scratch), ix)
        pool = _walked(index, by_code, ef, max(ef, depth), index.n)
        assert set(found[found >= 0].tolist()) == set(pool[:depth])


@pytest.mark.parametrize(("space", "bits"), CODES)
def test_search_is_exact_when_all_is_expanded(space: str, bits: int) -> None:
    index = _built(space, bits)
    queries = clustered(5, DIM, seed=6)
    status, slots, found = index.search_graph(queries, 10, ef=index.n, depth=index.n)
    assert status == 0
    assert_same_hits(queries, index, slots, found, 10, _reached(index))


@pytest.mark.parametrize("two_hop", [False, True])
@pytest.mark.parametrize("share", [0.9, 0.3])
def test_masked_search_returns_the_matching_only(two_hop: bool, share: float) -> None:
    index = _built()
    queries = clustered(4, DIM, seed=7)
    mask = np.random.default_rng(8).random(index.n) < share
    status, slots, found = index.search_graph(
        queries, 10, ef=index.n, depth=index.n, mask=mask, two_hop=two_hop
    )
    assert status == 0
    assert mask[slots[slots >= 0]].all()
    if not two_hop:  # the walk itself is not restricted
        assert_same_hits(queries, index, slots, found, 10, mask & _reached(index))
    elif share > 0.5:  # matching slots further apart than two links are the caller's to scan
        right = [set(row.tolist()) for row in index.scan_exact(queries, 10, mask=mask)[1]]
        kept = [len(a & set(b.tolist())) for a, b in zip(right, slots, strict=True)]
        assert sum(kept) >= 0.8 * 10 * len(queries)


def test_search_never_returns_slots_that_are_not_published() -> None:
    """A reader's descriptor ends at N, though the rows it reads link further."""
    index = _built()
    n = _graph(index).entry_point + (index.n - _graph(index).entry_point) // 2 + 1
    ix = index.describe()
    ix[layout.N] = n
    queries = clustered(6, DIM, seed=9)
    status, slots, _ = index.search_graph(queries, 10, ef=50, depth=20, ix=ix)
    assert status == 0
    assert (slots < n).all() and (slots[:, 0] >= 0).all()
    by_code_ix, scratch = index.describe(), index.scratch()
    for query, found in zip(queries, index.search_graph(queries, 20, ef=50, depth=20, ix=ix)[1], strict=True):
        by_code = index.code_distances(index.prepare(query, by_code_ix, scratch), by_code_ix)
        assert set(found[found >= 0].tolist()) == set(_walked(index, by_code, 50, 50, n)[:20])


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_search_answers_each_query_of_a_batch_as_alone(count: int) -> None:
    index = _built()
    queries = clustered(count, DIM, seed=10)
    _, slots, found = index.search_graph(queries, 7, ef=20, depth=15)
    for number in range(count):
        _, one, distance = index.search_graph(queries[number : number + 1], 7, ef=20, depth=15)
        np.testing.assert_array_equal(one[0], slots[number])
        np.testing.assert_array_equal(distance[0], found[number])


@pytest.mark.parametrize("count", [1, 4])
def test_search_gives_up_when_the_budget_is_used(count: int) -> None:
    index = _built()
    queries = clustered(count, DIM, seed=11)
    mask = np.ones(index.n, bool)
    status, _, _ = index.search_graph(queries, 5, ef=50, depth=5, mask=mask, two_hop=True, budget=3)
    assert status == 3  # of the first query


@pytest.mark.parametrize("bad", [0, 1, 2])
@pytest.mark.parametrize(("value", "code"), [(np.inf, 1), (0.0, 2)])
def test_search_names_the_query_that_cannot_be_used(bad: int, value: float, code: int) -> None:
    index = _built("cosine", 4)
    queries = clustered(4, DIM, seed=12)
    queries[bad] = value
    status, slots, _ = index.search_graph(queries, 5, ef=20, depth=10)
    assert status == code + 4 * bad
    assert (slots[:bad] >= 0).all(), "the queries before it are answered"


def test_results_are_padded_when_the_walk_finds_fewer() -> None:
    index = _built()
    mask = np.zeros(index.n, bool)
    some = np.flatnonzero(_reached(index))[[5, 9]]
    mask[some] = True
    status, slots, found = index.search_graph(clustered(2, DIM, seed=13), 5, ef=index.n, depth=9, mask=mask)
    assert status == 0
    assert [set(row.tolist()) for row in slots] == [{*some.tolist(), -1}] * 2
    assert np.isinf(found[:, 2:]).all() and (slots[:, 2:] == -1).all()


def test_walks_stay_apart_when_the_visited_marks_start_over(monkeypatch: pytest.MonkeyPatch) -> None:
    index = _built()
    query = clustered(1, DIM, seed=14)
    wanted = index.search_graph(query, 5, ef=20, depth=10)[1]
    scratch = index.scratch()
    # As after 65,535 walks: marks of all epochs, and a counter that has none left.
    marks = next(buffer for buffer in scratch._buffers if buffer.dtype == np.uint16)
    marks[:] = np.arange(len(marks)) % 65_536
    scratch.block[layout.EPOCH] = 65_535
    monkeypatch.setattr(index, "scratch", lambda pool=1024, results=256: scratch)
    for walks in range(1, 4):
        np.testing.assert_array_equal(index.search_graph(query, 5, ef=20, depth=10)[1], wanted)
        assert scratch.block[layout.EPOCH] == 2 * walks  # a set for the way down, and one for the walk


# ------------------------------------------------------------------------------------------------ repairing


@pytest.mark.parametrize("space", ["l2", "cosine", "dot"])
def test_repair_puts_the_neighbours_of_removed_slots_in_their_place(space: str) -> None:
    index = _own(space, 32)
    graph, levels = _graph(index), _levels(index)
    between = index.between(index.describe(), index.scratch())
    live = np.random.default_rng(15).random(index.n) > 0.25
    before = {
        (slot, level): neighbours(graph, slot, level)
        for slot in range(index.n)
        for level in range(levels[slot] + 1)
    }
    changed = index.repair_all(live)
    damaged = 0
    for (slot, level), row in before.items():
        now = neighbours(graph, slot, level)
        if not live[slot] or live[row].all():
            assert now == row
            continue
        damaged += 1
        candidates = {other for other in row if live[other]}
        for gone in (other for other in row if not live[other]):
            candidates |= {other for other in before[gone, level] if live[other]}
        keep = 2 * M if level == 0 else M
        assert now == pruned(between, slot, sorted(candidates - {slot}), keep, keep)
    assert changed == damaged > 0


def test_repair_leaves_no_link_to_a_removed_slot() -> None:
    index = _own("l2", 4, cuts=(ROWS // 3,))
    live = np.random.default_rng(16).random(index.n) > 0.5
    index.repair_all(live)
    for slot in np.flatnonzero(live):
        assert live[neighbours(_graph(index), int(slot))].all()
    queries = clustered(10, DIM, seed=17)
    graph, levels = _graph(index), np.where(live, _levels(index).astype(int), -1)
    graph.entry_point, graph.top_level = int(levels.argmax()), int(levels.max())
    status, slots, found = index.search_graph(queries, 5, ef=index.n, depth=index.n, mask=live)
    assert status == 0
    assert_same_hits(queries, index, slots, found, 5, live & _reached(index))


def test_repair_changes_nothing_when_nothing_is_removed() -> None:
    index = _own("l2", 8)
    before = [piece.copy() for piece in _graph(index).links.pieces(index.n)]
    assert index.repair_all(np.ones(index.n, bool)) == 0
    for old, new in zip(before, _graph(index).links.pieces(index.n), strict=True):
        np.testing.assert_array_equal(old, new)
