"""The handle users hold: all calls of an index as one class, and how one is loaded or comes out of a pickle."""

from __future__ import annotations

import os
from typing import Any

from zeusdb_vs.calls.adds import AddCalls
from zeusdb_vs.calls.changes import ChangeCalls
from zeusdb_vs.calls.figures import FigureCalls
from zeusdb_vs.calls.index_metadata import IndexMetadataCalls
from zeusdb_vs.calls.quantizer import QuantizerCalls
from zeusdb_vs.calls.reads import ReadCalls
from zeusdb_vs.calls.saves import SaveCalls
from zeusdb_vs.calls.searches import SearchCalls
from zeusdb_vs.calls.upkeep import UpkeepCalls
from zeusdb_vs.errors import ArgumentTypeError
from zeusdb_vs.readers import MAPS_BY_DEFAULT, Reader


class HNSWIndex(
    AddCalls,
    SearchCalls,
    ReadCalls,
    ChangeCalls,
    UpkeepCalls,
    SaveCalls,
    IndexMetadataCalls,
    FigureCalls,
    QuantizerCalls,
):
    """An index of vectors with ids, metadata, text and payload. `VectorDatabase` makes and loads them.

    Any number of threads may use one index. A search never waits for a writer, and sees every record whose
    `add` returned before it began and none whose removal had returned. Writers run one at a time, in order.
    """

    __slots__ = ()

    def __enter__(self) -> HNSWIndex:
        self._collection.view  # noqa: B018
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._binding is not None:
            self._collection.view  # noqa: B018
            return _reopen_directory, (str(self._binding.directory),)
        if self._saved_at is None:
            raise ArgumentTypeError(
                "this index lives in memory, or has changed since it was saved, and is not pickled: "
                "save(path) it, then pickle it, or load the path in the other process"
            )
        return _reopen, (self._saved_at,)


def _reopen(path: str) -> HNSWIndex:
    """Load what a pickle names; a copy in another process may only read."""
    index = load_index(path)
    index._read_only = (
        "this handle may only read: it came out of a pickle; load or open the directory to write"
    )
    return index


def _reopen_directory(path: str) -> HNSWIndex:
    """Open the directory that a pickle names, for reading."""
    reader = Reader(path, mmap=True, verify=True)
    return HNSWIndex(reader.collection, reader.state, binding=reader)


def load_index(path: str | os.PathLike[str]) -> HNSWIndex:
    """Return the index saved in a directory; what `VectorDatabase.load` does."""
    reader = Reader(path, mmap=False, verify=True, maps_originals=MAPS_BY_DEFAULT)
    index = HNSWIndex(reader.collection, reader.state)
    index._saved_at = os.path.realpath(path)
    return index
