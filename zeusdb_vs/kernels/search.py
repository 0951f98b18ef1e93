"""Walking the graph: greedy descent, best-first walk on codes, exact rerank.

Malkov and Yashunin 2018 (arXiv:1603.09320), algorithms 2 (SEARCH-LAYER) and 5 (K-NN-SEARCH), with three changes: the
candidate heap and the result heap are one sorted pool; distances are those of codes; the nearest of the pool are
reranked by exact distance.
"""

from __future__ import annotations

import numpy as np

from zeusdb_vs.kernels.compile import inline_kernel, kernel
from zeusdb_vs.kernels.distances import (
    code_distance,
    code_distances,
    exact_distance,
    prefetch_codes,
    prefetch_exact,
    prepare_exact_query,
    prepare_query_form,
    row_address,
)
from zeusdb_vs.kernels.intrinsics import (
    f32_at,
    i64_at,
    load_f32,
    load_i32,
    load_i64,
    load_u8,
    load_u16,
    prefetch,
    store_i32,
    store_i64,
    store_u16,
)
from zeusdb_vs.kernels.layout import (
    CHUNK_SHIFT,
    COUNT_DISTANCES,
    COUNT_HOPS,
    DIM,
    ENTRY_POINT,
    EPOCH,
    HOP_CAPACITY,
    HOP_DISTANCES,
    HOP_SLOTS,
    LINKS,
    LINKS_WIDTH,
    POOL,
    QUERY_EXACT,
    QUERY_FORM,
    RESULTS,
    TOP_LEVEL,
    UPPER,
    UPPER_OFFSETS,
    UPPER_WIDTH,
    VISITED,
    VISITED_CAPACITY,
    N,
)
from zeusdb_vs.kernels.pool import distance_of_key, insert_key, make_key, slot_of_key

_NEAR_TOP = 8
"""Graph rows of candidates that enter the pool this near to the cursor are prefetched: they are likely to be next."""


@inline_kernel
def links_address(ix, slot, level):
    """Address of the neighbours of `slot` on `level`; 0 where the slot has no such level."""
    shift = ix[CHUNK_SHIFT]
    if level == 0:
        return row_address(ix[LINKS], slot, shift, ix[LINKS_WIDTH] * 4)
    offset = load_i32(row_address(ix[UPPER_OFFSETS], slot, shift, 4))
    if offset < 0:
        return np.int64(0)
    return row_address(ix[UPPER], offset + level - 1, shift, ix[UPPER_WIDTH] * 4)


@inline_kernel
def links_width(ix, level):
    """Neighbours a row of `level` has room for."""
    return ix[LINKS_WIDTH] if level == 0 else ix[UPPER_WIDTH]


@inline_kernel
def next_epoch(scratch):
    """Start a new visited set; the marks are wiped once in 65,535 walks."""
    epoch = scratch[EPOCH] + 1
    if epoch > 65535:
        words = scratch[VISITED_CAPACITY] // 4
        marks = i64_at(scratch[VISITED], words)
        for i in range(words):
            marks[i] = 0
        epoch = 1
    scratch[EPOCH] = epoch
    return epoch


@kernel
def descend(ix, scratch, form, start, from_level, to_level):
    """Greedy walk from `from_level` down to and including `to_level` + 1; returns the nearest slot met.

    Parameters
    ----------
    form : address of the query form
    start : slot to start from
    """
    nearest = start
    best = code_distance(ix, form, start)
    slots = scratch[HOP_SLOTS]
    distances = scratch[HOP_DISTANCES]
    n = ix[N]
    width = ix[UPPER_WIDTH]
    computed = np.int64(1)
    for level in range(from_level, to_level, -1):
        moved = True
        while moved:
            moved = False
            row = links_address(ix, nearest, level)
            if row == 0:
                break
            count = np.int64(0)
            for j in range(width):
                slot = load_i32(row + j * 4)
                if slot < 0:
                    break
                if slot >= n:
                    continue
                store_i32(slots + count * 4, slot)
                prefetch_codes(ix, slot)
                count += 1
            code_distances(ix, form, slots, count, distances)
            computed += count
            for i in range(count):
                distance = load_f32(distances + i * 4)
                if distance < best:
                    best = distance
                    nearest = load_i32(slots + i * 4)
                    moved = True
    scratch[COUNT_DISTANCES] += computed
    return nearest


@inline_kernel
def _add_unvisited(ix, scratch, row, width, n, epoch, count):
    """Collect the unvisited neighbours of one row into the hop; returns the hop's new length."""
    visited = scratch[VISITED]
    slots = scratch[HOP_SLOTS]
    for j in range(width):
        slot = load_i32(row + j * 4)
        if slot < 0:
            break
        if slot >= n or load_u16(visited + slot * 2) == epoch:
            continue
        store_u16(visited + slot * 2, epoch)
        store_i32(slots + count * 4, slot)
        prefetch_codes(ix, slot)
        count += 1
    return count


@inline_kernel
def _add_matching(ix, scratch, row, width, n, epoch, mask):
    """Collect unvisited neighbours that match and, behind those that do not, their own matching neighbours."""
    visited = scratch[VISITED]
    slots = scratch[HOP_SLOTS]
    room = scratch[HOP_CAPACITY]
    count = np.int64(0)
    hops = np.int64(0)
    for j in range(width):
        slot = load_i32(row + j * 4)
        if slot < 0:
            break
        if slot >= n or load_u16(visited + slot * 2) == epoch:
            continue
        store_u16(visited + slot * 2, epoch)
        if load_u8(mask + slot) != 0:
            if count < room:
                store_i32(slots + count * 4, slot)
                prefetch_codes(ix, slot)
                count += 1
            continue
        behind = links_address(ix, slot, 0)
        hops += 1
        for i in range(width):
            other = load_i32(behind + i * 4)
            if other < 0:
                break
            if other >= n or load_u8(mask + other) == 0 or load_u16(visited + other * 2) == epoch:
                continue
            store_u16(visited + other * 2, epoch)
            if count < room:
                store_i32(slots + count * 4, other)
                prefetch_codes(ix, other)
                count += 1
    scratch[COUNT_HOPS] += hops
    return count


@kernel
def walk(ix, scratch, form, level, size, ef, capacity, mask, budget):
    """Best-first walk on one level over the pool in `scratch`, which holds `size` visited start points.

    Ends when none of the nearest `ef` of the pool is unexpanded. With `mask`, two-hop: only matching slots enter the
    pool, and rows that do not match are looked through to the rows behind them.

    Parameters
    ----------
    form : address of the query form
    ef : pool positions that are expanded
    capacity : pool positions that are kept, >= ef
    mask : address of uint8 per slot, or 0 for none
    budget : distances after which the walk gives up (then it returns -1)

    Returns
    -------
    size of the pool, sorted by code distance
    """
    n = ix[N]
    pool = scratch[POOL]
    slots = scratch[HOP_SLOTS]
    distances = scratch[HOP_DISTANCES]
    epoch = scratch[EPOCH]
    width = links_width(ix, level)
    row_bytes = width * 4
    computed = np.int64(0)
    hops = np.int64(0)
    cursor = np.int64(0)
    while cursor < min(size, ef):
        key = load_i64(pool + cursor * 8)
        if key & 1:
            cursor += 1
            continue
        store_i64(pool + cursor * 8, key | 1)
        row = links_address(ix, slot_of_key(key), level)
        if row == 0:
            continue
        hops += 1
        if mask == 0:
            count = _add_unvisited(ix, scratch, row, width, n, epoch, np.int64(0))
        else:
            count = _add_matching(ix, scratch, row, width, n, epoch, mask)
        code_distances(ix, form, slots, count, distances)
        computed += count
        if computed > budget:
            size = np.int64(-1)
            break
        first = cursor + 1
        for i in range(count):
            slot = load_i32(slots + i * 4)
            place = insert_key(pool, size, capacity, make_key(load_f32(distances + i * 4), slot))
            if place < 0:
                continue
            size = min(size + 1, capacity)
            first = min(first, place)
            if place < cursor + _NEAR_TOP:
                links = links_address(ix, slot, level)
                for offset in range(0, row_bytes, 64):
                    prefetch(links + offset)
        cursor = first
    scratch[COUNT_DISTANCES] += computed
    scratch[COUNT_HOPS] += hops
    return size


@kernel
def start_walk(ix, scratch, form, entry):
    """Begin a walk at `entry`: new visited set, pool of one."""
    epoch = next_epoch(scratch)
    store_u16(scratch[VISITED] + entry * 2, epoch)
    store_i64(scratch[POOL], make_key(code_distance(ix, form, entry), entry))
    scratch[COUNT_DISTANCES] += 1
    return np.int64(1)


@kernel
def rerank_pool(ix, scratch, size, k, depth, mask):
    """Rerank the first `depth` of the pool that may be returned by exact distance.

    Leaves the `k` nearest as sorted keys in the results of `scratch` and returns how many there are.
    """
    pool = scratch[POOL]
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


@kernel
def search_graph(ix, scratch, queries, count, k, ef, depth, mask, two_hop, budget, out_slots, out_distances):
    """K-NN-SEARCH for `count` queries one after the other.

    Parameters
    ----------
    queries : address of float32 (count, dim)
    ef : pool positions that are expanded
    depth : how many of the pool are reranked exactly, >= k
    mask : address of uint8 per slot (1 = may be returned), or 0
    two_hop : 1 to keep slots that do not match out of the pool, 0 to walk over all and return the matching
    budget : distances after which a query gives up
    out_slots, out_distances : addresses of int64 and float32 (count, k), padded with -1 and inf

    Returns
    -------
    0, or 1 + 4 * i for a query i that is not finite, 2 + 4 * i for a zero query under cosine, 3 + 4 * i for a query
    that ran out of budget (the queries before it are answered).
    """
    dim = ix[DIM]
    form = scratch[QUERY_FORM]
    scratch[COUNT_DISTANCES] = 0
    scratch[COUNT_HOPS] = 0
    capacity = max(ef, depth)
    walk_mask = mask if two_hop != 0 else np.int64(0)
    for i in range(count):
        status = prepare_exact_query(ix, queries + i * dim * 4, scratch[QUERY_EXACT])
        if status != 0:
            return status + 4 * i
        prepare_query_form(ix, scratch[QUERY_EXACT], form)
        entry = descend(ix, scratch, form, ix[ENTRY_POINT], ix[TOP_LEVEL], np.int64(0))
        size = start_walk(ix, scratch, form, entry)
        size = walk(ix, scratch, form, np.int64(0), size, ef, capacity, walk_mask, budget)
        if size < 0:
            return np.int64(3 + 4 * i)
        found = rerank_pool(ix, scratch, size, k, depth, mask)
        write_results(scratch, found, k, out_slots + i * k * 8, out_distances + i * k * 4)
    return np.int64(0)
