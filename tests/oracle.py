"""Plain NumPy answers to check the engine against. Imports nothing of zeusdb_vs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SPACES = ("cosine", "l2", "l1", "dot")


def distances(queries: NDArray, vectors: NDArray, space: str) -> NDArray[np.float64]:
    """Exact distances in float64, shape (q, n): cosine 1 - cos, l2 Euclidean, l1, dot 1 - inner product."""
    q = np.atleast_2d(np.asarray(queries, np.float64))
    x = np.atleast_2d(np.asarray(vectors, np.float64))
    if space == "l2":
        return np.sqrt(np.stack([((x - row) ** 2).sum(axis=1) for row in q]))
    if space == "l1":
        return np.stack([np.abs(x - row).sum(axis=1) for row in q])
    if space == "dot":
        return 1.0 - q @ x.T
    if space == "cosine":
        # Scaled by the largest value first, so that no square leaves float64's range.
        q = q / np.abs(q).max(axis=1, keepdims=True)
        x = x / np.abs(x).max(axis=1, keepdims=True)
        q /= np.linalg.norm(q, axis=1, keepdims=True)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return 1.0 - q @ x.T
    raise ValueError(f"no such space: {space}")


def top_k(
    queries: NDArray, vectors: NDArray, space: str, k: int, mask: NDArray[np.bool_] | None = None
) -> tuple[list[NDArray[np.int64]], list[NDArray[np.float64]]]:
    """The k nearest rows of each query among those of the mask, nearest first, ties by row number."""
    rows, found = [], []
    allowed = np.arange(len(vectors)) if mask is None else np.flatnonzero(mask)
    for row in distances(queries, vectors, space)[:, allowed]:
        order = np.argsort(row, kind="stable")[:k]
        rows.append(allowed[order])
        found.append(row[order])
    return rows, found


def recall(
    queries: NDArray,
    vectors: NDArray,
    space: str,
    k: int,
    found: Sequence[Sequence[int]],
    mask: NDArray[np.bool_] | None = None,
    tie: float = 1e-6,
) -> float:
    """Mean recall@k. A row counts as found when it is no farther than the k-th nearest, within `tie`."""
    all_distances = distances(queries, vectors, space)
    allowed = np.ones(len(vectors), bool) if mask is None else mask
    shares = []
    for row, slots in zip(all_distances, found, strict=True):
        assert len(set(slots)) == len(slots), "a row was returned twice"
        wanted = min(k, int(allowed.sum()))
        if wanted == 0:
            continue
        limit = np.sort(row[allowed])[wanted - 1]
        limit += tie * max(1.0, abs(limit))
        shares.append(sum(bool(allowed[s]) and row[s] <= limit for s in list(slots)[:k]) / wanted)
    return float(np.mean(shares)) if shares else 1.0
