"""A store that counts: what an index does with storage, reduced until a test can tell what it must hold."""

from __future__ import annotations

import struct
from uuid import UUID

from storage.snapshots import make_snapshot

from zeusdb_vs.errors import IndexNotFoundError
from zeusdb_vs.storage import DirectoryLock, Journal, read_manifest, read_with_journal, write_snapshot

UUID_A = UUID(int=0xA)


class Store:
    """What an index does with storage, reduced to a counter.

    The snapshot stands for the numbers up to its seed, each call in the journal for the next number.
    """

    def __init__(self, path, durability="always"):
        try:
            read_manifest(path)
        except IndexNotFoundError:
            write_snapshot(path, make_snapshot(seed=0, uuid=UUID_A, texts=False))
        self.path = path
        self.lock = DirectoryLock(path)
        self.lock.acquire(5)
        self.number, replay = read_number(path)
        with replay:
            self.journal = Journal(replay, durability=durability)

    def add(self):
        self.number += 1
        self.journal.wait(
            self.journal.append([(1, struct.pack("<q", self.number)), (2, bytes(self.number % 50))])
        )
        return self.number

    def checkpoint(self):
        before = read_manifest(self.path).generation
        self.journal.rotate(self.journal.generation + 1)
        snapshot = make_snapshot(seed=self.number, uuid=UUID_A, texts=False)
        self.add()  # while the snapshot is being written
        write_snapshot(
            self.path,
            snapshot,
            lock=self.lock,
            generation=self.journal.generation,
            expected_generation=before,
        )
        return self.number

    def close(self):
        self.journal.close()
        self.lock.release()


def read_number(path):
    snapshot, replay = read_with_journal(path)
    number = snapshot.config["seed"]
    for records in replay:
        assert [kind for kind, _ in records] == [1, 2]
        number += 1
        assert struct.unpack("<q", records[0][1]) == (number,)
    return number, replay
