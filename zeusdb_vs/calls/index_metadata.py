"""Metadata of the index itself, beside that of its records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zeusdb_vs.binding import Binding
from zeusdb_vs.calls.handle import Handle
from zeusdb_vs.documents import check_document, encode_checked


class IndexMetadataCalls(Handle):
    """The calls of `HNSWIndex` about its own metadata."""

    __slots__ = ()

    def add_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Set keys of the metadata of the index itself; values are what a record's metadata may hold."""
        document = check_document(metadata, what="index metadata")
        with self._writing():
            merged = {**self._state.metadata, **document}
            text = encode_checked(merged, what="index metadata")
            self._state.metadata = merged
            if isinstance(self._binding, Binding):
                self._binding.record_index_metadata(text)

    def get_metadata(self, key: str) -> Any:
        """Return one value of the index's own metadata, None when there is no such key."""
        return self.get_all_metadata().get(key)

    def get_all_metadata(self) -> dict[str, Any]:
        """Return a copy of the index's own metadata."""
        return check_document(self._state.metadata, what="index metadata")
