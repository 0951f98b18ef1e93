"""Distances by code: between a prepared query and code rows. What they are reranked by is in `exact_distances.py`.

A decoded row is `x[d] = mid[d] + step[d] * (code[d] - half)`, half = 7.5 (4-bit) or 127.5 (8-bit). A query form folds
the step into an 8-bit query `w[d] = round(q[d] * step[d] / s)`, so that a walk needs one integer dot product a row:

    FORM_DOT   1 - <q, x>          = base + alpha * <w, code>             base = 1 - <q, mid> + half * <q, step>
    FORM_L2    |q - x|^2           = base + bias[row] + alpha * <w, code>
                                     q and x relative to mid; base = |q|^2 + 2 * half * <q, step>, bias = |x|^2
    FORM_L1    sum |q - x|         = alpha * sum |code(q) - code(x)|      one step for all dimensions

A query form in memory: float32 base, float32 alpha, padding to 64 bytes, then the 8-bit query (8-bit codes for
FORM_L1, float32 for CODE_F32), then room for the rotated query where codes are of rotated vectors. Rows in float32
need no form; their distances have the same meaning. The codes of quantized indexes, which estimate inner products from
a factor of each row, are those of `product.py`.
"""

from __future__ import annotations

import numpy as np

from zeusdb_vs.kernels.compile import inline_kernel, kernel
from zeusdb_vs.kernels.exact_distances import HALF_U4, HALF_U8
from zeusdb_vs.kernels.intrinsics import (
    bits_of_f32,
    f32_at,
    f32_of_bits,
    i8_at,
    load_f32,
    load_i32,
    store_f32,
    u8_at,
)
from zeusdb_vs.kernels.layout import (
    AS_CODED,
    CHUNK_SHIFT,
    CODE,
    CODE_BIAS,
    CODE_BLOCKS,
    CODE_BYTES,
    CODE_DIGITS,
    CODE_EXPAND,
    CODE_F32,
    CODE_MID,
    CODE_PADDED,
    CODE_PQ,
    CODE_SIGNS,
    CODE_STEP,
    CODE_STRIDE,
    CODE_U4,
    CODES,
    DIM,
    EXACT,
    EXACT_ORIGINALS,
    FORM,
    FORM_L1,
    FORM_L2,
    INVERSE_NORMS,
    QUERY_HEADER,
    ROUGH,
    SPACE,
    SPACE_COSINE,
)
from zeusdb_vs.kernels.product import decode_product, product_distance
from zeusdb_vs.kernels.product_digits import prepare_digits
from zeusdb_vs.kernels.product_tables import prepare_tables
from zeusdb_vs.kernels.rotation import rotate
from zeusdb_vs.kernels.rows import dot_f32, l1_f32, l2_f32, row_address
from zeusdb_vs.kernels.simd import dot_u4_i8, dot_u8_i8, sad_u8


@kernel
def distance_by_code(ix, distance):
    """What a code distance says in the measure of exact distances."""
    if ix[FORM] == FORM_L2:
        return np.float32(np.sqrt(max(np.float32(0), distance)))
    return max(np.float32(0), distance) if ix[SPACE] == SPACE_COSINE else distance


@inline_kernel
def _room_behind_tables(ix, form):
    """Address of the room for a float32 vector behind the tables of a query form of product codes."""
    return form + QUERY_HEADER + ix[CODE_BYTES] * 512


@inline_kernel
def _round_to_i8(value):
    """Round half away from zero; |value| <= 127."""
    return np.int8(np.int32(value + np.float32(np.copysign(np.float32(0.5), value))))


@kernel
def prepare_query_form(ix, exact, out, precision):
    """Write to `out` the form in which the exact query at `exact` is compared with code rows.

    Parameters
    ----------
    precision : AS_CODED, or less where the nearest by the form are compared again
    """
    dim = ix[DIM]
    code = ix[CODE]
    form = ix[FORM]
    q = f32_at(exact, dim)
    if code == CODE_F32:
        target = f32_at(out + QUERY_HEADER, dim)
        for d in range(dim):
            target[d] = q[d]
        store_f32(out, np.float32(0))
        store_f32(out + 4, np.float32(1))
        return
    if code == CODE_PQ:
        exact_query = coded_query(ix, exact, out)
        if exact_query != exact:
            turned = f32_at(exact_query, dim)
            for d in range(dim):
                turned[d] = q[d]
            rotate(exact_query, ix[CODE_SIGNS], dim)
        if precision == ROUGH and ix[CODE_DIGITS] != 0:
            prepare_digits(ix, exact_query, out)
        else:
            prepare_tables(ix, exact_query, out, precision != AS_CODED)
        return
    padded = ix[CODE_PADDED]
    mid = f32_at(ix[CODE_MID], padded)
    step = f32_at(ix[CODE_STEP], padded)
    half = HALF_U4 if code == CODE_U4 else HALF_U8
    if ix[CODE_SIGNS] != 0 and ix[EXACT] == EXACT_ORIGINALS:
        rotated = f32_at(out + QUERY_HEADER + padded, dim)
        for d in range(dim):
            rotated[d] = q[d]
        rotate(out + QUERY_HEADER + padded, ix[CODE_SIGNS], dim)
        q = rotated
    if form == FORM_L1:
        codes = u8_at(out + QUERY_HEADER, padded)
        scale = ix_expand(ix)  # the one step of all dimensions
        inverse = np.float32(1) / scale if scale > np.float32(0) else np.float32(0)
        for d in range(dim):
            codes[d] = np.uint8(
                min(np.float32(255), max(np.float32(0), (q[d] - mid[d]) * inverse + half + np.float32(0.5)))
            )
        for d in range(dim, padded):
            codes[d] = np.uint8(0)
        store_f32(out, np.float32(0))
        store_f32(out + 4, scale)
        return
    relative = np.float32(1) if form == FORM_L2 else np.float32(0)
    largest_bits = np.int64(0)
    with_mid = np.float32(0)
    with_step = np.float32(0)
    squared = np.float32(0)
    for d in range(dim):
        value = q[d] - relative * mid[d]
        w = value * step[d]
        # Magnitudes compare like their bits, and a maximum of integers can be vectorised (of floats: NaN forbids it).
        largest_bits = max(largest_bits, bits_of_f32(abs(w)))
        with_mid += value * mid[d]
        with_step += w
        squared += value * value
    scale = f32_of_bits(largest_bits) / np.float32(127)
    inverse = np.float32(1) / scale if scale > np.float32(0) else np.float32(0)
    if not np.isfinite(inverse):
        inverse = np.float32(0)
    target8 = i8_at(out + QUERY_HEADER, padded)
    for d in range(dim):
        w = (q[d] - relative * mid[d]) * step[d] * inverse
        target8[d] = _round_to_i8(max(np.float32(-127), min(np.float32(127), w)))
    for d in range(dim, padded):
        target8[d] = np.int8(0)
    if form == FORM_L2:
        store_f32(out, squared + np.float32(2) * half * with_step)
        store_f32(out + 4, np.float32(-2) * scale)
    else:
        store_f32(out, np.float32(1) - with_mid + half * with_step)
        store_f32(out + 4, -scale)


@inline_kernel
def ix_expand(ix):
    """Scale at which stored rows become query forms (the step of all dimensions for FORM_L1)."""
    return f32_of_bits(ix[CODE_EXPAND])


@kernel
def expand_row(ix, slot, out):
    """Write to `out` the query form of the stored code row of `slot`: how rows are compared with one another."""
    dim = ix[DIM]
    code = ix[CODE]
    form = ix[FORM]
    shift = ix[CHUNK_SHIFT]
    if code == CODE_F32:
        row = f32_at(row_address(ix[CODES], slot, shift, ix[CODE_STRIDE]), dim)
        target = f32_at(out + QUERY_HEADER, dim)
        scale = np.float32(1)
        if ix[SPACE] == SPACE_COSINE:
            scale = load_f32(row_address(ix[INVERSE_NORMS], slot, shift, 4))
        for d in range(dim):
            target[d] = row[d] * scale
        store_f32(out, np.float32(0))
        store_f32(out + 4, np.float32(1))
        return
    if code == CODE_PQ:
        decoded = _room_behind_tables(ix, out)
        decode_product(ix, row_address(ix[CODES], slot, shift, ix[CODE_STRIDE]), decoded, True)
        prepare_tables(ix, decoded, out, False)
        return
    padded = ix[CODE_PADDED]
    codes = u8_at(row_address(ix[CODES], slot, shift, ix[CODE_STRIDE]), ix[CODE_STRIDE])
    scale = ix_expand(ix)
    if form == FORM_L1:
        copy = u8_at(out + QUERY_HEADER, padded)
        for d in range(padded):
            copy[d] = codes[d]
        store_f32(out, np.float32(0))
        store_f32(out + 4, scale)
        return
    mid = f32_at(ix[CODE_MID], padded)
    step = f32_at(ix[CODE_STEP], padded)
    target8 = i8_at(out + QUERY_HEADER, padded)
    relative = np.float32(0) if form == FORM_L2 else np.float32(1)
    inverse = np.float32(1) / scale if scale > np.float32(0) else np.float32(0)
    with_mid = np.float32(0)
    with_step = np.float32(0)
    squared = np.float32(0)
    if code == CODE_U4:
        half = HALF_U4
        for block in range(padded // 128):
            for part in range(2):
                start = block * 128 + part * 64
                lift = np.uint8(part * 4)
                for j in range(64):
                    c = np.float32((codes[block * 64 + j] >> lift) & np.uint8(15))
                    value = relative * mid[start + j] + step[start + j] * (c - half)
                    w = value * step[start + j]
                    with_mid += value * mid[start + j]
                    with_step += w
                    squared += value * value
                    target8[start + j] = _round_to_i8(w * inverse)
    else:
        half = HALF_U8
        for d in range(padded):
            value = relative * mid[d] + step[d] * (np.float32(codes[d]) - half)
            w = value * step[d]
            with_mid += value * mid[d]
            with_step += w
            squared += value * value
            target8[d] = _round_to_i8(w * inverse)
    if form == FORM_L2:
        store_f32(out, squared + np.float32(2) * half * with_step)
        store_f32(out + 4, np.float32(-2) * scale)
    else:
        store_f32(out, np.float32(1) - with_mid + half * with_step)
        store_f32(out + 4, -scale)


@kernel
def code_distances(ix, form, slots, count, out):
    """Distances of the query form at `form` to `count` slots.

    Parameters
    ----------
    slots : address of int32 (count,)
    out : address of float32 (count,)
    """
    shift = ix[CHUNK_SHIFT]
    table = ix[CODES]
    stride = ix[CODE_STRIDE]
    base = load_f32(form)
    alpha = load_f32(form + 4)
    query = form + QUERY_HEADER
    code = ix[CODE]
    if code == CODE_F32:
        dim = ix[DIM]
        kind = ix[FORM]
        if kind == FORM_L2:
            for i in range(count):
                row = row_address(table, load_i32(slots + i * 4), shift, stride)
                store_f32(out + i * 4, l2_f32(query, row, dim))
        elif kind == FORM_L1:
            for i in range(count):
                row = row_address(table, load_i32(slots + i * 4), shift, stride)
                store_f32(out + i * 4, l1_f32(query, row, dim))
        elif ix[SPACE] == SPACE_COSINE:
            norms = ix[INVERSE_NORMS]
            for i in range(count):
                slot = load_i32(slots + i * 4)
                row = row_address(table, slot, shift, stride)
                inverse = load_f32(row_address(norms, slot, shift, 4))
                store_f32(out + i * 4, np.float32(1) - dot_f32(query, row, dim) * inverse)
        else:
            for i in range(count):
                row = row_address(table, load_i32(slots + i * 4), shift, stride)
                store_f32(out + i * 4, np.float32(1) - dot_f32(query, row, dim))
        return
    if code == CODE_PQ:
        for i in range(count):
            row = row_address(table, load_i32(slots + i * 4), shift, stride)
            store_f32(out + i * 4, product_distance(ix, form, row))
        return
    blocks = ix[CODE_BLOCKS]
    if code == CODE_U4:
        for i in range(count):
            row = row_address(table, load_i32(slots + i * 4), shift, stride)
            store_f32(out + i * 4, base + alpha * np.float32(dot_u4_i8(row, query, blocks)))
    elif ix[FORM] == FORM_L1:
        for i in range(count):
            row = row_address(table, load_i32(slots + i * 4), shift, stride)
            store_f32(out + i * 4, alpha * np.float32(sad_u8(row, query, blocks)))
    else:
        for i in range(count):
            row = row_address(table, load_i32(slots + i * 4), shift, stride)
            store_f32(out + i * 4, base + alpha * np.float32(dot_u8_i8(row, query, blocks)))
    if ix[FORM] == FORM_L2:
        bias = ix[CODE_BIAS]
        for i in range(count):
            store_f32(
                out + i * 4,
                load_f32(out + i * 4) + load_f32(row_address(bias, load_i32(slots + i * 4), shift, 4)),
            )


@inline_kernel
def coded_query(ix, exact, form):
    """Address of the exact query at `exact` as product codes are: rotated, if they are, by `prepare_query_form`."""
    return _room_behind_tables(ix, form) if ix[CODE_SIGNS] != 0 and ix[EXACT] == EXACT_ORIGINALS else exact


@kernel
def code_distance(ix, form, slot):
    """Distance of the query form at `form` to one slot."""
    shift = ix[CHUNK_SHIFT]
    stride = ix[CODE_STRIDE]
    row = row_address(ix[CODES], slot, shift, stride)
    query = form + QUERY_HEADER
    code = ix[CODE]
    kind = ix[FORM]
    if code == CODE_F32:
        dim = ix[DIM]
        if kind == FORM_L2:
            return l2_f32(query, row, dim)
        if kind == FORM_L1:
            return l1_f32(query, row, dim)
        scale = np.float32(1)
        if ix[SPACE] == SPACE_COSINE:
            scale = load_f32(row_address(ix[INVERSE_NORMS], slot, shift, 4))
        return np.float32(1) - dot_f32(query, row, dim) * scale
    if code == CODE_PQ:
        return product_distance(ix, form, row)
    base = load_f32(form)
    alpha = load_f32(form + 4)
    blocks = ix[CODE_BLOCKS]
    if code == CODE_U4:
        distance = base + alpha * np.float32(dot_u4_i8(row, query, blocks))
    elif kind == FORM_L1:
        distance = alpha * np.float32(sad_u8(row, query, blocks))
    else:
        distance = base + alpha * np.float32(dot_u8_i8(row, query, blocks))
    if kind == FORM_L2:
        distance += load_f32(row_address(ix[CODE_BIAS], slot, shift, 4))
    return distance
