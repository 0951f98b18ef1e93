"""Any sequence of calls, checkpoints, crashes and reopenings, against a dict.

A crash is a copy of the directory as it stands, taken between two calls or at any operation on the disk
within one, and opened in place of the original.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from durability.common import rows
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from zeusdb_vs import HNSWIndex, VectorDatabase, quantization_config
from zeusdb_vs import linking as linking_module
from zeusdb_vs.storage import fsio

DIM = 4
_ids = st.lists(st.sampled_from([f"r{i}" for i in range(25)]), min_size=1, max_size=6, unique=True)
_seeds = st.integers(0, 10_000)
_metadata = st.none() | st.fixed_dictionaries(
    {}, optional={"n": st.integers(0, 5), "tag": st.sampled_from("ab")}
)
TRAINING_SIZE, USUAL_TRAINING_SIZE = 9, quantization_config.LEAST_TRAINING_SIZE
Model = dict[str, tuple[bytes, dict[str, Any], str | None, Any]]


class _Crash(BaseException):
    """The disk stands still from here on."""


class CrashMachine(RuleBasedStateMachine):
    """Applies each call to an opened index and to a dict."""

    index: HNSWIndex
    smallest_graph = linking_module.SMALLEST_GRAPH
    quantization: dict[str, Any] | None = None

    def _kept(self, vector: np.ndarray) -> bytes:
        """What an index gives back of a vector."""
        is_dropped = self.quantization is not None and self.quantization["storage_mode"] == "quantized_only"
        return b"" if is_dropped else vector.tobytes()

    @initialize(space=st.sampled_from(("cosine", "l2")), durability=st.sampled_from(("always", "never")))
    def start(self, space: str, durability: Any) -> None:
        self.usual = linking_module.SMALLEST_GRAPH
        linking_module.SMALLEST_GRAPH = self.smallest_graph
        quantization_config.LEAST_TRAINING_SIZE = TRAINING_SIZE
        memory = Path("/dev/shm")
        place = memory if os.access(memory, os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="zeusdb-vs-test-", dir=place))
        self.options: dict[str, Any] = {"durability": durability, "lock_timeout_s": 0}
        self.path = self.folder / "0"
        self.number = 0
        self.index = VectorDatabase().open(
            self.path, dim=DIM, space=space, quantization_config=self.quantization, **self.options
        )
        self.model: Model = {}
        self.metadata: dict[str, Any] = {}

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            linking_module.SMALLEST_GRAPH = self.usual
            quantization_config.LEAST_TRAINING_SIZE = USUAL_TRAINING_SIZE
            self.index.close()
            shutil.rmtree(self.folder)

    # ------------------------------------------------------------------------------------------ calls

    @rule(ids=_ids, seed=_seeds, metadata=_metadata, text=st.none() | st.text(max_size=5))
    def add(self, ids: list[str], seed: int, metadata: Any, text: str | None) -> None:
        try:
            (text or "").encode()
        except UnicodeEncodeError:
            text = None
        vectors = rows(seed, len(ids), DIM)
        count = len(ids)
        self._do(
            lambda: self.index.add(
                {"ids": ids, "vectors": vectors, "metadatas": [metadata] * count, "texts": [text] * count}
            ),
            lambda: self._add_to_model(ids, vectors, metadata, text),
        )

    def _add_to_model(self, ids: list[str], vectors: np.ndarray, metadata: Any, text: str | None) -> None:
        for row, record_id in enumerate(ids):
            self.model.pop(record_id, None)
            self.model[record_id] = (self._kept(vectors[row]), metadata or {}, text, None)

    @rule(ids=_ids)
    def remove(self, ids: list[str]) -> None:
        self._do(
            lambda: self.index.remove_points(ids),
            lambda: [self.model.pop(record_id, None) for record_id in ids],
        )

    @rule(ids=_ids, value=st.integers(0, 9))
    def update(self, ids: list[str], value: int) -> None:
        def change() -> None:
            if ids[0] in self.model:
                vector, _, text, payload = self.model[ids[0]]
                self.model[ids[0]] = (vector, {"n": value}, text, payload)

        self._do(lambda: self.index.update_metadata(ids[0], {"n": value}), change)

    @rule(ids=_ids, value=st.integers(0, 9))
    def update_payloads(self, ids: list[str], value: int) -> None:
        def change() -> None:
            for record_id in ids:
                if record_id in self.model:
                    vector, metadata, text, payload = self.model[record_id]
                    self.model[record_id] = (vector, metadata, text, {**(payload or {}), "p": value})

        self._do(lambda: self.index.update_payload(ids, {"p": value}), change)

    @rule(value=st.integers(0, 9))
    def set_index_metadata(self, value: int) -> None:
        self._do(lambda: self.index.add_metadata({"v": value}), lambda: self.metadata.update(v=value))

    @rule()
    def clear(self) -> None:
        self._do(lambda: self.index.clear(), lambda: self.model.clear())

    @rule()
    def compact(self) -> None:
        self.index.compact()

    @rule()
    def checkpoint(self) -> None:
        self._do(lambda: self.index.save(), lambda: None)

    def _do(self, call: Callable[[], object], change: Callable[[], object]) -> None:
        call()
        change()

    # ------------------------------------------------------------------------------------------ crashes

    @rule()
    def close_and_open(self) -> None:
        self.index.close()
        self.index = VectorDatabase().open(self.path, **self.options)

    @rule()
    def crash(self) -> None:
        self._continue_from_copy(self.path)

    @rule(
        at=st.integers(0, 40),
        call=st.sampled_from(("save", "add", "open")),
        ids=_ids,
        seed=_seeds,
    )
    def crash_within(self, at: int, call: str, ids: list[str], seed: int) -> None:
        """Stand still at the `at`-th operation on the disk of a call; it may have happened, or not."""
        self.number += 1
        snapshot = self.folder / f"{self.number}-crash"
        count = 0

        def observe(operation: str, *_: object) -> None:
            nonlocal count
            if count == at:
                shutil.copytree(self.path, snapshot)
            count += 1

        before = dict(self.model)
        vectors = rows(seed, len(ids), DIM)
        with fsio.observe(observe):
            if call == "save":
                self.index.save()
            elif call == "add":
                self.index.add({"ids": ids, "vectors": vectors})
                self._add_to_model(ids, vectors, None, None)
            else:
                self.index.close()
                self.index = VectorDatabase().open(self.path, **self.options)
        if not snapshot.exists():
            return
        after = self.model
        self._continue_from_copy(snapshot)
        found = self._found()
        assert found in (before, after)
        self.model = found

    def _continue_from_copy(self, source: Path) -> None:
        self.number += 1
        copy = self.folder / str(self.number)
        shutil.copytree(source, copy)
        self.index.close()
        self.path = copy
        self.index = VectorDatabase().open(copy, **self.options)

    # ------------------------------------------------------------------------------------------ comparing

    def _found(self) -> Model:
        names = [name for name, _ in self.index.list(number=10**6)]
        records = self.index.get_records(names, include=("vector", "metadata", "text", "payload"))
        return {r["id"]: (self._kept(r["vector"]), r["metadata"], r["text"], r["payload"]) for r in records}

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        found = self._found()
        assert found == self.model
        assert list(found) == list(self.model)
        assert self.index.get_all_metadata() == self.metadata
        assert self.index.count({"n": {"$lte": 3}}) == sum(
            1 for _, metadata, _, _ in self.model.values() if metadata.get("n", 9) <= 3
        )


class LinkedCrashMachine(CrashMachine):
    """The same with a graph from the first records on."""

    smallest_graph = 8


class QuantizedCrashMachine(LinkedCrashMachine):
    """The same, with a quantizer that is trained in between."""

    quantization: ClassVar = {
        "type": "pq", "subvectors": 2, "storage_mode": "quantized_with_raw", "training_size": TRAINING_SIZE
    }  # fmt: skip


class DecodedCrashMachine(LinkedCrashMachine):
    """The same, with vectors that are dropped then."""

    quantization: ClassVar = {
        "type": "int8",
        "storage_mode": "quantized_only",
        "training_size": TRAINING_SIZE,
    }


_EXAMPLES = int(os.environ.get("ZEUSDB_VS_CRASH_WALKS", "60"))
TestCrashes = CrashMachine.TestCase
TestCrashes.settings = settings(max_examples=_EXAMPLES, stateful_step_count=30)
TestCrashesWithGraph = LinkedCrashMachine.TestCase
TestCrashesWithGraph.settings = settings(max_examples=max(4, _EXAMPLES // 4), stateful_step_count=30)
TestCrashesWithQuantizer = QuantizedCrashMachine.TestCase
TestCrashesWithQuantizer.settings = settings(max_examples=max(4, _EXAMPLES // 4), stateful_step_count=30)
TestCrashesWithCodesOnly = DecodedCrashMachine.TestCase
TestCrashesWithCodesOnly.settings = settings(max_examples=max(4, _EXAMPLES // 4), stateful_step_count=30)
