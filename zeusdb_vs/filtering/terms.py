"""The sorted distinct values of one field: numbers in arrays, text in blobs, one numbering over all kinds."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import chain, count, pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.filtering.blobs import Blobs
from zeusdb_vs.filtering.values import Key, Kind

Keys: TypeAlias = "NDArray[Any] | tuple[int, ...] | Blobs"
"""The keys of one kind, strictly ascending. Null and booleans: one zero when there is such a value."""

_DTYPES = {Kind.FLOAT: np.dtype(np.float64), Kind.DATE: np.dtype(np.int64)}
_PIECE = 1 << 12
"""Strings of one list that are merged at once."""
_BLOB_KINDS = (Kind.TEXT, Kind.ARRAY, Kind.OBJECT)


class Terms:
    """An immutable numbering of distinct values: by kind, and by value within a kind.

    Parameters
    ----------
    keys : sequence
        For each `Kind` in order its keys, strictly ascending.
    """

    __slots__ = ("bases", "keys")

    def __init__(self, keys: Sequence[Keys]) -> None:
        self.keys = tuple(keys)
        bases = [0]
        for part in self.keys:
            bases.append(bases[-1] + len(part))
        self.bases = bases

    @classmethod
    def build(cls, by_kind: Mapping[Kind, Sequence[Any] | NDArray[Any]]) -> Terms:
        """Pack keys that are already ascending and distinct within each kind."""
        return cls([pack_keys(kind, by_kind.get(kind, ())) for kind in Kind])

    def __len__(self) -> int:
        return self.bases[-1]

    def range_of(self, kind: Kind) -> tuple[int, int]:
        """Return the numbers of all terms of a kind, as a half-open range."""
        return self.bases[kind], self.bases[kind + 1]

    def find(self, kind: Kind, key: Key) -> int:
        """Return the number of a term, or -1."""
        low, high = self.bases[kind], self.bases[kind + 1]
        if low == high:
            return -1
        if key is None:
            return low
        at = self.lower_bound(kind, key)
        return low + at if low + at < high and self._key(kind, at) == key else -1

    def lower_bound(self, kind: Kind, key: Any) -> int:
        """Return how many keys of a kind are below the key; numbers compare exactly across kinds."""
        keys = self.keys[kind]
        if isinstance(keys, Blobs):
            return keys.lower_bound(key)
        if isinstance(keys, np.ndarray):
            # Through Python numbers: NumPy would round an int to float64 to compare it with one.
            return bisect_left(range(len(keys)), key, key=keys.item)
        return bisect_left(keys, key)

    def upper_bound(self, kind: Kind, key: Any) -> int:
        """Return how many keys of a kind are at most the key."""
        keys = self.keys[kind]
        if isinstance(keys, Blobs):
            at = keys.lower_bound(key)
            return at + (at < len(keys) and keys[at] == key)
        if isinstance(keys, np.ndarray):
            return bisect_right(range(len(keys)), key, key=keys.item)
        return bisect_right(keys, key)

    def blobs(self, kind: Kind) -> Blobs:
        """Return the keys of text, arrays or objects."""
        keys = self.keys[kind]
        assert isinstance(keys, Blobs)
        return keys

    def _key(self, kind: Kind, at: int) -> Any:
        keys = self.keys[kind]
        return keys.item(at) if isinstance(keys, np.ndarray) else keys[at]

    def kind_of(self, term: int) -> Kind:
        """Return the kind of a term."""
        return Kind(bisect_right(self.bases, term) - 1)

    def key(self, term: int) -> Key:
        """Return the key of a term."""
        kind = self.kind_of(term)
        return None if kind <= Kind.TRUE else self._key(kind, term - self.bases[kind])

    def memory_bytes(self) -> int:
        """Return the bytes held, Python's own objects aside."""
        total = 0
        for keys in self.keys:
            if isinstance(keys, Blobs):
                total += keys.memory_bytes()
            elif isinstance(keys, np.ndarray):
                total += keys.nbytes
            else:
                total += sum(32 + key.bit_length() // 8 for key in keys)
        return total


_NO_BLOBS = Blobs.build(())
_NO_KEYS: dict[Kind, Keys] = {
    kind: ()
    if kind is Kind.BIG
    else _NO_BLOBS
    if kind in _BLOB_KINDS
    else np.empty(0, _DTYPES.get(kind, np.int8))
    for kind in Kind
}


def pack_keys(kind: Kind, keys: Sequence[Any] | NDArray[Any]) -> Keys:
    """Pack ascending distinct keys of one kind; integers take the narrowest type that holds them."""
    if not len(keys):
        return _NO_KEYS[kind]
    if kind in _BLOB_KINDS:
        return Blobs.build(list(keys))
    if kind is Kind.BIG:
        return tuple(keys)
    if kind is Kind.INT:
        return _narrowed(np.asarray(keys, np.int64))
    if kind in _DTYPES:
        return np.asarray(keys, _DTYPES[kind])
    return np.zeros(1, np.int8)


def _narrowed(values: NDArray[Any]) -> NDArray[Any]:
    for dtype in (np.int8, np.int16, np.int32):
        bounds = np.iinfo(dtype)
        if bounds.min <= int(values[0]) and int(values[-1]) <= bounds.max:
            return values.astype(dtype)
    return values


def merge(
    parts: Sequence[Terms], used: Sequence[NDArray[np.bool_] | None]
) -> tuple[Terms, list[NDArray[np.int32]]]:
    """Unite several numberings, leaving out terms that are not used.

    Parameters
    ----------
    parts : sequence of Terms
    used : sequence of ndarray of bool, shape (len(part),), or None
        Which terms of each part to keep; None keeps all.

    Returns
    -------
    terms : Terms
    maps : list of ndarray of int32, shape (len(part),)
        The new number of each old term, -1 where it is left out.
    """
    maps = [np.full(len(part), -1, np.int32) for part in parts]
    united: list[Keys] = []
    base = 0
    for kind in Kind:
        chosen = []
        for part, wanted in zip(parts, used, strict=True):
            low, high = part.range_of(kind)
            chosen.append(np.arange(high - low) if wanted is None else np.flatnonzero(wanted[low:high]))
        keys, numbers = _merge_keys(kind, [part.keys[kind] for part in parts], chosen)
        united.append(keys)
        for part, table, kept, new in zip(parts, maps, chosen, numbers, strict=True):
            table[part.bases[kind] + kept] = base + new
        base += len(keys)
    return Terms(united), maps


def _merge_keys(
    kind: Kind, parts: list[Keys], chosen: list[NDArray[np.intp]]
) -> tuple[Keys, list[NDArray[np.intp]]]:
    """Unite the chosen keys of one kind; returns them with the place of each chosen key among them."""
    filled = [len(kept) > 0 for kept in chosen]
    if sum(filled) <= 1:
        places = [np.arange(len(kept)) for kept in chosen]
        if not any(filled):
            return _NO_KEYS[kind], places
        only = filled.index(True)
        keys = parts[only]
        if len(chosen[only]) < len(keys):
            keys = pack_keys(kind, _pick(keys, chosen[only]))
        return keys, places
    if isinstance(parts[0], np.ndarray):
        arrays = [np.asarray(part)[kept] for part, kept in zip(parts, chosen, strict=True)]
        wide = np.result_type(*arrays)
        merged = np.unique(np.concatenate([array.astype(wide) for array in arrays]))
        return pack_keys(kind, merged), [np.searchsorted(merged, array) for array in arrays]
    together, numbers = _merge_lists([_pick(part, kept) for part, kept in zip(parts, chosen, strict=True)])
    return pack_keys(kind, together), numbers


def _merge_lists(lists: list[Sequence[Any]]) -> tuple[list[Any], list[NDArray[np.intp]]]:
    """Unite ascending lists; returns them with the place of each of their keys among all.

    A piece at a time: quicker than all at once, since a piece stays in a core's cache, and searches in other threads
    need not wait for a long sort to give the interpreter back.
    """
    pivots = max(lists, key=len)[_PIECE::_PIECE]
    cuts = [[0, *(bisect_left(keys, pivot) for pivot in pivots), len(keys)] for keys in lists]
    together: list[Any] = []
    numbers = [np.empty(len(keys), np.intp) for keys in lists]
    for bounds in zip(*map(pairwise, cuts), strict=True):
        pieces = [keys[low:high] for keys, (low, high) in zip(lists, bounds, strict=True)]
        # Sorted runs one after the other: Python's sort only merges them.
        merged = sorted(dict.fromkeys(chain.from_iterable(pieces)))
        place = dict(zip(merged, count(len(together)), strict=False))
        for found, piece, (low, high) in zip(numbers, pieces, bounds, strict=True):
            found[low:high] = np.fromiter(map(place.__getitem__, piece), np.intp, len(piece))
        together += merged
    return together, numbers


def _pick(keys: Keys, kept: NDArray[np.intp]) -> Any:
    if isinstance(keys, np.ndarray):
        return keys[kept]
    everything: Sequence[Any] = keys.to_list() if isinstance(keys, Blobs) else keys
    return everything if len(kept) == len(keys) else [everything[at] for at in kept.tolist()]
