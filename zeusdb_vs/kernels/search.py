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
    prepare_query_form,
)
from zeusdb_vs.kernels.exact_distances import prepare_exact_query
from zeusdb_vs.kernels.intrinsics import (
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
    HOP_KEYS,
    HOP_SLOTS,
    LINKS,
    LINKS_WIDTH,
    MATCHES,
    POOL,
    QUERY_EXACT,
    QUERY_FORM,
    ROUGH,
    ROUNDED,
    TOP_LEVEL,
    UPPER,
    UPPER_OFFSETS,
    UPPER_WIDTH,
    VISITED,
    VISITED_CAPACITY,
    WALK_ALL,
    WALK_COMPUTED,
    WALK_CURSOR,
    WALK_FILTERED,
    WALK_MATCHES,
    WALK_SIZE,
    WALK_TWO_HOP,
    N,
)
from zeusdb_vs.kernels.pool import insert_key, insert_keys, make_key, slot_of_key
from zeusdb_vs.kernels.reranking import is_found_early, rerank_pool, write_results
from zeusdb_vs.kernels.rows import prefetch_codes, row_address

_NO_KEY = np.int64(0x7FFFFFFFFFFFFFFF)
"""Greater than any key."""


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
    """Start a new visited set; the marks are wiped once in 65,535 of them."""
    epoch = scratch[EPOCH] + 1
    if epoch > 65535:
        words = scratch[VISITED_CAPACITY] // 4
        marks = i64_at(scratch[VISITED], words)
        for i in range(words):
            marks[i] = 0
        epoch = 1
    scratch[EPOCH] = epoch
    return epoch


@inline_kernel
def _add_unvisited(ix, scratch, row, width, n, epoch):
    """Collect and prefetch the unvisited neighbours of one row; returns how many there are.

    Without branches on what was visited, which is as good as random: each slot is written to the next place, and the
    place is only taken when the slot is new.
    """
    visited = scratch[VISITED]
    slots = scratch[HOP_SLOTS]
    count = np.int64(0)
    for j in range(width):
        slot = load_i32(row + j * 4)
        if slot < 0:
            break
        is_inside = slot < n
        mark = visited + (slot if is_inside else np.int64(0)) * 2
        seen = load_u16(mark)
        store_u16(mark, epoch if is_inside else seen)
        store_i32(slots + count * 4, slot)
        count += np.int64(is_inside & (seen != epoch))
    for i in range(count):
        prefetch_codes(ix, load_i32(slots + i * 4))
    return count


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
    # One visited set for all levels: what was met and is not the nearest will not be.
    epoch = next_epoch(scratch)
    store_u16(scratch[VISITED] + start * 2, epoch)
    computed = np.int64(1)
    for level in range(from_level, to_level, -1):
        moved = True
        while moved:
            moved = False
            row = links_address(ix, nearest, level)
            if row == 0:
                break
            count = _add_unvisited(ix, scratch, row, ix[UPPER_WIDTH], ix[N], epoch)
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
def start_walk(ix, scratch, form, entry):
    """Begin a walk at `entry`: new visited set, pool of one."""
    epoch = next_epoch(scratch)
    store_u16(scratch[VISITED] + entry * 2, epoch)
    store_i64(scratch[POOL], make_key(code_distance(ix, form, entry), entry))
    scratch[WALK_SIZE] = 1
    scratch[WALK_COMPUTED] = 1


@inline_kernel
def _gather_hop(ix, scratch, level, ef, mask, mode):
    """Expand the nearest unexpanded slot of the pool: collect and prefetch its unvisited neighbours.

    Returns how many there are, or -1 when the walk is over.
    """
    pool = scratch[POOL]
    limit = scratch[WALK_SIZE] if mode == WALK_FILTERED else min(scratch[WALK_SIZE], ef)
    cursor = scratch[WALK_CURSOR]
    width = links_width(ix, level)
    furthest = _NO_KEY
    if mode == WALK_FILTERED and scratch[WALK_MATCHES] >= ef:
        furthest = load_i64(scratch[MATCHES] + (ef - 1) * 8)
    count = np.int64(-1)
    while cursor < limit:
        key = load_i64(pool + cursor * 8)
        if key & 1:
            cursor += 1
            continue
        if key > furthest:
            break
        store_i64(pool + cursor * 8, key | 1)
        row = links_address(ix, slot_of_key(key), level)
        if row == 0:
            continue
        scratch[COUNT_HOPS] += 1
        if mode == WALK_TWO_HOP:
            count = _add_matching(ix, scratch, row, width, ix[N], scratch[EPOCH], mask)
        else:
            count = _add_unvisited(ix, scratch, row, width, ix[N], scratch[EPOCH])
        break
    scratch[WALK_CURSOR] = cursor
    return count


@inline_kernel
def _match(scratch, key, keep, mask):
    """Bring a key whose slot matches into the nearest `keep` that do."""
    if load_u8(mask + slot_of_key(key)) != 0:
        size = scratch[WALK_MATCHES]
        if insert_key(scratch[MATCHES], size, keep, key) >= 0:
            scratch[WALK_MATCHES] = min(size + 1, keep)


@inline_kernel
def _absorb_hop(ix, scratch, level, count, ef, capacity, keep, mask, mode):
    """Bring the `count` slots of a gathered hop into the pool by their distances."""
    pool = scratch[POOL]
    slots = scratch[HOP_SLOTS]
    distances = scratch[HOP_DISTANCES]
    size = scratch[WALK_SIZE]
    cursor = scratch[WALK_CURSOR]
    row_bytes = links_width(ix, level) * 4
    code_distances(ix, scratch[QUERY_FORM], slots, count, distances)
    keys = scratch[HOP_KEYS]
    worst = load_i64(pool + (size - 1) * 8) if size == capacity else _NO_KEY
    if mode == WALK_FILTERED and scratch[WALK_MATCHES] == keep:
        worst = min(worst, load_i64(scratch[MATCHES] + (keep - 1) * 8))
    kept = np.int64(0)
    for i in range(count):
        key = make_key(load_f32(distances + i * 4), load_i32(slots + i * 4))
        store_i64(keys + kept * 8, key)
        kept += np.int64(key < worst)
    if mode == WALK_FILTERED:
        near = np.int64(0)
        for i in range(kept):
            key = load_i64(keys + i * 8)
            _match(scratch, key, keep, mask)
            # The walk ends before what lies behind the `ef`-th match.
            if scratch[WALK_MATCHES] < ef or key <= load_i64(scratch[MATCHES] + (ef - 1) * 8):
                store_i64(keys + near * 8, key)
                near += 1
        kept = near
    # What enters the pool is likely to be expanded: its row of the graph had better be near by then.
    for i in range(kept):
        links = links_address(ix, slot_of_key(load_i64(keys + i * 8)), level)
        for offset in range(0, row_bytes, 64):
            prefetch(links + offset)
    scratch[WALK_CURSOR] = min(cursor + 1, insert_keys(pool, size, capacity, keys, kept))
    scratch[WALK_SIZE] = min(size + kept, capacity)
    scratch[WALK_COMPUTED] += count


@inline_kernel
def _begin(ix, scratch, level, ef, keep, mask, mode):
    """Gather the first hop of a started walk."""
    scratch[WALK_CURSOR] = 0
    if mode == WALK_FILTERED:
        scratch[WALK_MATCHES] = 0
        for i in range(scratch[WALK_SIZE]):
            _match(scratch, load_i64(scratch[POOL] + i * 8), keep, mask)
    count = _gather_hop(ix, scratch, level, ef, mask, mode)
    # With fewer neighbours than the graph's M what matches falls apart here: it is too little, or keeps away from the
    # query.
    if mode == WALK_TWO_HOP and count < ix[UPPER_WIDTH]:
        scratch[WALK_SIZE] = -1
        return np.int64(-1)
    return count


@kernel
def walk(ix, scratch, partner, lanes, level, ef, capacity, keep, mask, mode, budget):
    """Best-first walk on one level, over the started pool of `scratch` and, with two lanes, that of `partner`.

    The lanes take turns: while the rows that one has asked for are on their way from memory, the other computes.

    Parameters
    ----------
    scratch, partner : each with its query form and its pool of WALK_SIZE visited start points
    lanes : 1 or 2; with 1 `partner` is not touched
    ef : pool positions that are expanded; WALK_FILTERED: matching slots to find
    capacity : pool positions that are kept, >= ef
    keep : WALK_FILTERED: matching slots to gather, >= ef
    mask : address of uint8 per slot, 1 where it matches; 0 with WALK_ALL
    mode : WALK_ALL ends when none of the nearest `ef` of the pool is unexpanded.
        WALK_FILTERED walks over all slots and gathers those that match in MATCHES; it ends when every slot nearer
        than the `ef`-th match is expanded, so it goes as far as the filter is sparse around the query.
        WALK_TWO_HOP lets only matching slots into the pool, and looks through the others to the rows behind them.
    budget : distances after which a lane gives up: its WALK_SIZE becomes -1, as where a two-hop walk finds too little
        around its beginning

    On return each pool is sorted by code distance and WALK_SIZE says how much it holds.
    """
    mine = _begin(ix, scratch, level, ef, keep, mask, mode)
    other = np.int64(-1)
    if lanes > 1:
        other = _begin(ix, partner, level, ef, keep, mask, mode)
    while mine >= 0 or other >= 0:
        if mine >= 0:
            _absorb_hop(ix, scratch, level, mine, ef, capacity, keep, mask, mode)
            mine = _gather_hop(ix, scratch, level, ef, mask, mode)
            if scratch[WALK_COMPUTED] > budget:
                scratch[WALK_SIZE] = -1
                mine = np.int64(-1)
        if other >= 0:
            _absorb_hop(ix, partner, level, other, ef, capacity, keep, mask, mode)
            other = _gather_hop(ix, partner, level, ef, mask, mode)
            if partner[WALK_COMPUTED] > budget:
                partner[WALK_SIZE] = -1
                other = np.int64(-1)
    scratch[COUNT_DISTANCES] += scratch[WALK_COMPUTED]
    if lanes > 1:
        partner[COUNT_DISTANCES] += partner[WALK_COMPUTED]


@kernel
def _start_query(ix, scratch, query, precision):
    """Prepare a query, descend to level 0 and start the walk there; returns 0 or what is wrong with the query."""
    status = prepare_exact_query(ix, query, scratch[QUERY_EXACT])
    if status == 0:
        form = scratch[QUERY_FORM]
        prepare_query_form(ix, scratch[QUERY_EXACT], form, precision)
        entry = descend(ix, scratch, form, ix[ENTRY_POINT], ix[TOP_LEVEL], np.int64(0))
        start_walk(ix, scratch, form, entry)
    return status


@inline_kernel
def _is_cut_short(ix, scratch, ef, capacity):
    """Whether the pool of a filtered walk was too small: nearer matches may lie behind slots that fell out of it."""
    if scratch[WALK_SIZE] < capacity or capacity >= ix[N]:
        return False
    if scratch[WALK_MATCHES] < ef:
        return True
    furthest = load_i64(scratch[MATCHES] + (ef - 1) * 8)
    return load_i64(scratch[POOL] + (capacity - 1) * 8) < furthest


@kernel
def search_graph(
    ix,
    scratch,
    partner,
    queries,
    count,
    k,
    ef,
    capacity,
    keep,
    depth,
    mask,
    mode,
    budget,
    out_slots,
    out_distances,
):
    """K-NN-SEARCH for `count` queries, two at a time.

    Parameters
    ----------
    partner : a second scratch; may be `scratch` itself where `count` is 1
    queries : address of float32 (count, dim)
    ef : pool positions that are expanded; in a filtered walk, matching slots to find
    capacity : pool positions that are kept, >= ef
    keep : of a filtered walk, matching slots to gather: at least ef, k and depth
    depth : how many are reranked exactly, k <= depth <= capacity; all of the pool where results of a filtered search
        come from the second half of them. 0: none, distances are those by code
    mask : address of uint8 per slot (1 = may be returned), or 0 with WALK_ALL
    mode : see `walk`
    budget : distances after which a query gives up
    out_slots, out_distances : addresses of int64 and float32 (count, k), padded with -1 and inf

    Returns
    -------
    0, or 1 + 4 * i for a query i that is not finite, 2 + 4 * i for a zero query under cosine, 3 + 4 * i for a query
    that gave up (the queries before it are answered): out of budget, out of room in its pool, or where too little
    matches around it to walk over.
    """
    stride = ix[DIM] * 4
    scratch[COUNT_DISTANCES] = 0
    scratch[COUNT_HOPS] = 0
    if count > 1:
        partner[COUNT_DISTANCES] = 0
        partner[COUNT_HOPS] = 0
    # What is not reranked is compared again by code.
    precision = ROUGH if depth == 0 else ROUNDED
    status = np.int64(0)
    i = np.int64(0)
    while i < count and status == 0:
        status = _start_query(ix, scratch, queries + i * stride, precision)
        if status != 0:
            status += 4 * i
            break
        lanes = np.int64(1)
        if i + 1 < count:
            status = _start_query(ix, partner, queries + (i + 1) * stride, precision)
            if status == 0:
                lanes = np.int64(2)
            else:
                status += 4 * (i + 1)
        walk(ix, scratch, partner, lanes, np.int64(0), np.int64(ef), capacity, keep, mask, mode, budget)
        for lane in range(lanes):
            block = scratch if lane == 0 else partner
            if block[WALK_SIZE] < 0:
                status = np.int64(3 + 4 * (i + lane))
                break
            pool, size = block[POOL], block[WALK_SIZE]
            if mode == WALK_FILTERED:
                if _is_cut_short(ix, block, np.int64(ef), capacity):
                    status = np.int64(3 + 4 * (i + lane))
                    break
                pool, size = block[MATCHES], block[WALK_MATCHES]
            found = rerank_pool(ix, block, pool, size, k, depth, mask)
            if mode != WALK_ALL and 0 < depth < size and not is_found_early(block, pool, found, depth):
                found = rerank_pool(ix, block, pool, size, k, size, mask)
            place = i + lane
            write_results(block, found, k, out_slots + place * k * 8, out_distances + place * k * 4)
        i += lanes
    if count > 1:
        scratch[COUNT_DISTANCES] += partner[COUNT_DISTANCES]
        scratch[COUNT_HOPS] += partner[COUNT_HOPS]
    return status
