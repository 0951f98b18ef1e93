"""A fast random rotation: it spreads what a vector has in few dimensions evenly over all of them.

Random signs and Walsh-Hadamard transforms (Ailon and Chazelle 2009, "The fast Johnson-Lindenstrauss transform"), of
the first and then of the last 2^k dimensions where their number is no power of two. Orthogonal, so inner products and
Euclidean distances stay what they are.
"""

from __future__ import annotations

import numpy as np

from zeusdb_vs.kernels.compile import inline_kernel, kernel
from zeusdb_vs.kernels.intrinsics import f32_at
from zeusdb_vs.kernels.layout import ROTATION_ROUNDS


@inline_kernel
def _transform(address, size):
    """Walsh-Hadamard transform in place of `size` float32, a power of two, scaled to keep lengths."""
    x = f32_at(address, size)
    half = np.int64(1)
    while half < size:
        for start in range(0, size, 2 * half):
            for i in range(start, start + half):
                a = x[i]
                b = x[i + half]
                x[i] = a + b
                x[i + half] = a - b
        half *= 2
    scale = np.float32(1.0 / np.sqrt(np.float64(size)))
    for i in range(size):
        x[i] *= scale


@kernel
def rotate(vector, signs, dim):
    """Rotate a float32 (dim,) vector in place.

    Parameters
    ----------
    vector : its address
    signs : address of float32 (ROTATION_ROUNDS, dim) of -1 and 1
    """
    power = np.int64(1)
    while 2 * power <= dim:
        power *= 2
    x = f32_at(vector, dim)
    for turn in range(ROTATION_ROUNDS):
        sign = f32_at(signs + turn * dim * 4, dim)
        for d in range(dim):
            x[d] *= sign[d]
        _transform(vector, power)
        if power < dim:
            _transform(vector + (dim - power) * 4, power)


@kernel
def rotate_rows(rows, count, signs, dim):
    """Rotate `count` float32 rows of `dim` at address `rows`, one after the other in memory, in place."""
    for i in range(count):
        rotate(rows + i * dim * 4, signs, dim)


@kernel
def unrotate(vector, signs, dim):
    """Undo `rotate` in place: the transforms are their own inverses."""
    power = np.int64(1)
    while 2 * power <= dim:
        power *= 2
    x = f32_at(vector, dim)
    for turn in range(ROTATION_ROUNDS - 1, -1, -1):
        if power < dim:
            _transform(vector + (dim - power) * 4, power)
        _transform(vector, power)
        sign = f32_at(signs + turn * dim * 4, dim)
        for d in range(dim):
            x[d] *= sign[d]


@kernel
def unrotate_rows(rows, count, signs, dim):
    """Undo `rotate_rows` in place."""
    for i in range(count):
        unrotate(rows + i * dim * 4, signs, dim)
