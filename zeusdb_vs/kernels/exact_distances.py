"""Exact distances: on float32 rows, or on what 8-bit codes say of them where originals are dropped.

An exact query is the query in float32, of unit length under cosine, followed by room for one decoded row: where
originals are dropped, "exact" distances are those to rows decoded from 8-bit codes, and the exact query is rotated as
they are.
"""

from __future__ import annotations

import numpy as np

from zeusdb_vs.kernels.compile import inline_kernel, kernel
from zeusdb_vs.kernels.intrinsics import (
    f32_at,
    load_f32,
    prefetch,
    u8_at,
)
from zeusdb_vs.kernels.layout import (
    CHUNK_SHIFT,
    CODE_MID,
    CODE_PADDED,
    CODE_SIGNS,
    CODE_STEP,
    CODE_STRIDE,
    CODES,
    DIM,
    EXACT,
    EXACT_CODES,
    EXACT_ORIGINALS,
    EXACT_PLANES,
    INVERSE_NORMS,
    LOW_CODES,
    SPACE,
    SPACE_COSINE,
    SPACE_DOT,
    SPACE_L1,
    SPACE_L2,
    VECTORS,
)
from zeusdb_vs.kernels.rotation import rotate
from zeusdb_vs.kernels.rows import PREFETCH_BYTES, dot_f32, l1_f32, l2_f32, prefetch_codes, row_address

HALF_U4 = np.float32(7.5)
HALF_U8 = np.float32(127.5)
PLANE_STEP = np.float32(1 / 16)
"""Step of 8-bit codes in two planes, in steps of the 4-bit codes that their high halves are."""
_NEAR = np.float32(0.1)
_VERY_NEAR = np.float32(0.01)
"""Cosine distances below these are computed in other ways, so that scores hold a relative 1e-6 or so everywhere."""


@kernel
def exact_distance_f64(space, query, row, dim):
    """Exact distance with float64 sums, for vectors whose squares leave float32's range; the query as it was given."""
    q = f32_at(query, dim)
    x = f32_at(row, dim)
    total = 0.0
    norms_q = 0.0
    norms_x = 0.0
    for d in range(dim):
        a = np.float64(q[d])
        b = np.float64(x[d])
        if space == SPACE_L2:
            total += (a - b) * (a - b)
        elif space == SPACE_L1:
            total += abs(a - b)
        else:
            total += a * b
            norms_q += a * a
            norms_x += b * b
    if space == SPACE_L2:
        return np.float32(np.sqrt(total))
    if space == SPACE_L1:
        return np.float32(total)
    if space == SPACE_COSINE:
        return np.float32(max(0.0, 1.0 - total / (np.sqrt(norms_q) * np.sqrt(norms_x))))
    return np.float32(1.0 - total)


@inline_kernel
def decoded_at(ix, query):
    """Address of the room for a decoded row behind the exact query at `query`."""
    return query + ((ix[DIM] * 4 + 63) >> 6 << 6)


@kernel
def decode_row(ix, slot, out):
    """Write the float32 values of the 8-bit codes of `slot` to `out`, padded to whole blocks, as they were coded.

    With EXACT_PLANES the high and the low halves of codes lie in two tables, each laid out as 4-bit codes.
    """
    padded = ix[CODE_PADDED]
    shift = ix[CHUNK_SHIFT]
    stride = ix[CODE_STRIDE]
    mid = f32_at(ix[CODE_MID], padded)
    step = f32_at(ix[CODE_STEP], padded)
    target = f32_at(out, padded)
    high = u8_at(row_address(ix[CODES], slot, shift, stride), stride)
    if ix[EXACT] == EXACT_CODES:
        for d in range(padded):
            target[d] = mid[d] + step[d] * (np.float32(high[d]) - HALF_U8)
        return
    low = u8_at(row_address(ix[LOW_CODES], slot, shift, stride), stride)
    for block in range(padded // 128):
        for part in range(2):
            start = block * 128 + part * 64
            lift = np.uint8(part * 4)
            for j in range(64):
                upper = (high[block * 64 + j] >> lift) & np.uint8(15)
                lower = (low[block * 64 + j] >> lift) & np.uint8(15)
                code = np.float32(np.uint8(upper << 4) | lower)
                target[start + j] = mid[start + j] + step[start + j] * (code - HALF_U8) * PLANE_STEP


@kernel
def _decoded_distance(ix, query, slot):
    """Distance of the exact query form at `query` to the decoded row of `slot`."""
    dim = ix[DIM]
    space = ix[SPACE]
    row = decoded_at(ix, query)
    decode_row(ix, slot, row)
    if space == SPACE_L2:
        squared = l2_f32(query, row, dim)
        # As for originals: squares beyond float32's range have lost their digits.
        if np.float32(1e-30) < squared < np.float32(np.inf):
            return np.float32(np.sqrt(squared))
        return exact_distance_f64(space, query, row, dim)
    if space == SPACE_COSINE:
        return max(np.float32(0), np.float32(1) - dot_f32(query, row, dim))
    distance = l1_f32(query, row, dim) if space == SPACE_L1 else np.float32(1) - dot_f32(query, row, dim)
    return distance if np.isfinite(distance) else exact_distance_f64(space, query, row, dim)


@inline_kernel
def _half_l2_scaled(query, row, scale, dim):
    """Half the squared distance of a unit query and a scaled row of unit length: 1 - cos, with its digits."""
    q = f32_at(query, dim)
    x = f32_at(row, dim)
    total = np.float32(0)
    for d in range(dim):
        difference = q[d] - x[d] * scale
        total += difference * difference
    return np.float32(0.5) * total


@inline_kernel
def exact_distance(ix, query, slot):
    """Distance of the exact query form at `query` (unit length under cosine) to the original of `slot`."""
    if ix[EXACT] != EXACT_ORIGINALS:
        return _decoded_distance(ix, query, slot)
    dim = ix[DIM]
    shift = ix[CHUNK_SHIFT]
    space = ix[SPACE]
    row = row_address(ix[VECTORS], slot, shift, dim * 4)
    if space == SPACE_COSINE:
        inverse = load_f32(row_address(ix[INVERSE_NORMS], slot, shift, 4))
        if inverse == np.float32(0):  # a norm outside float32's comfort: see vectors.py
            return exact_distance_f64(space, query, row, dim)
        distance = np.float32(1) - dot_f32(query, row, dim) * inverse
        if distance >= _NEAR:
            return distance
        # Near 0 the difference from 1 has lost its digits.
        if distance >= _VERY_NEAR:
            return _half_l2_scaled(query, row, inverse, dim)
        return exact_distance_f64(space, query, row, dim)
    if space == SPACE_DOT:
        product = dot_f32(query, row, dim)
        distance = np.float32(1) - product
        if abs(distance) < _NEAR * abs(product):
            return exact_distance_f64(space, query, row, dim)
    elif space == SPACE_L2:
        squared = l2_f32(query, row, dim)
        # Squares below 1e-30 have lost digits to float32's underflow.
        distance = np.float32(np.sqrt(squared)) if squared > np.float32(1e-30) else np.float32(np.inf)
    else:
        distance = l1_f32(query, row, dim)
    if not np.isfinite(distance):
        return exact_distance_f64(space, query, row, dim)
    return distance


@inline_kernel
def prefetch_exact(ix, slot):
    """Ask for the original of `slot`, or for the codes that it is decoded from."""
    if ix[EXACT] != EXACT_ORIGINALS:
        prefetch_codes(ix, slot)
        if ix[EXACT] == EXACT_PLANES:
            low = row_address(ix[LOW_CODES], slot, ix[CHUNK_SHIFT], ix[CODE_STRIDE])
            for offset in range(0, min(ix[CODE_STRIDE], PREFETCH_BYTES), 64):
                prefetch(low + offset)
        return
    stride = ix[DIM] * 4
    row = row_address(ix[VECTORS], slot, ix[CHUNK_SHIFT], stride)
    for offset in range(0, min(stride, 2048), 64):
        prefetch(row + offset)


@kernel
def prepare_exact_query(ix, query, out):
    """Write the exact form of the float32 query at `query` to `out`: scaled to unit length under cosine.

    Where originals are dropped and codes are of rotated vectors it is rotated too.

    Returns 0, or 1 for a query that is not finite, 2 for a zero query under cosine.
    """
    dim = ix[DIM]
    q = f32_at(query, dim)
    target = f32_at(out, dim)
    # Squares of float32 cannot overflow float64, so the sum is finite exactly where every value is.
    total = 0.0
    for d in range(dim):
        total += np.float64(q[d]) * np.float64(q[d])
    if not np.isfinite(total):
        return 1
    scale = 1.0
    if ix[SPACE] == SPACE_COSINE:
        if total == 0.0:
            return 2
        scale = 1.0 / np.sqrt(total)
    for d in range(dim):
        target[d] = np.float32(np.float64(q[d]) * scale)
    if ix[EXACT] != EXACT_ORIGINALS and ix[CODE_SIGNS] != 0:
        rotate(out, ix[CODE_SIGNS], dim)
    return 0
