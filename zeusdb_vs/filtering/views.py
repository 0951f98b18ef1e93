"""What readers of field indexes hold: which slots a filter matches, and what fields and values there are.

A `FieldsView` is segments, and the tail up to the number of records that the reader asks for. It answers for the moment
it was taken, whatever is written later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.errors import FilterError
from zeusdb_vs.filtering.columns import Column, Matches
from zeusdb_vs.filtering.matching import prepare, strangers
from zeusdb_vs.filtering.segments import EMPTY_ROW, Row, Rows, Segment, as_mask, evaluate
from zeusdb_vs.filtering.tree import SOURCES, Comparison, Filter, Source, comparisons_of
from zeusdb_vs.filtering.values import KIND_NAMES, Key, Kind, classify, instant_from_key

CACHE_BYTES = 32 << 20
"""Masks that one view keeps for filters asked again."""
MAX_CACHED = 64

Slots = NDArray[np.int64]


class Selection:
    """The slots that a filter matches, as it is cheapest to have them.

    Parameters
    ----------
    n : int
        Slots there are.
    parts : list of (int, ndarray)
        First slot and matches of consecutive ranges: a mask, or the ascending numbers of few.
    """

    __slots__ = ("_count", "_mask", "_parts", "n")

    def __init__(self, n: int, parts: list[tuple[int, int, Matches]]) -> None:
        self.n = n
        self._parts = parts
        self._mask: NDArray[np.bool_] | None = None
        self._count = -1

    @property
    def count(self) -> int:
        """How many slots match, dead ones included."""
        if self._count < 0:
            self._count = sum(
                int(np.count_nonzero(found)) if found.dtype == np.bool_ else len(found)
                for _, _, found in self._parts
            )
        return self._count

    def mask(self) -> NDArray[np.bool_]:
        """Return the matches as a read-only mask over slots, shape (n,); made once."""
        if self._mask is None:
            mask = np.zeros(self.n, np.bool_)
            for low, high, found in self._parts:
                if found.dtype == np.bool_:
                    mask[low:high] = found
                elif len(found):
                    mask[low:high][found] = True
            mask.flags.writeable = False
            self._mask = mask
        return self._mask

    def slots(self) -> Slots:
        """Return the matching slots, ascending."""
        parts = [
            (np.flatnonzero(found) if found.dtype == np.bool_ else found.astype(np.int64)) + low
            for low, _, found in self._parts
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def where(self, mask: NDArray[np.bool_]) -> Selection:
        """Return the matches that also lie in a mask over slots, shape (n,), such as the live ones."""
        parts = []
        for low, high, found in self._parts:
            wanted = mask[low:high]
            parts.append((low, high, found & wanted if found.dtype == np.bool_ else found[wanted[found]]))
        return Selection(self.n, parts)


@dataclass(frozen=True, slots=True)
class FieldSummary:
    """What a field holds.

    Attributes
    ----------
    name : str
        The field's path, as a filter names it.
    source : {"metadata", "payload"}
        Where it is.
    count : int
        Records that have it.
    types : dict of str to int
        How many of those hold a value of each type: "str", "int", "float", "bool", "null", "datetime",
        "list", "dict". A float without a fraction counts as int.
    """

    name: str
    source: Source
    count: int
    types: dict[str, int]


class FieldsView:
    """The field indexes as they were at one moment; any number of threads may ask at once.

    Parameters
    ----------
    segments : tuple of Segment
        Consecutive ranges of slots from 0 on.
    folded : int
        Slots in segments; the tail begins there.
    tail : list of Row
        The newest records; it may grow behind the records that readers know of.
    """

    __slots__ = ("_cache", "folded", "segments", "tail")

    def __init__(self, segments: tuple[Segment, ...], folded: int, tail: list[Row]) -> None:
        self.segments = segments
        self.folded = folded
        self.tail = tail
        self._cache: dict[tuple[Filter, int], Selection] = {}

    def evaluate(self, tree: Filter, n: int) -> NDArray[np.bool_]:
        """Return which of the first n slots a filter matches.

        Parameters
        ----------
        tree : Filter
        n : int
            Slots there are for the caller.

        Returns
        -------
        ndarray of bool, shape (n,)
            Read-only. What it says of dead slots means nothing.
        """
        return self.select(tree, n).mask()

    def select(self, tree: Filter, n: int) -> Selection:
        """Return the matches among the first n slots, few of them without a pass over all; kept for reuse.

        Parameters and what it says of dead slots are those of `evaluate`.

        Returns
        -------
        Selection
        """
        cache = self._cache
        selection = cache.get((tree, n))
        if selection is None:
            selection = Selection(n, list(self._matches(tree, n)))
            if len(cache) >= min(MAX_CACHED, max(4, CACHE_BYTES // (n + 1))):
                # A new dict: another thread may be reading the old one.
                self._cache = cache = {}
            cache[tree, n] = selection
        return selection

    def _matches(self, tree: Filter, n: int) -> Iterator[tuple[int, int, Matches]]:
        low = 0
        for segment in self.segments:
            if low >= n:
                return
            found = segment.evaluate(tree)
            high = low + segment.size
            if high > n:
                found = found[: n - low] if found.dtype == np.bool_ else found[found < n - low]
                high = n
            yield low, high, found
            low = high
        rows = self.tail[: max(0, n - low)]
        if rows:
            yield low, low + len(rows), as_mask(evaluate(tree, Rows(rows)), len(rows))
        if low + len(rows) < n:
            # Slots that were never told of have no fields.
            rest = n - low - len(rows)
            every = as_mask(evaluate(tree, Rows([EMPTY_ROW])), 1)
            yield n - rest, n, np.repeat(every, rest)

    # ------------------------------------------------------------------------------------------ reports

    def distinct(
        self, field: str, n: int, live: NDArray[np.bool_] | None = None, *, source: Source = "metadata"
    ) -> list[tuple[Any, int]]:
        """Return the values of a field with how many records hold each, in ascending order within a type.

        Arrays count by their elements; objects, and arrays within arrays, are left out. A datetime comes back
        in UTC, a float without a fraction as int.

        Parameters
        ----------
        field : str
            A key or dotted path.
        n : int
            Slots there are.
        live : ndarray of bool, shape (n,), or None
            Which of them count; None counts all.
        source : {"metadata", "payload"}
            Where the field is.

        Returns
        -------
        list of (value, int)
        """
        number = SOURCES.index(source)
        totals: Counter[tuple[Kind, Key]] = Counter()
        for part, wanted in self._live_parts(n, live):
            if isinstance(part, Segment):
                column = part.columns[number].get(field)
                if column is not None:
                    _count_column(totals, column, wanted)
                _count_values(totals, [v for at, v in part.scarce[number].get(field, ()) if wanted[at]])
            else:
                _count_values(totals, [row[number][field] for row in part if field in row[number]])
        kept = [item for item in totals.items() if item[0][0] < Kind.ARRAY]
        kept.sort(key=lambda item: (item[0][0], item[0][1] or 0) if item[0][0] < Kind.TEXT else item[0])
        return [(_value_of(kind, key), count) for (kind, key), count in kept]

    def fields(self, n: int, live: NDArray[np.bool_] | None = None) -> list[FieldSummary]:
        """Return what fields there are and what they hold, by source and name.

        Parameters
        ----------
        n : int
            Slots there are.
        live : ndarray of bool, shape (n,), or None
            Which of them count; None counts all.

        Returns
        -------
        list of FieldSummary
        """
        totals: dict[tuple[int, str], Counter[str]] = {}
        for number, path, kinds in self._kinds(n, live):
            types = totals.setdefault((number, path), Counter())
            for kind, count in kinds.items():
                types[KIND_NAMES[kind]] += count
        return [
            FieldSummary(path, SOURCES[number], sum(types.values()), dict(sorted(types.items())))
            for (number, path), types in sorted(totals.items())
            if types
        ]

    def check_types(self, tree: Filter, n: int, live: NDArray[np.bool_] | None = None) -> None:
        """Refuse a filter that orders values of different types, which otherwise simply do not match.

        Parameters are those of `fields`.

        Raises
        ------
        FilterError
            A field that is compared by order holds values that do not compare with the operand, null aside.
        """
        ordering: dict[tuple[int, str], list[Comparison]] = {}
        for comparison in comparisons_of(tree):
            ordering.setdefault((SOURCES.index(comparison.source), comparison.field), []).append(comparison)
        for number, path, kinds in self._kinds(n, live, ordering.__contains__):
            for comparison in ordering.get((number, path), ()):
                names = strangers(comparison, kinds)
                if names:
                    raise FilterError(
                        f"{comparison!r}: field {path!r} holds values of type {', '.join(names)}, which do "
                        f"not compare with {comparison.operand!r}; leave strict out to let them not match"
                    )

    def report(self, tree: Filter, n: int) -> list[dict[str, Any]]:
        """Return for each condition of a filter how it is answered, for `explain`.

        Returns
        -------
        list of dict
            condition: its repr; index: how terms are chosen ("equality", "range", "text scan", "elements",
            "presence"); forms: how records are held ("codes", "postings"); terms: distinct values searched;
            matches: slots that match it alone; indexed, scanned: records answered by columns and one by one.
        """
        reports = []
        for comparison in dict.fromkeys(comparisons_of(tree)):
            columns = [
                column for segment in self.segments if (column := segment.column(comparison)) is not None
            ]
            changed = sum(len(segment.changed) for segment in self.segments)
            reports.append(
                {
                    "condition": repr(comparison),
                    "index": prepare(comparison).index,
                    "forms": sorted({column.form for column in columns}),
                    "terms": sum(len(column.terms) for column in columns),
                    "matches": self.select(comparison, n).count,
                    "indexed": min(self.folded, n) - changed,
                    "scanned": max(0, n - self.folded) + changed,
                }
            )
        return reports

    def _kinds(
        self,
        n: int,
        live: NDArray[np.bool_] | None,
        wanted: Callable[[tuple[int, str]], bool] = lambda _: True,
    ) -> Iterator[tuple[int, str, dict[Kind, int]]]:
        """Yield how many values of each kind the wanted fields hold, part by part."""
        for part, mask in self._live_parts(n, live):
            for number in range(len(SOURCES)):
                if isinstance(part, Segment):
                    for path, column in part.columns[number].items():
                        if wanted((number, path)):
                            yield number, path, _kinds_of(column, mask)
                    for path, pairs in part.scarce[number].items():
                        if wanted((number, path)):
                            kinds = Counter(classify(value)[0] for at, value in pairs if mask[at])
                            yield number, path, kinds
                    continue
                for row in part:
                    for path, value in row[number].items():
                        if wanted((number, path)):
                            yield number, path, {classify(value)[0]: 1}

    def _live_parts(
        self, n: int, live: NDArray[np.bool_] | None
    ) -> Iterator[tuple[Segment | list[Row], NDArray[np.bool_]]]:
        """Yield segments with a mask of what counts in them, and lists of single records that count."""
        live = np.ones(n, np.bool_) if live is None else live
        low = 0
        for segment in self.segments:
            wanted = np.zeros(segment.size, np.bool_)
            part = live[low : low + segment.size]
            wanted[: len(part)] = part
            if len(segment.changed):
                yield (
                    [
                        row
                        for row, is_live in zip(segment.rows, wanted[segment.changed], strict=True)
                        if is_live
                    ],
                    part,
                )
                wanted[segment.changed] = False
            yield segment, wanted
            low += segment.size
        rows = self.tail[: max(0, n - low)]
        yield [row for row, is_live in zip(rows, live[low:], strict=False) if is_live], live[low:]


def _kinds_of(column: Column, wanted: NDArray[np.bool_]) -> dict[Kind, int]:
    counts = np.concatenate([[0], np.cumsum(column.counts(wanted))])
    found = {}
    for kind in Kind:
        low, high = column.terms.range_of(kind)
        if count := int(counts[high] - counts[low]):
            found[kind] = count
    return found


def _count_column(totals: Counter[tuple[Kind, Key]], column: Column, wanted: NDArray[np.bool_]) -> None:
    terms, counts = column.terms, column.counts(wanted)
    for term in np.flatnonzero(counts[: terms.bases[Kind.ARRAY]]).tolist():
        totals[terms.kind_of(term), terms.key(term)] += int(counts[term])
    if column.elements is not None:
        low, high = terms.range_of(Kind.ARRAY)
        elements, arrays = column.elements.pairs()
        held = np.bincount(elements, counts[low:high][arrays], len(column.elements.terms)).astype(np.int64)
        for term in np.flatnonzero(held).tolist():
            totals[column.elements.terms.kind_of(term), column.elements.terms.key(term)] += int(held[term])


def _count_values(totals: Counter[tuple[Kind, Key]], values: list[Any]) -> None:
    for value in values:
        if isinstance(value, list):
            totals.update(set(map(classify, value)))
        else:
            totals[classify(value)] += 1


def _value_of(kind: Kind, key: Key) -> Any:
    if kind is Kind.TEXT:
        assert isinstance(key, bytes)
        return key.decode("utf-8", "surrogatepass")
    if kind is Kind.DATE:
        assert isinstance(key, int)
        return instant_from_key(key)
    if kind in (Kind.FALSE, Kind.TRUE):
        return kind is Kind.TRUE
    return key
