"""The HNSW graph: neighbour rows, levels, entry point; building, repairing and describing it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.arrays import checked_array, checked_number
from zeusdb_vs.chunks import RowTable
from zeusdb_vs.errors import CorruptIndexError
from zeusdb_vs.kernels import layout
from zeusdb_vs.scratch import ScratchPool
from zeusdb_vs.threads import run_range

_FILE = "hnsw_index.hnsw.graph"
BATCH_FRACTION = 0.02
SMALLEST_BATCH = 512
LARGEST_BATCH = 4096
MOST_LEVELS = 16
_WIDE_SHARE = 0.2
"""An add of at least this share of what is there prunes in wide rows; a smaller one in place."""
_CONNECT_EF = 64
_CONNECT_ROUNDS = 4
_CONNECT_LEAST, _CONNECT_SHARE = 1024, 1 / 16
_FIND_GRAIN = 8
_LINK_GRAIN = 64
"""Slots and targets a thread takes at least: less is done sooner than handed over."""
_LOCAL_REPAIR_SHARE = 50
"""Removals of less than one in this many slots are repaired around each; more, by a pass over all rows."""
_SPLITMIX = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB], np.uint64)


def draw_levels(first: int, count: int, m: int, seed: int) -> NDArray[np.uint8]:
    """Return the levels of slots `first .. first + count`: floor(-ln(u) / ln(m)), u hashed from slot and seed.

    A hash and not a stream, so that a slot's level does not depend on how the adds were cut.
    """
    with np.errstate(over="ignore"):
        z = (np.arange(first, first + count, dtype=np.uint64) + np.uint64(1)) * _SPLITMIX[0] + np.uint64(seed)
        z = (z ^ (z >> np.uint64(30))) * _SPLITMIX[1]
        z = (z ^ (z >> np.uint64(27))) * _SPLITMIX[2]
        z ^= z >> np.uint64(31)
    uniform = ((z >> np.uint64(11)).astype(np.float64) + 1) / 2.0**53
    levels: NDArray[np.uint8] = np.minimum(-np.log(uniform) / math.log(m), MOST_LEVELS - 1).astype(np.uint8)
    return levels


class HNSWGraph:
    """Neighbour rows of every slot.

    Parameters
    ----------
    m : the paper's M; a level-0 row has room for 2m neighbours, an upper one for m
    ef_construction : pool of the searches that build
    seed : of the levels
    shift : log2 of the rows per chunk, as the vectors'

    Attributes
    ----------
    count : slots that are in the graph
    entry_point, top_level : where walks start; -1 and -1 in an empty graph
    """

    def __init__(self, m: int, ef_construction: int, seed: int, shift: int) -> None:
        self.m = m
        self.ef_construction = ef_construction
        self.seed = seed
        self.shift = shift
        self.max_neighbors = m
        self.max_neighbors_0 = 2 * m
        self.count = 0
        self.entry_point = -1
        self.top_level = -1
        self.links = RowTable(np.int32, self.max_neighbors_0, shift, fill=-1)
        self.upper = RowTable(np.int32, self.max_neighbors, shift, fill=-1)
        self.upper_offsets = RowTable(np.int32, 1, shift, fill=-1)
        self.levels = RowTable(np.uint8, 1, shift, fill=0)
        self.upper_count = 0
        self._unconnected = 0  # slots linked since all were last seen to be reachable

    def describe(self, ix: NDArray[np.int64]) -> None:
        """Write what kernels need to know of the graph into a descriptor."""
        ix[layout.LINKS] = self.links.address
        ix[layout.LINKS_WIDTH] = self.links.width
        ix[layout.UPPER] = self.upper.address
        ix[layout.UPPER_WIDTH] = self.upper.width
        ix[layout.UPPER_OFFSETS] = self.upper_offsets.address
        ix[layout.LEVELS] = self.levels.address
        ix[layout.ENTRY_POINT] = self.entry_point
        ix[layout.TOP_LEVEL] = self.top_level

    def held(self) -> tuple[Any, ...]:
        """Return what a descriptor points to and whoever keeps it must keep alive."""
        tables = (self.links, self.upper, self.upper_offsets, self.levels)
        return tuple((table.table, tuple(table.chunks)) for table in tables)

    def memory_bytes(self) -> int:
        """Bytes in memory reserved for the rows; mapped files are not counted."""
        return sum(t.memory_bytes for t in (self.links, self.upper, self.upper_offsets, self.levels))

    def mapped_bytes(self) -> int:
        """Bytes of mapped files that rows are read from; pages that change become memory."""
        return sum(t.mapped_bytes for t in (self.links, self.upper, self.upper_offsets, self.levels))

    def _reserve(self, stop: int) -> None:
        """Give slots `count .. stop` rows and levels."""
        self.links.ensure(stop)
        self._reserve_levels(draw_levels(self.count, stop - self.count, self.m, self.seed))

    def _reserve_levels(self, levels: NDArray[np.uint8]) -> None:
        """Give the slots behind `count` the levels named, and upper rows for them."""
        first = self.count
        for table in (self.upper_offsets, self.levels):
            table.ensure(first + len(levels))
        self.levels.write(first, levels[:, None])
        offsets = np.full(len(levels), -1, np.int32)
        tall = np.flatnonzero(levels)
        ends = np.cumsum(levels[tall], dtype=np.int64)
        offsets[tall] = self.upper_count + ends - levels[tall]
        self.upper_offsets.write(first, offsets[:, None])
        if len(ends):
            self.upper_count += int(ends[-1])
            self.upper.ensure(self.upper_count)

    def insert(
        self,
        stop: int,
        live: NDArray[np.bool_],
        describe: Callable[[], NDArray[np.int64]],
        scratches: ScratchPool,
        published: Callable[[int], None],
    ) -> None:
        """Link slots `count .. stop`, whose codes and originals are in place, in deterministic batches.

        Parameters
        ----------
        live : bool (>= stop,)
        describe : returns a fresh descriptor of the index as it is
        scratches : working memory
        published : called after each batch with the slots that are now in the graph
        """
        self._reserve(stop)
        wide = stop - self.count >= max(SMALLEST_BATCH, _WIDE_SHARE * self.count)
        if wide:
            self._widen()
        try:
            while self.count < stop:
                size = min(
                    LARGEST_BATCH, max(SMALLEST_BATCH, int(self.count * BATCH_FRACTION)), stop - self.count
                )
                self._insert_batch(self.count + size, wide, live, describe(), scratches)
                published(self.count)
        finally:
            if wide:
                self._narrow(describe(), scratches)
                self.connect(live, describe(), scratches)
        published(self.count)

    def _insert_batch(
        self, stop: int, is_wide: bool, live: NDArray[np.bool_], ix: NDArray[np.int64], scratches: ScratchPool
    ) -> None:
        from zeusdb_vs.kernels import build

        first, count = self.count, stop - self.count
        slots = np.arange(first, stop, dtype=np.int32)
        slots_address = slots.ctypes.data
        ix[layout.N] = first
        pool = max(self.ef_construction, 4 * self.links.width)

        def find(begin: int, end: int) -> None:
            scratch = scratches.take(stop, pool, 1)
            build.find_neighbors(
                ix,
                scratch.block,
                scratch.partner_block(end - begin),
                slots_address,
                count,
                begin,
                end,
                self.ef_construction,
                self.max_neighbors,
                self.max_neighbors,
                self.max_neighbors_0,
                self.max_neighbors,
            )
            scratches.give(scratch)

        run_range(find, count, _FIND_GRAIN)
        levels = np.concatenate([v for _, v in self.levels.spans(first, stop)])[:, 0]
        room = count * self.links.width + int(levels.sum()) * self.upper.width
        targets = np.empty(room, np.int64)
        sources = np.empty(room, np.int32)
        # Where nothing is pruned until all are in, every link is offered back; else the first M, which count most.
        offered = self.links.width if is_wide else self.m
        edges = build.collect_edges(
            ix, slots_address, count, offered, targets.ctypes.data, sources.ctypes.data
        )
        order = np.argsort(targets[:edges], kind="stable")
        targets, sources = targets[:edges][order], sources[:edges][order]
        changes = np.flatnonzero(targets[1:] != targets[:-1]) + 1
        groups = np.concatenate(([0], changes, [edges])).astype(np.int64) if edges else np.zeros(1, np.int64)
        targets_address, sources_address = targets.ctypes.data, sources.ctypes.data
        groups_address = groups.ctypes.data

        def link(begin: int, end: int) -> None:
            scratch = scratches.take(stop, pool, 1)
            build.link_back(
                ix,
                scratch.block,
                targets_address,
                sources_address,
                groups_address,
                begin,
                end,
                stop,
                self.max_neighbors_0,
                self.max_neighbors,
            )
            scratches.give(scratch)

        run_range(link, len(groups) - 1, _LINK_GRAIN)
        if first:
            self._connect_batch(first, stop, live, ix, scratches)
        highest = int(levels.max())
        if highest > self.top_level:
            self.top_level = highest
            self.entry_point = first + int(levels.argmax())
        self.count = stop

    def _widen(self) -> None:
        """Give level-0 rows half as much room again while many slots come in: they are pruned less often."""
        wide = RowTable(np.int32, 3 * self.m, self.shift, fill=-1)
        wide.ensure(self.links.capacity)
        for target, source in zip(wide.chunks, self.links.chunks, strict=True):
            target[:, : self.links.width] = source
        self.links = wide

    def _narrow(self, ix: NDArray[np.int64], scratches: ScratchPool) -> None:
        """Prune the wide rows to the width that stays."""
        from zeusdb_vs.kernels import build

        narrow = RowTable(np.int32, self.max_neighbors_0, self.shift, fill=-1)
        narrow.ensure(self.links.capacity)
        ix[layout.N] = self.count
        pool = max(self.ef_construction, 4 * self.links.width)

        def prune(begin: int, end: int) -> None:
            scratch = scratches.take(self.count, pool, 1)
            build.narrow_rows(
                ix, scratch.block, begin, end, self.max_neighbors_0, narrow.address, self.max_neighbors_0
            )
            scratches.give(scratch)

        run_range(prune, self.count, 256)
        self.links = narrow

    def _connect_batch(
        self,
        first: int,
        stop: int,
        live: NDArray[np.bool_],
        ix: NDArray[np.int64],
        scratches: ScratchPool,
    ) -> None:
        from zeusdb_vs.kernels import repair

        ix[layout.N] = stop
        scratch = scratches.take(stop, _CONNECT_EF, 1)
        marks, queue = np.zeros(stop - first, np.uint8), np.empty(stop - first, np.int32)
        repair.connect_batch(
            ix, scratch.block, first, marks.ctypes.data, queue.ctypes.data, live.ctypes.data, _CONNECT_EF
        )
        scratches.give(scratch)
        # A link set may have cost another slot its last one, as may pruning: looked for now and then.
        self._unconnected += stop - first
        if self._unconnected > max(_CONNECT_LEAST, stop * _CONNECT_SHARE):
            self.count = stop
            self.connect(live, ix, scratches)

    def connect(self, live: NDArray[np.bool_], ix: NDArray[np.int64], scratches: ScratchPool) -> int:
        """Link the live slots that walks cannot reach; returns the links set.

        Parameters
        ----------
        live : bool (>= count,)
        ix : a descriptor of the index
        """
        from zeusdb_vs.kernels import repair

        if self.count == 0:
            return 0
        ix[layout.N] = self.count
        scratch = scratches.take(self.count, _CONNECT_EF, 1)
        queue = np.empty(self.count, np.int32)
        added = 0
        # A link set may cost another slot its last one, so what is reachable is looked at again.
        for _ in range(_CONNECT_ROUNDS):
            marks = np.zeros(self.count, np.uint8)
            addresses = (marks.ctypes.data, queue.ctypes.data)
            repair.mark_reachable(ix, self.entry_point, 0, *addresses)
            links = repair.connect_unreached(ix, scratch.block, *addresses, live.ctypes.data, _CONNECT_EF)
            added += links
            if links == 0:
                break
        scratches.give(scratch)
        self._unconnected = 0
        return added

    def repair(
        self,
        removed: NDArray[np.int32],
        live: NDArray[np.bool_],
        ix: NDArray[np.int64],
        scratches: ScratchPool,
        *,
        thorough: bool = False,
    ) -> int:
        """Give slots that link to removed ones other neighbours in their place; returns the rows changed.

        Parameters
        ----------
        removed : int32 slots removed since the last repair
        live : bool (>= count,), False for every removed slot
        ix : a descriptor of the index
        thorough : whether to look at every row, so that no link to a removed slot is left
        """
        from zeusdb_vs.kernels import repair

        ix[layout.N] = self.count
        removed = np.ascontiguousarray(removed[removed < self.count], np.int32)
        pool = max(self.ef_construction, 4 * self.links.width)
        changed: list[int] = []
        keep = (self.max_neighbors_0, self.max_neighbors)
        live_address = live.ctypes.data
        if thorough or len(removed) * _LOCAL_REPAIR_SHARE > self.count:

            def repair_all(begin: int, end: int) -> None:
                scratch = scratches.take(self.count, pool, 1)
                changed.append(repair.repair_all(ix, scratch.block, begin, end, live_address, *keep))
                scratches.give(scratch)

            run_range(repair_all, self.count, 256)
        elif len(removed):
            # On one thread: two removed slots may share a neighbour, and which is repaired first would show.
            scratch = scratches.take(self.count, pool, 1)
            changed.append(
                repair.repair_around(
                    ix, scratch.block, removed.ctypes.data, 0, len(removed), live_address, *keep
                )
            )
            scratches.give(scratch)
        return sum(changed)

    def state(self) -> dict[str, Any]:
        """Return the graph as named arrays and numbers. The rows are copies: they change in place."""
        count, upper = self.count, self.upper_count
        return {
            "entry_point": self.entry_point,
            "top_level": self.top_level,
            "levels": np.concatenate([np.empty((0, 1), np.uint8), *self.levels.pieces(count)])[:, 0],
            "links": [piece.copy() for piece in self.links.pieces(count)]
            or [np.empty((0, self.max_neighbors_0), np.int32)],
            "upper": [piece.copy() for piece in self.upper.pieces(upper)]
            or [np.empty((0, self.max_neighbors), np.int32)],
        }

    @classmethod
    def from_state(
        cls, state: Mapping[str, Any], n: int, m: int, ef_construction: int, seed: int, shift: int
    ) -> HNSWGraph:
        """Return the graph of `n` slots that `state` describes, every link checked.

        Raises
        ------
        CorruptIndexError
            An array is missing or of the wrong shape, or a link, level or entry point leads nowhere.
        """
        graph = cls(m, ef_construction, seed, shift)
        levels = checked_array(state, _FILE, "levels", "|u1", (n,))
        links = checked_array(state, _FILE, "links", "<i4", (n, graph.max_neighbors_0))
        rows = int(levels.sum(dtype=np.int64))
        upper = checked_array(state, _FILE, "upper", "<i4", (rows, m))
        entry = int(checked_number(state, _FILE, "entry_point", -1, n - 1))
        top = int(checked_number(state, _FILE, "top_level", -1, MOST_LEVELS - 1))
        highest = int(levels.max()) if n else -1
        if top != highest or (n > 0) != (entry >= 0) or (n and int(levels[entry]) != top):
            raise CorruptIndexError(
                f"{_FILE}: entry point {entry} and top level {top} do not fit levels up to {highest}"
            )
        for name, part in (("links", links), ("upper", upper)):
            if part.size and not (int(part.min()) >= -1 and int(part.max()) < n):
                raise CorruptIndexError(f"{_FILE}: {name} lead to slots that do not exist")
        counts = levels[levels > 0].astype(np.int64)
        # Level of each upper row: 1, 2, .. of each tall slot in turn.
        row_levels = np.arange(rows) - np.repeat(np.cumsum(counts) - counts, counts) + 1
        targets = np.where(upper < 0, 0, levels[upper] if n else 0)
        if rows and ((upper >= 0) & (targets < row_levels[:, None])).any():
            raise CorruptIndexError(f"{_FILE}: upper rows link to slots that are not on their level")
        graph._reserve_levels(levels)
        graph.links = RowTable.from_rows(_writable(links), shift, fill=-1)
        if rows:
            graph.upper = RowTable.from_rows(_writable(upper), shift, fill=-1)
        graph.count, graph.entry_point, graph.top_level = n, entry, top
        return graph

    def skip(self, stop: int) -> None:
        """Count slots up to `stop` as in the graph though nothing links to them: they are burned."""
        if stop > self.count:
            self._reserve(stop)
            self.count = stop

    def selected(self, slots: NDArray[np.int64]) -> HNSWGraph:
        """Return a graph of the given slots only, numbered anew in the given ascending order.

        No row of them may link to a slot that is not among them: see `repair`.
        """
        graph = HNSWGraph(self.m, self.ef_construction, self.seed, self.shift)
        numbers = np.full(self.count + 1, -1, np.int32)  # the last one answers for the padding -1
        numbers[slots] = np.arange(len(slots), dtype=np.int32)
        step = 1 << self.shift
        graph.links.ensure(len(slots))
        for start in range(0, len(slots), step):
            graph.links.write(start, _packed(numbers[self.links.take(slots[start : start + step])]))
        levels = self.levels.take(slots)[:, 0]
        graph._reserve_levels(levels)
        tall = np.flatnonzero(levels)
        if len(tall):
            counts = levels[tall].astype(np.int64)
            old = self.upper_offsets.take(slots[tall])[:, 0].astype(np.int64)
            sources = np.repeat(old - (np.cumsum(counts) - counts), counts) + np.arange(graph.upper_count)
            graph.upper.write(0, _packed(numbers[self.upper.take(sources)]))
        graph.count = len(slots)
        if len(slots):
            graph.top_level = int(levels.max())
            graph.entry_point = int(levels.argmax())
        return graph


def _writable(rows: NDArray[np.int32]) -> NDArray[np.int32]:
    return rows if rows.flags.writeable else rows.copy()


def _packed(rows: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return rows with their -1 moved to the end, the order of the rest kept."""
    gone = rows < 0
    if (gone[:, :-1] & ~gone[:, 1:]).any():
        rows = np.take_along_axis(rows, np.argsort(gone, axis=1, kind="stable"), axis=1)
    return rows
