"""Exact answers by NumPy, and recall measured against them. Imports nothing of any engine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.settings import K

Floats = NDArray[np.float32]
Distances = NDArray[np.float64]
Ids = NDArray[np.int64]

_QUERY_BLOCK = 64
# float32 BLAS only preselects: this many beyond k are scored again in float64, so its rounding costs nothing.
_MARGIN = 40
# Two rows whose distances differ by less than this are a tie, and either is a right answer. Engines score in
# float32, whose rounding over 1,536 products of unit vectors is of the order of 1e-6.
_TIE = 2e-6


def exact_distances(vectors: Floats, rows: Ids, query: Floats, space: str) -> Distances:
    """float64 distances of `query` to ``vectors[rows]``: 1 - cos of unit vectors, or Euclidean."""
    chosen = vectors[rows].astype(np.float64)
    wide = query.astype(np.float64)
    if space == "cosine":
        return np.asarray(1.0 - chosen @ wide, dtype=np.float64)
    return np.asarray(np.sqrt(np.square(chosen - wide).sum(axis=-1)), dtype=np.float64)


def exact_neighbors(
    vectors: Floats, queries: Floats, space: str, k: int = K, mask: NDArray[np.bool_] | None = None
) -> tuple[Ids, Distances]:
    """The k nearest rows of each query among those that `mask` lets through.

    Returns
    -------
    ids : int64 (q, k), padded with -1 where fewer than k rows match
    distances : float64 (q, k), padded with inf, nearest first
    """
    rows = np.arange(len(vectors)) if mask is None else np.flatnonzero(mask)
    pool = vectors if mask is None else vectors[rows]
    ids = np.full((len(queries), k), -1, dtype=np.int64)
    distances = np.full((len(queries), k), np.inf)
    if not len(rows):
        return ids, distances
    half_norms = (
        0.5 * np.einsum("ij,ij->i", pool, pool) if space == "l2" else np.zeros(len(pool), dtype=np.float32)
    )
    keep = min(len(rows), k + _MARGIN)
    for start in range(0, len(queries), _QUERY_BLOCK):
        block = queries[start : start + _QUERY_BLOCK]
        rough = half_norms - block @ pool.T
        nearest = np.argpartition(rough, keep - 1, axis=1)[:, :keep]
        for offset, candidates in enumerate(nearest):
            exact = exact_distances(pool, candidates, block[offset], space)
            order = np.argsort(exact, kind="stable")[:k]
            ids[start + offset, : len(order)] = rows[candidates[order]]
            distances[start + offset, : len(order)] = exact[order]
    return ids, distances


def recall_per_query(
    found: Ids, vectors: Floats, queries: Floats, space: str, true_distances: Distances
) -> Distances:
    """recall@k of each query: found and true over true, ties allowed, each row counted once.

    Parameters
    ----------
    found : int64 (q, k); -1 where an engine returned nothing
    true_distances : float64 (q, k) from `exact_neighbors`; inf where fewer than k rows match
    """
    recalls = np.ones(len(found))
    for i, row in enumerate(found):
        wanted = int(np.isfinite(true_distances[i]).sum())
        if wanted == 0:
            continue
        returned = np.unique(row[row >= 0])
        kth = true_distances[i, wanted - 1]
        distances = exact_distances(vectors, returned, queries[i], space)
        right = int((distances <= kth + _TIE * max(1.0, abs(kth))).sum())
        recalls[i] = min(right, wanted) / wanted
    return recalls


def recall(found: Ids, vectors: Floats, queries: Floats, space: str, true_distances: Distances) -> float:
    """Mean of `recall_per_query`."""
    return float(recall_per_query(found, vectors, queries, space, true_distances).mean())
