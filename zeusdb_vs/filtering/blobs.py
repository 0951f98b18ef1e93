"""Many byte strings in two arrays: searched by bisection, scanned for substrings with NumPy.

A Python object per string would cost three times the text; this costs the text and four bytes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.filtering.values import instant_of_text

IntArray = NDArray[np.integer[Any]]


class Blobs:
    """An immutable, strictly ascending sequence of byte strings.

    Parameters
    ----------
    data : bytes
        All strings, one after the other.
    offsets : ndarray of uint32 or uint64, shape (n + 1,)
        Where each begins, and the end of the last.
    """

    __slots__ = ("_dates", "data", "offsets")

    def __init__(self, data: bytes, offsets: IntArray) -> None:
        self.data = data
        self.offsets = offsets
        self._dates: tuple[IntArray, NDArray[np.int64]] | None = None

    @classmethod
    def build(cls, strings: Sequence[bytes]) -> Blobs:
        """Pack strings that are already ascending."""
        offsets = np.fromiter(accumulate(map(len, strings), initial=0), np.int64, len(strings) + 1)
        return cls(b"".join(strings), offsets.astype(np.uint32 if offsets[-1] < 2**32 else np.uint64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        item = self.offsets.item
        return self.data[item(index) : item(index + 1)]

    def to_list(self) -> list[bytes]:
        """Return all strings."""
        offsets, data = self.offsets.tolist(), self.data
        return [data[a:b] for a, b in zip(offsets, offsets[1:], strict=False)]

    def to_text(self, index: int) -> str:
        """Return one string, decoded."""
        return self[index].decode("utf-8", "surrogatepass")

    def lower_bound(self, key: bytes) -> int:
        """Return how many strings sort before the key."""
        return bisect_left(range(len(self)), key, key=self.__getitem__)

    def prefix_range(self, prefix: bytes) -> tuple[int, int]:
        """Return the range of strings that start with the prefix."""
        # The least string beyond all that start with the prefix: its last byte that can grow, grown.
        stem = prefix.rstrip(b"\xff")
        after = stem[:-1] + bytes([stem[-1] + 1]) if stem else None
        return self.lower_bound(prefix), len(self) if after is None else self.lower_bound(after)

    def memory_bytes(self) -> int:
        """Return the bytes held."""
        dates = 0 if self._dates is None else sum(part.nbytes for part in self._dates)
        return len(self.data) + self.offsets.nbytes + dates

    # ------------------------------------------------------------------------------------------ scanning

    def containing(self, needle: bytes) -> NDArray[np.bool_]:
        """Return for each string whether it contains the needle, shape (n,)."""
        found = np.zeros(len(self), np.bool_)
        if not needle:
            return ~found
        positions = _positions(self.data, needle)
        owners = np.searchsorted(self.offsets[1:], positions, side="right")
        inside = positions + len(needle) <= self.offsets[owners + 1]
        found[owners[inside]] = True
        return found

    def ending_with(self, suffix: bytes) -> NDArray[np.bool_]:
        """Return for each string whether it ends with the suffix, shape (n,)."""
        ends = self.offsets[1:].astype(np.int64)
        starts = ends - len(suffix)
        chosen = np.flatnonzero(starts >= self.offsets[:-1])
        text = np.frombuffer(self.data, np.uint8)
        for shift, byte in enumerate(suffix):
            chosen = chosen[text[starts[chosen] + shift] == byte]
        found = np.zeros(len(self), np.bool_)
        found[chosen] = True
        return found

    def lowered(self) -> Blobs:
        """Return these strings with ASCII letters in lower case, in the same places (no longer ascending)."""
        return Blobs(self.data.lower(), self.offsets)

    def not_ascii(self) -> NDArray[np.intp]:
        """Return the indexes of strings with any byte beyond ASCII."""
        if self.data.isascii():
            return np.empty(0, np.intp)
        high = np.flatnonzero(np.frombuffer(self.data, np.uint8) >= 0x80)
        return np.unique(np.searchsorted(self.offsets[1:], high, side="right"))

    def matching(
        self, test: Callable[[str], object], among: NDArray[np.intp] | None = None
    ) -> NDArray[np.bool_]:
        """Return for each string whether a test holds of it as text, shape (n,); outside `among` it does not."""
        found = np.zeros(len(self), np.bool_)
        offsets, data = self.offsets.tolist(), self.data
        for index in range(len(self)) if among is None else among.tolist():
            if test(data[offsets[index] : offsets[index + 1]].decode("utf-8", "surrogatepass")):
                found[index] = True
        return found

    def dates(self) -> tuple[IntArray, NDArray[np.int64]]:
        """Return indexes of the strings in ISO form and their instants, by instant; found once, then kept."""
        if self._dates is None:
            # Two threads may both come here: they compute the same.
            indexes, instants = [], []
            for index in self._date_like().tolist():
                instant = instant_of_text(self.to_text(index))
                if instant is not None:
                    indexes.append(index)
                    instants.append(instant)
            order = np.argsort(np.array(instants, np.int64), kind="stable")
            self._dates = np.array(indexes, np.int32)[order], np.array(instants, np.int64)[order]
        return self._dates

    def _date_like(self) -> NDArray[np.intp]:
        starts = self.offsets[:-1].astype(np.int64)
        chosen = np.flatnonzero(self.offsets[1:] - self.offsets[:-1] >= len("2000-01-01"))
        text = np.frombuffer(self.data, np.uint8)
        for shift in (4, 7):
            chosen = chosen[text[starts[chosen] + shift] == ord("-")]
        return chosen


def _positions(data: bytes, needle: bytes) -> NDArray[np.intp]:
    """Return where a needle of at least one byte begins in the data, ascending."""
    text = np.frombuffer(data, np.uint8)
    last = len(text) - len(needle) + 1
    if last <= 0:
        return np.empty(0, np.intp)
    # Two bytes at once leave few candidates; the rest is checked on those.
    hits = text[:last] == needle[0]
    if len(needle) > 1:
        hits &= text[1 : last + 1] == needle[1]
    positions = np.flatnonzero(hits)
    for shift in range(2, len(needle)):
        if not len(positions):
            break
        positions = positions[text[positions + shift] == needle[shift]]
    return positions
