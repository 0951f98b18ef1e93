"""Distances: exact ones on float32 rows, approximate ones between a prepared query and code rows.

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

An exact query is followed by room for one decoded row: where originals are dropped, "exact" distances are those to
rows decoded from 8-bit codes, and the exact query is rotated as they are.
"""

from __future__ import annotations

import numpy as np

from zeusdb_vs.kernels.compile import inline_kernel, kernel
from zeusdb_vs.kernels.intrinsics import (
    bits_of_f32,
    dot_u4_i8,
    dot_u8_i8,
    f32_at,
    f32_of_bits,
    i8_at,
    load_f32,
    load_i32,
    load_i64,
    prefetch,
    sad_u8,
    store_f32,
    u8_at,
)
from zeusdb_vs.kernels.layout import (
    CHUNK_SHIFT,
    CODE,
    CODE_BIAS,
    CODE_BLOCKS,
    CODE_BYTES,
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
    EXACT_CODES,
    EXACT_ORIGINALS,
    EXACT_PLANES,
    FORM,
    FORM_L1,
    FORM_L2,
    INVERSE_NORMS,
    LOW_CODES,
    QUERY_HEADER,
    SPACE,
    SPACE_COSINE,
    SPACE_DOT,
    SPACE_L1,
    SPACE_L2,
    VECTORS,
)
from zeusdb_vs.kernels.product import (
    decode_product,
    prepare_tables,
    product_distance,
)
from zeusdb_vs.kernels.rotation import rotate

HALF_U4 = np.float32(7.5)
HALF_U8 = np.float32(127.5)
PLANE_STEP = np.float32(1 / 16)
"""Step of 8-bit codes in two planes, in steps of the 4-bit codes that their high halves are."""
_NEAR = np.float32(0.1)
_VERY_NEAR = np.float32(0.01)
"""Cosine distances below these are computed in other ways, so that scores hold a relative 1e-6 or so everywhere."""
_PREFETCH_BYTES = 1024
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


@kernel
def distance_by_code(ix, distance):
    """What a code distance says in the measure of exact distances."""
    if ix[FORM] == FORM_L2:
        return np.float32(np.sqrt(max(np.float32(0), distance)))
    return max(np.float32(0), distance) if ix[SPACE] == SPACE_COSINE else distance


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
def prefetch_codes(ix, slot):
    """Ask for the code row of `slot`, whole where it is small."""
    stride = ix[CODE_STRIDE]
    row = row_address(ix[CODES], slot, ix[CHUNK_SHIFT], stride)
    for offset in range(0, min(stride, _PREFETCH_BYTES), 64):
        prefetch(row + offset)
    if stride & 63:  # such rows may reach into one line more
        prefetch(row + stride - 1)


@inline_kernel
def prefetch_exact(ix, slot):
    """Ask for the original of `slot`, or for the codes that it is decoded from."""
    if ix[EXACT] != EXACT_ORIGINALS:
        prefetch_codes(ix, slot)
        if ix[EXACT] == EXACT_PLANES:
            low = row_address(ix[LOW_CODES], slot, ix[CHUNK_SHIFT], ix[CODE_STRIDE])
            for offset in range(0, min(ix[CODE_STRIDE], _PREFETCH_BYTES), 64):
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


@inline_kernel
def _room_behind_tables(ix, form):
    """Address of the room for a float32 vector behind the tables of a query form of product codes."""
    return form + QUERY_HEADER + ix[CODE_BYTES] * 512


@inline_kernel
def _round_to_i8(value):
    """Round half away from zero; |value| <= 127."""
    return np.int8(np.int32(value + np.float32(np.copysign(np.float32(0.5), value))))


@kernel
def prepare_query_form(ix, exact, out, is_rough):
    """Write to `out` the form in which the exact query at `exact` is compared with code rows.

    Parameters
    ----------
    is_rough : whether the nearest by the form are compared again, so that it may be less exact than codes are
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
        prepare_tables(ix, exact_query, out, is_rough)
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
