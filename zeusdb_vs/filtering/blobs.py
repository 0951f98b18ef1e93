"""Many byte strings in two arrays: searched by bisection, scanned for substrings with NumPy.

A Python object per string would cost three times the text; this costs the text and four bytes.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.filtering.values import instant_of_text

SAMPLE_STRIDE = 64
"""Every so many strings one is kept as an object, where a search begins: about a byte for each string."""
_OBJECT_BYTES = 41
"""A bytes object and its place in a list."""

_CASED_CODES = 0x1F000
"""Characters from here on have no case."""
_SPECIAL = 0xFFFFFFFF
_PIECE = 1 << 15
"""Characters lowered at once: few enough to stay in a core's cache."""
_MAPPED_BYTES = 1 << 23
_MAPPED_SHARE = 64
"""A number for each of so many bytes is made where one byte in so many is asked for; else these are looked up."""
_SAMPLE_BYTES = 4096
"""Bytes by which it is judged which ones are rare."""

IntArray = NDArray[np.integer[Any]]
Piece: TypeAlias = "Sequence[int | None]"
"""Bytes that stand together; None is any one byte."""


class Blobs:
    """An immutable, strictly ascending sequence of byte strings.

    Parameters
    ----------
    data : bytes
        All strings, one after the other.
    offsets : ndarray of uint32 or uint64, shape (n + 1,)
        Where each begins, and the end of the last.
    """

    __slots__ = ("_dates", "_samples", "data", "offsets")

    def __init__(self, data: bytes, offsets: IntArray) -> None:
        self.data = data
        self.offsets = offsets
        self._dates: tuple[IntArray, NDArray[np.int64]] | None = None
        self._samples: list[bytes] | None = None

    @classmethod
    def build(cls, strings: Sequence[bytes]) -> Blobs:
        """Pack strings that are already ascending."""
        offsets = np.zeros(len(strings) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, strings), np.int64, len(strings)), out=offsets[1:])
        return cls(b"".join(strings), offsets.astype(np.uint32 if offsets[-1] < 2**32 else np.uint64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        item = self.offsets.item
        return self.data[item(index) : item(index + 1)]

    def to_list(self) -> list[bytes]:
        """Return all strings."""
        offsets, data = self.offsets.tolist(), self.data
        return [data[a:b] for a, b in pairwise(offsets)]

    def to_text(self, index: int) -> str:
        """Return one string, decoded."""
        return self[index].decode("utf-8", "surrogatepass")

    def lower_bound(self, key: bytes) -> int:
        """Return how many strings sort before the key."""
        if self._samples is None:
            # Two threads may both come here: they make the same.
            self._samples = [self[index] for index in range(0, len(self), SAMPLE_STRIDE)]
        block = bisect_left(self._samples, key)
        low, high = max(0, (block - 1) * SAMPLE_STRIDE + 1), min(block * SAMPLE_STRIDE, len(self))
        data, offset = self.data, self.offsets.item
        while low < high:
            middle = (low + high) // 2
            if data[offset(middle) : offset(middle + 1)] < key:
                low = middle + 1
            else:
                high = middle
        return low

    def prefix_range(self, prefix: bytes) -> tuple[int, int]:
        """Return the range of strings that start with the prefix."""
        # The least string beyond all that start with the prefix: its last byte that can grow, grown.
        stem = prefix.rstrip(b"\xff")
        after = stem[:-1] + bytes([stem[-1] + 1]) if stem else None
        return self.lower_bound(prefix), len(self) if after is None else self.lower_bound(after)

    def memory_bytes(self) -> int:
        """Return the bytes held."""
        dates = 0 if self._dates is None else sum(part.nbytes for part in self._dates)
        samples = sum(_OBJECT_BYTES + len(sample) for sample in self._samples or ())
        return len(self.data) + self.offsets.nbytes + dates + samples

    # ------------------------------------------------------------------------------------------ scanning

    def containing(self, needle: bytes) -> NDArray[np.bool_]:
        """Return for each string whether it contains the needle, shape (n,)."""
        if not needle:
            return np.ones(len(self), np.bool_)
        return self._holding(_positions(self.data, needle), len(needle))

    def _holding(self, positions: NDArray[np.intp], length: int) -> NDArray[np.bool_]:
        """Return which strings wholly hold one of the runs of bytes that begin at ascending positions."""
        found = np.zeros(len(self), np.bool_)
        owners = self._owners(len(positions))(positions)
        inside = positions + length <= self.offsets[1:].take(owners)
        found[owners[inside]] = True
        return found

    def _owners(self, asked: int) -> Callable[[NDArray[np.intp]], IntArray]:
        """Return what tells in which string each of ascending positions lies, by the quicker way for so many."""
        if len(self.data) <= min(_MAPPED_BYTES, _MAPPED_SHARE * asked):
            return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.offsets)).take
        ends = self.offsets[1:]
        return lambda positions: ends.searchsorted(positions, side="right")

    def starting_with(self, prefix: bytes) -> NDArray[np.bool_]:
        """Return for each string whether it starts with the prefix, shape (n,), in any order."""
        return self.holding_in_order([prefix, b""])

    def ending_with(self, suffix: bytes) -> NDArray[np.bool_]:
        """Return for each string whether it ends with the suffix, shape (n,)."""
        return self.holding_in_order([b"", suffix])

    def holding_in_order(self, pieces: Sequence[Piece]) -> NDArray[np.bool_]:
        """Return which strings begin with the first piece, end with the last and hold those between, shape (n,).

        Parameters
        ----------
        pieces : sequence of Piece
            They follow one another without overlap, with anything between them; one alone is the whole string.
            Only the first and the last may be empty.
        """
        starts, ends = self.offsets[:-1].astype(np.int64), self.offsets[1:].astype(np.int64)
        first, *between = pieces
        last = between.pop() if between else b""
        nowhere = len(self.data) + 1
        low, high = starts, ends
        if first or last or not between:
            compare = np.equal if len(pieces) == 1 else np.greater_equal
            chosen = np.flatnonzero(compare(ends - starts, sum(map(len, pieces))))
            if first:
                chosen = chosen[_matching_at(self.data, starts[chosen], first)]
            if last:
                chosen = chosen[_matching_at(self.data, ends[chosen] - len(last), last)]
            low = np.full(len(self), nowhere)
            low[chosen] = starts[chosen] + len(first)
            high = ends - len(last)
        runs = [None if set(piece) == {None} else _positions(self.data, piece) for piece in between]
        owners_of = self._owners(sum(len(positions) for positions in runs if positions is not None))
        for piece, positions in zip(between, runs, strict=True):
            if positions is None:
                low = low + len(piece)
                continue
            owners = owners_of(positions)
            if low is not starts:
                fits = positions >= low.take(owners)
                positions, owners = positions[fits], owners[fits]
            if last or len(piece) > 1:
                # One byte cannot reach into the next string.
                fits = positions + len(piece) <= high.take(owners)
                positions, owners = positions[fits], owners[fits]
            low = np.full(len(self), nowhere)
            # Backwards, so that the leftmost place of each string is what stays: it leaves the most room.
            low[owners[::-1]] = positions[::-1] + len(piece)
        return low <= high

    def between(self, low: int, high: int) -> Blobs:
        """Return a range of these strings."""
        offsets = self.offsets[low : high + 1]
        return Blobs(self.data[offsets.item(0) : offsets.item(-1)], offsets - offsets[0])

    def lowered(self) -> Blobs:
        """Return these strings as `str.lower` has them, in the same places, so no longer ascending."""
        if self.data.isascii():
            return Blobs(self.data.lower(), self.offsets)
        text = self.data.decode("utf-8", "surrogatepass")
        pieces = [_lowered_by_table(text[at : at + _PIECE]) for at in range(0, len(text), _PIECE)]
        if None in pieces:
            return Blobs.build([_lowered(string) for string in self.to_list()])
        return Blobs("".join(filter(None, pieces)).encode("utf-8", "surrogatepass"), self.offsets)

    def matching(self, test: Callable[[str], object]) -> NDArray[np.bool_]:
        """Return for each string whether a test holds of it as text, shape (n,)."""
        found = (bool(test(string.decode("utf-8", "surrogatepass"))) for string in self.to_list())
        return np.fromiter(found, np.bool_, len(self))

    def full_matching(self, pattern: re.Pattern[bytes], among: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which of the flagged strings a pattern without anchors matches whole, shape (n,)."""
        found = np.zeros(len(self), np.bool_)
        chosen = np.flatnonzero(among)
        starts, ends = self.offsets[chosen].tolist(), self.offsets[chosen + 1].tolist()
        match, data = pattern.fullmatch, self.data
        found[chosen] = [match(data, start, end) is not None for start, end in zip(starts, ends, strict=True)]
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


def _lowered(string: bytes) -> bytes:
    return string.decode("utf-8", "surrogatepass").lower().encode("utf-8", "surrogatepass")


def _lowered_by_table(text: str) -> str | None:
    """Return text in lower case, or None when a character in it does not allow to go by a table."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    lowered = _case_table()[np.minimum(codes, _CASED_CODES)]
    if (lowered == _SPECIAL).any():
        return None
    # What is beyond the table stays as it is.
    return (
        np.where(codes < _CASED_CODES, lowered, codes)
        .astype("<u4", copy=False)
        .tobytes()
        .decode("utf-32-le", "surrogatepass")
    )


@cache
def _case_table() -> NDArray[np.uint32]:
    """Return the lower case of each character that may have one, and one entry more.

    `_SPECIAL` stands where there is more to it: characters that become several or take another number of
    bytes, and sigma, which looks at its neighbours.
    """
    table = np.zeros(_CASED_CODES + 1, np.uint32)
    for code in range(_CASED_CODES):
        character = chr(code)
        lower = character.lower()
        is_plain = len(lower) == 1 and _utf8_width(lower) == _utf8_width(character) and character != "\u03a3"
        table[code] = ord(lower) if is_plain else _SPECIAL
    return table


def _utf8_width(character: str) -> int:
    return len(character.encode("utf-8", "surrogatepass"))


def _positions(data: bytes, piece: Piece) -> NDArray[np.intp]:
    """Return where a piece begins in the data, ascending; at least one byte of it is known."""
    text = np.frombuffer(data, np.uint8)
    last = len(text) - len(piece) + 1
    if last <= 0:
        return np.empty(0, np.intp)
    # The two rarest bytes leave few candidates; the rest is checked on those.
    (shift, byte), *others = _rarest_first(data, piece)
    hits = text[shift : shift + last] == byte
    if others:
        shift, byte = others.pop(0)
        hits &= text[shift : shift + last] == byte
    positions = np.flatnonzero(hits)
    for shift, byte in others:
        if not len(positions):
            break
        positions = positions[text[shift:].take(positions) == byte]
    return positions


def _matching_at(data: bytes, places: NDArray[np.int64], piece: Piece) -> NDArray[np.intp]:
    """Return which of the places a piece lies at, all of it within the data."""
    text = np.frombuffer(data, np.uint8)
    chosen = np.arange(len(places))
    for shift, byte in _rarest_first(data, piece):
        if not len(places):
            break
        same = text[shift:].take(places) == byte
        if not same.all():
            chosen, places = chosen[same], places[same]
    return chosen


def _rarest_first(data: bytes, piece: Piece) -> list[tuple[int, int]]:
    """Return the known bytes of a piece with their places in it, those first that leave the fewest candidates."""
    known = [(shift, byte) for shift, byte in enumerate(piece) if byte is not None]
    counts = {byte: data.count(byte, 0, _SAMPLE_BYTES) for byte in {byte for _, byte in known}}
    return sorted(known, key=lambda pair: counts[pair[1]])
