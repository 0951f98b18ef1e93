"""The parts kept in step: what readers hold, what interruptions leave behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest

from zeusdb_vs import HNSWIndex, VectorDatabase
from zeusdb_vs import linking as linking_module
from zeusdb_vs.collection import Collection
from zeusdb_vs.errors import CorruptIndexError
from zeusdb_vs.fields import FieldIndexes
from zeusdb_vs.graph import HNSWGraph
from zeusdb_vs.ids import Ids
from zeusdb_vs.parts import CollectionConfig
from zeusdb_vs.records import Records
from zeusdb_vs.searching import search_many
from zeusdb_vs.slot_table import SlotTable
from zeusdb_vs.vectors import Vectors
from zeusdb_vs.views import View

DIM = 48
SMALL = 60
"""Slots from which on there is a graph in these tests."""
EXACT = 400
"""A pool as wide as these indexes, so that walks find all."""


@pytest.fixture(autouse=True)
def early_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linking_module, "SMALLEST_GRAPH", SMALL)


def _vectors(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)


def _batch(first: int, count: int, seed: int) -> dict[str, Any]:
    return {
        "ids": [f"r{n}" for n in range(first, first + count)],
        "vectors": _vectors(count, seed),
        "metadatas": [{"n": n, "seed": seed} for n in range(first, first + count)],
        "texts": [f"text {n} {seed}" for n in range(first, first + count)],
    }


def _filled(count: int) -> HNSWIndex:
    index = VectorDatabase().create(dim=DIM, space="l2", m=8, ef_construction=60)
    index.add(_batch(0, count, seed=1))
    return index


def _contents(index: HNSWIndex) -> list[Any]:
    """All that a user can see of the records."""
    names = [name for name, _ in index.list(number=10_000)]
    records = index.get_records(names, include=("metadata", "text", "payload", "vector"), strict=True)
    return [
        (record["id"], record["metadata"], record["text"], record["payload"], record["vector"].tolist())
        for record in records
    ]


def _answers(index: HNSWIndex) -> list[Any]:
    """Hits of some searches, plain, filtered and exact."""
    return [
        [(hit["id"], hit["score"]) for hit in index.search(query, filter, ef_search=EXACT, exact=exact)]
        for query in _vectors(3, seed=9)
        for filter in (None, {"n": {"lt": 30}})
        for exact in (False, True)
    ]


def _assert_sound(index: HNSWIndex) -> None:
    """What the index says of itself agrees with its records, and every search finds the nearest of them."""
    contents = _contents(index)
    names = [name for name, *_ in contents]
    assert len(index) == len(names) == len(set(names))
    assert index.count({"n": {"gte": 0}}) == len(names)
    rows = np.array([row for *_, row in contents], np.float32).reshape(-1, DIM)
    metadata = {name: told for name, told, *_ in contents}
    for query in _vectors(3, seed=10):
        for lowest in (0, 20):
            mask = np.array([metadata[name]["n"] >= lowest for name in names], bool)
            (right,), (distances,) = oracle.top_k(query, rows, "l2", 10, mask)
            for exact in (False, True):
                hits = index.search(query, {"n": {"gte": lowest}}, ef_search=EXACT, exact=exact)
                assert [hit["id"] for hit in hits] == [names[row] for row in right]
                np.testing.assert_allclose([hit["score"] for hit in hits], distances, rtol=1e-5)


class _Interruption(BaseException):
    """What Ctrl-C raises, at a place of our choice."""


def _raise_on_call(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, call: int = 1, *, after: bool = False
) -> None:
    """Interrupt the engine at the nth call of a method, before its work or after it; calls later on pass."""
    real = getattr(owner, name)
    method = owner.__dict__[name]
    calls = 0

    def interrupted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            raise _Interruption
        result = real(*arguments, **options)
        if calls == call and after:
            raise _Interruption
        return result

    monkeypatch.setattr(
        owner, name, staticmethod(interrupted) if isinstance(method, classmethod) else interrupted
    )


# ---------------------------------------------------------------------------------------- views


def _exact(index: HNSWIndex, view: View) -> tuple[list[Any], list[Any]]:
    result = search_many(view, _vectors(4, seed=8), 10, exact=True)
    return result.slots.tolist(), result.distances.tolist()


def _shown(index: HNSWIndex, view: View, count: int) -> dict[str, Any]:
    """All that a view tells."""
    return {
        "exact": _exact(index, view),
        "ids": [view.id_of(slot) for slot in view.live_slots()],
        "found": [view.find(f"r{n}") for n in range(count)],
        "contents": [(view.records.metadata(slot), view.records.text(slot)) for slot in range(count)],
        "vectors": [view.vector(slot).tolist() for slot in range(count)],
    }


_CHANGES: dict[str, Callable[[HNSWIndex], object]] = {
    "add": lambda index: index.add(_batch(500, 40, seed=2)),
    "replace": lambda index: index.add(_batch(0, 40, seed=3)),
    "remove": lambda index: index.remove_points([f"r{n}" for n in range(30)]),
    "remove and compact": lambda index: (index.remove_where({"n": {"lt": 20}}), index.compact()),
    "clear": lambda index: index.clear(),
    "rebuild": lambda index: index.rebuild(m=4, ef_construction=30),
    "update": lambda index: index.update_metadata(where={"n": {"gte": 0}}, metadata={"n": -5}),
    "grow": lambda index: index.add(_batch(1000, 4 * 130, seed=4)),
}


@pytest.mark.parametrize("change", _CHANGES)
@pytest.mark.parametrize("count", [40, 130])
def test_view_shows_what_it_showed_whatever_comes_after(change: str, count: int) -> None:
    index = _filled(count)
    view = index._collection.view
    before = _shown(index, view, count)
    _CHANGES[change](index)
    assert index._collection.view.version > view.version
    after = _shown(index, view, count)
    if change.startswith("remove"):  # no id leads to what was removed, even for those who still see its slot
        del before["found"], after["found"]
    if change == "remove":  # and its contents are let go of at once
        del before["contents"], after["contents"]
    assert after == before
    walked = search_many(view, _vectors(4, seed=8), 10, ef=EXACT)
    assert (walked.slots < view.n).all() and (walked.slots >= 0).all()


# ---------------------------------------------------------------------------------------- interruptions


@pytest.mark.parametrize("present", [0, 30, 50, 130])
@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("replacing", [False, True])
def test_add_interrupted_by_its_progress_callback_changes_nothing(
    present: int, call: int, replacing: bool
) -> None:
    index = _filled(present)
    before, answers = _contents(index), _answers(index)
    calls = 0

    def progress(done: int) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise _Interruption

    first = 0 if replacing else 5000
    try:
        index.add(_batch(first, 100, seed=5), progress=progress)
    except _Interruption:
        assert _contents(index) == before
        assert _answers(index) == answers
        _assert_sound(index)
    else:
        assert calls < call
    index.add(_batch(first, 100, seed=5))
    _assert_sound(index)
    assert {name for name, _ in index.list(number=10_000)} >= {f"r{n}" for n in range(first, first + 100)}


_INSIDE_ADD = [
    (Vectors, "append", False),
    (Vectors, "append", True),
    (Ids, "append", False),
    (Ids, "append", True),
    (Ids, "claim", True),
    (SlotTable, "insert", True),
    (SlotTable, "move", False),
    (SlotTable, "move", True),
    (Records, "append", False),
    (Records, "append", True),
    (FieldIndexes, "append", False),
    (FieldIndexes, "append", True),
    (Vectors, "calibrate", True),
    (Vectors, "encode", False),
    (Vectors, "encode", True),
    (HNSWGraph, "insert", False),
    (HNSWGraph, "_insert_batch", False),
    (HNSWGraph, "_insert_batch", True),
    (HNSWGraph, "insert", True),
]


@pytest.mark.parametrize("present", [0, 30, 130])
@pytest.mark.parametrize(("owner", "name", "after"), _INSIDE_ADD)
def test_add_interrupted_anywhere_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, present: int, owner: type, name: str, after: bool
) -> None:
    index = _filled(present)
    before, answers = _contents(index), _answers(index)
    with monkeypatch.context() as patch:
        _raise_on_call(patch, owner, name, after=after)
        try:
            # Some replace what is there, some are new, and they make a graph where there is none.
            index.add(_batch(present // 2, 100, seed=6))
        except _Interruption:
            assert _contents(index) == before
            assert _answers(index) == answers
        else:
            before = _contents(index)
    _assert_sound(index)
    index.save(tmp_path / "x.zdb")
    assert _contents(VectorDatabase().load(tmp_path / "x.zdb")) == before
    index.add(_batch(present // 2, 100, seed=6))
    _assert_sound(index)
    index.remove_points([f"r{present // 2}"])
    index.compact()
    _assert_sound(index)


_INSIDE_COMPACT = [
    (HNSWGraph, "repair"),
    (HNSWGraph, "selected"),
    (Ids, "from_names"),
    (Vectors, "selected"),
    (Vectors, "set_codec"),
    (Records, "take"),
    (FieldIndexes, "take"),
]


@pytest.mark.parametrize("present", [40, 130])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("owner", "name"), _INSIDE_COMPACT)
def test_compaction_interrupted_anywhere_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, present: int, owner: type, name: str, after: bool
) -> None:
    index = _filled(present)
    index.remove_points([f"r{n}" for n in range(0, present, 5)])
    before, answers = _contents(index), _answers(index)
    with monkeypatch.context() as patch:
        _raise_on_call(patch, owner, name, after=after)
        try:
            index.compact()
        except _Interruption:
            assert _contents(index) == before
            assert _answers(index) == answers
    _assert_sound(index)
    index.add(_batch(present - 10, 50, seed=7))
    _assert_sound(index)
    index.compact()
    _assert_sound(index)


@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [
        (Vectors, "calibrate", False),
        (Vectors, "calibrate", True),
        (Vectors, "encode", True),
        (HNSWGraph, "insert", False),
        (HNSWGraph, "_insert_batch", True),
        (HNSWGraph, "insert", True),
    ],
)
def test_rebuild_interrupted_anywhere_leaves_the_index_usable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, owner: type, name: str, after: bool
) -> None:
    index = _filled(130)
    before, answers = _contents(index), _answers(index)
    with monkeypatch.context() as patch:
        _raise_on_call(patch, owner, name, after=after)
        with pytest.raises(_Interruption):
            index.rebuild(m=4, ef_construction=30)
    assert _contents(index) == before
    assert _answers(index) == answers
    assert (index.m, index.ef_construction) == (8, 60)
    index.remove_points(["r0", "r1"])
    _assert_sound(index)
    index.add(_batch(200, 30, seed=7))
    _assert_sound(index)
    index.save(tmp_path / "x.zdb")
    _assert_sound(VectorDatabase().load(tmp_path / "x.zdb"))
    index.rebuild(m=4, ef_construction=30)
    assert index.m == 4
    _assert_sound(index)


# ---------------------------------------------------------------------------------------- growing, shrinking


def test_graph_comes_when_there_are_enough_records_and_goes_when_few_are_left() -> None:
    index = _filled(SMALL - 1)
    assert not index._collection.view.is_linked
    index.add(_batch(1000, 1, seed=2))
    assert index._collection.view.is_linked
    _assert_sound(index)
    index.remove_where({"n": {"lt": 40}})
    index.compact()
    assert not index._collection.view.is_linked
    _assert_sound(index)
    index.add(_batch(2000, 100, seed=3))
    assert index._collection.view.is_linked
    _assert_sound(index)


def test_everything_removed_and_added_again() -> None:
    index = _filled(100)
    for round_number in range(3):
        index.remove_where({"n": {"gte": 0}})
        assert len(index) == 0
        assert index.search(_vectors(1, seed=1)[0]) == []
        index.add(_batch(0, 100, seed=round_number))
        _assert_sound(index)


def test_many_removals_are_compacted_by_themselves() -> None:
    index = _filled(3000)
    index.remove_where({"n": {"lt": 1500}})
    assert index._collection.view.n == 1500
    _assert_sound(index)


@pytest.mark.parametrize("count", [0, 1, 40, 130])
def test_state_goes_there_and_back(count: int) -> None:
    index = _filled(count)
    index.remove_points(["r3", "r4"])
    index.add(_batch(5, 3, seed=2))
    collection = index._collection
    files = {name: _joined(part) for name, part in collection.state().items()}
    back = HNSWIndex(Collection.from_state(files, collection.config), index._state)
    assert _contents(back) == _contents(index)
    assert _answers(back) == _answers(index)
    back.add(_batch(300, 80, seed=3))
    _assert_sound(back)


def _joined(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    return {name: np.concatenate(v) if isinstance(v, list) else v for name, v in part.items()}


@pytest.mark.parametrize("name", ["mappings.bin", "vectors.bin", "hnsw_index.hnsw.graph", "metadata.json"])
def test_state_without_a_part_is_refused(name: str) -> None:
    collection = _filled(130)._collection
    files = {key: _joined(part) for key, part in collection.state().items() if key != name}
    with pytest.raises(CorruptIndexError, match=name):
        Collection.from_state(files, collection.config)


def test_state_whose_parts_contradict_each_other_is_refused() -> None:
    collection = _filled(130)._collection
    files = {name: _joined(part) for name, part in collection.state().items()}
    other = {name: _joined(part) for name, part in _filled(129)._collection.state().items()}
    for name in ("mappings.bin", "vectors.bin", "hnsw_index.hnsw.graph", "codes.bin"):
        with pytest.raises(CorruptIndexError):
            Collection.from_state({**files, name: other[name]}, collection.config)
    for changed in (replace(collection.config, dim=DIM + 1), replace(collection.config, m=9)):
        with pytest.raises(CorruptIndexError):
            Collection.from_state(files, changed)
    ungraphed = {"links": files["hnsw_index.hnsw.graph"]["links"]}
    with pytest.raises(CorruptIndexError):
        Collection.from_state({**files, "hnsw_index.hnsw.graph": ungraphed}, collection.config)


def test_empty_collection_answers() -> None:
    collection = Collection(CollectionConfig(dim=DIM, space="cosine"))
    result = search_many(collection.view, _vectors(2, seed=1), 5)
    assert result.path == "empty" and result.slots.shape == (2, 0)
    assert collection.compact() == collection.clear() == 0


# ---------------------------------------------------------------------------------------- processes

_FORK = """
import os, sys, threading, warnings
import numpy as np
from zeusdb_vs import VectorDatabase, set_num_threads

warnings.simplefilter("ignore", DeprecationWarning)  # that threads are running is the point
set_num_threads(2)
rng = np.random.default_rng(0)
vectors = rng.standard_normal((4500, 16), dtype=np.float32)
index = VectorDatabase().create(dim=16, space="l2")
index.add(vectors)
queries = rng.standard_normal((64, 16), dtype=np.float32)
wanted = index.search_arrays(queries, 10)
stop = threading.Event()

def write():
    number = 0
    while not stop.is_set():
        number += 1
        index.add({"id": "far", "vector": np.full(16, 1000 + number, np.float32)})

writer = threading.Thread(target=write)
writer.start()
codes = []
for _ in range(5):
    child = os.fork()
    if child == 0:
        # The writer of the parent may hold its lock for ever here: searches take none.
        ids, distances = index.search_arrays(queries, 10)
        same = np.mean(ids == wanted[0])
        hits = index.search(queries[0], top_k=1, exact=True)
        os._exit(0 if same > 0.99 and hits[0]["id"] == wanted[0][0, 0] else 1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop.set()
writer.join()
assert codes == [0] * 5, codes
assert (index.search_arrays(queries, 10)[0] == wanted[0]).mean() > 0.99
print("fine")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_forked_child_searches_while_a_thread_of_the_parent_writes() -> None:
    process = subprocess.run(
        [sys.executable, "-c", _FORK], capture_output=True, text=True, check=False, timeout=120
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == "fine"
