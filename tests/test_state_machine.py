"""Any sequence of calls, against a dict of records and plain NumPy.

Run as users meet small indexes (every search a scan), with the graph from the first records on, and quantized in either
storage mode, where training comes after a few records.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from zeusdb_vs import HNSWIndex, VectorDatabase, quantization_config
from zeusdb_vs import linking as linking_module
from zeusdb_vs import planner as planner_module

DIM = 6
RAW, ONLY = "quantized_with_raw", "quantized_only"
TRAINING_SIZE = 24
IDS = [f"r{i}" for i in range(40)]
# Values of a small grid, so that equal vectors and equal distances come up all the time.
GRID = np.array([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0], np.float32)

_ids = st.sampled_from(IDS)
_seeds = st.integers(0, 10_000)
_metadata = st.none() | st.fixed_dictionaries(
    {}, optional={"n": st.integers(0, 5), "tag": st.sampled_from("ab")}
)


def _vectors(seed: int, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors = GRID[rng.integers(0, len(GRID), (count, DIM))]
    vectors[:, 0] = rng.integers(1, 4, count)  # never zero, which cosine refuses
    return vectors


class _Record:
    """What the model knows of one record."""

    def __init__(self, vector: np.ndarray, metadata: dict[str, Any], text: str | None, payload: Any) -> None:
        self.vector, self.metadata, self.text, self.payload = vector, metadata, text, payload


class IndexMachine(RuleBasedStateMachine):
    """Applies each call to the index and to a dict, in insertion order, and compares."""

    index: HNSWIndex
    model: dict[str, _Record]
    is_exact = True
    storage_mode: str | None = None
    """Of the quantization, where there is one."""

    @initialize(space=st.sampled_from(oracle.SPACES), kind=st.sampled_from(("pq", "int8")))
    def start(self, space: str, kind: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="zeusdb-vs-test-"))
        self.space = space
        self.index = VectorDatabase().create(
            dim=DIM, space=space, m=4, ef_construction=20, quantization_config=self._quantization(kind)
        )
        self.is_trained = False
        self.model = {}
        self.generated = 0

    def _quantization(self, kind: str) -> dict[str, Any] | None:
        if self.storage_mode is None:
            return None
        options = {"storage_mode": self.storage_mode, "training_size": TRAINING_SIZE}
        if kind == "pq" and self.space != "l1":
            return {"type": "pq", "subvectors": 3, **options}
        return {"type": "int8", **options}

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    # -------------------------------------------------------------------------------------------- writes

    @rule(names=st.lists(_ids, min_size=1, max_size=12), seed=_seeds, metadata=_metadata, rich=st.booleans())
    def add(self, names: list[str], seed: int, metadata: dict[str, Any] | None, rich: bool) -> None:
        vectors = _vectors(seed, len(names))
        batch: dict[str, Any] = {"ids": names, "vectors": vectors}
        if metadata is not None:
            batch["metadatas"] = [{**metadata, "row": row} for row in range(len(names))]
        if rich:
            batch["texts"] = [f"text {seed} {row}" for row in range(len(names))]
            batch["payloads"] = [{"seed": seed} for _ in names]
        assert self.index.add(batch).ids == list(dict.fromkeys(reversed(names)))[::-1]
        for row, name in enumerate(names):
            self.model.pop(name, None)
            self.model[name] = _Record(
                vectors[row],
                {} if metadata is None else {**metadata, "row": row},
                f"text {seed} {row}" if rich else None,
                {"seed": seed} if rich else None,
            )

    @rule(seed=_seeds, count=st.integers(1, 30))
    def add_array(self, seed: int, count: int) -> None:
        vectors = _vectors(seed, count)
        ids = self.index.add(vectors).ids
        assert ids == [f"vec_{self.generated + i + 1}" for i in range(count)]
        self.generated += count
        self.model.update({name: _Record(v, {}, None, None) for name, v in zip(ids, vectors, strict=True)})

    @rule(name=_ids, seed=_seeds)
    def add_without_overwriting(self, name: str, seed: int) -> None:
        (vector,) = _vectors(seed, 1)
        result = self.index.add({"id": name, "vector": vector}, overwrite=False)
        assert result.is_success() == (name not in self.model)
        self.model.setdefault(name, _Record(vector, {}, None, None))

    @rule(name=_ids, seed=_seeds)
    def fail_to_add(self, name: str, seed: int) -> None:
        with pytest.raises(ValueError, match="record 1"):
            self.index.add(
                [{"id": name, "vector": _vectors(seed, 1)[0]}, {"id": "bad", "vector": [np.nan] * DIM}],
                on_error="raise",
            )

    @rule(names=st.lists(_ids, max_size=10))
    def remove(self, names: list[str]) -> None:
        missing = self.index.remove_points(names)
        assert missing == [name for name in dict.fromkeys(names) if name not in self.model]
        for name in names:
            self.model.pop(name, None)

    @rule(n=st.integers(0, 5))
    def remove_where(self, n: int) -> None:
        doomed = [name for name, record in self.model.items() if record.metadata.get("n") == n]
        assert self.index.remove_where({"n": n}) == len(doomed)
        for name in doomed:
            del self.model[name]

    @rule(name=_ids, metadata=_metadata, merge=st.booleans())
    def update_metadata(self, name: str, metadata: dict[str, Any] | None, merge: bool) -> None:
        assert self.index.update_metadata(name, metadata or {}, merge=merge) is (name in self.model)
        if name in self.model:
            old = self.model[name].metadata if merge else {}
            self.model[name].metadata = {**old, **(metadata or {})}

    @rule(tag=st.sampled_from("ab"), n=st.integers(0, 5))
    def update_where(self, tag: str, n: int) -> None:
        changed = [record for record in self.model.values() if record.metadata.get("tag") == tag]
        assert self.index.update_metadata(where={"tag": tag}, metadata={"n": n}, merge=True) == len(changed)
        for record in changed:
            record.metadata = {**record.metadata, "n": n}

    @rule(names=st.lists(_ids, max_size=3, unique=True), value=st.integers(0, 3))
    def update_payload(self, names: list[str], value: int) -> None:
        known = [name for name in names if name in self.model]
        assert self.index.update_payload(names, {"value": value}) == len(known)
        for name in known:
            self.model[name].payload = {**(self.model[name].payload or {}), "value": value}

    @precondition(lambda self: self.storage_mode == RAW)
    @rule(kind=st.sampled_from(("pq", "int8", None)))
    def quantize_otherwise(self, kind: str | None) -> None:
        config = None if kind is None else self._quantization(kind)
        assert self.index.rebuild(quantization_config=config) == len(self.model)
        self.is_trained = False

    @precondition(lambda self: self.storage_mode is not None)
    @rule()
    def rebuild_with_quantization(self) -> None:
        assert self.index.rebuild_with_quantization() == self.index.is_quantized()

    @rule(action=st.sampled_from(["compact", "shrink", "rebuild", "clear"]))
    def reorganise(self, action: str) -> None:
        if action == "compact":
            self.index.compact()
        elif action == "shrink":
            self.index.shrink_to_fit()
        elif action == "rebuild":
            assert self.index.rebuild(ef_construction=24) == len(self.model)
        elif len(self.model) > 60:
            assert self.index.clear() == len(self.model)
            self.model.clear()

    @rule()
    def save_and_load(self) -> None:
        self.index.save(self.folder / "x.zdb")
        info = self.index.info()
        self.index = VectorDatabase().load(self.folder / "x.zdb")
        assert self.index.info() == info

    # -------------------------------------------------------------------------------------------- reads

    def _check_hits(
        self, hits: list[dict[str, Any]], query: np.ndarray, names: list[str], k: int, *, exact: bool = False
    ) -> None:
        """As many hits as there can be, all different, allowed and right in distance, the nearest first."""
        found = [hit["id"] for hit in hits]
        assert len(found) == len(set(found)) == min(k, len(names))
        assert set(found) <= set(names)
        for hit in hits:
            assert hit["metadata"] == self.model[hit["id"]].metadata
        if not names:
            return
        scores = [hit["score"] for hit in hits]
        assert scores == sorted(scores) and np.isfinite(scores).all()
        if self.is_trained and self.storage_mode == ONLY:
            return  # what codes of so few records can say of others is nearly nothing
        vectors = np.stack([self.model[name].vector for name in names])
        distances = oracle.distances(query, vectors, self.space)[0]
        true = dict(zip(names, distances, strict=True))
        # float32 sums of 6 values up to 9.
        np.testing.assert_allclose(scores, [true[name] for name in found], rtol=1e-5, atol=2e-6)
        if exact or self.is_exact:
            np.testing.assert_allclose(scores, np.sort(distances)[: len(found)], rtol=1e-5, atol=2e-6)
        else:
            # Codes chosen on a handful of records are coarse, and few candidates are compared exactly.
            slots = [names.index(name) for name in found]
            right = oracle.recall(query, vectors, self.space, k, [slots]) * len(found)
            assert round(right) >= len(found) // 2

    @precondition(lambda self: self.model)
    @rule(seed=_seeds, k=st.integers(1, 50), exact=st.booleans())
    def search(self, seed: int, k: int, exact: bool) -> None:
        (query,) = _vectors(seed, 1)
        # As wide as the index: with every record in reach of the walk, it must be exact.
        hits = self.index.search(query, top_k=k, exact=exact, ef_search=400)
        self._check_hits(hits, query, list(self.model), k, exact=exact)

    @precondition(lambda self: self.model)
    @rule(seed=_seeds, k=st.integers(1, 20), n=st.integers(0, 5), tag=st.none() | st.sampled_from("ab"))
    def search_filtered(self, seed: int, k: int, n: int, tag: str | None) -> None:
        (query,) = _vectors(seed, 1)
        filter: dict[str, Any] = {"n": {"gte": n}} if tag is None else {"n": {"gte": n}, "tag": tag}
        names = [
            name
            for name, record in self.model.items()
            if record.metadata.get("n", -1) >= n and tag in (None, record.metadata.get("tag"))
        ]
        self._check_hits(self.index.search(query, filter=filter, top_k=k, ef_search=400), query, names, k)
        assert self.index.count(filter) == len(names)
        assert [name for name, _ in self.index.list(number=1000, filter=filter)] == names

    @precondition(lambda self: self.model)
    @rule(seed=_seeds, names=st.lists(_ids, max_size=8))
    def search_among_ids(self, seed: int, names: list[str]) -> None:
        (query,) = _vectors(seed, 1)
        known = [name for name in dict.fromkeys(names) if name in self.model]
        self._check_hits(self.index.search(query, ids=names, top_k=5), query, known, 5)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), k=st.integers(1, 10))
    def search_by_id(self, data: st.DataObject, k: int) -> None:
        name = data.draw(st.sampled_from(list(self.model)))
        others = [other for other in self.model if other != name]
        self._check_hits(
            self.index.search(id=name, top_k=k, ef_search=400), self.model[name].vector, others, k
        )

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "model"):
            return
        assert len(self.index) == len(self.model)
        assert self.index.list(number=1000) == [(name, r.metadata) for name, r in self.model.items()]
        records = self.index.get_records(list(self.model), include=("text", "payload", "vector"))
        if self.index.has_quantization():
            self.is_trained = self.is_trained or len(self.model) >= TRAINING_SIZE
        assert self.index.is_quantized() == self.is_trained
        is_decoded = self.is_trained and self.storage_mode == ONLY
        for record, (name, known) in zip(records, self.model.items(), strict=True):
            assert record["id"] == name
            assert (record["text"], record["payload"]) == (known.text, known.payload)
            assert np.array_equal(record["vector"], known.vector) or is_decoded
            assert record["vector"].shape == (DIM,) and np.isfinite(record["vector"]).all()
        assert [name in self.index for name in IDS] == [name in self.model for name in IDS]


def _run(machine: type[RuleBasedStateMachine], examples: int) -> Callable[[], None]:
    case = machine.TestCase
    case.settings = settings(deadline=None, max_examples=examples, stateful_step_count=30)
    return case("runTest").runTest


def test_scanned_index_agrees_with_the_model() -> None:
    _run(IndexMachine, 40)()


@pytest.fixture
def graph_from_the_start(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A graph from 16 slots on, and walks in it: really that takes thousands of records."""
    monkeypatch.setattr(linking_module, "SMALLEST_GRAPH", 16)
    monkeypatch.setattr(planner_module, "_SCAN_START_NS", 1e12)
    yield


class GraphMachine(IndexMachine):
    """The same calls on a graph."""

    is_exact = False


@pytest.mark.usefixtures("graph_from_the_start")
def test_linked_index_agrees_with_the_model() -> None:
    _run(GraphMachine, 40)()


class QuantizedMachine(GraphMachine):
    """The same calls on an index that is quantized once it has a few records, and keeps its vectors."""

    storage_mode = RAW


class DecodedMachine(GraphMachine):
    """The same, and the vectors are dropped."""

    storage_mode = ONLY


@pytest.mark.usefixtures("graph_from_the_start")
@pytest.mark.parametrize("machine", [QuantizedMachine, DecodedMachine])
def test_quantized_index_agrees_with_the_model(
    machine: type[RuleBasedStateMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization_config, "LEAST_TRAINING_SIZE", TRAINING_SIZE)
    _run(machine, 30)()
