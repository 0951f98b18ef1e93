"""A compact hash table from ids to slots: 6 to 9 bytes an id, where a dict and its ints take 65.

Open addressing with linear probing, downwards, since Python and NumPy wrap negative positions by themselves. A cell is
a uint32: a slot in its low bits and a tag out of the id's hash in the others, so that hardly an id is compared but the
one looked for. Hashes are Python's own: random in every process, so that nobody can choose ids that collide, and kept
by each str, so that the table need not.

Readers come without a lock beside one writer, and take the cells and what belongs to them as one tuple. A cell goes
from empty to a slot, from one slot of an id to another, and from a slot to removed, by aligned 32-bit stores; no entry
moves and none is emptied. A table that is full is left as it is and followed by another.
"""

from __future__ import annotations

from array import array
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_EMPTY = 0xFFFFFFFF
_MOST_SLOT_BITS = 31
"""So that no slot has all bits of a cell."""
_FEWEST_CELLS = 64
_LOAD = 0.65
"""Share of the cells in use at which another table follows: 1.9 are read for an id that is there, 4.6 for another."""
_GROWTH = 1.5
"""Room of a new table, by the ids that it begins with: 1.4 and 2.1 cells are read."""
_AT_ONCE = 1 << 12
"""Ids hashed at a time: other threads run in between, and lists of their slots leave no holes in the heap."""
_FEW = 64
"""Ids up to which a loop is faster than arrays."""

_Table = tuple["array[int]", int, int, int]
"""Cells, how many, the bits of a slot, the bits of a tag. All bits of a slot mark a cell that holds none."""


class SlotTable:
    """Which slot an id leads to.

    Parameters
    ----------
    names : list of the id of every slot, shared; only ever appended to, and before slots are inserted
    """

    __slots__ = ("_names", "_table", "_used")

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._table = _table_for(0, 0)
        self._used = 0

    def find(self, id: str) -> int:
        """Return the slot that an id leads to, -1 where there is none."""
        cells, size, low, high = self._table
        hashed = hash(id)
        at, tag = hashed % size, hashed & high
        while (cell := cells[at]) != _EMPTY:
            slot = cell ^ tag
            if slot < low and self._names[slot] == id:
                return slot
            at -= 1
        return -1

    def in_use(self) -> NDArray[np.int32]:
        """Return the slots that ids lead to, ascending."""
        cells, _, low, _ = self._table
        slots = np.frombuffer(cells, np.uint32) & np.uint32(low)
        taken: NDArray[np.int32] = slots[slots != low].astype(np.int32)
        taken.sort()
        return taken

    def insert(self, start: int, stop: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Let the ids of slots `start .. stop` lead to them, save those that lead to one already; of equal ones, one.

        Returns
        -------
        the slots of these, ascending, and those that their ids lead to
        """
        self._make_room(stop - start, stop)
        # Before they are there: an interruption may leave too many counted, not too few.
        self._used += stop - start
        if stop - start <= _FEW:
            known = self._insert_few(range(start, stop))
        else:
            ends = [*range(start, stop, _AT_ONCE), stop]
            parts = [
                _fill(self._table, self._names, np.arange(first, end, dtype=np.int32))
                for first, end in pairwise(ends)
            ]
            known = np.concatenate(parts, axis=1)
        self._used -= known.shape[1]
        return known[0], known[1]

    def _insert_few(self, slots: range) -> NDArray[np.int32]:
        cells, size, low, high = self._table
        known: list[tuple[int, int]] = []
        for slot in slots:
            name = self._names[slot]
            hashed = hash(name)
            at, tag = hashed % size, hashed & high
            while (cell := cells[at]) != _EMPTY:
                other = cell ^ tag
                if other < low and self._names[other] == name:
                    known.append((slot, other))
                    break
                at -= 1
            else:
                cells[at] = tag | slot
        pairs: NDArray[np.int32] = np.array(known, np.int32).reshape(-1, 2).T
        return pairs

    def _make_room(self, count: int, stop: int) -> None:
        """Go on with another table where this one has no room for so many more, of slots below `stop`."""
        _, size, low, _ = self._table
        if self._used + count <= _LOAD * size and stop <= low:
            return
        slots = self.in_use()
        table = _table_for(len(slots) + count, stop)
        for first in range(0, len(slots), _AT_ONCE):
            _fill(table, self._names, slots[first : first + _AT_ONCE])
        self._table, self._used = table, len(slots)

    def move(self, old: NDArray[np.int32], new: NDArray[np.int32]) -> None:
        """Let the ids that lead to slots `old` lead to `new`, slots of the same ids; parallel.

        Slots that nothing leads to are passed over.
        """
        at, values, is_there = self._locate(old)
        moved = values ^ old.astype(np.uint32) ^ new.astype(np.uint32)
        np.frombuffer(self._table[0], np.uint32)[at[is_there]] = moved[is_there]

    def remove(self, slots: NDArray[np.int32]) -> None:
        """Let the ids that lead to these slots lead nowhere; slots that nothing leads to are passed over."""
        at, _, is_there = self._locate(slots)
        cells, _, low, _ = self._table
        np.frombuffer(cells, np.uint32)[at[is_there]] = low

    def _locate(
        self, slots: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.bool_]]:
        """Return where slots stand, what cells that hold them look like, and whether they are there."""
        cells = np.frombuffer(self._table[0], np.uint32)
        at, tags = _hashed(self._table, [self._names[slot] for slot in slots.tolist()])
        values = tags | slots.astype(np.uint32)
        pending = np.arange(len(slots))
        while len(pending):
            there = cells[at[pending]]
            pending = pending[(there != values[pending]) & (there != _EMPTY)]
            at[pending] -= 1
        return at, values, cells[at] == values

    @property
    def memory_bytes(self) -> int:
        """Bytes of the cells."""
        return len(self._table[0]) * 4


def _table_for(count: int, stop: int) -> _Table:
    """Return an empty table for so many ids and some more, of slots below `stop` and as many above as there is room."""
    size = max(_FEWEST_CELLS, int(count * _GROWTH / _LOAD))
    low = (1 << min(_MOST_SLOT_BITS, (stop + size).bit_length())) - 1
    return array("I", [_EMPTY]) * size, size, low, _EMPTY ^ low


def _hashed(table: _Table, ids: list[str]) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Return where the search for ids begins, and their tags."""
    _, size, _, high = table
    hashes = np.fromiter(map(hash, ids), np.int64, len(ids))
    return hashes % size, hashes.astype(np.uint32) & np.uint32(high)


def _fill(table: _Table, names: list[str], slots: NDArray[np.int32]) -> NDArray[np.int32]:
    """Insert the ids of ascending slots, one at least, all of them a step at a time.

    Returns
    -------
    int32 (2, known): slots whose ids are there already, ascending, and those that they lead to
    """
    low = table[2]
    cells = np.frombuffer(table[0], np.uint32)
    first, stop = int(slots[0]), int(slots[-1]) + 1
    has_gaps = stop - first > len(slots)
    at, tags = _hashed(table, [names[slot] for slot in slots.tolist()] if has_gaps else names[first:stop])
    parts = [np.empty((2, 0), np.int32)]
    while len(at):
        values = tags | slots.astype(np.uint32)
        there = cells[at]
        is_empty = there == _EMPTY
        cells[at[is_empty]] = values[is_empty]
        there = cells[at]  # of several that came to one empty cell, one has it now
        is_pending = there != values
        others = there ^ tags
        alike = np.flatnonzero((others < low) & is_pending)
        if len(alike):
            pairs = np.stack([slots[alike], others[alike].astype(np.int32)])
            is_same = [names[slot] == names[other] for slot, other in pairs.T.tolist()]
            parts.append(pairs[:, is_same])
            is_pending[alike[is_same]] = False
        at, tags, slots = at[is_pending] - 1, tags[is_pending], slots[is_pending]
    known = np.concatenate(parts, axis=1)
    return known[:, known[0].argsort()]
