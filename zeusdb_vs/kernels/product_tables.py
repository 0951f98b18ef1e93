"""Tables of a query for product codes: a number for every value of every byte of a row, see `product.py`.

In memory: float32 base, alpha and offset, int32 bytes of an entry, padding to 64 bytes, then the tables, (bytes, 256):
uint8 where they are made of CODE_GRID, which is less work and leaves room in a core's nearest cache; else uint16.
"""

from __future__ import annotations

import numpy as np

from zeusdb_vs.kernels.compile import inline_kernel, kernel
from zeusdb_vs.kernels.intrinsics import (
    address_of,
    f32_at,
    load_i32,
    load_u8,
    load_u16,
    store_f32,
    store_i32,
    u8_at,
)
from zeusdb_vs.kernels.layout import (
    CODE_BYTES,
    CODE_GRID,
    CODE_MID,
    CODE_STEP,
    CODE_TABLE,
    CODE_WIDTH,
    DIM,
    GRID_MIDDLE,
    MOST_GRID,
    QUERY_HEADER,
)
from zeusdb_vs.kernels.product_queries import COMFORT, write_weights
from zeusdb_vs.kernels.simd_products import table_shift, write_table_u8

_VALUES = 256
_MOST_GRID = np.float32(MOST_GRID)
_WIDE_ENTRY = 65534
"""One less than fits: sums of the greatest may come out a little greater."""
_MOST_UNEVEN = np.float32(4)
"""How many times as far as the mean one byte's entries may lie apart for uint8."""
_MOST_OF_PAIR = np.float32(126)
"""What two weights of 8 bits may add up to, rounded up by half each."""
_MOST_SUM = (1 << 31) - 1


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
    middle = f32_at(ix[CODE_MID], dim)
    step = f32_at(ix[CODE_STEP], dim)
    columns = (width + 3) & ~3
    weights = np.empty(dim, np.float32)
    # In steps of the grid, each byte padded to whole fours.
    scaled = np.zeros(size * columns, np.float32)
    base = write_weights(ix, query, address_of(weights))
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
    if not (np.isfinite(inverse) and extreme < COMFORT):  # every row is as far away as every other
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
def sum_of_narrow(tables, codes, size):
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
def sum_of_wide(tables, codes, size):
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
