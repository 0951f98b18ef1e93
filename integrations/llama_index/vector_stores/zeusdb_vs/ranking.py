"""Similarities as LlamaIndex wants them, higher is nearer; and maximal marginal relevance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def similarities_of(distances: Sequence[float], space: str) -> list[float]:
    """Return the similarity for each distance of a space, as Python floats.

    Parameters
    ----------
    distances : sequence of float
        Smaller is nearer, as the engine gives them.
    space : {"cosine", "dot", "l2", "l1"}

    Returns
    -------
    list of float
        The cosine in [-1, 1]; the dot product; for the others ``1 / (1 + distance)`` in (0, 1].
    """
    if space == "cosine":
        return [min(1.0, max(-1.0, 1.0 - distance)) for distance in distances]
    if space == "dot":
        return [1.0 - distance for distance in distances]
    return [1.0 / (1.0 + max(0.0, distance)) for distance in distances]


def mmr(
    candidates: Sequence[Mapping[str, Any]],
    top_k: int,
    threshold: float,
    space: str,
) -> list[int]:
    """Choose candidates that are similar to the query and unlike each other (Carbonell and Goldstein, 1998).

    Each step takes the one with the highest ``threshold * similarity to the query - (1 - threshold) * highest
    similarity to those taken``; the first taken is the most similar.

    Parameters
    ----------
    candidates : sequence of hits
        Most similar first, each with its ``score`` and ``vector``.
    top_k : int
    threshold : float
        From 0, diversity alone, to 1, similarity alone.
    space : str

    Returns
    -------
    list of int
        Positions among the candidates, in the order chosen, at most `top_k`.
    """
    count = min(top_k, len(candidates))
    if count <= 0:
        return []
    vectors = np.stack([hit["vector"] for hit in candidates]).astype(np.float64)
    relevance = np.array(similarities_of([hit["score"] for hit in candidates], space))
    if space == "cosine":
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chosen = [0]
    overlap = _similarities_to(vectors, vectors[0], space)
    while len(chosen) < count:
        scores = threshold * relevance - (1.0 - threshold) * overlap
        scores[chosen] = -np.inf
        best = int(scores.argmax())
        chosen.append(best)
        overlap = np.maximum(overlap, _similarities_to(vectors, vectors[best], space))
    return chosen


def _similarities_to(vectors: Floats, one: Floats, space: str) -> Floats:
    if space in ("cosine", "dot"):
        products: Floats = vectors @ one
        return products
    order = 1 if space == "l1" else 2
    distances: Floats = np.linalg.norm(vectors - one, ord=order, axis=1)
    return 1.0 / (1.0 + distances)
