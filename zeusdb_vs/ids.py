"""External ids and slots: the only place that maps one to the other, and where removed slots are marked."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.arrays import checked_array
from zeusdb_vs.errors import CorruptIndexError
from zeusdb_vs.slot_table import SlotTable

_ENCODED_BATCH = 4096
"""Ids encoded at a time: a checkpoint beside adds leaves no holes in the heap the size of all ids."""


class Ids:
    """Which record lives in which slot.

    Attributes
    ----------
    names : list of the id of every slot, dead ones included; only ever appended to
    slots : table from id to the slot of its live record
    live : bool (capacity,); False marks removed slots. Replaced, never changed, where a published slot dies
    live_count : live slots
    """

    __slots__ = ("live", "live_count", "names", "predecessors", "slots")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.slots = SlotTable(self.names)
        self.live: NDArray[np.bool_] = np.ones(64, np.bool_)
        self.live_count = 0
        # New slot -> the slot it replaced. A reader whose view ends before the new slot still finds the old record.
        self.predecessors: dict[int, int] = {}

    @classmethod
    def from_names(cls, names: list[str]) -> Ids:
        """Return the ids of slots that are all live."""
        ids = cls()
        ids.append(names)
        ids.claim(0, len(names))
        return ids

    def state(self) -> dict[str, Any]:
        """Return the names, all of them live, as UTF-8 bytes and the offset of each."""
        pieces, lengths = [], np.empty(len(self.names), np.int64)
        for start in range(0, len(self.names), _ENCODED_BATCH):
            batch = self.names[start : start + _ENCODED_BATCH]
            text = "".join(batch).encode()
            sizes = map(len, batch) if text.isascii() else (len(name.encode()) for name in batch)
            lengths[start : start + len(batch)] = np.fromiter(sizes, np.int64, len(batch))
            pieces.append(text)
        offsets = np.zeros(len(self.names) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return {"id_bytes": np.frombuffer(b"".join(pieces), np.uint8), "id_offsets": offsets}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Ids:
        """Return the ids that `state` describes, checked.

        Raises
        ------
        CorruptIndexError
            The bytes are not UTF-8, the offsets do not fit, an id is empty or stands twice.
        """
        data = checked_array(state, "mappings.bin", "id_bytes", "|u1", (None,)).tobytes()
        offsets = checked_array(state, "mappings.bin", "id_offsets", "<i8", (None,))
        fits = (
            len(offsets) > 0 and offsets[0] == 0 and offsets[-1] == len(data) and (np.diff(offsets) > 0).all()
        )
        if not fits:
            raise CorruptIndexError("mappings.bin: id_offsets do not cut id_bytes into ids")
        cuts = offsets.tolist()
        try:
            if data.isascii():  # cutting a str is twice as fast as decoding its pieces
                text = data.decode("ascii")
                names = [text[start:stop] for start, stop in pairwise(cuts)]
            else:
                names = [data[start:stop].decode() for start, stop in pairwise(cuts)]
        except UnicodeDecodeError as error:
            raise CorruptIndexError(f"mappings.bin: an id is not UTF-8 ({error})") from None
        ids = cls()
        ids.append(names)
        if len(ids.claim(0, len(names))):
            raise CorruptIndexError("mappings.bin: an id stands twice")
        return ids

    def append(self, names: Sequence[str]) -> None:
        """Name the slots behind the last; nobody finds them before `claim`."""
        stop = len(self.names) + len(names)
        self.names.extend(names)
        if stop > len(self.live):
            grown = np.ones(max(stop, 2 * len(self.live)), np.bool_)
            grown[: len(self.live)] = self.live
            self.live = grown

    def claim(self, start: int, stop: int) -> NDArray[np.int32]:
        """Let the ids of slots `start .. stop` lead to them; returns the slots whose records they replace."""
        new, dead = self.slots.insert(start, stop)
        self.live_count += stop - start
        # Before ids lead to the new slots, from where readers of older views follow them back.
        self.predecessors.update(zip(new.tolist(), dead.tolist(), strict=True))
        if len(new):
            self.slots.move(dead, new)
        self._bury(dead)
        return dead

    def remove(self, dead: NDArray[np.int32]) -> None:
        """Forget live slots."""
        self.slots.remove(dead)
        self._bury(dead)

    def withdraw(self, start: int, stop: int) -> None:
        """Undo an add, wherever it was interrupted: slots `start .. stop` die, what they replaced lives again."""
        added = np.arange(start, stop, dtype=np.int32)
        # They stay among the predecessors, for readers who meet one of the slots right now; it is not used again.
        old = np.array([self.predecessors.get(slot, -1) for slot in range(start, stop)], np.int32)
        is_new = old < 0
        self.slots.move(added[~is_new], old[~is_new])
        self.slots.remove(added[is_new])
        live = self.live.copy()
        live[added] = False
        live[old[~is_new]] = True
        self.live, self.live_count = live, int(np.count_nonzero(live[:stop]))

    def _bury(self, slots: NDArray[np.int32]) -> None:
        if len(slots):
            marks = self.live.copy()  # views hold the old one
            marks[slots] = False
            self.live = marks
            self.live_count -= len(slots)

    def memory_bytes(self) -> int:
        """Estimate of the bytes of names, table, marks and predecessors."""
        count = len(self.names)
        sample = self.names[:: max(1, count // 256)]
        text = sum(_allocated(name) for name in sample) / max(1, len(sample))
        names = sys.getsizeof(self.names) + int(count * text)
        replaced = sys.getsizeof(self.predecessors) + 2 * _allocated(1 << 30) * len(self.predecessors)
        return names + self.slots.memory_bytes + self.live.nbytes + replaced


def _allocated(value: object) -> int:
    """Return the bytes that a str or an int takes of the heap, which gives multiples of 16."""
    return -(-sys.getsizeof(value) // 16) * 16
