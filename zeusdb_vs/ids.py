"""External ids and slots: the only place that maps one to the other, and where removed slots are marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.arrays import checked_array
from zeusdb_vs.errors import CorruptIndexError

_ENCODED_BATCH = 4096
"""Ids encoded at a time: a checkpoint beside adds leaves no holes in the heap the size of all ids."""


class Ids:
    """Which record lives in which slot.

    Attributes
    ----------
    names : list of the id of every slot, dead ones included; only ever appended to
    slots : dict from id to the slot of its live record
    live : bool (capacity,); False marks removed slots. Replaced, never changed, where a published slot dies
    live_count : live slots
    """

    __slots__ = ("live", "live_count", "names", "predecessors", "slots")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.slots: dict[str, int] = {}
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
        ids = cls.from_names(names)
        if len(ids.slots) != len(names):
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
        names = self.names[start:stop]
        slots = self.slots
        replaced: list[int] = []
        if slots and not slots.keys().isdisjoint(names):
            for slot, name in enumerate(names, start):
                old = slots.get(name)
                if old is not None:
                    replaced.append(old)
                    self.predecessors[slot] = old
        slots.update(zip(names, range(start, stop), strict=True))
        self.live_count += stop - start
        dead = np.array(replaced, np.int32)
        self._mark(dead, False)
        return dead

    def remove(self, dead: NDArray[np.int32]) -> None:
        """Forget live slots."""
        for slot in dead.tolist():
            del self.slots[self.names[slot]]
        self._mark(dead, False)

    def withdraw(self, start: int, claimed: int, stop: int) -> None:
        """Undo an add: slots `start .. stop` die, of which those below `claimed` had been claimed."""
        for slot in range(start, claimed):
            name = self.names[slot]
            old = self.predecessors.pop(slot, None)
            if old is None:
                del self.slots[name]
            else:
                self.slots[name] = old
                self._mark(np.array([old], np.int32), True)
        self._mark(np.arange(start, claimed, dtype=np.int32), False)
        live = self.live.copy()
        live[claimed:stop] = False
        self.live = live

    def _mark(self, slots: NDArray[np.int32], live: bool) -> None:
        if len(slots):
            marks = self.live.copy()  # views hold the old one
            marks[slots] = live
            self.live = marks
            self.live_count += len(slots) if live else -len(slots)

    def memory_bytes(self) -> int:
        """Estimate of the bytes of names, dict and marks."""
        count = len(self.names)
        sample = self.names[:: max(1, count // 256)]
        text = sum(49 + len(name.encode("utf-8", "replace")) for name in sample) / max(1, len(sample))
        # A list entry, the string, a dict entry at its usual load, an int.
        return int(count * (8 + text) + len(self.slots) * (50 + 28)) + self.live.nbytes
