"""Product codes (Jegou, Douze and Schmid 2011, "Product quantization for nearest neighbor search").

A vector, rotated where the codec rotates, is taken relative to a center: r = x - center. r is cut into subvectors, and
of each the code names the nearest of some centroids; d is all of these centroids together. d is shorter than r, so a
row keeps factor = |r|^2 / <r, d>, by which <r, r> is right, and inner products are estimated as

    <q, x> ~ <q, center> + factor * <q, d>

A row of codes is a head, the float32 factor and for FORM_L2 the float32 |r|^2, and then bytes, each the codes of one or
more subvectors. Kernels see bytes only: what each of a byte's 256 values says of its dimensions is in CODE_TABLE. Two
values may say the same; the first of them is written.

A query form turns a row's bytes into a whole number, from which a distance comes:

    FORM_DOT   1 - <q, x>   = base + factor * (offset + alpha * sum)      base = 1 - <q, center>
    FORM_L2    |q - x|^2    = the same + |r|^2                            base = |q - center|^2

The sum is of one entry a byte in tables of the query (`product_tables.py`), or of the digits that the bytes are read
as, where their values are numbered for it (`product_digits.py`).
"""

from __future__ import annotations

import numpy as np

from zeusdb_vs.kernels.compile import inline_kernel, kernel
from zeusdb_vs.kernels.intrinsics import (
    address_of,
    f32_at,
    load_f32,
    load_i32,
    load_i64,
    load_u8,
    move_bytes,
    store_f32,
    store_i64,
    store_u8,
)
from zeusdb_vs.kernels.kmeans import nearest_column
from zeusdb_vs.kernels.layout import (
    CHUNK_SHIFT,
    CODE_BYTES,
    CODE_CENTER,
    CODE_HEAD,
    CODE_ROWS,
    CODE_STRIDE,
    CODE_TABLE,
    CODE_WIDTH,
    CODES,
    DIM,
    FORM,
    FORM_L2,
    MOST_FACTOR,
    QUERY_HEADER,
)
from zeusdb_vs.kernels.product_digits import DIGITS, sum_by_digits
from zeusdb_vs.kernels.product_tables import sum_of_narrow, sum_of_wide
from zeusdb_vs.kernels.rotation import prepare_row
from zeusdb_vs.kernels.simd_products import FOURS_AT_ONCE, dot_fours

_LARGEST = np.finfo(np.float32).max
_VALUES = 256


@inline_kernel
def _write_d(ix, codes, out):
    """Write to float32 (dim,) at `out` the centroids that the codes at address `codes` name."""
    dim = ix[DIM]
    width = ix[CODE_WIDTH]
    rows = ix[CODE_ROWS]
    whole = np.int64(0)
    if width == 4:  # without a call for each byte it takes a quarter of the time
        whole = dim // 4
        for b in range(whole):
            source = rows + (b * _VALUES + load_u8(codes + b)) * 16
            store_i64(out + b * 16, load_i64(source))
            store_i64(out + b * 16 + 8, load_i64(source + 8))
    elif width == 2:
        whole = dim // 2
        for b in range(whole):
            store_i64(out + b * 8, load_i64(rows + (b * _VALUES + load_u8(codes + b)) * 8))
    for b in range(whole, ix[CODE_BYTES]):
        size = min(width, dim - b * width)
        source = rows + (b * _VALUES + load_u8(codes + b)) * width * 4
        move_bytes(out + b * width * 4, source, size * 4)


@kernel
def encode_products(ix, rows, inverse_norms, first, count):
    """Write the code rows of slots `first .. first + count`.

    Parameters
    ----------
    rows : address of float32 (count, dim), the originals
    inverse_norms : cosine: address of float32 (count,); else 0
    """
    dim = ix[DIM]
    width = ix[CODE_WIDTH]
    size = ix[CODE_BYTES]
    head = ix[CODE_HEAD]
    stride = ix[CODE_STRIDE]
    shift = ix[CHUNK_SHIFT]
    center = f32_at(ix[CODE_CENTER], dim)
    values = np.empty(dim, np.float32)
    decoded = np.empty(dim, np.float32)
    found = np.empty(_VALUES, np.float32)
    for i in range(count):
        norm = inverse_norms + i * 4 if inverse_norms != 0 else np.int64(0)
        prepare_row(ix, rows + i * dim * 4, norm, address_of(values))
        for d in range(dim):
            values[d] -= center[d]
        slot = first + i
        row = load_i64(ix[CODES] + (slot >> shift) * 8) + (slot & ((np.int64(1) << shift) - 1)) * stride
        for b in range(size):
            start = b * width
            code = nearest_column(
                ix[CODE_TABLE] + start * _VALUES * 4,
                _VALUES,
                min(width, dim - start),
                _VALUES,
                address_of(values) + start * 4,
                address_of(found),
            )
            store_u8(row + head + b, code)
        for b in range(head + size, stride):
            store_u8(row + b, 0)
        _write_d(ix, row + head, address_of(decoded))
        squared = 0.0
        product = 0.0
        for d in range(dim):
            squared += np.float64(values[d]) * np.float64(values[d])
            product += np.float64(values[d]) * np.float64(decoded[d])
        factor = 1.0
        if squared == 0.0:
            factor = 0.0
        elif product > 0.0:
            factor = squared / product
            if not factor <= MOST_FACTOR:
                factor = MOST_FACTOR
        store_f32(row, np.float32(factor))
        if ix[FORM] == FORM_L2:
            store_f32(row + 4, np.float32(squared if squared <= _LARGEST else _LARGEST))


@inline_kernel
def product_distance(ix, form, row):
    """Distance of the query form at `form` to the code row at address `row`."""
    tables = form + QUERY_HEADER
    codes = row + ix[CODE_HEAD]
    kind = load_i32(form + 12)
    if kind == DIGITS:
        total = sum_by_digits(ix, form, codes)
    elif kind == 1:
        total = sum_of_narrow(tables, codes, ix[CODE_BYTES])
    else:
        total = sum_of_wide(tables, codes, ix[CODE_BYTES])
    estimate = load_f32(form + 8) + load_f32(form + 4) * np.float32(total)
    distance = load_f32(form) + load_f32(row) * estimate
    if ix[FORM] == FORM_L2:
        distance += load_f32(row + 4)
    return distance


@inline_kernel
def product_rounding(ix, form, row):
    """By how much the rounding of tables may bring rows like that at `row` out of order, but for a pair in hundreds.

    Entries are wrong by up to half a step, evenly, so a sum by .29 steps times the root of how many there are: .4 with
    the rounding of grid and weights, some .55 for two rows, and more than three times that for certainty's sake. A
    row's factor stretches it.
    """
    return np.float32(2) * load_f32(row) * load_f32(form + 4) * np.float32(np.sqrt(ix[CODE_BYTES]))


@kernel
def product_distance_in_full(ix, form, relative, row, room):
    """Distance to the code row at address `row` without tables: right to the rounding of float32.

    Parameters
    ----------
    form : address of the query form
    relative : address of what `write_relative` wrote
    room : address of float32 (dim,) to work in
    """
    dim = ix[DIM]
    codes = row + ix[CODE_HEAD]
    product = np.float32(0)
    start = np.int64(0)
    if ix[CODE_WIDTH] == 4:  # straight from the centroids, without writing them down: in half the time
        blocks = dim // (4 * FOURS_AT_ONCE)
        product = dot_fours(ix[CODE_ROWS], codes, relative, blocks)
        start = blocks * 4 * FOURS_AT_ONCE
    if start < dim:
        _write_d(ix, codes, room)
        q = f32_at(relative, dim)
        named = f32_at(room, dim)
        for d in range(start, dim):
            product += q[d] * named[d]
    if ix[FORM] == FORM_L2:
        return load_f32(form) - np.float32(2) * load_f32(row) * product + load_f32(row + 4)
    return load_f32(form) - load_f32(row) * product


@inline_kernel
def decode_product(ix, row, out, scaled):
    """Write float32 (dim,) to `out`: what the code row at address `row` says of its vector, rotated where codes are.

    Parameters
    ----------
    scaled : whether d is stretched by the row's factor, as in estimates of inner products; else it is nearest
    """
    dim = ix[DIM]
    _write_d(ix, row + ix[CODE_HEAD], out)
    factor = load_f32(row) if scaled else np.float32(1)
    center = f32_at(ix[CODE_CENTER], dim)
    target = f32_at(out, dim)
    for d in range(dim):
        target[d] = center[d] + factor * target[d]
