"""One field over a range of records: its terms, and which record has which.

Records are numbered 0..size-1 here, so that a reference to one takes two bytes up to 65,536 of them. Few
terms: one byte a record, compared all at once. Many terms: the records of each term, one after the other; a
range of terms is then a slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.filtering import terms as term_sets
from zeusdb_vs.filtering.choices import Choice
from zeusdb_vs.filtering.terms import Terms
from zeusdb_vs.filtering.values import Key, Kind, classify, classify_array

MAX_SIZE = 1 << 18
"""Records of a column at most. The fewer columns a field has, the less often its values are held and scanned again;
the larger they are, the longer it takes to unite two."""
NARROW_SIZE = 1 << 16
"""So many things are numbered by two bytes, more by four."""
DENSE_TERMS = 255
"""Terms that one byte can tell apart, with 0 for a record without the field."""
DENSE_FILL = 4
"""One byte for every record is spent when at least one in so many has the field."""
SPARSE_SHARE = 16
"""Up to one record in so many is kept as a list of records instead of a mask."""
FETCH_SHARE = 4
"""Up to one term in so many has its records fetched by itself; with more it is quicker to pass over all."""

Records: TypeAlias = "NDArray[np.unsignedinteger[Any]]"
Matches = NDArray[Any]
"""Records that match: a mask (bool, shape (size,)) or, when few, their ascending numbers (see `record_dtype`)."""

Classified: TypeAlias = "tuple[Kind, Key]"
Items: TypeAlias = "tuple[list[Any], list[Classified] | None]"
"""The items of an array, and what `classify` says of them where that is known."""

NOTHING: Records = np.empty(0, np.uint16)


def record_dtype(size: int) -> type[np.unsignedinteger[Any]]:
    """Return the type that numbers so many things, records or distinct arrays."""
    return np.uint16 if size <= NARROW_SIZE else np.uint32


class Elements:
    """The elements of a field's distinct arrays: their own terms, and which arrays hold each."""

    __slots__ = ("members", "starts", "terms")

    elements: ClassVar[None] = None
    """Arrays within arrays are compared whole."""

    def __init__(self, terms: Terms, starts: NDArray[Any], members: Records) -> None:
        self.terms = terms
        self.starts = starts
        self.members = members

    @classmethod
    def pack(cls, terms: Terms, ids: NDArray[Any], arrays: NDArray[Any], count: int) -> Elements:
        """Group pairs of element and array, one of so many, by element; repeated pairs are kept once."""
        pairs = np.unique(ids.astype(np.int64) << 32 | arrays)
        starts = _starts(np.bincount(pairs >> 32, minlength=len(terms)))
        return cls(terms, starts, (pairs & 0xFFFFFFFF).astype(record_dtype(count)))

    def owners(self, chosen: Choice, arrays: int) -> NDArray[np.bool_]:
        """Return for each of so many arrays whether it holds a chosen element."""
        flags = np.zeros(arrays, np.bool_)
        if isinstance(chosen, list):
            for low, high in chosen:
                flags[self.members[int(self.starts[low]) : int(self.starts[high])]] = True
        else:
            flags[self.members[np.repeat(chosen, np.diff(self.starts))]] = True
        return flags

    def pairs(self) -> tuple[NDArray[np.intp], Records]:
        """Return all pairs of element and array."""
        return np.repeat(np.arange(len(self.terms)), np.diff(self.starts)), self.members

    def memory_bytes(self) -> int:
        """Return the bytes held."""
        return self.terms.memory_bytes() + self.starts.nbytes + self.members.nbytes


class Column:
    """One field over a range of records; immutable.

    Parameters
    ----------
    size : int
        Records in the range, those without the field included.
    terms : Terms
        The distinct values.
    elements : Elements or None
        Of the arrays among the values; None when there are none.
    codes : ndarray of uint8, shape (size,), or None
        Term number + 1 of each record, 0 without the field.
    order : ndarray of uint16 or uint32, or None
        Instead of codes: the records that have the field, by term and within a term ascending.
    starts : ndarray of unsigned int, shape (len(terms) + 1,), or None
        Where each term's records begin in `order`; None when each term has one.
    """

    __slots__ = ("codes", "elements", "order", "size", "starts", "terms")

    def __init__(
        self,
        size: int,
        terms: Terms,
        elements: Elements | None,
        *,
        codes: NDArray[np.uint8] | None = None,
        order: Records | None = None,
        starts: NDArray[Any] | None = None,
    ) -> None:
        self.size = size
        self.terms = terms
        self.elements = elements
        self.codes = codes
        self.order = order
        self.starts = starts

    @classmethod
    def build(cls, size: int, records: Sequence[int], values: Sequence[Any]) -> Column:
        """Fold values as they came; record numbers ascend."""
        terms, ids, arrays = factorise(values)
        elements = None
        if arrays:
            lists = [arrays[key] for key in terms.blobs(Kind.ARRAY).to_list()]
            values_of = [items for items, _ in lists]
            classes = None
            if any(known is not None for _, known in lists):
                of_each = [map(classify, items) if known is None else known for items, known in lists]
                classes = list(chain.from_iterable(of_each))
            element_terms, element_ids, _ = factorise(list(chain.from_iterable(values_of)), classes)
            owners = np.repeat(np.arange(len(lists)), list(map(len, values_of)))
            elements = Elements.pack(element_terms, element_ids, owners, len(lists))
        return cls.pack(size, terms, elements, np.asarray(records, np.int64), ids)

    @classmethod
    def pack(
        cls, size: int, terms: Terms, elements: Elements | None, records: NDArray[Any], ids: NDArray[Any]
    ) -> Column:
        """Choose a form for pairs of record and term, in any order."""
        if len(terms) <= DENSE_TERMS and size <= DENSE_FILL * len(records):
            codes = np.zeros(size, np.uint8)
            codes[records] = ids + 1
            return cls(size, terms, elements, codes=codes)
        narrow = record_dtype(size)
        # Numbers of half as many bytes sort in half the time.
        wide, bits = (np.uint32, 16) if narrow is np.uint16 else (np.uint64, 32)
        pairs = np.sort(ids.astype(wide) << wide(bits) | records.astype(wide))
        order = (pairs & wide((1 << bits) - 1)).astype(narrow)
        starts = None if len(terms) == len(order) else _starts(np.bincount(ids, minlength=len(terms)))
        return cls(size, terms, elements, order=order, starts=starts)

    @property
    def present(self) -> int:
        """How many records have the field."""
        return int(np.count_nonzero(self.codes)) if self.codes is not None else len(self._order)

    @property
    def form(self) -> str:
        """The form chosen, for reports."""
        return "codes" if self.codes is not None else "postings"

    @property
    def _order(self) -> Records:
        assert self.order is not None
        return self.order

    # ------------------------------------------------------------------------------------------ reading

    def records_of(self, chosen: Choice) -> Matches:
        """Return the records whose value is a chosen term."""
        if isinstance(chosen, list) and not chosen:
            return NOTHING
        if self.codes is not None:
            return _coded(self.codes, chosen, len(self.terms))
        if isinstance(chosen, list):
            return self._posted_ranges(chosen)
        if self.starts is None:
            return self._gathered([self._order[chosen]])
        terms = np.flatnonzero(chosen)
        if len(terms) * FETCH_SHARE <= len(self.terms):
            firsts = self.starts.take(terms).astype(np.int64)
            counts = self.starts[1:].take(terms) - firsts
            places = np.repeat(firsts + counts - np.cumsum(counts), counts)
            places += np.arange(len(places))
            return self._gathered([self._order.take(places)])
        return self._gathered([self._order[np.repeat(chosen, np.diff(self.starts))]])

    def _posted_ranges(self, chosen: list[tuple[int, int]]) -> Matches:
        order, starts = self._order, self.starts
        spans = chosen if starts is None else [(starts.item(low), starts.item(high)) for low, high in chosen]
        if len(chosen) == 1 and chosen[0][1] - chosen[0][0] == 1:
            low, high = spans[0]
            if self._is_few(high - low):
                # Those of one term ascend as they lie there.
                return order[low:high]
        total = sum(high - low for low, high in spans)
        if 2 * total > len(order) and len(order) == self.size:
            mask = np.ones(self.size, np.bool_)
            edges = [0, *(edge for span in spans for edge in span), len(order)]
            for low, high in zip(edges[::2], edges[1::2], strict=True):
                mask[order[low:high]] = False
            return mask
        return self._gathered([order[low:high] for low, high in spans])

    def _gathered(self, parts: list[Records]) -> Matches:
        if self._is_few(sum(map(len, parts))):
            return np.sort(parts[0] if len(parts) == 1 else np.concatenate(parts))
        mask = np.zeros(self.size, np.bool_)
        for part in parts:
            mask[part] = True
        return mask

    def _is_few(self, count: int) -> bool:
        return count * SPARSE_SHARE <= self.size

    def pairs(self) -> tuple[NDArray[np.intp], NDArray[Any]]:
        """Return all records that have the field and the term number of each."""
        if self.codes is not None:
            records = np.flatnonzero(self.codes)
            return records, self.codes[records].astype(np.int64) - 1
        numbers = np.arange(len(self.terms))
        ids = numbers if self.starts is None else np.repeat(numbers, np.diff(self.starts))
        return self._order.astype(np.intp), ids

    def counts(self, wanted: NDArray[np.bool_] | None = None) -> NDArray[np.intp]:
        """Return how many of the wanted records (all by default) have each term."""
        records, ids = self.pairs()
        if wanted is not None:
            ids = ids[wanted[records]]
        return np.bincount(ids, minlength=len(self.terms))

    def memory_bytes(self) -> int:
        """Return the bytes held."""
        arrays = sum(part.nbytes for part in (self.codes, self.order, self.starts) if part is not None)
        elements = 0 if self.elements is None else self.elements.memory_bytes()
        return self.terms.memory_bytes() + elements + arrays


def _coded(codes: NDArray[np.uint8], chosen: Choice, terms: int) -> NDArray[np.bool_]:
    if not isinstance(chosen, list):
        table = np.zeros(256, np.bool_)
        table[1 : terms + 1] = chosen
        taken: NDArray[np.bool_] = table.take(codes)
        return taken
    mask: NDArray[np.bool_] | None = None
    for low, high in chosen:
        if high - low == 1:
            part = codes == np.uint8(high)
        else:
            # What is below the range, 0 for no term among it, wraps to beyond it.
            part = codes - np.uint8(low + 1) < np.uint8(high - low)
        mask = part if mask is None else mask | part
    assert mask is not None
    return mask


def _starts(counts: NDArray[np.intp]) -> NDArray[Any]:
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    last = int(starts[-1])
    return starts.astype(np.uint16 if last < 1 << 16 else np.uint32 if last < 1 << 32 else np.uint64)


# ---------------------------------------------------------------------------------------------- building


def factorise(
    values: Sequence[Any], classes: Sequence[Classified] | None = None
) -> tuple[Terms, NDArray[np.int64], dict[bytes, Items]]:
    """Number the distinct values of a list.

    Parameters
    ----------
    values : sequence
    classes : sequence, or None
        What `classify` says of them, where that is known.

    Returns
    -------
    terms : Terms
    ids : ndarray of int64, shape (len(values),)
        The term number of each value.
    arrays : dict
        The arrays among the distinct values, by key; empty where `classes` were given.
    """
    types = set(map(type, values)) if classes is None else set()
    if types == {str}:
        return *_factorise_texts(values), {}
    if types == {float}:
        return *_factorise_floats(np.array(values)), {}
    if types == {int}:
        try:
            return *_factorise_ints(np.array(values, np.int64)), {}
        except OverflowError:
            pass
    arrays: dict[bytes, Items] = {}
    if classes is None:
        classes = [
            _classify_array(value, arrays) if type(value) is list else classify(value) for value in values
        ]
    tokens = list(dict.fromkeys(classes))
    places = dict(zip(tokens, range(len(tokens)), strict=True))
    terms, ranks = _rank(tokens)
    return terms, ranks[np.fromiter(map(places.__getitem__, classes), np.int64, len(values))], arrays


def _factorise_texts(values: Sequence[str]) -> tuple[Terms, NDArray[np.int64]]:
    # Python orders str by code point, which is the order of their UTF-8.
    distinct = sorted(set(values))
    places = dict(zip(distinct, range(len(distinct)), strict=True))
    terms = Terms.build({Kind.TEXT: [text.encode("utf-8", "surrogatepass") for text in distinct]})
    return terms, np.fromiter(map(places.__getitem__, values), np.int64, len(values))


def _factorise_ints(values: NDArray[np.int64]) -> tuple[Terms, NDArray[np.int64]]:
    distinct, ids = np.unique(values, return_inverse=True)
    return Terms.build({Kind.INT: distinct}), ids


def _factorise_floats(values: NDArray[np.float64]) -> tuple[Terms, NDArray[np.int64]]:
    """As `classify` has it: a float within int64 and without a fraction is an integer."""
    whole = (values == np.floor(values)) & (values >= -(2.0**63)) & (values < 2.0**63)
    ints, int_ids = np.unique(values[whole].astype(np.int64), return_inverse=True)
    floats, float_ids = np.unique(values[~whole], return_inverse=True)
    ids = np.empty(len(values), np.int64)
    ids[whole] = int_ids
    ids[~whole] = float_ids + len(ints)
    return Terms.build({Kind.INT: ints, Kind.FLOAT: floats}), ids


def _classify_array(value: list[Any], arrays: dict[bytes, Items]) -> Classified:
    key, classes = classify_array(value)
    arrays[key] = value, classes
    return Kind.ARRAY, key


def _rank(tokens: list[tuple[Kind, Any]]) -> tuple[Terms, NDArray[np.int64]]:
    """Sort distinct classified values; returns their terms and the term number of each."""
    by_kind: dict[Kind, list[Any]] = {}
    for kind, key in tokens:
        by_kind.setdefault(kind, []).append(key)
    for keys in by_kind.values():
        if len(keys) > 1:
            keys.sort()
    terms = Terms.build(dict(by_kind))
    places = {
        kind: dict(zip(keys, range(terms.bases[kind], terms.bases[kind] + len(keys)), strict=True))
        for kind, keys in by_kind.items()
    }
    ranks = np.fromiter((places[kind][key] for kind, key in tokens), np.int64, len(tokens))
    return terms, ranks


def combine(size: int, parts: Sequence[tuple[Column, NDArray[np.int64]]]) -> Column | None:
    """Unite the same field of several ranges of records into one range.

    Parameters
    ----------
    size : int
        Records of the new range.
    parts : sequence of (Column, ndarray of int64, shape (column.size,))
        Each with the new number of each of its records, -1 for a record that is dropped.

    Returns
    -------
    Column or None
        Without terms that no record has any more; None when no record is left that has the field.
    """
    records, ids, used = [], [], []
    for column, places in parts:
        old, numbers = column.pairs()
        new = places[old]
        kept = new >= 0
        flags = None
        if not kept.all():
            new, numbers = new[kept], numbers[kept]
            flags = np.bincount(numbers, minlength=len(column.terms)) > 0
        records.append(new)
        ids.append(numbers)
        used.append(flags)
    if not any(map(len, records)):
        return None
    terms, maps = term_sets.merge([column.terms for column, _ in parts], used)
    ids = [table[numbers] for table, numbers in zip(maps, ids, strict=True)]
    elements = _combine_elements([column for column, _ in parts], maps, terms)
    return Column.pack(size, terms, elements, np.concatenate(records), np.concatenate(ids).astype(np.int64))


def _combine_elements(columns: list[Column], maps: list[NDArray[np.int32]], terms: Terms) -> Elements | None:
    """Unite the elements of arrays whose new term numbers are known; those of dropped arrays go."""
    low, high = terms.range_of(Kind.ARRAY)
    if low == high:
        return None
    parts, used, arrays, ids = [], [], [], []
    for column, table in zip(columns, maps, strict=True):
        if column.elements is None:
            continue
        elements, members = column.elements.pairs()
        base, end = column.terms.range_of(Kind.ARRAY)
        new = table[base:end][members]
        kept = new >= 0
        parts.append(column.elements.terms)
        used.append(np.bincount(elements[kept], minlength=len(column.elements.terms)) > 0)
        arrays.append(new[kept] - low)
        ids.append(elements[kept])
    united, element_maps = term_sets.merge(parts, used)
    numbers = [table[old] for table, old in zip(element_maps, ids, strict=True)]
    return Elements.pack(united, np.concatenate(numbers), np.concatenate(arrays), high - low)
