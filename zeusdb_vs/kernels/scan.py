"""Scans: every slot of a set is looked at, none is missed."""

from __future__ import annotations

import numpy as np

from zeusdb_vs.kernels.compile import inline_kernel, kernel
from zeusdb_vs.kernels.distances import code_distances, prepare_query_form
from zeusdb_vs.kernels.exact_distances import exact_distance, prefetch_exact, prepare_exact_query
from zeusdb_vs.kernels.intrinsics import (
    at_most_16,
    i64_at,
    load_f32,
    load_i32,
    load_i64,
    load_u8,
    lowest_bit,
    store_f32,
    store_i64,
)
from zeusdb_vs.kernels.layout import (
    AS_CODED,
    CHUNK_SHIFT,
    CODE,
    CODE_BIAS,
    CODE_BLOCKS,
    CODE_STRIDE,
    CODE_U4,
    CODE_U8,
    CODES,
    COUNT_DISTANCES,
    COUNT_HOPS,
    DIM,
    FORM,
    FORM_L1,
    FORM_L2,
    HOP_DISTANCES,
    HOP_KEYS,
    MATCHES,
    POOL,
    POOL_CAPACITY,
    QUERY_EXACT,
    QUERY_FORM,
    RESULTS,
)
from zeusdb_vs.kernels.pool import distance_of_key, insert_key, make_key, slot_of_key
from zeusdb_vs.kernels.reranking import is_found_early, rerank_pool, write_results
from zeusdb_vs.kernels.rows import prefetch_codes, row_address
from zeusdb_vs.kernels.simd import ROWS_AT_ONCE, distances_u4, distances_u8

_BLOCK = 256
"""Slots whose code distances are computed before any is taken; the buffers of a scratch have twice this room."""
_CODES_AHEAD = 16
"""Code rows prefetched ahead."""
ROWS_BEHIND = _CODES_AHEAD + ROWS_AT_ONCE - 1
"""Addresses behind those of a set's rows: rows are prefetched ahead, and compared so many at once."""
_SURE = 5.0
"""Standard deviations of the errors of codes at which the rest of a pool is taken to be further."""
_DEEPER = 3
"""How many times as many are reranked where the first went too far down."""
_AHEAD = 8
"""Rows prefetched ahead: the latency of memory over the time of one distance."""


@kernel
def scan_exact(ix, scratch, queries, count, k, slots, size, mask, out_slots, out_distances):
    """Exact k nearest of a set of slots for `count` queries.

    Parameters
    ----------
    queries : address of float32 (count, dim)
    slots : address of int32 (size,), or 0 for the slots 0 .. size - 1
    mask : address of uint8 per slot (1 = may be returned), or 0
    out_slots, out_distances : addresses of int64 and float32 (count, k), padded with -1 and inf

    Returns
    -------
    0, or 1 + 4 * i for a query i that is not finite, 2 + 4 * i for a zero query under cosine
    """
    dim = ix[DIM]
    results = scratch[RESULTS]
    query = scratch[QUERY_EXACT]
    computed = np.int64(0)
    scratch[COUNT_HOPS] = 0
    for i in range(count):
        status = prepare_exact_query(ix, queries + i * dim * 4, query)
        if status != 0:
            return status + 4 * i
        found = np.int64(0)
        for j in range(size):
            slot = np.int64(j)
            if slots != 0:
                slot = load_i32(slots + j * 4)
                if j + _AHEAD < size:
                    prefetch_exact(ix, load_i32(slots + (j + _AHEAD) * 4))
            if mask != 0 and load_u8(mask + slot) == 0:
                continue
            computed += 1
            if insert_key(results, found, k, make_key(exact_distance(ix, query, slot), slot)) >= 0:
                found = min(found + 1, k)
        write_results(scratch, found, k, out_slots + i * k * 8, out_distances + i * k * 4)
    scratch[COUNT_DISTANCES] = computed
    return np.int64(0)


@kernel
def locate_rows(ix, slots, count, size, rows):
    """Write the addresses of `count` code rows to `rows`, and of the `ROWS_BEHIND` after them that a scan touches.

    Of the `size` slots there are the last stands for those that there are not.
    """
    table = ix[CODES]
    shift = ix[CHUNK_SHIFT]
    stride = ix[CODE_STRIDE]
    known = min(count + ROWS_BEHIND, size)
    row = np.int64(0)
    for j in range(known):
        row = row_address(table, load_i32(slots + j * 4), shift, stride)
        store_i64(rows + j * 8, row)
    for j in range(known, count + ROWS_BEHIND):
        store_i64(rows + j * 8, row)


@inline_kernel
def _block_distances(ix, form, slots, rows, count, out):
    """Distances of the query form at `form` to `count` slots, or to the codes at the addresses in `rows` where not 0.

    Writes to float32 `out`, and up to three more than there are.
    """
    if rows == 0:
        for j in range(count):
            prefetch_codes(ix, load_i32(slots + j * 4))
        code_distances(ix, form, slots, count, out)
        return
    blocks = ix[CODE_BLOCKS]
    for j in range(0, count, ROWS_AT_ONCE):
        here = rows + j * 8
        if ix[CODE] == CODE_U4:
            distances_u4(here, here + _CODES_AHEAD * 8, form, blocks, out + j * 4)
        else:
            distances_u8(here, here + _CODES_AHEAD * 8, form, blocks, out + j * 4)
    if ix[FORM] == FORM_L2:
        for j in range(count):
            bias = load_f32(row_address(ix[CODE_BIAS], load_i32(slots + j * 4), ix[CHUNK_SHIFT], 4))
            store_f32(out + j * 4, load_f32(out + j * 4) + bias)


@kernel
def _keep_least(keys, size, most):
    """Bring the `most` least of `size` > `most` different keys to the front, in any order; returns their greatest.

    Hoare's FIND, its partitions without branches: how keys compare is as good as random.
    """
    low = np.int64(0)
    high = np.int64(size)
    while high - low > 1:
        first = load_i64(keys + low * 8)
        middle = load_i64(keys + ((low + high) >> 1) * 8)
        last = load_i64(keys + (high - 1) * 8)
        pivot = max(min(first, middle), min(max(first, middle), last))
        if high - low == 2:  # of two the lesser, so that one stays behind it
            pivot = min(first, last)
        least = low
        for j in range(low, high):
            key = load_i64(keys + j * 8)
            store_i64(keys + j * 8, load_i64(keys + least * 8))
            store_i64(keys + least * 8, key)
            least += np.int64(key <= pivot)
        if least == most:
            break
        if least > most:
            high = least
        else:
            low = least
    kept = i64_at(keys, most)
    greatest = kept[0]
    for j in range(most):
        greatest = max(greatest, kept[j])
    return greatest


@kernel
def _sort_keys(keys, size, out):
    """Write different keys to `out` in ascending order, each to the place that the number of lesser ones says.

    All of a block are compared with all, eight at once and without a branch: cheaper than sorting the few dozen of a
    search.
    """
    for begin in range(0, size, _BLOCK):
        here = keys + begin * 8
        count = min(np.int64(_BLOCK), size - begin)
        if begin + count < size:
            _keep_least(here, size - begin, count)
        values = i64_at(here, count)
        for i in range(count):
            key = values[i]
            place = np.int64(begin)
            for j in range(count):
                place += np.int64(values[j] < key)
            store_i64(out + place * 8, key)


@inline_kernel
def _prepare(ix, scratch, query):
    """Make ready both forms of a query; returns 0 or what is wrong with it."""
    status = prepare_exact_query(ix, query, scratch[QUERY_EXACT])
    if status == 0:
        prepare_query_form(ix, scratch[QUERY_EXACT], scratch[QUERY_FORM], AS_CODED)
    return status


@kernel
def _pool_nearest(ix, scratch, slots, rows, size, room):
    """Leave the nearest `room` of `size` slots by code in the pool, sorted; returns how many there are.

    Whatever may be among them is gathered, and the further half dropped as often as there are twice as many as wanted:
    an insertion into a sorted pool takes 40 ns, and a scan would make some 200.
    """
    form = scratch[QUERY_FORM]
    distances = scratch[HOP_DISTANCES]
    keys = scratch[HOP_KEYS]
    has_rows = (ix[CODE] == CODE_U4 or ix[CODE] == CODE_U8) and ix[FORM] != FORM_L1
    filled = np.int64(0)
    worst = np.float32(np.inf)
    for begin in range(0, size, _BLOCK):
        here = slots + begin * 4
        count = min(np.int64(_BLOCK), size - begin)
        located = np.int64(0)
        if has_rows and rows != 0:
            located = rows + begin * 8
        elif has_rows:
            located = scratch[MATCHES]
            locate_rows(ix, here, count, size - begin, located)
        _block_distances(ix, form, here, located, count, distances)
        for group in range(0, count, 16):
            near = at_most_16(distances + group * 4, worst)
            if group + 16 > count:
                near &= (np.int64(1) << (count - group)) - 1
            while near != 0:
                j = group + lowest_bit(near)
                near &= near - 1
                store_i64(keys + filled * 8, make_key(load_f32(distances + j * 4), load_i32(here + j * 4)))
                filled += 1
            if filled >= 2 * room:
                worst = distance_of_key(_keep_least(keys, filled, room))
                filled = room
    if filled > room:
        _keep_least(keys, filled, room)
        filled = room
    _sort_keys(keys, filled, scratch[POOL])
    return filled


@kernel
def scan_codes(ix, scratch, queries, count, k, depth, slots, size, out_slots, out_distances):
    """K nearest of a set of slots: all by code, the nearest `depth` of them again by exact distance.

    Parameters
    ----------
    slots : address of int32 (size,), each of which may be returned
    depth : slots reranked, >= k; 0: none, distances are those by code

    Returns
    -------
    as `scan_exact`
    """
    scratch[COUNT_HOPS] = 0
    for i in range(count):
        status = _prepare(ix, scratch, queries + i * ix[DIM] * 4)
        if status != 0:
            return status + 4 * i
        room = np.int64(depth) if depth > 0 else np.int64(k)
        filled = _pool_nearest(ix, scratch, slots, np.int64(0), size, room)
        found = rerank_pool(ix, scratch, scratch[POOL], filled, k, depth, np.int64(0))
        write_results(scratch, found, k, out_slots + i * k * 8, out_distances + i * k * 4)
    scratch[COUNT_DISTANCES] = np.int64(count) * size
    return np.int64(0)


@inline_kernel
def _rerank(ix, scratch, first, filled, k):
    """Rerank the `first` of the pool by exact distance, and all `filled` where the rest may be among the k nearest.

    How far exact distances lie from those by code is known of the first: the rest would have to lie nearer than their
    codes say by more than `_SURE` of these errors' standard deviations. Far from the query, where distances hardly
    differ, that is soon so.

    Returns how many were reranked; the k nearest of them are in the results of `scratch`.
    """
    pool = scratch[POOL]
    results = scratch[RESULTS]
    is_squared = ix[FORM] == FORM_L2
    found = np.int64(0)
    errors = 0.0
    squares = 0.0
    done = np.int64(0)
    while done < filled:
        stop = first if done == 0 else filled
        for j in range(done, stop):
            prefetch_exact(ix, slot_of_key(load_i64(pool + j * 8)))
        for j in range(done, stop):
            key = load_i64(pool + j * 8)
            slot = slot_of_key(key)
            distance = exact_distance(ix, scratch[QUERY_EXACT], slot)
            if insert_key(results, found, k, make_key(distance, slot)) >= 0:
                found = min(found + 1, k)
            error = np.float64(distance) * (distance if is_squared else 1.0) - distance_of_key(key)
            errors += error
            squares += error * error
        done = stop
        if done < filled:
            mean = errors / done
            deviation = np.sqrt(max(0.0, squares / done - mean * mean))
            furthest = np.float64(distance_of_key(load_i64(results + (k - 1) * 8)))
            if is_squared:
                furthest *= furthest
            following = np.float64(distance_of_key(load_i64(pool + done * 8)))
            if following + min(mean, 0.0) - _SURE * deviation > furthest:
                break
    return done


@kernel
def scan_matching(ix, scratch, queries, count, k, depth, slots, rows, size, out_slots, out_distances):
    """As `scan_codes`, reranking as many as the query needs, two thirds of `depth` at least.

    Where all of them were reranked and one of the k nearest comes from the second half of them, the query is asked
    again with more.

    Parameters
    ----------
    rows : address of what `locate_rows` wrote for all the slots, or 0
    """
    computed = np.int64(0)
    scratch[COUNT_HOPS] = 0
    for i in range(count):
        status = _prepare(ix, scratch, queries + i * ix[DIM] * 4)
        if status != 0:
            return status + 4 * i
        room = np.int64(depth) if depth > 0 else np.int64(k)
        while True:
            filled = _pool_nearest(ix, scratch, slots, rows, size, room)
            computed += size
            if depth == 0:
                found = rerank_pool(ix, scratch, scratch[POOL], filled, k, depth, np.int64(0))
                break
            done = _rerank(ix, scratch, min(filled, max(k, 2 * room // 3)), filled, k)
            found = min(k, done)
            if (
                done < filled
                or room >= min(size, scratch[POOL_CAPACITY])
                or is_found_early(scratch, scratch[POOL], found, filled)
            ):
                break
            room = min(_DEEPER * room, scratch[POOL_CAPACITY])
        write_results(scratch, found, k, out_slots + i * k * 8, out_distances + i * k * 4)
    scratch[COUNT_DISTANCES] = computed
    return np.int64(0)
