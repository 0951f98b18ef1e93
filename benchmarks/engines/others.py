"""Peers that are measured where they happen to be installed."""

from __future__ import annotations

import importlib
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engines.base import Call, Condition, Engine, Floats, Ids, Metadata
from benchmarks.settings import K


class USearch(Engine):
    """usearch: HNSW over float32 vectors."""

    name = "usearch"
    title = "usearch f32"
    package = "usearch"

    _index: Any

    @classmethod
    def import_library(cls) -> Any:
        return importlib.import_module("usearch.index")

    def _new(self) -> Any:
        return self.import_library().Index(
            ndim=self.dim,
            metric={"cosine": "ip", "l2": "l2sq"}[self.space],
            dtype="f32",
            connectivity=self.m,
            expansion_add=self.ef_construction,
        )

    def build(self, vectors: Floats, capacity: int | None = None, metadata: Metadata | None = None) -> None:  # noqa: ARG002
        self._index = self._new()
        self._index.add(np.arange(len(vectors)), vectors, threads=1)

    def add_one(self, row: int, vector: Floats) -> None:
        self._index.add(row, vector, threads=1)

    def caller(self, mode: str, ef: int | None, condition: Condition | None = None) -> Call:  # noqa: ARG002
        if ef is not None:
            self._index.expansion_search = ef
        return partial(self._index.search, count=K, threads=1)

    def ids(self, answer: Any) -> Ids:
        return np.asarray(answer.keys, dtype=np.int64)

    def batch(self, queries: Floats, ef: int, threads: int) -> Any:
        self._index.expansion_search = ef
        return self._index.search(queries, count=K, threads=threads)

    def batch_ids(self, answer: Any) -> Ids:
        return np.asarray(answer.keys, dtype=np.int64)

    def save(self, path: Path) -> None:
        self._index.save(str(path))

    def load(self, path: Path) -> None:
        self._index = self._new()
        self._index.load(str(path))


class ScaNN(Engine):
    """ScaNN: a tree of sqrt(n) leaves, 4-bit codes, the best 100 rescored exactly.

    It has no ef: the number that the sweep moves is the leaves searched.
    """

    name = "scann"
    title = "ScaNN"
    package = "scann"
    can_add = False

    _index: Any

    @classmethod
    def import_library(cls) -> Any:
        return importlib.import_module("scann.scann_ops.py.scann_ops_pybind")

    def build(self, vectors: Floats, capacity: int | None = None, metadata: Metadata | None = None) -> None:  # noqa: ARG002
        distance = {"cosine": "dot_product", "l2": "squared_l2"}[self.space]
        leaves = int(math.sqrt(len(vectors)))
        builder = self.import_library().builder(vectors, K, distance)
        builder = builder.tree(num_leaves=leaves, num_leaves_to_search=10, training_sample_size=len(vectors))
        threshold = 0.2 if self.space == "cosine" else float("nan")
        builder = builder.score_ah(2, anisotropic_quantization_threshold=threshold).reorder(100)
        self._index = builder.set_n_training_threads(1).build()

    def caller(self, mode: str, ef: int | None, condition: Condition | None = None) -> Call:  # noqa: ARG002
        effort = {} if ef is None else {"leaves_to_search": ef}
        return partial(self._index.search, final_num_neighbors=K, **effort)

    def ids(self, answer: Any) -> Ids:
        return np.asarray(answer[0], dtype=np.int64)

    def batch(self, queries: Floats, ef: int, threads: int) -> Any:
        self._index.set_num_threads(threads)
        return self._index.search_batched_parallel(queries, final_num_neighbors=K, leaves_to_search=ef)

    def batch_ids(self, answer: Any) -> Ids:
        return np.asarray(answer[0], dtype=np.int64)

    def save(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        self._index.serialize(str(path))

    def load(self, path: Path) -> None:
        self._index = self.import_library().load_searcher(str(path))
