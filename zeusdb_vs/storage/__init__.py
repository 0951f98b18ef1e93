"""The ``.zdb`` directory: writing a snapshot so that it is there wholly or not at all, and reading one back.

Storage knows bytes, files and names, and nothing of vectors or graphs: it is handed named arrays and lines
of JSON and hands them back. docs/format.md describes what stands on disk.

>>> from zeusdb_vs.storage import BinaryFile, LinesFile, Snapshot, read_snapshot, write_snapshot
"""

from zeusdb_vs.storage.binary import BinaryFile
from zeusdb_vs.storage.lines import LinesFile
from zeusdb_vs.storage.lock import DirectoryLock
from zeusdb_vs.storage.manifest import FILES, Kind, Manifest
from zeusdb_vs.storage.snapshot import JsonFile, Snapshot, read_manifest, read_snapshot, write_snapshot

__all__ = [
    "FILES",
    "BinaryFile",
    "DirectoryLock",
    "JsonFile",
    "Kind",
    "LinesFile",
    "Manifest",
    "Snapshot",
    "read_manifest",
    "read_snapshot",
    "write_snapshot",
]
