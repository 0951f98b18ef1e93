"""Distances as relevance in [0, 1], and maximal marginal relevance."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def _of_cosine(distance: float) -> float:
    return min(1.0, max(0.0, 1.0 - distance / 2.0))


def _of_length(distance: float) -> float:
    return 1.0 / (1.0 + max(0.0, distance))


def _of_dot(distance: float) -> float:
    product = 1.0 - distance
    # Written so that the exponential never overflows.
    if product >= 0:
        return 1.0 / (1.0 + math.exp(-product))
    power = math.exp(product)
    return power / (1.0 + power)


RELEVANCE: dict[str, Callable[[float], float]] = {
    "cosine": _of_cosine,
    "l2": _of_length,
    "l1": _of_length,
    "dot": _of_dot,
}
"""By space: falling in the distance and never outside [0, 1]. Cosine 1 - d/2, lengths 1/(1+d), dot logistic."""


def choose_diverse(
    query: NDArray[np.float32], vectors: NDArray[np.float32], k: int, lambda_mult: float
) -> tuple[list[int], list[float]]:
    """Pick rows by maximal marginal relevance, as langchain-core defines it.

    Each pick is the row with the largest ``lambda * sim(query) - (1 - lambda) * max sim(picked)``, of equal ones
    the first; similarity is the cosine in every space. The largest similarity to what is picked is kept and
    raised after each pick, so that the whole costs k products of a matrix and a vector.

    Parameters
    ----------
    query : ndarray of float32, shape (dim,)
    vectors : ndarray of float32, shape (n, dim)
    k : int
        Rows wanted; at most n are picked.
    lambda_mult : float
        From 0 (most diverse) to 1 (nearest).

    Returns
    -------
    rows : list of int
        In the order of picking.
    scores : list of float
        The value each was picked for; of the first, its similarity to the query.
    """
    count = min(k, len(vectors))
    if count <= 0:
        return [], []
    # In float64, like core's: in float32 near ties would be decided by rounding.
    units = _normalised(vectors.astype(np.float64))
    to_query = units @ _normalised(query.astype(np.float64)[np.newaxis])[0]
    weighted = lambda_mult * to_query
    picked = [int(np.argmax(to_query))]
    scores = [float(to_query[picked[0]])]
    nearest = np.full(len(units), -np.inf)
    taken = np.zeros(len(units), bool)
    while len(picked) < count:
        last = picked[-1]
        taken[last] = True
        np.maximum(nearest, units @ units[last], out=nearest)
        value = weighted - (1.0 - lambda_mult) * nearest
        value[taken] = -np.inf
        best = int(np.argmax(value))
        picked.append(best)
        scores.append(float(value[best]))
    return picked, scores


def _normalised(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows of length 1; a row of zeros stays, and is similar to nothing."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    lengths[lengths == 0] = 1.0
    normalised: NDArray[np.float64] = rows / lengths[:, np.newaxis]
    return normalised
