"""What a comparison chooses among the sorted terms of a field, and the protocol of who chooses.

A few ranges where they say it, else a flag for each term: united, intersected and complemented before any record is
touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.filtering.terms import Terms

Ranges: TypeAlias = "list[tuple[int, int]]"
Choice: TypeAlias = "Ranges | NDArray[np.bool_]"
"""Terms chosen: a few ascending, disjoint, non-empty half-open ranges, or a flag for each term."""

MANY_RANGES = 8
"""From here on flags are cheaper than ranges."""


class Vocabulary(Protocol):
    """What is known of a field's distinct values; of the elements of its arrays if it has any."""

    @property
    def terms(self) -> Terms:
        """The distinct values."""
        ...

    @property
    def elements(self) -> Elements | None:
        """The distinct elements of the arrays among them."""
        ...


class Elements(Vocabulary, Protocol):
    """What is asked of the elements of a field's arrays."""

    def owners(self, chosen: Choice, arrays: int) -> NDArray[np.bool_]:
        """Return for each of so many arrays whether it holds a chosen element."""
        ...


def as_flags(chosen: Choice, size: int) -> NDArray[np.bool_]:
    """Return a choice as one flag for each term."""
    if not isinstance(chosen, list):
        return chosen
    flags = np.zeros(size, np.bool_)
    for low, high in chosen:
        flags[low:high] = True
    return flags


def from_flags(flags: NDArray[np.bool_], base: int, size: int) -> Choice:
    """Return the choice of the flagged terms among those from `base` on, out of `size` in all."""
    edges = np.flatnonzero(flags[1:] != flags[:-1])
    if len(edges) < 2 * MANY_RANGES:
        bounds = [0, *(edges + 1).tolist(), len(flags)]
        return [(base + low, base + high) for low, high in pairwise(bounds) if low < high and flags[low]]
    if len(flags) == size:
        return flags
    every = np.zeros(size, np.bool_)
    every[base : base + len(flags)] = flags
    return every


def from_ids(ids: NDArray[np.integer[Any]], size: int) -> Choice:
    """Return ascending term numbers as a choice."""
    if not len(ids):
        return []
    breaks = np.flatnonzero(np.diff(ids) > 1)
    if len(breaks) < MANY_RANGES:
        firsts = [0, *(breaks + 1).tolist()]
        lasts = [*breaks.tolist(), len(ids) - 1]
        return [(int(ids[a]), int(ids[b]) + 1) for a, b in zip(firsts, lasts, strict=True)]
    flags = np.zeros(size, np.bool_)
    flags[ids] = True
    return flags


def union(parts: Iterable[Choice], size: int) -> Choice:
    """Return the terms in any of the choices."""
    parts = [part for part in parts if not isinstance(part, list) or part]
    if len(parts) <= 1:
        return parts[0] if parts else []
    if all(isinstance(part, list) for part in parts) and sum(map(len, parts)) <= MANY_RANGES:
        merged: Ranges = []
        for low, high in sorted(bounds for part in parts for bounds in part):
            if merged and low <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(high, merged[-1][1])
            else:
                merged.append((low, high))
        return merged
    flags: NDArray[np.bool_] = as_flags(parts[0], size).copy()
    for part in parts[1:]:
        if isinstance(part, list):
            for low, high in part:
                flags[low:high] = True
        else:
            flags |= part
    return flags


def intersection(first: Choice, second: Choice, size: int) -> Choice:
    """Return the terms in both choices."""
    if isinstance(first, list) and isinstance(second, list):
        pairs = ((max(a, c), min(b, d)) for a, b in first for c, d in second)
        return [(low, high) for low, high in pairs if low < high]
    flags: NDArray[np.bool_] = as_flags(first, size) & as_flags(second, size)
    return flags


def complement(chosen: Choice, size: int) -> Choice:
    """Return the terms not chosen."""
    if not isinstance(chosen, list):
        return ~chosen
    edges = [0, *(edge for bounds in chosen for edge in bounds), size]
    return [(low, high) for low, high in zip(edges[::2], edges[1::2], strict=True) if low < high]


class Matcher:
    """One comparison, ready to be asked.

    Attributes
    ----------
    missing : bool
        Whether records that lack the field match.
    index : str
        How terms are chosen, for reports: "equality", "range", "text scan", "elements" or "presence".
    """

    index = "equality"
    missing = False

    def test(self, value: Any) -> bool:
        """Whether a value that is there matches."""
        raise NotImplementedError

    def choose(self, field: Vocabulary) -> Choice:
        """Return the terms that match."""
        raise NotImplementedError
