"""Product codes (Jegou, Douze and Schmid 2011, "Product quantization for nearest neighbor search").

A vector, rotated where the codec rotates, is taken relative to a center: r = x - center. r is cut into subvectors, and
of each the code names the nearest of some centroids; d is all of these centroids together. d is shorter than r, so a
row keeps factor = |r|^2 / <r, d>, by which <r, r> is right, and inner products are estimated as

    <q, x> ~ <q, center> + factor * <q, d>

A row of codes is a head, the float32 factor and for FORM_L2 the float32 |r|^2, and then bytes, each the codes of one or
more subvectors. Kernels see bytes only: what each of a byte's 256 values says of its dimensions is in CODE_TABLE. Two
values may say the same; the first of them is written.

A query form holds a number for every value of every byte, so that a distance is a sum of one number per byte:

    FORM_DOT   1 - <q, x>   = base + factor * (offset + alpha * sum of tables[b, code b])      base = 1 - <q, center>
    FORM_L2    |q - x|^2    = the same + |r|^2                                                 base = |q - center|^2

In memory: float32 base, alpha and offset, int32 bytes of an entry, padding to 64 bytes, then the tables, (bytes, 256):
uint8 where they are made of CODE_GRID, which is less work and leaves room in a core's nearest cache; else uint16.
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
    load_u16,
    move_bytes,
    store_f32,
    store_i32,
    store_i64,
    store_u8,
    u8_at,
)
from zeusdb_vs.kernels.kmeans import nearest_column
from zeusdb_vs.kernels.layout import (
    CHUNK_SHIFT,
    CODE_BYTES,
    CODE_CENTER,
    CODE_GRID,
    CODE_HEAD,
    CODE_MID,
    CODE_ROWS,
    CODE_STEP,
    CODE_STRIDE,
    CODE_TABLE,
    CODE_WIDTH,
    CODES,
    DIM,
    FORM,
    FORM_L2,
    GRID_MIDDLE,
    MOST_FACTOR,
    MOST_GRID,
    QUERY_HEADER,
)
from zeusdb_vs.kernels.rotation import prepare_row
from zeusdb_vs.kernels.simd import table_shift, write_table_u8

_LARGEST = np.finfo(np.float32).max
_COMFORT = np.float32(1e37)
"""Query forms whose numbers go beyond this could make infinities of them, and of two infinities a NaN."""
_VALUES = 256
_MOST_GRID = np.float32(MOST_GRID)
_WIDE_ENTRY = 65534
"""One less than fits: sums of the greatest may come out a little greater."""
_MOST_UNEVEN = np.float32(4)
"""How many times as far as the mean one byte's entries may lie apart for uint8."""
_MOST_OF_PAIR = np.float32(126)
"""What two weights of 8 bits may add up to, rounded up by half each."""
_MOST_SUM = (1 << 31) - 1


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


@kernel
def _extent(scaled, size, groups):
    """Return the greatest sum of absolute values of a byte, the greatest of an aligned pair, and the sum of all.

    Parameters
    ----------
    scaled : float32 (size * groups * 4,)
    """
    fours = np.empty(size * groups, np.float32)
    most_of_pair = np.float32(0)
    total = np.float32(0)
    for g in range(size * groups):
        one = abs(scaled[4 * g]) + abs(scaled[4 * g + 1])
        other = abs(scaled[4 * g + 2]) + abs(scaled[4 * g + 3])
        most_of_pair = max(most_of_pair, max(one, other))
        fours[g] = one + other
        total += one + other
    most = np.float32(0)
    for b in range(size):
        own = np.float32(0)
        for g in range(b * groups, (b + 1) * groups):
            own += fours[g]
        most = max(most, own)
    return most, most_of_pair, total


@kernel
def _write_narrow(grid, scaled, inverse, size, groups, out):
    """Write tables of uint8 (size, 256) at `out`; returns the sum of the absolute weights that they are made with.

    Parameters
    ----------
    grid : CODE_GRID
    scaled : float32 (size * groups * 4,): of each byte, its dimensions' weights in steps of the grid
    inverse : by which they become weights of 8 bits
    """
    weights = np.empty(size * groups * 4, np.int8)
    for i in range(size * groups * 4):
        weights[i] = np.int8(np.rint(scaled[i] * inverse))
    owns = np.empty(size * groups, np.int32)
    absolutes = np.empty(size * groups, np.int32)
    for g in range(size * groups):
        a, b, c, d = weights[4 * g], weights[4 * g + 1], weights[4 * g + 2], weights[4 * g + 3]
        owns[g] = np.int32(a) + np.int32(b) + np.int32(c) + np.int32(d)
        absolutes[g] = abs(np.int32(a)) + abs(np.int32(b)) + abs(np.int32(c)) + abs(np.int32(d))
    half = np.int64(1) << (table_shift(groups) - 1)
    reached = np.int64(0)
    for byte in range(size):
        own = np.int64(0)
        absolute = np.int64(0)
        for g in range(byte * groups, (byte + 1) * groups):
            own += owns[g]
            absolute += absolutes[g]
        reached += absolute
        # From the least that its values can come to on, with half an entry to round.
        start = np.int64(_MOST_GRID) * absolute - GRID_MIDDLE * own + half
        values = grid + byte * groups * 4 * _VALUES
        own_weights = address_of(weights) + byte * groups * 4
        write_table_u8(values, own_weights, groups, start, out + byte * _VALUES)
    return reached


@kernel
def _add_column(table, middle, weight, sums):
    """Add to float32 (256,) at `sums` what a dimension's values are from its middle, by its weight."""
    values = f32_at(table, _VALUES)
    total = f32_at(sums, _VALUES)
    for v in range(_VALUES):
        total[v] += weight * (values[v] - middle)


@kernel
def _write_entries(sums, out):
    """Write to uint16 (256,) at `out` the float32 (256,) at `sums`."""
    total = f32_at(sums, _VALUES)
    entries = u8_at(out, 2 * _VALUES).view(np.uint16)
    for v in range(_VALUES):
        entries[v] = np.uint16(np.int32(total[v]))


@kernel
def _write_wide(ix, weights, scaled, inverse, out):
    """Write tables of uint16 (CODE_BYTES, 256) at `out`.

    Parameters
    ----------
    weights : float32 (dim,)
    scaled : float32 (CODE_BYTES * CODE_WIDTH padded to fours,): of each byte, the same in steps of the grid
    inverse : 1 / step of the entries
    """
    dim = ix[DIM]
    width = ix[CODE_WIDTH]
    columns = (width + 3) & ~3
    middle = f32_at(ix[CODE_MID], dim)
    sums = np.empty(_VALUES, np.float32)
    for b in range(ix[CODE_BYTES]):
        reach = np.float32(0)
        for i in range(b * columns, (b + 1) * columns):
            reach += abs(scaled[i])
        sums[:] = reach * _MOST_GRID * inverse + np.float32(0.5)  # rounds
        for d in range(b * width, min((b + 1) * width, dim)):
            _add_column(ix[CODE_TABLE] + d * _VALUES * 4, middle[d], weights[d] * inverse, address_of(sums))
        _write_entries(address_of(sums), out + b * _VALUES * 2)


@kernel
def prepare_tables(ix, query, out, is_rough):
    """Write to `out` the form in which a query is compared with code rows.

    How far the entries of a byte can lie apart is bounded by what its dimensions range over, and not found among the
    entries: that would take a second pass over them, for steps that are a little finer. All entries have one step, so
    uint8 will not do where one byte reaches much further than the others: these would be left with few.

    Entries of uint8 are sums of integers: values in steps of the grid times weights of 8 bits, shifted down. A byte of
    more dimensions shares out more bits of weights, so they are as fine; not where one pair of dimensions outweighs the
    others of its byte, since pairs have to fit 128.

    Parameters
    ----------
    query : address of float32 (dim,), the exact query, rotated where codes are
    out : address of QUERY_HEADER + 512 * CODE_BYTES bytes
    is_rough : whether entries of uint8 will do, because the nearest are compared again by `product_distance_in_full`
    """
    dim = ix[DIM]
    width = ix[CODE_WIDTH]
    size = ix[CODE_BYTES]
    q = f32_at(query, dim)
    center = f32_at(ix[CODE_CENTER], dim)
    middle = f32_at(ix[CODE_MID], dim)
    step = f32_at(ix[CODE_STEP], dim)
    columns = (width + 3) & ~3
    weights = np.empty(dim, np.float32)
    # In steps of the grid, each byte padded to whole fours.
    scaled = np.zeros(size * columns, np.float32)
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
    offset = np.float32(0)
    extreme = abs(base)
    for d in range(dim):
        offset += weights[d] * middle[d]
        extreme += abs(weights[d] * middle[d])
    if width == columns:
        for d in range(dim):
            scaled[d] = weights[d] * step[d]
    else:
        for d in range(dim):
            scaled[d // width * columns + d % width] = weights[d] * step[d]
    most, most_of_pair, total = _extent(scaled, size, columns // 4)
    extreme += np.float32(2) * _MOST_GRID * total
    # Weights of a byte, each perhaps rounded up, add up to 127 / 128 of an entry's at most: none is over 252.
    entry = np.int64(1) << table_shift(columns // 4)
    room = np.float32(entry - (entry >> 7) - columns // 2)
    is_narrow = (
        is_rough
        and ix[CODE_GRID] != 0
        and most * np.float32(size) <= _MOST_UNEVEN * total
        and most_of_pair * room <= _MOST_OF_PAIR * np.float32(2) * most
    )
    if is_narrow:
        unit = max(most / room, most_of_pair / _MOST_OF_PAIR)
        alpha = unit * np.float32(entry)
    else:
        unit = np.float32(2) * _MOST_GRID * most / np.float32(min(_WIDE_ENTRY, _MOST_SUM // size))
        alpha = unit
    inverse = np.float32(1) / unit if unit > np.float32(0) else np.float32(0)
    if not (np.isfinite(inverse) and extreme < _COMFORT):  # every row is as far away as every other
        base = np.float32(0)
        alpha = np.float32(0)
        offset = np.float32(0)
        inverse = np.float32(0)
        total = np.float32(0)
        unit = np.float32(0)
        weights[:] = 0
        scaled[:] = 0
    tables = out + QUERY_HEADER
    if is_narrow:
        reached = _write_narrow(ix[CODE_GRID], scaled, inverse, size, columns // 4, tables)
        offset -= unit * _MOST_GRID * np.float32(reached)
    else:
        offset -= _MOST_GRID * total
        _write_wide(ix, weights, scaled, inverse, tables)
    store_f32(out, base)
    store_f32(out + 4, alpha)
    store_f32(out + 8, offset)
    store_i32(out + 12, 1 if is_narrow else 2)


@inline_kernel
def _four_narrow(tables, codes):
    """Sum of what four bytes of codes are in their tables of uint8."""
    four = load_i32(codes)
    return (
        load_u8(tables + (four & 255))
        + load_u8(tables + 256 + ((four >> 8) & 255))
        + load_u8(tables + 512 + ((four >> 16) & 255))
        + load_u8(tables + 768 + ((four >> 24) & 255))
    )


@inline_kernel
def _four_wide(tables, codes):
    """Sum of what four bytes of codes are in their tables of uint16."""
    four = load_i32(codes)
    return (
        load_u16(tables + ((four << 1) & 510))
        + load_u16(tables + 512 + ((four >> 7) & 510))
        + load_u16(tables + 1024 + ((four >> 15) & 510))
        + load_u16(tables + 1536 + ((four >> 23) & 510))
    )


# No sum is negative. That each turn asks keeps LLVM from gathering entries into vectors, which takes twice as long.


@inline_kernel
def _sum_of_narrow(tables, codes, size):
    """Sum of what `size` bytes of codes are in their tables of uint8."""
    total = np.int64(0)
    b = np.int64(0)
    while b <= size - 16 and total >= 0:
        table = tables + b * _VALUES
        total += (
            _four_narrow(table, codes + b)
            + _four_narrow(table + 1024, codes + b + 4)
            + _four_narrow(table + 2048, codes + b + 8)
            + _four_narrow(table + 3072, codes + b + 12)
        )
        b += 16
    while b < size and total >= 0:
        total += load_u8(tables + b * _VALUES + load_u8(codes + b))
        b += 1
    return total


@inline_kernel
def _sum_of_wide(tables, codes, size):
    """Sum of what `size` bytes of codes are in their tables of uint16."""
    total = np.int64(0)
    b = np.int64(0)
    while b <= size - 16 and total >= 0:
        table = tables + b * _VALUES * 2
        total += (
            _four_wide(table, codes + b)
            + _four_wide(table + 2048, codes + b + 4)
            + _four_wide(table + 4096, codes + b + 8)
            + _four_wide(table + 6144, codes + b + 12)
        )
        b += 16
    while b < size and total >= 0:
        total += load_u16(tables + b * _VALUES * 2 + (load_u8(codes + b) << 1))
        b += 1
    return total


@inline_kernel
def product_distance(ix, form, row):
    """Distance of the query form at `form` to the code row at address `row`."""
    tables = form + QUERY_HEADER
    codes = row + ix[CODE_HEAD]
    if load_i32(form + 12) == 1:
        total = _sum_of_narrow(tables, codes, ix[CODE_BYTES])
    else:
        total = _sum_of_wide(tables, codes, ix[CODE_BYTES])
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


@inline_kernel
def write_relative(ix, query, out):
    """Write to float32 (dim,) at `out` what the centroids that codes name are multiplied by in distances of a query.

    Parameters
    ----------
    query : address of float32 (dim,), what tables were made of
    """
    dim = ix[DIM]
    q = f32_at(query, dim)
    center = f32_at(ix[CODE_CENTER], dim)
    relative = f32_at(out, dim)
    is_l2 = np.float32(1) if ix[FORM] == FORM_L2 else np.float32(0)
    for d in range(dim):
        relative[d] = q[d] - is_l2 * center[d]


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
    _write_d(ix, row + ix[CODE_HEAD], room)
    q = f32_at(relative, dim)
    named = f32_at(room, dim)
    product = np.float32(0)
    for d in range(dim):
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
