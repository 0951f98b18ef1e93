"""Exact nearest neighbours without compiled code: how a small index answers before any kernel is loaded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.metrics import Metric

_ROUNDING = 1e-6
"""What float32 may get wrong in 1 minus a product, relative to the product."""


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
    norms : float32 (n_i,) arrays alike, 1 / norm of each row, none of them 0; None but for cosine
    k : >= 1
    slots : ascending slots that may be returned; None for all

    Returns
    -------
    slots : int64 (found,), found <= k
    distances : float32 (found,)
    """
    parts = [
        metric.distances(query, piece, None if norms is None else norms[i]) for i, piece in enumerate(pieces)
    ]
    distances = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if slots is not None:
        distances = distances[slots]
    if k < len(distances):
        # All that tie with the k-th stay in, up to what rounding hides: the order among them is settled below.
        limit = np.partition(distances, k - 1)[k - 1]
        chosen = np.flatnonzero(distances <= limit + _ROUNDING * max(1.0, abs(1 - float(limit))))
    else:
        chosen = np.arange(len(distances))
    found = chosen if slots is None else slots[chosen].astype(np.int64)
    near = metric.refined(query, lambda few: _rows(pieces, found[few]), distances[chosen])
    order = np.argsort(near, kind="stable")[:k]
    return found[order], near[order]


def _rows(pieces: Sequence[NDArray[np.float32]], slots: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the rows of a few slots."""
    if len(pieces) == 1:
        return pieces[0][slots]
    size = len(pieces[0])  # all but the last are of one size
    return np.stack([pieces[slot // size][slot % size] for slot in slots.tolist()])
