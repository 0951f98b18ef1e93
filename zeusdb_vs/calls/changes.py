"""Changes of stored records: new metadata and payload, removal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from zeusdb_vs.calls.handle import Handle
from zeusdb_vs.checks import check_bool, check_str_list
from zeusdb_vs.documents import check_document, encode_checked
from zeusdb_vs.errors import ArgumentTypeError, ConfigurationError
from zeusdb_vs.reading import find_slot, found_slots, matching_slots
from zeusdb_vs.views import View


class ChangeCalls(Handle):
    """The calls of `HNSWIndex` that change records or remove them."""

    __slots__ = ()

    def update_metadata(
        self,
        id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        ids: str | Iterable[str] | None = None,
        where: Any = None,
        merge: bool = False,
        strict: bool = False,
    ) -> bool | int:
        """Replace the metadata of one record, of several, or of all that match a filter; the rest stays.

        Parameters
        ----------
        id : str, optional
            The record.
        metadata : dict
            The new metadata.
        ids : str or iterable of str, optional
            Instead of `id`: the records to change, all at once; ids that are not in the index are skipped.
        where : dict or filter object, optional
            Instead of `id`: the records to change; with `ids`, those of them that match.
        merge : bool
            Keep the keys that `metadata` does not have.
        strict : bool
            As for `search`.

        Returns
        -------
        bool or int
            For `id`: whether there is such a record. For `ids` and `where`: how many records were changed.
        """
        document = check_document(metadata, what="metadata")  # type: ignore[arg-type]
        check_bool(merge, "merge")
        if (id is None) == (where is None and ids is None):
            raise ArgumentTypeError(
                "update_metadata takes the id of a record, or ids= or where= or both of these"
            )
        names = None if ids is None else [ids] if isinstance(ids, str) else check_str_list(ids, "ids")
        with self._writing() as view:
            if id is not None:
                slots = [slot] if (slot := find_slot(view, id)) >= 0 else []
            elif names is None:
                slots = matching_slots(view, where, strict=strict).tolist()
            else:
                slots = found_slots(view, names)
                if where is not None:
                    matching = set(matching_slots(view, where, strict=strict).tolist())
                    slots = [slot for slot in slots if slot in matching]
            old = view.records.metadata
            new = [{**old(slot), **document} if merge else document for slot in slots]
            self._replace_metadata(view, slots, new)
        return bool(slots) if id is not None else len(slots)

    def update_payload(self, ids: str | Iterable[str], patch: Mapping[str, Any]) -> int:
        """Set keys of the payload of some records; their other keys stay.

        Parameters
        ----------
        ids : str or iterable of str
            Ids that are not in the index are skipped.
        patch : dict
            The keys to set.

        Returns
        -------
        int
            Records changed.
        """
        document = check_document(patch, what="payload")
        names = [ids] if isinstance(ids, str) else check_str_list(ids, "ids")
        with self._writing() as view:
            slots = found_slots(view, names)
            new = [{**(view.records.payload(slot) or {}), **document} for slot in slots]
            self._replace_payload(view, slots, new)
        return len(slots)

    def _replace_metadata(self, view: View, slots: Sequence[int], new: Sequence[dict[str, Any]]) -> None:
        if slots:
            payloads = [view.records.payload(slot) for slot in slots]
            self._collection.update(
                np.array(slots, np.int64),
                metadata=[
                    encode_checked(document, what="metadata") if document else None for document in new
                ],
                new=list(zip(new, payloads, strict=True)),
            )

    def _replace_payload(self, view: View, slots: Sequence[int], new: Sequence[dict[str, Any]]) -> None:
        if slots:
            metadata = [view.records.metadata(slot) for slot in slots]
            self._collection.update(
                np.array(slots, np.int64),
                payload=[encode_checked(document, what="payload") for document in new],
                new=list(zip(metadata, new, strict=True)),
            )

    def remove_point(self, id: str) -> bool:
        """Remove a record; return whether it was there."""
        with self._writing() as view:
            slot = find_slot(view, id)
            if slot >= 0:
                self._collection.remove(np.array([slot], np.int64))
        return slot >= 0

    def remove_points(self, ids: Iterable[str]) -> list[str]:
        """Remove records; return the ids that were not in the index."""
        names = list(dict.fromkeys(check_str_list(ids, "ids")))
        with self._writing() as view:
            slots = [view.find(name) for name in names]
            found = np.array([slot for slot in slots if slot >= 0], np.int64)
            if len(found):
                self._collection.remove(found)
        return [name for name, slot in zip(names, slots, strict=True) if slot < 0]

    def remove_where(self, filter: Any, *, strict: bool = False) -> int:
        """Remove the records that match a filter, which must not be empty; return how many."""
        return self.delete(where=filter, strict=strict)

    def delete(
        self, ids: str | Iterable[str] | None = None, where: Any = None, *, strict: bool = False
    ) -> int:
        """Remove records by id, by filter, or those among the ids that match the filter.

        Returns
        -------
        int
            Records removed.

        Raises
        ------
        ConfigurationError
            Neither is given; `clear` empties the index.
        FilterError
            `where` is empty.
        """
        if ids is None and where is None:
            raise ConfigurationError("delete needs ids= or where=; clear() empties the index")
        names = None if ids is None else [ids] if isinstance(ids, str) else check_str_list(ids, "ids")
        with self._writing() as view:
            if names is None:
                slots = matching_slots(view, where, strict=strict)
            else:
                slots = np.array(found_slots(view, names), np.int64)
                if where is not None:
                    slots = np.intersect1d(slots, matching_slots(view, where, strict=strict))
            if len(slots):
                self._collection.remove(slots)
        return len(slots)

    def clear(self) -> int:
        """Remove every record; return how many there were."""
        with self._writing():
            return self._collection.clear()
