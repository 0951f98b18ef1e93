"""Reading an index together with its journal; checking and repairing a directory."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from zeusdb_vs.errors import CorruptIndexError, JournalDamagedError
from zeusdb_vs.storage.contents import Snapshot
from zeusdb_vs.storage.directory import existing_directory, finish_earlier_save, leftovers, storage_errors
from zeusdb_vs.storage.journal import Journal
from zeusdb_vs.storage.lock import DirectoryLock
from zeusdb_vs.storage.manifest import Manifest, parse_manifest, read_manifest_bytes
from zeusdb_vs.storage.replay import JournalReplay
from zeusdb_vs.storage.snapshot import (
    DEFAULT_LOCK_TIMEOUT_S,
    LEAST_READ_ATTEMPTS,
    READ_PATIENCE_S,
    read_snapshot,
    saved_too_fast,
)


@dataclass(slots=True)
class DirectoryReport:
    """What a check of a directory found.

    Attributes
    ----------
    manifest : Manifest
        Of the committed generation.
    problems : list of str
        Damage, each with the file and the reason; empty if there is none.
    notes : list of str
        What is in order but not tidy: an unfinished save, a torn journal tail.
    journal_calls : int
        Changes since the snapshot.
    """

    manifest: Manifest
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    journal_calls: int = 0


def read_with_journal(
    path: str | os.PathLike[str],
    *,
    mmap: bool = False,
    verify: bool = True,
    rebuildable: Collection[str] = (),
    repair: bool = False,
    private: Collection[str] = (),
) -> tuple[Snapshot, JournalReplay]:
    """Read a snapshot and the journal that goes with it; takes no lock and writes nothing.

    Parameters
    ----------
    mmap, verify, rebuildable, private
        As `read_snapshot`.
    repair : bool
        As `JournalReplay`.

    Raises
    ------
    JournalDamagedError
        Changes known to be on disk cannot be read.
    StorageError
        As `read_snapshot`.
    """
    with storage_errors("reading", path):
        directory = existing_directory(path)
        attempt = 0
        until = time.monotonic() + READ_PATIENCE_S
        while True:
            attempt += 1
            is_last = attempt >= LEAST_READ_ATTEMPTS and time.monotonic() > until
            before = read_manifest_bytes(directory)
            snapshot = read_snapshot(
                directory, mmap=mmap, verify=verify, rebuildable=rebuildable, private=private
            )
            manifest = snapshot.manifest
            assert manifest is not None
            try:
                replay = JournalReplay(directory, manifest.generation, manifest.index_uuid, repair=repair)
            except (JournalDamagedError, FileNotFoundError):
                # A checkpoint may have removed the journal; then the manifest is another one by now.
                if read_manifest_bytes(directory) == before:
                    raise
                if is_last:
                    raise saved_too_fast(directory, attempt) from None
                continue
            if is_last or read_manifest_bytes(directory) == before:
                return snapshot, replay
            replay.close()


def check_directory(path: str | os.PathLike[str]) -> DirectoryReport:
    """Check every file of an index against its digests, and its journal; writes nothing.

    Raises
    ------
    IndexNotFoundError, UnsupportedVersionError, CorruptIndexError
        There is no manifest that could be checked against.
    StorageError
        The system reported an error.
    """
    with storage_errors("checking", path):
        directory = existing_directory(path)
        manifest = parse_manifest(read_manifest_bytes(directory), directory)
        report = DirectoryReport(manifest)
        try:
            snapshot = read_snapshot(directory, mmap=True, rebuildable=manifest.files)
            report.problems += snapshot.damaged.values()
        except CorruptIndexError as error:
            report.problems.append(str(error))
        with JournalReplay(directory, manifest.generation, manifest.index_uuid, repair=True) as replay:
            report.journal_calls = replay.calls
            if replay.damage is not None:
                report.problems.append(replay.damage)
            elif replay.torn_bytes:
                report.notes.append(
                    f"the journal ends with {replay.torn_bytes} bytes of a call that was cut short"
                )
        report.notes += [f"{name} was left behind by a save" for name in leftovers(directory)]
        return report


def repair_directory(
    path: str | os.PathLike[str], *, lock_timeout_s: float = DEFAULT_LOCK_TIMEOUT_S
) -> list[str]:
    """Mend what files alone can tell, and return what was done.

    An unfinished save is finished and its leftovers are removed; a journal is cut where it is damaged or
    torn, which **drops every change behind that point**. Files of the snapshot that are damaged stay as
    they are.

    Raises
    ------
    IndexLockedError
        Another process is writing.
    IndexNotFoundError, UnsupportedVersionError, CorruptIndexError, StorageError
        As `check_directory`.
    """
    with storage_errors("repairing", path):
        directory = existing_directory(path)
        read_manifest_bytes(directory)
        with DirectoryLock(directory) as lock:
            lock.acquire(lock_timeout_s)
            manifest = parse_manifest(read_manifest_bytes(directory), directory)
            before = leftovers(directory)
            finish_earlier_save(directory, manifest)
            done = [f"removed {name}" for name in before if name not in leftovers(directory)]
            with JournalReplay(directory, manifest.generation, manifest.index_uuid, repair=True) as replay:
                if replay.damage is not None or replay.torn_bytes:
                    Journal(replay).close()
                    what = "damage" if replay.damage else "torn tail"
                    done.append(f"cut the {what} off the journal; {replay.calls} calls are kept")
            return done
