"""Quantizers: how a vector becomes a short code. The kernels that write and compare codes are in `kernels`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CLIP_RANGE = np.linspace(1.8, 5.0, 17)
"""Half-widths, in standard deviations, that the clipping range of a code is chosen from."""

DIMS_PER_BLOCK = {4: 128, 8: 64}
"""Dimensions in a 64-byte block of codes, by bits."""


@dataclass(frozen=True, slots=True)
class ScalarCodec:
    """A uniform quantizer per dimension: `x[d] = mid[d] + step[d] * (code[d] - (2**bits - 1) / 2)`.

    Attributes
    ----------
    bits : 4 or 8
    mid, step : float32 (padded,); a dimension that does not vary, and padding, has step 0
    expand_scale : the scale at which a stored row becomes an 8-bit query; with `uniform` the one step
    uniform : whether all dimensions share one step (needed to compare codes by absolute differences)
    """

    bits: int
    mid: NDArray[np.float32]
    step: NDArray[np.float32]
    expand_scale: float
    uniform: bool

    @property
    def padded(self) -> int:
        """Dimensions after padding to whole blocks."""
        return len(self.mid)

    @property
    def blocks(self) -> int:
        """64-byte blocks of a code row."""
        return self.padded // DIMS_PER_BLOCK[self.bits]

    @property
    def row_bytes(self) -> int:
        """Bytes of a code row."""
        return 64 * self.blocks

    @property
    def half(self) -> float:
        """Code of the middle of the range."""
        return (2**self.bits - 1) / 2

    @classmethod
    def fit(cls, sample: NDArray[np.float32], bits: int, *, uniform: bool, centered: bool) -> ScalarCodec:
        """Fit the ranges to a sample.

        Parameters
        ----------
        sample : float32 (n, dim), of unit length under cosine
        bits : 4 or 8
        uniform : whether all dimensions share one step
        centered : whether queries are taken relative to `mid` (the L2 form)
        """
        dim = sample.shape[1]
        rows = sample.astype(np.float64)
        low, high = rows.min(axis=0), rows.max(axis=0)
        mean, deviation = rows.mean(axis=0), rows.std(axis=0)
        top = 2**bits - 1
        best: tuple[float, NDArray[np.float64], NDArray[np.float64]] | None = None
        # Clipping the tails buys a finer step: take the range with the least squared error on a part of the sample.
        part = rows[: 4096 if dim <= 512 else 1024]
        for width in _CLIP_RANGE:
            left, right = np.maximum(low, mean - width * deviation), np.minimum(high, mean + width * deviation)
            if uniform:
                half_range = np.full(dim, (right - left).max() / 2)
            else:
                half_range = (right - left) / 2
            mid, step = (left + right) / 2, 2 * half_range / top
            safe = np.where(step > 0, step, 1.0)
            codes = np.clip(np.rint((part - mid) / safe + top / 2), 0, top)
            error = float(np.square(mid + step * (codes - top / 2) - part).sum())
            if best is None or error < best[0]:
                best = (error, mid, step)
        assert best is not None
        _, mid, step = best
        block = DIMS_PER_BLOCK[bits]
        padded = -(-dim // block) * block
        mid32, step32 = np.zeros(padded, np.float32), np.zeros(padded, np.float32)
        mid32[:dim], step32[:dim] = mid, step
        extreme = step * top / 2 if centered else np.abs(mid) + step * top / 2
        expand = float(step.max()) if uniform else float((extreme * step).max()) / 127
        return cls(bits, mid32, step32, expand, uniform)
