"""The ``.zdb`` directory: one index on disk, there wholly or not at all.

Storage knows bytes, files and names, and nothing of vectors or graphs: it is handed named arrays and lines of
JSON and hands them back. docs/format.md describes what stands on disk.

=========================  =======================================================================
`write_snapshot`           save one moment of an index over whatever index is there
`read_snapshot`            read it back, in memory or mapped
`read_manifest`            only say what is there
`Journal`                  append the changes since, as durable as is asked for
`read_with_journal`        snapshot and changes together, as an index is opened
`check_directory`          find damage
`repair_directory`         finish what was cut short, cut off what is damaged
`DirectoryLock`            one writer at a time
=========================  =======================================================================
"""

from zeusdb_vs.storage.binary import BinaryFile
from zeusdb_vs.storage.checkup import DirectoryReport, check_directory, read_with_journal, repair_directory
from zeusdb_vs.storage.contents import JsonFile, Snapshot
from zeusdb_vs.storage.journal import Durability, Journal
from zeusdb_vs.storage.lines import LinesFile
from zeusdb_vs.storage.lock import DirectoryLock
from zeusdb_vs.storage.manifest import FILES, Kind, Manifest
from zeusdb_vs.storage.replay import JournalReplay
from zeusdb_vs.storage.snapshot import map_file, read_manifest, read_snapshot, write_snapshot

__all__ = [
    "FILES",
    "BinaryFile",
    "DirectoryLock",
    "DirectoryReport",
    "Durability",
    "Journal",
    "JournalReplay",
    "JsonFile",
    "Kind",
    "LinesFile",
    "Manifest",
    "Snapshot",
    "check_directory",
    "map_file",
    "read_manifest",
    "read_snapshot",
    "read_with_journal",
    "repair_directory",
    "write_snapshot",
]
