"""Exact nearest neighbours without compiled code: how a small index answers before any kernel is loaded."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.metrics import Metric


def nearest(
    metric: Metric,
    query: NDArray[np.float32],
    pieces: Iterable[NDArray[np.float32]],
    k: int,
    mask: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the k nearest slots of one query and their distances, nearest first, ties by slot.

    Parameters
    ----------
    query : float32 (dim,)
    pieces : float32 (n_i, dim) arrays that follow one another, the originals of slots 0 .. n
    k : >= 1
    mask : bool (n,), True = may be returned; None for all

    Returns
    -------
    slots : int64 (found,), found <= k
    distances : float32 (found,)
    """
    parts = [metric.distances(query, piece) for piece in pieces]
    distances = parts[0] if len(parts) == 1 else np.concatenate(parts)
    slots: NDArray[np.int64] | None = None
    if mask is not None:
        slots = np.flatnonzero(mask)
        distances = distances[slots]
    if k < len(distances):
        # All that tie with the k-th stay in, so that the lower slot wins.
        limit = np.partition(distances, k - 1)[k - 1]
        chosen = np.flatnonzero(distances <= limit)
    else:
        chosen = np.arange(len(distances))
    order = chosen[np.argsort(distances[chosen], kind="stable")[:k]]
    return (order if slots is None else slots[order]), distances[order]
