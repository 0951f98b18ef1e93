"""What the tests of durability share: an index with a bit of everything, and all that users can see of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zeusdb_vs import HNSWIndex, VectorDatabase

DIM = 8
PARTS = ("metadata", "text", "payload", "vector")


def rows(seed: int, count: int, dim: int = DIM) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def columns(seed: int, ids: list[str], dim: int = DIM) -> dict[str, Any]:
    """Records of every kind: with and without metadata, text and payload."""
    return {
        "ids": ids,
        "vectors": rows(seed, len(ids), dim),
        "metadatas": [
            {"n": i, "kind": "abc"[i % 3], "tags": ["x", i % 2]} if i % 4 else None for i in range(len(ids))
        ],
        "texts": [f"text {i} \u2028 ζ" if i % 3 else None for i in range(len(ids))],
        "payloads": [{"p": i, "deep": {"q": [i]}} if i % 5 == 0 else None for i in range(len(ids))],
    }


def change_in_every_way(index: HNSWIndex, seed: int = 0) -> None:
    """Add, replace, update and remove; needs an empty index."""
    dim = index.dim
    index.add(columns(seed, [f"r{i}" for i in range(60)], dim))
    index.add(rows(seed + 1, 5, dim))
    index.remove_points(["r1", "r2", "vec_1"])
    index.update_metadata("r3", {"n": -3})
    index.update_metadata(where={"kind": "b"}, metadata={"seen": True}, merge=True)
    index.update_payload(["r4", "r5"], {"p": "new"})
    index.add({"id": "r6", "vector": rows(seed + 2, 1, dim)[0], "text": "again"})
    index.delete(where={"n": {"$gte": 50}})
    index.add_metadata({"owner": "tests", "version": [1, 2]})


def everything(index: HNSWIndex) -> dict[str, Any]:
    """All that users can see of an index, in comparable form."""
    queries = rows(99, 4, index.dim)
    names = [name for name, _ in index.list(number=10**7)]
    records = index.get_records(names, include=PARTS)
    for record in records:
        record["vector"] = record["vector"].tobytes()
    return {
        "options": (index.dim, index.space, index.m, index.ef_construction, index.indexed_fields),
        "metadata": index.get_all_metadata(),
        "records": records,
        "nearest": [[hit["id"] for hit in hits] for hits in index.search(queries, top_k=7, exact=True)],
        "matching": [hit["id"] for hit in index.search(queries[0], filter={"kind": "b"}, top_k=100)],
        "counts": (len(index), index.count({"seen": True}), index.count({"n": {"$lt": 20}})),
        "fields": index.fields(),
        "values": index.distinct("n"),
    }


def reopened(path: Path, **options: Any) -> dict[str, Any]:
    """What a reader finds in a directory."""
    with VectorDatabase().open(path, read_only=True, **options) as index:
        return everything(index)
