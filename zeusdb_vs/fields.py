"""Field indexes: which records a filter matches, for every field, without any being declared.

Records are folded into segments of up to 262,144 (see ``filtering/segments.py``): the newest few stay as they
came in a tail, a full tail becomes a segment, and segments of like size are united, so that each record is
folded a handful of times in all. Segments never change. A change of a record puts its new content beside the
columns, and enough of them are folded in; deleted records are dropped at the next folding, and at the latest
when saved.

What a reader holds is a `FieldsView`: segments, and the tail up to the number of records that the reader asks
for. One writer at a time; readers take no lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.filtering.columns import MAX_SIZE
from zeusdb_vs.filtering.packing import pack_segments, unpack_segments
from zeusdb_vs.filtering.segments import (
    EMPTY_ROW,
    Row,
    Segment,
    combine_segments,
    rows_memory_bytes,
)
from zeusdb_vs.filtering.values import flatten
from zeusdb_vs.filtering.views import FieldsView, Slots

TAIL_ROWS = 512
"""Records kept as they came. A search tests each, at about 0.1 us for a condition."""
FOLD_ROWS = 16_384
"""Records folded at once when many arrive together."""
MAX_CHANGED = 256
CHANGED_SHARE = 64
"""So many changed records, or one in so many, lie beside a segment's columns before they are folded in."""

Document = dict[str, Any]


class FieldIndexes:
    """The field indexes of all records, as the one writer sees them."""

    def __init__(self) -> None:
        self._view = FieldsView((), 0, [])
        """All there is: replaced in one assignment, so that an interrupted write leaves what was."""
        self._forgotten: list[Slots] = []
        """Slots in segments whose values wait to be dropped; some may be gone already."""

    def __len__(self) -> int:
        return self._view.folded + len(self._view.tail)

    # ------------------------------------------------------------------------------------------ writing

    def append(
        self,
        first_slot: int,
        documents: Sequence[tuple[Document | None, Document | None]] | None,
        count: int,
    ) -> None:
        """Add records behind those there are; slots left out in between have no fields.

        Parameters
        ----------
        first_slot : int
            The first new slot, at least ``len(self)``.
        documents : sequence of (metadata, payload), or None
            Decoded and never changed by the caller afterwards; None when no record has any.
        count : int
            How many records are added.

        Raises
        ------
        ValueError
            `first_slot` is taken already, or `documents` are not `count`.
        """
        if first_slot < len(self):
            raise ValueError(f"slot {first_slot} is taken: there are {len(self)} records")
        if documents is not None and len(documents) != count:
            raise ValueError(f"{len(documents)} documents for {count} records")
        self._append_empty(first_slot - len(self) + (count if documents is None else 0))
        if documents is not None:
            # Views read as far as they know: they may share the list.
            self._view.tail.extend([_row(metadata, payload) for metadata, payload in documents])
        if len(self._view.tail) >= TAIL_ROWS:
            self._fold_tail()

    def _append_empty(self, count: int) -> None:
        if count < TAIL_ROWS:
            self._view.tail.extend([EMPTY_ROW] * count)
            return
        self._fold_tail()
        segments, low = self._view.segments, self._view.folded
        for stop in range(low + count, low, -MAX_SIZE):
            segments = self._pushed(segments, Segment(min(MAX_SIZE, stop - low), ({}, {})))
        self._view = FieldsView(segments, low + count, [])

    def _fold_tail(self) -> None:
        segments, tail = self._view.segments, self._view.tail
        for low in range(0, len(tail), FOLD_ROWS):
            segments = self._pushed(segments, Segment.build(tail[low : low + FOLD_ROWS]))
        self._view = FieldsView(segments, self._view.folded + len(tail), [])

    def _pushed(self, segments: Sequence[Segment], segment: Segment) -> tuple[Segment, ...]:
        """Add a segment, uniting it with those before as long as each is less than twice what follows it."""
        kept = len(segments)
        size = segment.size
        while kept and segments[kept - 1].size < 2 * size and segments[kept - 1].size + size <= MAX_SIZE:
            kept -= 1
            size += segments[kept].size
        if kept < len(segments):
            low = sum(before.size for before in segments[:kept])
            segment = self._united(low, [*segments[kept:], segment])
        return (*segments[:kept], segment)

    def _united(self, low: int, parts: list[Segment]) -> Segment:
        """Unite consecutive segments that begin at a slot, dropping what is forgotten there."""
        size = sum(part.size for part in parts)
        places = np.arange(size)
        places[self._forgotten_in(low, low + size) - low] = -1
        bounds = np.cumsum([0, *(part.size for part in parts)]).tolist()
        pieces = [places[a:b] for a, b in pairwise(bounds)]
        return combine_segments(size, list(zip(parts, pieces, strict=True)))

    def _forgotten_in(self, low: int, high: int) -> Slots:
        if len(self._forgotten) > 1:
            self._forgotten = [np.concatenate(self._forgotten)]
        slots = self._forgotten[0] if self._forgotten else np.empty(0, np.int64)
        return slots[(slots >= low) & (slots < high)]

    def update(
        self,
        slots: NDArray[Any],
        old: object,
        new: Sequence[tuple[Document | None, Document | None]],
    ) -> None:
        """Replace the documents of records; views that are out keep the old ones.

        Parameters
        ----------
        slots : ndarray of int, shape (count,)
            Existing slots, each once.
        old : object
            Not needed here: pass None. Columns are corrected without knowing what a record held.
        new : sequence of (metadata, payload)
            As for `append`.
        """
        del old
        slots = np.asarray(slots, np.int64)
        self._replace(slots, [_row(metadata, payload) for metadata, payload in new])

    def _replace(self, slots: Slots, rows: list[Row]) -> None:
        if not len(slots):
            return
        order = np.argsort(slots, kind="stable")
        slots = slots[order]
        rows = [rows[at] for at in order.tolist()]
        segments, low = [], 0
        for segment in self._view.segments:
            a, b = np.searchsorted(slots, (low, low + segment.size)).tolist()
            if a < b:
                segment = segment.replaced(slots[a:b] - low, rows[a:b])
                if len(segment.changed) > max(MAX_CHANGED, segment.size // CHANGED_SHARE):
                    segment = self._united(low, [segment])
            segments.append(segment)
            low += segment.size
        # A new list: views hold the old one.
        tail = list(self._view.tail)
        recent = int(np.searchsorted(slots, low))
        for slot, row in zip(slots[recent:].tolist(), rows[recent:], strict=True):
            tail[slot - low] = row
        self._view = FieldsView(tuple(segments), low, tail)

    def forget(self, slots: NDArray[Any], old: object = None) -> None:
        """Drop the documents of dead records, at the latest when saved; until then they may still match.

        Parameters
        ----------
        slots : ndarray of int, shape (count,)
            Slots that are never asked for again.
        old : object
            Not needed here, as for `update`.
        """
        del old
        slots = np.asarray(slots, np.int64)
        recent = slots[slots >= self._view.folded]
        if len(recent):
            self._replace(recent, [EMPTY_ROW] * len(recent))
        if len(recent) < len(slots):
            self._forgotten.append(slots[slots < self._view.folded])

    def purge(self) -> None:
        """Drop the documents of all forgotten records now."""
        segments, low = [], 0
        for segment in self._view.segments:
            if len(segment.changed) or len(self._forgotten_in(low, low + segment.size)):
                segment = self._united(low, [segment])
            segments.append(segment)
            low += segment.size
        self._view = FieldsView(tuple(segments), low, self._view.tail)
        self._forgotten = []

    # ------------------------------------------------------------------------------------------ reading

    def view(self) -> FieldsView:
        """Return what readers use: it answers for all records there are now, whatever is written later."""
        return self._view

    def take(self, slots: NDArray[Any]) -> FieldIndexes:
        """Return the indexes of some records only, renumbered in the order given.

        Parameters
        ----------
        slots : ndarray of int, shape (count,)
            Existing slots, each once.

        Returns
        -------
        FieldIndexes
        """
        slots = np.asarray(slots, np.int64)
        taken = FieldIndexes()
        segments: tuple[Segment, ...] = ()
        sources = [*self._view.segments, Segment.build(self._view.tail)]
        bounds = np.cumsum([0, *(segment.size for segment in sources)]).tolist()
        for low in range(0, len(slots), MAX_SIZE):
            wanted = slots[low : low + MAX_SIZE]
            owners = np.searchsorted(bounds[1:], wanted, side="right")
            parts = []
            for owner in np.unique(owners).tolist():
                places = np.full(sources[owner].size, -1, np.int64)
                chosen = np.flatnonzero(owners == owner)
                places[wanted[chosen] - bounds[owner]] = chosen
                parts.append((sources[owner], places))
            segments = (*segments, combine_segments(len(wanted), parts))
        taken._view = FieldsView(segments, len(slots), [])
        return taken

    def state(self) -> dict[str, Any]:
        """Return everything as NumPy arrays, forgotten records dropped: what `from_state` takes.

        Returns
        -------
        dict
            ``directory``: ndarray of uint8, JSON that says what lies where; ``data``: list of ndarray of
            uint8 that belong one after the other.
        """
        self.purge()
        self._fold_tail()
        directory, data = pack_segments(self._view.segments)
        return {"directory": directory, "data": data}

    @classmethod
    def from_state(cls, state: dict[str, Any], n: int) -> FieldIndexes:
        """Return the indexes that `state` wrote; nothing in it is trusted.

        Parameters
        ----------
        state : dict
            ``directory`` and ``data``; the latter may be one array.
        n : int
            Records there must be.

        Returns
        -------
        FieldIndexes

        Raises
        ------
        CorruptIndexError
            The state contradicts itself or `n`. The indexes can be built anew from the documents.
        """
        indexes = cls()
        indexes._view = FieldsView(unpack_segments(state, n), n, [])
        return indexes

    def memory_bytes(self) -> int:
        """Return the bytes held, the tail estimated."""
        segments = sum(segment.memory_bytes() for segment in self._view.segments)
        return segments + rows_memory_bytes(self._view.tail)


def _row(metadata: Document | None, payload: Document | None) -> Row:
    return (flatten(metadata) if metadata else {}), (flatten(payload) if payload else {})
