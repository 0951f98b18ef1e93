"""Building the graph in deterministic batches.

HNSW (Malkov and Yashunin 2018, arXiv:1603.09320, algorithms 1 INSERT and 4 SELECT-NEIGHBORS-HEURISTIC with
keepPrunedConnections), its insertions grouped as in ParlayANN (Dobson et al. 2023, arXiv:2305.04359, section 4):

    A  `find_neighbors`   each new slot searches the graph as it is and fills its own rows    parallel over slots
    B  `collect_edges`    the reverse edges, to be grouped by target                          one thread
    C  `link_back`        each target takes its new neighbours, pruning where it is full      parallel over targets

A reads rows that C writes, and never at the same time; within A and C no two threads write one row. So the graph
depends on the batches alone and not on the number of threads.
"""

from __future__ import annotations

import numpy as np

from zeusdb_vs.kernels.compile import inline_kernel, kernel
from zeusdb_vs.kernels.distances import code_distance, code_distances, expand_row, prepare_query_form
from zeusdb_vs.kernels.exact_distances import prepare_exact_query
from zeusdb_vs.kernels.intrinsics import (
    load_f32,
    load_i32,
    load_i64,
    load_u8,
    prefetch,
    store_i32,
    store_i64,
    store_u16,
)
from zeusdb_vs.kernels.layout import (
    AS_CODED,
    CHOSEN,
    CHUNK_SHIFT,
    DIM,
    ENTRY_POINT,
    EXACT,
    EXACT_ORIGINALS,
    HOP_DISTANCES,
    HOP_KEYS,
    HOP_SLOTS,
    LEVELS,
    POOL,
    POOL_CAPACITY,
    PRUNE_FORM,
    QUERY_EXACT,
    QUERY_FORM,
    TOP_LEVEL,
    VECTORS,
    VISITED,
    WALK_ALL,
    WALK_SIZE,
    N,
)
from zeusdb_vs.kernels.pool import distance_of_key, insert_key, make_key, slot_of_key
from zeusdb_vs.kernels.rows import prefetch_codes, row_address
from zeusdb_vs.kernels.search import descend, links_address, links_width, next_epoch, start_walk, walk

_FAR = np.int64(1) << 62
"""A budget no walk uses up."""
_BLOCK = 256
"""Slots of a batch whose distances are computed at once; the hop buffers have at least this room."""


@kernel
def prune_pool(ix, scratch, size, most, fill):
    """SELECT-NEIGHBORS-HEURISTIC over the sorted pool.

    A candidate is accepted when it is nearer to the target than to every neighbour accepted before it (or as near,
    where that neighbour is nearer still); then the
    nearest of the rejected fill up to `fill` places (keepPrunedConnections). Each accepted one is compared with all
    candidates still in the running at once, and takes those it occludes out of it.

    Parameters
    ----------
    size : keys in the pool, nearest first, the target not among them
    most : neighbours accepted by the heuristic at most
    fill : neighbours in all at most

    Returns
    -------
    how many slots were written to CHOSEN of `scratch`: the accepted nearest first, then the fillers nearest first
    """
    pool = scratch[POOL]
    keys = scratch[HOP_KEYS]
    slots = scratch[HOP_SLOTS]
    distances = scratch[HOP_DISTANCES]
    form = scratch[PRUNE_FORM]
    chosen = scratch[CHOSEN]
    for i in range(size):
        key = load_i64(pool + i * 8)
        store_i64(keys + i * 8, key)
        store_i32(slots + i * 4, slot_of_key(key))
    running = np.int64(size)
    count = np.int64(0)
    while running > 0 and count < most:
        slot = load_i32(slots)
        own = distance_of_key(load_i64(keys))
        store_i32(chosen + count * 4, slot)
        count += 1
        if count == most or running == 1:
            break
        expand_row(ix, slot, form)
        code_distances(ix, form, slots + 4, running - 1, distances)
        kept = np.int64(0)
        for i in range(1, running):
            key = load_i64(keys + i * 8)
            store_i64(keys + kept * 8, key)
            store_i32(slots + kept * 4, slot_of_key(key))
            between, distance = load_f32(distances + i * 4 - 4), distance_of_key(key)
            # As far from both: the accepted one is a copy of the target, which must not hide all the rest.
            kept += np.int64(between > distance or (between == distance and distance > own))
        running = kept
    accepted = count
    passed = np.int64(0)
    for i in range(size):
        if count >= fill:
            break
        slot = slot_of_key(load_i64(pool + i * 8))
        if passed < accepted and load_i32(chosen + passed * 4) == slot:  # both in the order of distance
            passed += 1
        else:
            store_i32(chosen + count * 4, slot)
            count += 1
    return count


@inline_kernel
def _clear_marks(pool, size):
    for i in range(size):
        store_i64(pool + i * 8, load_i64(pool + i * 8) & ~np.int64(1))


@inline_kernel
def _write_row(row, width, chosen, count):
    """Replace a row of the graph; a reader meanwhile sees neighbours of before or after, each of them valid."""
    for j in range(count):
        store_i32(row + j * 4, load_i32(chosen + j * 4))
    for j in range(count, width):
        store_i32(row + j * 4, -1)


@inline_kernel
def _pool_batch(ix, scratch, slots, count, own, level, size, capacity):
    """Add the slots of the batch that reach `level` to the pool by code distance, but for `own`; returns its size."""
    shift = ix[CHUNK_SHIFT]
    form = scratch[QUERY_FORM]
    pool = scratch[POOL]
    distances = scratch[HOP_DISTANCES]
    for begin in range(0, count, _BLOCK):
        end = min(begin + _BLOCK, count)
        if level == 0:
            code_distances(ix, form, slots + begin * 4, end - begin, distances)
        for j in range(begin, end):
            slot = load_i32(slots + j * 4)
            if slot == own:
                continue
            if level == 0:
                distance = load_f32(distances + (j - begin) * 4)
            elif load_u8(row_address(ix[LEVELS], slot, shift, 1)) >= level:
                distance = code_distance(ix, form, slot)
            else:
                continue
            if insert_key(pool, size, capacity, make_key(distance, slot)) >= 0:
                size = min(size + 1, capacity)
    return size


@inline_kernel
def _keep_published(pool, size, n):
    """Leave in the pool only what lies in the published graph, unmarked; returns its size."""
    kept = np.int64(0)
    for i in range(size):
        key = load_i64(pool + i * 8) & ~np.int64(1)
        if slot_of_key(key) < n:
            store_i64(pool + kept * 8, key)
            kept += 1
    return kept


@inline_kernel
def _walk_all(ix, scratch, partner, lanes, level, ef):
    walk(ix, scratch, partner, lanes, level, ef, ef, np.int64(0), np.int64(0), WALK_ALL, _FAR)


@inline_kernel
def _choose_links(ix, scratch, slots, count, slot, level, ef_construction, most, fill):
    """Write the row of a batch's slot on one level from its pool and the batch; leaves the published in the pool."""
    pool = scratch[POOL]
    size = _pool_batch(ix, scratch, slots, count, slot, level, scratch[WALK_SIZE], ef_construction)
    chosen = prune_pool(ix, scratch, size, most, fill)
    _write_row(links_address(ix, slot, level), links_width(ix, level), scratch[CHOSEN], chosen)
    scratch[WALK_SIZE] = _keep_published(pool, size, ix[N])


@kernel
def _start_slot(ix, scratch, slots, count, slot, ef_construction, most_upper, fill_upper):
    """Link a slot of the batch on its upper levels, and make ready its walk on level 0."""
    form = scratch[QUERY_FORM]
    pool = scratch[POOL]
    top = ix[TOP_LEVEL] if ix[ENTRY_POINT] >= 0 else np.int64(-1)
    level = load_u8(row_address(ix[LEVELS], slot, ix[CHUNK_SHIFT], 1))
    if ix[EXACT] == EXACT_ORIGINALS:
        vector = row_address(ix[VECTORS], slot, ix[CHUNK_SHIFT], ix[DIM] * 4)
        prepare_exact_query(ix, vector, scratch[QUERY_EXACT])
        prepare_query_form(ix, scratch[QUERY_EXACT], form, AS_CODED)
    else:
        expand_row(ix, slot, form)
    entry = np.int64(-1)
    if top >= 0:
        entry = descend(ix, scratch, form, ix[ENTRY_POINT], top, min(level, top))
    scratch[WALK_SIZE] = 0
    for at in range(level, -1, -1):
        if at <= top:
            if (
                scratch[WALK_SIZE] == 0
            ):  # the first level there is, or the batch has crowded out all of the graph
                start_walk(ix, scratch, form, entry)
            else:
                # All found on the level above are start points, in a visited set of this level's own.
                epoch = next_epoch(scratch)
                for j in range(scratch[WALK_SIZE]):
                    store_u16(scratch[VISITED] + slot_of_key(load_i64(pool + j * 8)) * 2, epoch)
        if at > 0:
            if at <= top:
                _walk_all(ix, scratch, scratch, np.int64(1), np.int64(at), ef_construction)
                _clear_marks(pool, scratch[WALK_SIZE])
            _choose_links(
                ix, scratch, slots, count, slot, np.int64(at), ef_construction, most_upper, fill_upper
            )


@kernel
def find_neighbors(
    ix, scratch, partner, slots, count, start, stop, ef_construction, most_0, most_upper, fill_0, fill_upper
):
    """Phase A: fill the rows of `slots[start:stop]` from searches of the published graph and a scan of the batch.

    The batch is scanned because its members are not in the graph yet: records that arrive in clusters (sorted by
    topic, say) have their nearest neighbours in their own batch.

    Parameters
    ----------
    partner : a second scratch; may be `scratch` itself where `stop - start` is 1
    slots : address of int32 (count,); the whole batch, whose codes and originals are in place
    most_0, most_upper : neighbours accepted by the heuristic at most, on level 0 and above
    fill_0, fill_upper : neighbours in all at most, on level 0 and above
    """
    for i in range(start, stop, 2):
        lanes = min(np.int64(2), stop - i)
        for lane in range(lanes):
            block = scratch if lane == 0 else partner
            slot = load_i32(slots + (i + lane) * 4)
            _start_slot(ix, block, slots, count, slot, ef_construction, most_upper, fill_upper)
        if ix[ENTRY_POINT] >= 0:
            _walk_all(ix, scratch, partner, lanes, np.int64(0), ef_construction)
        for lane in range(lanes):
            block = scratch if lane == 0 else partner
            slot = load_i32(slots + (i + lane) * 4)
            _clear_marks(block[POOL], block[WALK_SIZE])
            _choose_links(ix, block, slots, count, slot, np.int64(0), ef_construction, most_0, fill_0)


@kernel
def collect_edges(ix, slots, count, offered, targets, sources):
    """Phase B: write the reverse edges of `slots` as int64 keys `level << 32 | target` and int32 sources.

    Parameters
    ----------
    offered : links of a row that are offered back at most, the first ones

    Returns how many there are; the keys' buffers hold at least the links of all rows.
    """
    shift = ix[CHUNK_SHIFT]
    edges = np.int64(0)
    for i in range(count):
        slot = load_i32(slots + i * 4)
        level = load_u8(row_address(ix[LEVELS], slot, shift, 1))
        for at in range(level + 1):
            row = links_address(ix, slot, at)
            for j in range(min(offered, links_width(ix, at))):
                target = load_i32(row + j * 4)
                if target < 0:
                    break
                store_i64(targets + edges * 8, (np.int64(at) << 32) | target)
                store_i32(sources + edges * 4, slot)
                edges += 1
    return edges


@kernel
def pool_row(ix, scratch, form, row, width, size, limit):
    """Add the neighbours in a row of the graph to the pool, by their distance to the query form; returns its size."""
    pool = scratch[POOL]
    capacity = scratch[POOL_CAPACITY]
    for j in range(width):
        slot = load_i32(row + j * 4)
        if slot < 0:
            break
        if slot < limit:
            prefetch_codes(ix, slot)
    for j in range(width):
        slot = load_i32(row + j * 4)
        if slot < 0:
            break
        if (
            slot < limit
            and insert_key(pool, size, capacity, make_key(code_distance(ix, form, slot), slot)) >= 0
        ):
            size = min(size + 1, capacity)
    return size


@inline_kernel
def _drop_held(row, used, sources, first, last):
    """Leave in `sources[first:last]` what is not in the row yet; returns the new end."""
    kept = first
    for edge in range(first, last):
        source = load_i32(sources + edge * 4)
        held = False
        for j in range(used):
            held |= load_i32(row + j * 4) == source
        if not held:
            store_i32(sources + kept * 4, source)
            kept += 1
    return kept


@kernel
def link_back(ix, scratch, targets, sources, groups, start, stop, limit, keep_0, keep_upper):
    """Phase C: give each target its new neighbours, pruning rows that overflow.

    Parameters
    ----------
    targets, sources : addresses of the edges of phase B, sorted stably by target
    groups : address of int64; edge at which each group of one target begins, and the end behind the last
    start, stop : range of groups
    limit : slots that exist, the new ones included
    keep_0, keep_upper : neighbours a pruned row keeps, on level 0 and above
    """
    form = scratch[QUERY_FORM]
    chosen = scratch[CHOSEN]
    for group in range(start, stop):
        first = load_i64(groups + group * 8)
        last = load_i64(groups + group * 8 + 8)
        key = load_i64(targets + first * 8)
        level = key >> 32
        target = key & np.int64(0xFFFFFFFF)
        width = links_width(ix, level)
        row = links_address(ix, target, level)
        if group + 1 < stop:
            following = load_i64(targets + last * 8)
            ahead = links_address(ix, following & np.int64(0xFFFFFFFF), following >> 32)
            prefetch(ahead)
            prefetch(ahead + 64)
            prefetch_codes(ix, following & np.int64(0xFFFFFFFF))
        used = np.int64(0)
        while used < width and load_i32(row + used * 4) >= 0:
            used += 1
        if target >= ix[N]:  # of the batch itself: where two chose each other, the row has the source already
            last = _drop_held(row, used, sources, first, last)
        if used + last - first <= width:
            for edge in range(first, last):
                store_i32(row + (used + edge - first) * 4, load_i32(sources + edge * 4))
            continue
        expand_row(ix, target, form)
        size = pool_row(ix, scratch, form, row, width, np.int64(0), limit)
        size = pool_row(ix, scratch, form, sources + first * 4, last - first, size, limit)
        keep = keep_0 if level == 0 else keep_upper
        count = prune_pool(ix, scratch, size, keep, keep)
        _write_row(row, width, chosen, count)


@kernel
def narrow_rows(ix, scratch, start, stop, width, out, keep):
    """Prune the level-0 rows of slots `start..stop` to `width` places, into rows of another table.

    Parameters
    ----------
    out : address of the row table of the narrow rows, stride 4 * width
    keep : neighbours a row keeps at most, <= width
    """
    form = scratch[QUERY_FORM]
    chosen = scratch[CHOSEN]
    wide = links_width(ix, 0)
    shift = ix[CHUNK_SHIFT]
    for slot in range(start, stop):
        row = links_address(ix, slot, np.int64(0))
        target = row_address(out, slot, shift, width * 4)
        used = np.int64(0)
        while used < wide and load_i32(row + used * 4) >= 0:
            used += 1
        if used <= keep:
            _write_row(target, width, row, used)
            continue
        expand_row(ix, slot, form)
        size = pool_row(ix, scratch, form, row, wide, np.int64(0), ix[N])
        count = prune_pool(ix, scratch, size, keep, keep)
        _write_row(target, width, chosen, count)
