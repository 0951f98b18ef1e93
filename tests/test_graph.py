"""The graph: levels, determinism, state and its checks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from zeusdb_vs import HNSWIndex, VectorDatabase, get_num_threads, set_num_threads
from zeusdb_vs.errors import CorruptIndexError
from zeusdb_vs.graph import HNSWGraph, draw_levels

DIM = 48
M = 6


@pytest.fixture
def threads() -> Iterator[None]:
    before = get_num_threads()
    yield
    set_num_threads(before)


def _vectors(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((40, DIM))
    return (centres[rng.integers(40, size=count)] + 0.5 * rng.standard_normal((count, DIM))).astype(
        np.float32
    )


def _graph_arrays(index: HNSWIndex) -> dict[str, np.ndarray]:
    state = index._collection.state()
    graph = {name: _whole(value) for name, value in state["hnsw_index.hnsw.graph"].items()}
    codes = {name: _whole(value) for name, value in state.get("codes.bin", {}).items()}
    return {**graph, **{f"codes {name}": value for name, value in codes.items()}}


def _whole(value: Any) -> np.ndarray:
    return np.concatenate(value) if isinstance(value, list) else np.asarray(value)


def _assert_equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name, array in a.items():
        np.testing.assert_array_equal(array, b[name], err_msg=name)


# ------------------------------------------------------------------------------------------------ levels


@pytest.mark.parametrize("m", [2, 16, 64])
def test_levels_have_the_distribution_of_the_paper(m: int) -> None:
    count = 200_000
    levels = draw_levels(0, count, m, seed=7)
    for level in (1, 2):
        share = m**-level
        # Five standard deviations of a binomial.
        assert abs((levels >= level).mean() - share) < 5 * math.sqrt(share / count)


def test_levels_do_not_depend_on_how_slots_are_cut() -> None:
    whole = draw_levels(0, 1000, 8, seed=3)
    pieces = [draw_levels(first, 100, 8, seed=3) for first in range(0, 1000, 100)]
    np.testing.assert_array_equal(whole, np.concatenate(pieces))
    assert (whole != draw_levels(0, 1000, 8, seed=4)).any()


# ------------------------------------------------------------------------------------------------ determinism


@pytest.mark.parametrize("space", ["cosine", "l2", "l1", "dot"])
@pytest.mark.usefixtures("threads")
def test_graph_is_the_same_to_the_bit_on_any_number_of_threads(space: str) -> None:
    """Through batches, single adds, upserts, removals with local and full repair, and compaction."""
    vectors = _vectors(6500, seed=1)
    found = []
    for count in (1, 2):
        set_num_threads(count)
        index = VectorDatabase().create(dim=DIM, space=space, m=M, ef_construction=40)
        names = index.add(vectors[:6000]).ids
        for row in range(6000, 6010):
            names += index.add(vectors[row]).ids
        index.add({"ids": names[100:400], "vectors": vectors[6010:6310]})
        index.remove_points(names[1000:1020])  # repaired around each
        index.remove_points(names[2000:2300])  # by a pass over all
        found.append((_graph_arrays(index), index.search_arrays(vectors[::50], 10)))
    _assert_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1][0], found[1][1][0])
    np.testing.assert_array_equal(found[0][1][1], found[1][1][1])


def test_same_input_gives_the_same_graph_again() -> None:
    vectors = _vectors(5000, seed=2)
    first, second = (VectorDatabase().create(dim=DIM, m=M, ef_construction=40) for _ in range(2))
    for index in (first, second):
        index.add(vectors)
    _assert_equal(_graph_arrays(first), _graph_arrays(second))


@pytest.mark.usefixtures("threads")
def test_answers_do_not_depend_on_the_number_of_threads_or_the_size_of_the_batch() -> None:
    vectors = _vectors(5000, seed=3)
    index = VectorDatabase().create(dim=DIM, space="l2", m=M, ef_construction=40)
    index.add({"vectors": vectors, "metadatas": [{"n": n} for n in range(5000)]})
    queries = _vectors(65, seed=4)
    for filter in (None, {"n": {"lt": 4500}}, {"n": {"lt": 1500}}, {"n": {"lt": 40}}):
        answers = []
        for count in (1, 2):
            set_num_threads(count)
            answers.append(index.search_arrays(queries, 10, filter=filter))
        (ids, distances), (others, same) = answers
        np.testing.assert_array_equal(ids, others)
        np.testing.assert_array_equal(distances, same)
        for row in (0, 63, 64):
            hits = index.search(queries[row], filter, top_k=10)
            assert [hit["id"] for hit in hits] == ids[row].tolist()
            assert [hit["score"] for hit in hits] == distances[row].tolist()


# ------------------------------------------------------------------------------------------------ state


@pytest.fixture(scope="module")
def state() -> dict[str, Any]:
    index = VectorDatabase().create(dim=DIM, space="l2", m=M, ef_construction=40)
    index.add(_vectors(4500, seed=5))
    return index._collection.state()["hnsw_index.hnsw.graph"]


def _loaded(state: dict[str, Any]) -> HNSWGraph:
    arrays = {name: _whole(value) if isinstance(value, list) else value for name, value in state.items()}
    return HNSWGraph.from_state(arrays, 4500, M, 40, 0, 6)


def test_state_goes_there_and_back(state: dict[str, Any]) -> None:
    back = _loaded(state).state()
    for name, value in back.items():
        np.testing.assert_array_equal(_whole(value), _whole(state[name]), err_msg=name)


def test_loaded_graph_can_be_written_though_its_arrays_cannot(state: dict[str, Any]) -> None:
    arrays = {name: _whole(value) for name, value in state.items()}
    for array in arrays.values():
        array.flags.writeable = False
    graph = HNSWGraph.from_state(arrays, 4500, M, 40, 0, 6)
    graph.links.row(0)[0] = 1
    assert graph.upper.row(0).flags.writeable


def _changed(state: dict[str, Any], name: str, change: Any) -> dict[str, Any]:
    array = _whole(state[name]).copy()
    return {**state, name: change(array)}


def _put(place: Any, value: int) -> Any:
    def change(array: np.ndarray) -> np.ndarray:
        array[place] = value
        return array

    return change


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("links", _put((7, 3), 4500), "links lead"),
        ("links", _put((7, 3), -2), "links lead"),
        ("links", lambda a: a[:-1], "must be"),
        ("links", lambda a: a[:, :-1], "must be"),
        ("links", lambda a: a.astype(np.int64), "must be"),
        ("upper", _put((0, 0), 4500), "upper lead"),
        ("upper", _put((0, 0), -7), "upper lead"),
        ("upper", lambda a: a[1:], "must be"),
        ("levels", _put(0, 9), "."),
        ("levels", lambda a: a[1:], "must be"),
        ("levels", lambda a: a * 0, "."),
        ("entry_point", lambda a: 4500, "entry_point"),
        ("entry_point", lambda a: -1, "entry point"),
        ("entry_point", lambda a: -2, "entry_point"),
        ("entry_point", lambda a: float("nan"), "entry_point"),
        ("entry_point", lambda a: "0", "entry_point"),
        ("top_level", lambda a: 0, "top level"),
        ("top_level", lambda a: 99, "top_level"),
    ],
)
def test_damaged_state_is_refused(state: dict[str, Any], name: str, change: Any, reason: str) -> None:
    with pytest.raises(CorruptIndexError, match=reason):
        _loaded(_changed(state, name, change))


def test_upper_links_to_slots_of_a_lower_level_are_refused(state: dict[str, Any]) -> None:
    low = int(np.flatnonzero(_whole(state["levels"]) == 0)[0])
    with pytest.raises(CorruptIndexError, match="not on their level"):
        _loaded(_changed(state, "upper", _put((0, 0), low)))


@pytest.mark.parametrize("name", ["links", "upper", "levels", "entry_point", "top_level"])
def test_missing_parts_are_refused(state: dict[str, Any], name: str) -> None:
    with pytest.raises(CorruptIndexError, match=name):
        _loaded({key: value for key, value in state.items() if key != name})


def test_empty_graph_has_a_state() -> None:
    graph = HNSWGraph(M, 40, 0, 6)
    arrays = {name: _whole(value) for name, value in graph.state().items()}
    back = HNSWGraph.from_state(arrays, 0, M, 40, 0, 6)
    assert (back.count, back.entry_point, back.top_level) == (0, -1, -1)


# ------------------------------------------------------------------------------------------------ selection


def test_selected_graph_keeps_the_links_among_the_chosen(state: dict[str, Any]) -> None:
    graph = _loaded(state)
    slots = np.sort(np.random.default_rng(6).choice(4500, 3000, replace=False)).astype(np.int64)
    number = {int(old): new for new, old in enumerate(slots)}
    chosen = graph.selected(slots)
    assert chosen.count == 3000
    for new in range(0, 3000, 7):
        old = int(slots[new])
        level = int(graph.levels.row(old)[0])
        assert int(chosen.levels.row(new)[0]) == level
        for row, kept in [(graph.links.row(old), chosen.links.row(new))] + [
            (
                graph.upper.row(int(graph.upper_offsets.row(old)[0]) + at),
                chosen.upper.row(int(chosen.upper_offsets.row(new)[0]) + at),
            )
            for at in range(level)
        ]:
            right = [number[int(other)] for other in row if int(other) in number]
            assert kept.tolist() == right + [-1] * (len(kept) - len(right))
    levels = np.concatenate(chosen.levels.pieces(3000))[:, 0]
    assert chosen.top_level == levels.max() == levels[chosen.entry_point]
