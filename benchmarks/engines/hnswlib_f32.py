"""hnswlib: HNSW over float32 vectors."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engines.base import Call, Condition, Engine, Floats, Ids, Metadata
from benchmarks.settings import SEED, K


class HNSWLib(Engine):
    """Inner product of unit vectors stands for cosine: it saves the normalising of its own cosine space."""

    name = "hnswlib"
    title = "hnswlib"
    package = "hnswlib"
    can_filter = True

    _index: Any

    @classmethod
    def import_library(cls) -> Any:
        return importlib.import_module("hnswlib")

    def _new(self) -> Any:
        space = {"cosine": "ip", "l2": "l2"}[self.space]
        index = self.import_library().Index(space=space, dim=self.dim)
        index.set_num_threads(1)
        return index

    def build(self, vectors: Floats, capacity: int | None = None, metadata: Metadata | None = None) -> None:  # noqa: ARG002
        self._index = self._new()
        self._index.init_index(
            max_elements=capacity or len(vectors),
            ef_construction=self.ef_construction,
            M=self.m,
            random_seed=SEED % 2**31,
        )
        self._index.add_items(vectors, np.arange(len(vectors)), num_threads=1)

    def add_one(self, row: int, vector: Floats) -> None:
        self._index.add_items(vector, row, num_threads=1)

    def caller(self, mode: str, ef: int | None, condition: Condition | None = None) -> Call:  # noqa: ARG002
        if ef is not None:
            self._index.set_ef(ef)
        if condition is None:
            return partial(self._index.knn_query, k=K, num_threads=1)
        # It raises when there are fewer than k, so it is asked for no more than match.
        query = partial(self._index.knn_query, k=min(K, condition.matches), num_threads=1)
        # list.__getitem__ is the cheapest callback Python has: no frame is made for it.
        query = partial(query, filter=condition.mask.tolist().__getitem__)

        def filtered(vector: Any) -> Any:
            try:
                return query(vector)
            except RuntimeError:  # found fewer than k
                return None

        return filtered

    def ids(self, answer: Any) -> Ids:
        if answer is None:
            return np.empty(0, dtype=np.int64)
        return np.asarray(answer[0][0], dtype=np.int64)

    def batch(self, queries: Floats, ef: int, threads: int) -> Any:
        self._index.set_ef(ef)
        return self._index.knn_query(queries, k=K, num_threads=threads)

    def batch_ids(self, answer: Any) -> Ids:
        return np.asarray(answer[0], dtype=np.int64)

    def save(self, path: Path) -> None:
        self._index.save_index(str(path))

    def load(self, path: Path) -> None:
        self._index = self._new()
        self._index.load_index(str(path))
