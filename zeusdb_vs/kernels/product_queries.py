"""What a query multiplies the dimensions of product codes by: what its forms are made of, see `product.py`."""

from __future__ import annotations

import numpy as np

from zeusdb_vs.kernels.compile import inline_kernel
from zeusdb_vs.kernels.intrinsics import f32_at
from zeusdb_vs.kernels.layout import CODE_CENTER, DIM, FORM, FORM_L2

COMFORT = np.float32(1e37)
"""Query forms whose numbers go beyond this could make infinities of them, and of two infinities a NaN."""


@inline_kernel
def write_weights(ix, query, out):
    """Write to float32 (dim,) at `out` what each dimension of d adds to a distance, times the factor of its row.

    Parameters
    ----------
    query : address of float32 (dim,), the exact query, rotated where codes are

    Returns
    -------
    the distance, but for |r|^2, where d is nothing: the base of a form
    """
    dim = ix[DIM]
    q = f32_at(query, dim)
    center = f32_at(ix[CODE_CENTER], dim)
    weights = f32_at(out, dim)
    base = np.float32(0)
    if ix[FORM] == FORM_L2:
        for d in range(dim):
            difference = q[d] - center[d]
            weights[d] = np.float32(-2) * difference
            base += difference * difference
    else:
        for d in range(dim):
            weights[d] = -q[d]
            base -= q[d] * center[d]
        base += np.float32(1)
    return base


@inline_kernel
def write_relative(ix, query, out):
    """Write to float32 (dim,) at `out` what the centroids that codes name are multiplied by in distances of a query.

    Parameters
    ----------
    query : address of float32 (dim,), what the form was made of
    """
    dim = ix[DIM]
    q = f32_at(query, dim)
    center = f32_at(ix[CODE_CENTER], dim)
    relative = f32_at(out, dim)
    is_l2 = np.float32(1) if ix[FORM] == FORM_L2 else np.float32(0)
    for d in range(dim):
        relative[d] = q[d] - is_l2 * center[d]
