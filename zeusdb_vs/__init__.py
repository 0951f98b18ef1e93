"""zeusdb-vs: an embedded vector database in Python, NumPy and Numba.

>>> from zeusdb_vs import VectorDatabase
>>> index = VectorDatabase().create("hnsw", dim=3)
>>> index.add({"id": "a", "vector": [1.0, 0.0, 0.0], "metadata": {"kind": "note"}}).summary()
'1 inserted, 0 errors'
>>> [hit["id"] for hit in index.search([1.0, 0.1, 0.0], filter={"kind": "note"})]
['a']

Names other than the errors are fetched when first used (PEP 562): importing this package imports neither
Numba nor the engine.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from zeusdb_vs._version import __version__
from zeusdb_vs.errors import (
    ArgumentTypeError,
    ClosedIndexError,
    ConfigurationError,
    CorruptIndexError,
    DimensionError,
    FilterError,
    ForeignDirectoryError,
    IdError,
    IndexLockedError,
    IndexNotFoundError,
    JournalDamagedError,
    MetadataError,
    ReadOnlyError,
    RecordError,
    RecordNotFoundError,
    StorageError,
    UnsupportedVersionError,
    VectorError,
    ZeusDBError,
)

if TYPE_CHECKING:
    from zeusdb_vs.checking import RepairReport, VerifyReport, repair, verify
    from zeusdb_vs.database import VectorDatabase
    from zeusdb_vs.estimates import MemoryEstimate, estimate_memory
    from zeusdb_vs.filters import And, Field, Filter, Not, Or, field, filter_from_json
    from zeusdb_vs.index import HNSWIndex
    from zeusdb_vs.results import AddResult
    from zeusdb_vs.threads import get_num_threads, set_num_threads
    from zeusdb_vs.warming import warmup

_HOMES = {
    "AddResult": "results",
    "And": "filters",
    "Field": "filters",
    "Filter": "filters",
    "HNSWIndex": "index",
    "MemoryEstimate": "estimates",
    "Not": "filters",
    "Or": "filters",
    "RepairReport": "checking",
    "VectorDatabase": "database",
    "VerifyReport": "checking",
    "estimate_memory": "estimates",
    "field": "filters",
    "filter_from_json": "filters",
    "get_num_threads": "threads",
    "repair": "checking",
    "set_num_threads": "threads",
    "verify": "checking",
    "warmup": "warming",
}

__all__ = [
    "AddResult",
    "And",
    "ArgumentTypeError",
    "ClosedIndexError",
    "ConfigurationError",
    "CorruptIndexError",
    "DimensionError",
    "Field",
    "Filter",
    "FilterError",
    "ForeignDirectoryError",
    "HNSWIndex",
    "IdError",
    "IndexLockedError",
    "IndexNotFoundError",
    "JournalDamagedError",
    "MemoryEstimate",
    "MetadataError",
    "Not",
    "Or",
    "ReadOnlyError",
    "RecordError",
    "RecordNotFoundError",
    "RepairReport",
    "StorageError",
    "UnsupportedVersionError",
    "VectorDatabase",
    "VectorError",
    "VerifyReport",
    "ZeusDBError",
    "__version__",
    "estimate_memory",
    "field",
    "filter_from_json",
    "get_num_threads",
    "repair",
    "set_num_threads",
    "verify",
    "warmup",
]

if not TYPE_CHECKING:  # a type checker takes the names from the imports above

    def __getattr__(name: str) -> object:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
        globals()[name] = value  # the next use finds it without coming here
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
