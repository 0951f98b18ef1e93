"""Rows: where they are, asking for them, and float32 arithmetic on two of them."""

from __future__ import annotations

import numpy as np

from zeusdb_vs.kernels.compile import inline_kernel
from zeusdb_vs.kernels.intrinsics import (
    f32_at,
    load_i64,
    prefetch,
)
from zeusdb_vs.kernels.layout import (
    CHUNK_SHIFT,
    CODE_STRIDE,
    CODES,
)

PREFETCH_BYTES = 1024
"""A row is prefetched whole up to this size; what follows the processor's own prefetcher finds."""


@inline_kernel
def row_address(table, slot, shift, stride):
    """Address of row `slot` in a row table."""
    return load_i64(table + (slot >> shift) * 8) + (slot & ((np.int64(1) << shift) - 1)) * stride


@inline_kernel
def dot_f32(a, b, dim):
    """Inner product of two float32 rows at addresses `a` and `b`."""
    x = f32_at(a, dim)
    y = f32_at(b, dim)
    total = np.float32(0)
    for d in range(dim):
        total += x[d] * y[d]
    return total


@inline_kernel
def l2_f32(a, b, dim):
    """Squared Euclidean distance of two float32 rows."""
    x = f32_at(a, dim)
    y = f32_at(b, dim)
    total = np.float32(0)
    for d in range(dim):
        difference = x[d] - y[d]
        total += difference * difference
    return total


@inline_kernel
def l1_f32(a, b, dim):
    """Manhattan distance of two float32 rows."""
    x = f32_at(a, dim)
    y = f32_at(b, dim)
    total = np.float32(0)
    for d in range(dim):
        total += abs(x[d] - y[d])
    return total


@inline_kernel
def prefetch_codes(ix, slot):
    """Ask for the code row of `slot`, whole where it is small."""
    stride = ix[CODE_STRIDE]
    row = row_address(ix[CODES], slot, ix[CHUNK_SHIFT], stride)
    for offset in range(0, min(stride, PREFETCH_BYTES), 64):
        prefetch(row + offset)
    if stride & 63:  # such rows may reach into one line more
        prefetch(row + stride - 1)
