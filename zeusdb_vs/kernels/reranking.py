"""From the pool of a walk or a scan to results: reranked by exact distance, or taken at their distances by code."""

from __future__ import annotations

import numpy as np

from zeusdb_vs.kernels.compile import inline_kernel, kernel
from zeusdb_vs.kernels.distances import (
    coded_query,
    distance_by_code,
)
from zeusdb_vs.kernels.exact_distances import exact_distance, prefetch_exact
from zeusdb_vs.kernels.intrinsics import (
    address_of,
    f32_at,
    i64_at,
    load_i32,
    load_i64,
    load_u8,
    store_i32,
    store_i64,
)
from zeusdb_vs.kernels.layout import (
    CHUNK_SHIFT,
    CODE,
    CODE_PQ,
    CODE_STRIDE,
    CODES,
    DIM,
    HOP_CAPACITY,
    HOP_SLOTS,
    QUERY_EXACT,
    QUERY_FORM,
    RESULTS,
)
from zeusdb_vs.kernels.pool import distance_of_key, insert_key, make_key, slot_of_key
from zeusdb_vs.kernels.product import product_distance_in_full, product_rounding
from zeusdb_vs.kernels.product_digits import DIGITS
from zeusdb_vs.kernels.product_queries import write_relative
from zeusdb_vs.kernels.rows import row_address


@inline_kernel
def _take_pool(ix, scratch, pool, size, k, mask):
    """Take the first `k` of a sorted pool that may be returned, at their distances by code."""
    results = scratch[RESULTS]
    found = np.int64(0)
    for i in range(size):
        key = load_i64(pool + i * 8)
        slot = slot_of_key(key)
        if mask == 0 or load_u8(mask + slot) != 0:
            store_i64(results + found * 8, make_key(distance_by_code(ix, distance_of_key(key)), slot))
            found += 1
            if found == k:
                break
    return found


@kernel
def _take_products(ix, scratch, pool, size, k, mask):
    """Take the nearest `k` of a sorted pool that may be returned, compared again by the centroids that codes name.

    Compared are the first `k` and whatever the rounding of tables may have put behind them; all, where distances were
    those by digits.
    """
    results = scratch[RESULTS]
    form = scratch[QUERY_FORM]
    dim = ix[DIM]
    relative = np.empty(dim, np.float32)
    room = np.empty(dim, np.float32)
    write_relative(ix, coded_query(ix, scratch[QUERY_EXACT], form), address_of(relative))
    furthest = np.float32(np.inf)
    found = np.int64(0)
    done = np.int64(0)
    for i in range(size):
        key = load_i64(pool + i * 8)
        slot = slot_of_key(key)
        if mask != 0 and load_u8(mask + slot) == 0:
            continue
        if done >= k and distance_of_key(key) > furthest:
            break
        row = row_address(ix[CODES], slot, ix[CHUNK_SHIFT], ix[CODE_STRIDE])
        exact = product_distance_in_full(ix, form, address_of(relative), row, address_of(room))
        if insert_key(results, found, k, make_key(distance_by_code(ix, exact), slot)) >= 0:
            found = min(found + 1, k)
        done += 1
        if done == k and load_i32(form + 12) != DIGITS:
            furthest = distance_of_key(key) + product_rounding(ix, form, row)
    return found


@kernel
def rerank_pool(ix, scratch, pool, size, k, depth, mask):
    """Rerank the first `depth` of a sorted pool that may be returned by exact distance; with 0, take the first by code.

    Leaves the `k` nearest as sorted keys in the results of `scratch` and returns how many there are.
    """
    if depth == 0 and ix[CODE] == CODE_PQ:
        return _take_products(ix, scratch, pool, size, k, mask)
    if depth == 0:
        return _take_pool(ix, scratch, pool, size, k, mask)
    results = scratch[RESULTS]
    query = scratch[QUERY_EXACT]
    slots = scratch[HOP_SLOTS]
    room = scratch[HOP_CAPACITY]
    found = np.int64(0)
    done = np.int64(0)
    i = np.int64(0)
    while i < size and done < depth:
        count = np.int64(0)
        while i < size and done + count < depth and count < room:
            slot = slot_of_key(load_i64(pool + i * 8))
            i += 1
            if mask == 0 or load_u8(mask + slot) != 0:
                store_i32(slots + count * 4, slot)
                prefetch_exact(ix, slot)
                count += 1
        for j in range(count):
            slot = load_i32(slots + j * 4)
            if insert_key(results, found, k, make_key(exact_distance(ix, query, slot), slot)) >= 0:
                found = min(found + 1, k)
        done += count
    return found


@inline_kernel
def is_found_early(scratch, pool, found, depth):
    """Whether all results come from the first half of the `depth` of a pool that were reranked.

    How far codes can be trusted depends on how close together the distances lie, and so on the filter: far from the
    query they hardly differ. Results from the second half say that there may be more behind it.
    """
    results = scratch[RESULTS]
    early = np.int64(0)
    for i in range(depth // 2):
        slot = slot_of_key(load_i64(pool + i * 8))
        for j in range(found):
            early += np.int64(slot_of_key(load_i64(results + j * 8)) == slot)
    return early == found


@kernel
def write_results(scratch, found, k, out_slots, out_distances):
    """Write the results of `scratch` as int64 slots padded with -1 and float32 distances padded with inf."""
    results = scratch[RESULTS]
    slots = i64_at(out_slots, k)
    distances = f32_at(out_distances, k)
    for i in range(found):
        key = load_i64(results + i * 8)
        slots[i] = slot_of_key(key)
        distances[i] = distance_of_key(key)
    for i in range(found, k):
        slots[i] = -1
        distances[i] = np.float32(np.inf)
