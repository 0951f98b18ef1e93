"""Exact nearest neighbours without compiled code: how a small index answers before any kernel is loaded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.metrics import Metric


def nearest(
    metric: Metric,
    query: NDArray[np.float32],
    pieces: Sequence[NDArray[np.float32]],
    norms: Sequence[NDArray[np.float32]] | None,
    k: int,
    slots: NDArray[np.integer] | None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the k nearest slots of one query and their distances, nearest first, ties by slot.

    Parameters
    ----------
    query : float32 (dim,), finite, not zero under cosine
    pieces : float32 (n_i, dim) arrays that follow one another, the originals of slots 0 .. n
    norms : float32 (n_i, 1) arrays alike, 1 / norm of each row or 0 where that leaves float32's range; under cosine
    k : >= 1
    slots : ascending slots that may be returned; None for all

    Returns
    -------
    slots : int64 (found,), found <= k
    distances : float32 (found,)
    """
    parts = [
        metric.distances(query, piece, None if norms is None else norms[i][:, 0])
        for i, piece in enumerate(pieces)
    ]
    distances = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if slots is not None:
        distances = distances[slots]
    if k < len(distances):
        # All that tie with the k-th stay in, so that the lower slot wins.
        limit = np.partition(distances, k - 1)[k - 1]
        chosen = np.flatnonzero(distances <= limit)
        order = chosen[np.argsort(distances[chosen], kind="stable")[:k]]
    else:
        order = np.argsort(distances, kind="stable")
    return (order if slots is None else slots[order].astype(np.int64)), distances[order]
