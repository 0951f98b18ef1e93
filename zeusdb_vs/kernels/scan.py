"""Scans: every slot of a set is looked at, none is missed."""

from __future__ import annotations

import numpy as np

from zeusdb_vs.kernels.compile import kernel
from zeusdb_vs.kernels.distances import (
    code_distances,
    exact_distance,
    prefetch_codes,
    prefetch_exact,
    prepare_exact_query,
    prepare_query_form,
)
from zeusdb_vs.kernels.intrinsics import load_f32, load_i32, load_i64, load_u8
from zeusdb_vs.kernels.layout import (
    COUNT_DISTANCES,
    COUNT_HOPS,
    DIM,
    HOP_DISTANCES,
    POOL,
    POOL_CAPACITY,
    QUERY_EXACT,
    QUERY_FORM,
    RESULTS,
)
from zeusdb_vs.kernels.pool import distance_of_key, insert_key, make_key
from zeusdb_vs.kernels.search import is_found_early, rerank_pool, write_results

_BLOCK = 256
"""Slots whose code distances are computed before any enters the pool; the hop buffers have at least this room."""
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
    dim = ix[DIM]
    pool = scratch[POOL]
    form = scratch[QUERY_FORM]
    distances = scratch[HOP_DISTANCES]
    scratch[COUNT_HOPS] = 0
    for i in range(count):
        status = prepare_exact_query(ix, queries + i * dim * 4, scratch[QUERY_EXACT])
        if status != 0:
            return status + 4 * i
        prepare_query_form(ix, scratch[QUERY_EXACT], form)
        room = np.int64(depth) if depth > 0 else np.int64(k)
        filled = np.int64(0)
        worst = np.float32(np.inf)
        for begin in range(0, size, _BLOCK):
            end = min(begin + _BLOCK, size)
            for j in range(begin, end):
                prefetch_codes(ix, load_i32(slots + j * 4))
            code_distances(ix, form, slots + begin * 4, end - begin, distances)
            for j in range(end - begin):
                distance = load_f32(distances + j * 4)
                if distance <= worst or filled < room:
                    slot = load_i32(slots + (begin + j) * 4)
                    if insert_key(pool, filled, room, make_key(distance, slot)) >= 0:
                        filled = min(filled + 1, room)
                        if filled == room:
                            worst = distance_of_key(load_i64(pool + (room - 1) * 8))
        found = rerank_pool(ix, scratch, pool, filled, k, depth, np.int64(0))
        write_results(scratch, found, k, out_slots + i * k * 8, out_distances + i * k * 4)
    scratch[COUNT_DISTANCES] = np.int64(count) * size
    return np.int64(0)


@kernel
def scan_matching(ix, scratch, queries, count, k, depth, slots, size, out_slots, out_distances):
    """As `scan_codes`, reranking as many as this set of slots needs, `depth` at first.

    Where one of the k nearest comes from the second half of those reranked, the query is asked again with more of them.
    """
    dim = ix[DIM]
    computed = np.int64(0)
    for i in range(count):
        query = queries + i * dim * 4
        room = np.int64(depth)
        while True:
            slots_row, distances_row = out_slots + i * k * 8, out_distances + i * k * 4
            status = scan_codes(ix, scratch, query, 1, k, room, slots, size, slots_row, distances_row)
            if status != 0:
                return status + 4 * i
            computed += size
            if (
                depth == 0
                or room >= min(size, scratch[POOL_CAPACITY])
                or is_found_early(scratch, scratch[POOL], min(k, size), room)
            ):
                break
            room = min(_DEEPER * room, scratch[POOL_CAPACITY])
    scratch[COUNT_DISTANCES] = computed
    return np.int64(0)
