"""A fast random rotation: it spreads what a vector has in few dimensions evenly over all of them.

Random signs and Walsh-Hadamard transforms (Ailon and Chazelle 2009, "The fast Johnson-Lindenstrauss transform"), of
the first and then of the last 2^k dimensions where their number is no power of two. Orthogonal, so inner products and
Euclidean distances stay what they are.
"""

from __future__ import annotations

import numpy as np

from zeusdb_vs.kernels.compile import inline_kernel, kernel
from zeusdb_vs.kernels.intrinsics import f32_at, load_f32
from zeusdb_vs.kernels.layout import CODE_SIGNS, DIM, ROTATION_ROUNDS


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


@kernel
def prepare_row(ix, row, inverse_norms, out):
    """Write to `out` what is coded of an original: of unit length under cosine, and rotated where codes are.

    Parameters
    ----------
    row : address of float32 (dim,), the original
    inverse_norms : cosine: address of the row's float32 1 / norm, 0 for extreme norms (see vectors.py); else 0
    """
    dim = ix[DIM]
    x = f32_at(row, dim)
    values = f32_at(out, dim)
    scale = np.float32(1)
    if inverse_norms != 0:
        scale = load_f32(inverse_norms)
    if scale == np.float32(0):
        total = 0.0
        for d in range(dim):
            total += np.float64(x[d]) * np.float64(x[d])
        wide_scale = 1.0 / np.sqrt(total)
        for d in range(dim):
            values[d] = np.float32(np.float64(x[d]) * wide_scale)
    else:
        for d in range(dim):
            values[d] = x[d] * scale
    if ix[CODE_SIGNS] != 0:
        rotate(out, ix[CODE_SIGNS], dim)
