"""The one table of metrics: names, kernels' numbers, how vectors are compared and scored."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Metric:
    """One of the spaces.

    Attributes
    ----------
    name : "cosine", "l2", "l1" or "dot"
    space : the kernels' number of its exact distance, `layout.SPACE_*`
    form : the kernels' number of its distance on codes, `layout.FORM_*`
    """

    name: str
    space: int
    form: int

    @property
    def is_normalizing(self) -> bool:
        """Whether only directions count."""
        return self.name == "cosine"

    def prepare(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 (n, dim) rows as codes see them: of unit length under cosine, else as they are."""
        if not self.is_normalizing:
            return vectors
        wide = vectors.astype(np.float64)
        norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        norms[norms == 0] = 1  # of no vector that was given, but codes may decode to one
        scaled: NDArray[np.float32] = (wide / norms[:, None]).astype(np.float32)
        return scaled

    def distances(
        self,
        query: NDArray[np.float32],
        vectors: NDArray[np.float32],
        inverse_norms: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Return the exact distances of one query to (n, dim) rows, float32 (n,), without compiled code.

        cosine 1 - cos, l2 Euclidean, l1 Manhattan, dot 1 - inner product. `inverse_norms`, float32 (n,) and none of
        them 0, spares cosine the norms of the rows. Distances of 1 minus a product may be off by float32's rounding of
        the product, below 0 too: see `refined`.
        """
        if self.name == "cosine" and inverse_norms is not None:  # in the usual range: nothing can overflow
            wide = query.astype(np.float64)
            unit = (wide * (1.0 / math.sqrt(wide @ wide))).astype(np.float32)
            products = vectors @ unit
            products *= inverse_norms
            usual: NDArray[np.float32] = np.subtract(np.float32(1), products, out=products)
            return usual
        with np.errstate(over="ignore", invalid="ignore"):
            if self.name == "l2":
                difference = vectors - query
                result = np.sqrt(np.einsum("ij,ij->i", difference, difference))
            elif self.name == "l1":
                result = np.abs(vectors - query).sum(axis=1)
            elif self.name == "dot":
                result = np.float32(1) - vectors @ query
            else:
                a, rows = query.astype(np.float64), vectors.astype(np.float64)
                norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
                result = np.maximum(0, 1 - (rows @ a) / (norms * math.sqrt(a @ a))).astype(np.float32)
            # float32 lost it, by overflow or by underflow of squares: float64 may still tell.
            for row in np.flatnonzero(~np.isfinite(result)):
                result[row] = self._wide_distance(query, vectors[row])
            if self.name == "l2":
                for row in np.flatnonzero(result < _LEAST_ROOT):
                    result[row] = self._wide_distance(query, vectors[row])
        exact: NDArray[np.float32] = result.astype(np.float32, copy=False)
        return exact

    def refined(
        self,
        query: NDArray[np.float32],
        rows: Callable[[NDArray[np.int64]], NDArray[np.float32]],
        distances: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Return float32 distances, those computed again in float64 whose digits 1 minus a product has lost.

        Parameters
        ----------
        rows : returns the vectors that some of the distances, named by position, are to
        """
        if self.name not in ("cosine", "dot") or (self.name == "cosine" and distances.min() >= _NEAR):
            return distances
        near = np.flatnonzero(np.abs(distances) < _NEAR * np.maximum(1, np.abs(1 - distances)))
        if len(near) == 0:
            return distances
        a, b = query.astype(np.float64), rows(near).astype(np.float64)
        wide = 1 - b @ a
        if self.name == "cosine":
            wide = np.maximum(0, 1 - (b @ a) / (np.sqrt(np.einsum("ij,ij->i", b, b)) * math.sqrt(a @ a)))
        refined: NDArray[np.float32] = distances.copy()
        refined[near] = wide
        return refined

    def _wide_distance(self, query: NDArray[np.float32], vector: NDArray[np.float32]) -> np.float32:
        a, b = query.astype(np.float64), vector.astype(np.float64)
        if self.name == "l2":
            return _as_float32(math.sqrt((a - b) @ (a - b)))
        if self.name == "l1":
            return _as_float32(float(np.abs(a - b).sum()))
        return _as_float32(1 - float(a @ b))


_NEAR = 0.1
"""Distances of 1 minus a product below this (or this share of the product) are computed again in float64."""
_LEAST_ROOT = np.float32(1e-15)
"""Euclidean distances below this come from squares that float32 cannot hold in full."""


def _as_float32(value: float) -> np.float32:
    narrow: np.float32 = np.float32(value)
    return narrow


METRICS = {
    metric.name: metric
    for metric in (Metric("cosine", 0, 0), Metric("l2", 1, 1), Metric("l1", 2, 2), Metric("dot", 3, 0))
}
"""By canonical name."""

ALIASES = {
    "cosine": "cosine",
    "cos": "cosine",
    "l2": "l2",
    "euclidean": "l2",
    "l1": "l1",
    "manhattan": "l1",
    "dot": "dot",
    "ip": "dot",
    "inner_product": "dot",
}
"""What users may call them, in any letter case."""
