"""The two libraries with ZeusDB's API: ours, and the original that it took it from."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engines.base import Call, Condition, Engine, Floats, Ids, Metadata
from benchmarks.settings import K

# Both number the rows of a plain array from vec_1.
_PREFIX = "vec_"
# Enough rows for our index to build a graph, so that building and walking one is compiled too.
_WARM_UP_ROWS = 4_500


def _id(row: int) -> str:
    return f"{_PREFIX}{row + 1}"


def _row(record_id: str) -> int:
    return int(record_id[len(_PREFIX) :]) - 1


class ZeusDBStyle(Engine):
    """What the two have in common."""

    can_filter = True
    stores_metadata = True

    _index: Any

    def _create(self, rows: int, fields: list[str]) -> Any:
        return (
            self.import_library()
            .VectorDatabase()
            .create(
                "hnsw",
                dim=self.dim,
                space=self.space,
                m=self.m,
                ef_construction=self.ef_construction,
                expected_size=rows,
                **self._declare(fields),
            )
        )

    def _declare(self, fields: list[str]) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def build(self, vectors: Floats, capacity: int | None = None, metadata: Metadata | None = None) -> None:
        index = self._create(capacity or len(vectors), sorted(metadata[0]) if metadata else [])
        if metadata is None:
            outcome = index.add(vectors)
        else:
            ids = [_id(row) for row in range(len(vectors))]
            outcome = index.add({"ids": ids, "vectors": vectors, "metadatas": list(metadata)})
        if not outcome.is_success():
            raise RuntimeError(f"{self.title}: {outcome.summary()}: {outcome.errors[:1]}")
        self._index = index

    def add_one(self, row: int, vector: Floats) -> None:
        self._index.add({"id": _id(row), "values": vector})

    def add_bulk(self, first_row: int, vectors: Floats) -> None:
        ids = [_id(row) for row in range(first_row, first_row + len(vectors))]
        self._index.add({"ids": ids, "vectors": vectors})

    def caller(self, mode: str, ef: int | None, condition: Condition | None = None) -> Call:
        options: dict[str, Any] = {"top_k": K}
        if ef is not None:
            options["ef_search"] = ef
        if condition is not None:
            options["filter"] = condition.filter
        return self._bind(mode, options)

    def _bind(self, mode: str, options: dict[str, Any]) -> Call:  # noqa: ARG002
        return partial(self._index.search, **options)

    def ids(self, answer: Any) -> Ids:
        return np.array([_row(hit["id"]) for hit in answer], dtype=np.int64)

    def save(self, path: Path) -> None:
        self._index.save(str(path))

    def load(self, path: Path) -> None:
        self._index = self.import_library().VectorDatabase().load(str(path))


class ZeusDBVS(ZeusDBStyle):
    """Ours.

    Modes: `search` as it comes (dicts with id, score and metadata), `search_ids` (dicts of id and score
    only), `search_arrays` (NumPy arrays).
    """

    name = "zeusdb-vs"
    title = "zeusdb-vs"
    package = "zeusdb-vs"
    modes = ("search", "search_arrays")
    whole_modes = ("search_arrays",)
    has_useful_default = True

    @classmethod
    def import_library(cls) -> Any:
        library = importlib.import_module("zeusdb_vs")
        library.VectorDatabase  # noqa: B018 - public names load when first asked for
        return library

    def warm_up(self, vectors: Floats) -> None:
        sample = vectors[:_WARM_UP_ROWS]
        self.build(sample)
        for mode in ("search", "search_ids", "search_arrays"):
            call = self.caller(mode, 64)
            for query in self.prepare(sample[:20]):
                call(query)
        self._index.search(sample[0], top_k=1, ef_search=1)  # a walk: small indexes are scanned
        self.add_one(len(sample), sample[0])
        del self._index

    def _bind(self, mode: str, options: dict[str, Any]) -> Call:
        if mode == "search_arrays":
            return partial(self._index.search_arrays, **options)
        if mode == "search_ids":
            return partial(self._index.search, include=(), **options)
        return super()._bind(mode, options)

    def ids(self, answer: Any) -> Ids:
        if isinstance(answer, tuple):
            record_ids = np.ravel(answer[0])
            return np.array([_row(each) for each in record_ids if each is not None], dtype=np.int64)
        return super().ids(answer)

    def batch(self, queries: Floats, ef: int, threads: int) -> Any:
        importlib.import_module("zeusdb_vs.threads").set_num_threads(threads)
        return self._index.search_arrays(queries, top_k=K, ef_search=ef)

    def batch_ids(self, answer: Any) -> Ids:
        return np.array(
            [[-1 if each is None else _row(each) for each in row] for row in answer[0]], dtype=np.int64
        )

    def count(self, condition: dict[str, Any]) -> int:
        return int(self._index.count(condition))

    def memory_bytes(self) -> dict[str, int]:
        return dict(self._index.get_stats()["memory_bytes"])

    def explain(self, query: Any, condition: Condition) -> str | None:
        hits = self._index.search(query, top_k=K, filter=condition.filter, explain=True)
        how = hits.explanation
        return f"{how.path}, {how.distances or 0:,} distances"


class OriginalZeusDB(ZeusDBStyle):
    """The Rust original. Fields are declared at creation: undeclared ones cost it 20-40 ms a query.

    Its builds take the longest, so by itself it joins where it is a rival only: in filters and in quantization.
    """

    name = "zeusdb-original"
    title = "ZeusDB 0.13 (Rust)"
    package = "zeusdb-vector-database"
    can_batch = False
    sections = ("filter", "quantization")

    @classmethod
    def import_library(cls) -> Any:
        return importlib.import_module("zeusdb_vector_database")

    def _declare(self, fields: list[str]) -> dict[str, Any]:
        return {"indexed_fields": fields} if fields else {}
