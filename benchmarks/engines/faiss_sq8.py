"""faiss: HNSW over 8-bit codes, the best 4k rescored with the float32 vectors."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engines.base import Call, Condition, Engine, Floats, Ids, Metadata
from benchmarks.settings import K

K_FACTOR = 4


class FaissSQ8(Engine):
    """``IndexRefineFlat(IndexHNSWSQ(QT_8bit))``, k_factor 4; inner product of unit vectors for cosine."""

    name = "faiss"
    title = "faiss HNSW-SQ8 + refine"
    package = "faiss-cpu"
    can_filter = True

    _index: Any
    _base: Any

    @classmethod
    def import_library(cls) -> Any:
        faiss = importlib.import_module("faiss")
        faiss.omp_set_num_threads(1)
        return faiss

    def build(self, vectors: Floats, capacity: int | None = None, metadata: Metadata | None = None) -> None:  # noqa: ARG002
        faiss = self.import_library()
        metric = {"cosine": faiss.METRIC_INNER_PRODUCT, "l2": faiss.METRIC_L2}[self.space]
        self._base = faiss.IndexHNSWSQ(self.dim, faiss.ScalarQuantizer.QT_8bit, self.m, metric)
        self._base.hnsw.efConstruction = self.ef_construction
        self._index = faiss.IndexRefineFlat(self._base)
        self._index.k_factor = K_FACTOR
        self._index.train(vectors)
        self._index.add(vectors)

    def add_one(self, row: int, vector: Floats) -> None:  # noqa: ARG002 - faiss counts by itself
        self._index.add(vector[None])

    def prepare(self, queries: Floats) -> list[Any]:
        return [np.ascontiguousarray(query[None]) for query in queries]

    def caller(self, mode: str, ef: int | None, condition: Condition | None = None) -> Call:  # noqa: ARG002
        if condition is None:
            if ef is not None:
                self._base.hnsw.efSearch = ef
            return partial(self._index.search, k=K)
        faiss = self.import_library()
        allowed = faiss.IDSelectorBitmap(np.packbits(condition.mask, bitorder="little"))
        walk = faiss.SearchParametersHNSW(
            sel=allowed, efSearch=ef if ef is not None else self._base.hnsw.efSearch
        )
        return partial(
            self._index.search,
            k=K,
            params=faiss.IndexRefineSearchParameters(k_factor=K_FACTOR, base_index_params=walk),
        )

    def ids(self, answer: Any) -> Ids:
        return np.asarray(answer[1][0], dtype=np.int64)

    def batch(self, queries: Floats, ef: int, threads: int) -> Any:
        self.import_library().omp_set_num_threads(threads)
        self._base.hnsw.efSearch = ef
        return self._index.search(queries, K)

    def batch_ids(self, answer: Any) -> Ids:
        return np.asarray(answer[1], dtype=np.int64)

    def save(self, path: Path) -> None:
        self.import_library().write_index(self._index, str(path))

    def load(self, path: Path) -> None:
        faiss = self.import_library()
        self._index = faiss.read_index(str(path))
        self._base = faiss.downcast_index(self._index.base_index)
