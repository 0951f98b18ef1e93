"""What an index holds, read without searching: by id, by filter, counted, one page after the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from zeusdb_vs.calls.handle import Handle
from zeusdb_vs.checks import check_bool, check_int, check_str_list
from zeusdb_vs.errors import ArgumentTypeError, ConfigurationError, RecordNotFoundError
from zeusdb_vs.filtering.views import FieldSummary
from zeusdb_vs.reading import (
    Hits,
    chosen_parts,
    count_in,
    live_selection,
    selection_of,
    shortened,
    slot_of,
    slots_in,
    with_parts,
)

Listing = list[tuple[str, dict[str, Any]]]
Counts = list[tuple[Any, int]]
Summaries = list[FieldSummary]


class ReadCalls(Handle):
    """The calls of `HNSWIndex` that read records."""

    __slots__ = ()

    def get_records(
        self,
        ids: str | Iterable[str],
        return_vector: bool = True,
        strict: bool = False,
        *,
        include: Iterable[str] | None = None,
    ) -> Hits:
        """Return records by id, in the order asked for.

        Parameters
        ----------
        ids : str or iterable of str
        return_vector : bool
            Add each record's vector, as it was given to `add`, float32 (dim,).
        strict : bool
            Raise for ids that are not in the index instead of skipping them.
        include : iterable of {"metadata", "text", "payload", "vector"}, optional
            What records carry beside their id. Decides alone when given.

        Returns
        -------
        list of dict

        Raises
        ------
        RecordNotFoundError
            With `strict`, naming the missing ids.
        """
        parts = chosen_parts(include, return_vector and include is None)
        names = [ids] if isinstance(ids, str) else check_str_list(ids, "ids")
        view = self._collection.view
        pairs = [(name, view.find(name)) for name in names]
        if check_bool(strict, "strict"):
            missing = [name for name, slot in pairs if slot < 0]
            if missing:
                raise RecordNotFoundError(f"not in the index: {shortened(missing)}")
        records = [{"id": name} for name, slot in pairs if slot >= 0]
        return with_parts(view, records, [slot for _, slot in pairs if slot >= 0], parts)

    def contains(self, id: str) -> bool:
        """Return whether a record with this id is in the index."""
        return id in self

    def __contains__(self, id: object) -> bool:
        if not isinstance(id, str):
            raise ArgumentTypeError(f"ids are str, got {id!r} of type {type(id).__name__}")
        return self._collection.view.find(id) >= 0

    def __len__(self) -> int:
        return self._collection.view.live_count

    def get_vector_count(self) -> int:
        """Return the number of records."""
        return len(self)

    def count(self, filter: Any = None, *, strict: bool = False) -> int:
        """Return how many records match a filter; all of them without one. `strict` is that of `search`."""
        view = self._collection.view
        return count_in(view, selection_of(view, filter, strict=strict))

    def list(
        self,
        number: int = 10,
        offset: int = 0,
        after: str | None = None,
        *,
        filter: Any = None,
        strict: bool = False,
    ) -> Listing:
        """Return one page of (id, metadata), in the order in which records were added.

        An update of a record's metadata leaves its place; a record added again moves to the end.

        Parameters
        ----------
        number : int
            Length of the page.
        offset : int
            Records to skip.
        after : str, optional
            Id of the last record of the page before: unlike `offset` it does not shift when records are
            removed.
        filter : dict or filter object, optional
            List only records that match.
        strict : bool
            As for `search`.

        Raises
        ------
        RecordNotFoundError
            `after` is not in the index (any more).
        """
        size, skip = check_int(number, "number", 0), check_int(offset, "offset", 0)
        view = self._collection.view
        slots = slots_in(view, selection_of(view, filter, strict=strict))
        if after is not None:
            if skip:
                raise ConfigurationError("list takes offset or after, not both")
            slots = slots[np.searchsorted(slots, slot_of(view, after), side="right") :]
        page = slots[skip : skip + size].tolist()
        return [(view.id_of(slot), view.records.metadata(slot)) for slot in page]

    def distinct(self, field: str, *, filter: Any = None, strict: bool = False) -> Counts:
        """Return the values of a metadata field with how many records hold each.

        Parameters
        ----------
        field : str
            A key or dotted path. Arrays count by their elements; objects are left out.
        filter : dict or filter object, optional
            Count only records that match.
        strict : bool
            As for `search`.

        Returns
        -------
        list of (value, int)
            In ascending order within a type.
        """
        if not isinstance(field, str):
            raise ArgumentTypeError(f"field must be a str, got {field!r}")
        view = self._collection.view
        selection = live_selection(view, selection_of(view, filter, strict=strict))
        live = view.live if selection is None else selection.mask()
        return view.fields.distinct(field, view.n, None if live is None else live[: view.n])

    def fields(self) -> Summaries:
        """Return what filters can name: each field, how many records have it, and of which types."""
        view = self._collection.view
        return view.fields.fields(view.n, None if view.live is None else view.live[: view.n])
