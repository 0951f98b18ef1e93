"""Snapshot and journal together; checking and repairing directories."""

import multiprocessing
import time
from pathlib import Path
from uuid import UUID

import pytest
from storage.snapshots import content_of, make_snapshot, tree_of

from zeusdb_vs.errors import CorruptIndexError, IndexLockedError, IndexNotFoundError, JournalDamagedError
from zeusdb_vs.storage import (
    DirectoryLock,
    Journal,
    JournalReplay,
    check_directory,
    read_manifest,
    read_snapshot,
    read_with_journal,
    repair_directory,
    write_snapshot,
)
from zeusdb_vs.storage.frames import journal_path

UUID_A = UUID(int=0xA)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "a.zdb"
    write_snapshot(path, make_snapshot(seed=1, uuid=UUID_A))
    return path


def journal_of(path):
    with JournalReplay(path, read_manifest(path).generation, UUID_A) as replay:
        return Journal(replay)


def test_sound_directories_have_no_problems(saved):
    report = check_directory(saved)
    assert (report.problems, report.notes, report.journal_calls) == ([], [], 0)
    journal = journal_of(saved)
    journal.append([(1, b"x")])
    journal.close()
    before = tree_of(saved)
    report = check_directory(saved)
    assert (report.problems, report.notes, report.journal_calls) == ([], [], 1)
    assert tree_of(saved) == before
    assert repair_directory(saved) == []
    assert tree_of(saved) == before


def test_every_damaged_file_is_named(saved):
    for name in ("vectors.bin", "texts.json", "config.json"):
        data = bytearray((saved / name).read_bytes())
        data[-3] ^= 1
        (saved / name).write_bytes(data)
    (saved / "quantization.json").unlink()
    problems = check_directory(saved).problems
    assert len(problems) == 4
    for name in ("vectors.bin", "texts.json", "config.json", "quantization.json"):
        assert sum(name in problem for problem in problems) == 1


def test_damaged_ids_are_named(saved):
    (saved / "mappings.bin").write_bytes(b"")
    assert "mappings.bin" in check_directory(saved).problems[0]


def test_directories_without_a_manifest_cannot_be_checked_or_repaired(tmp_path):
    for call in (check_directory, repair_directory):
        with pytest.raises(IndexNotFoundError):
            call(tmp_path)
    assert tree_of(tmp_path) == {}


def test_files_that_can_be_made_again_may_be_damaged(saved):
    (saved / "hnsw_index.hnsw.graph").write_bytes(b"junk")
    with pytest.raises(CorruptIndexError):
        read_snapshot(saved, rebuildable=["codes.bin"])
    loaded = read_snapshot(saved, rebuildable=["codes.bin", "hnsw_index.hnsw.graph"])
    assert list(loaded.damaged) == ["hnsw_index.hnsw.graph"]
    assert "hnsw_index.hnsw.graph" not in loaded.files
    assert len(loaded.files) == len(make_snapshot().files) - 1


def test_repair_finishes_a_save_and_cuts_the_journal(saved):
    expected = content_of(read_snapshot(saved))
    journal = journal_of(saved)
    for number in range(4):
        journal.append([(1, b"%d" % number)])
    journal.close()
    log = journal_path(saved, 1)
    data = log.read_bytes()
    log.write_bytes(data[:-70] + b"\0" + data[-69:])
    (saved / ".gen-1").mkdir()
    (saved / "vectors.bin").rename(saved / ".gen-1" / "vectors.bin")
    (saved / ".gen-5").mkdir()
    (saved / "manifest.json.tmp").write_bytes(b"{")
    report = check_directory(saved)
    assert len(report.problems) == 1 and "journal-1.log" in report.problems[0]
    assert len(report.notes) == 3
    with pytest.raises(JournalDamagedError):
        read_with_journal(saved)
    done = repair_directory(saved)
    assert done == [
        "removed .gen-1",
        "removed .gen-5",
        "removed manifest.json.tmp",
        "cut the damage off the journal; 3 calls are kept",
    ]
    report = check_directory(saved)
    assert (report.problems, report.notes, report.journal_calls) == ([], [], 3)
    snapshot, replay = read_with_journal(saved)
    assert content_of(snapshot) == expected
    assert list(replay) == [[(1, b"0")], [(1, b"1")], [(1, b"2")]]


def test_repair_waits_for_the_lock(saved):
    with DirectoryLock(saved) as lock:
        lock.acquire(0)
        with pytest.raises(IndexLockedError):
            repair_directory(saved, lock_timeout_s=0.05)


def test_torn_tails_are_noted_and_cut(saved):
    journal = journal_of(saved)
    journal.append([(1, b"x")])
    journal._file.write(b"ZVSF half a frame")
    journal._file.close()
    report = check_directory(saved)
    assert report.problems == [] and "17 bytes" in report.notes[0]
    assert repair_directory(saved) == ["cut the torn tail off the journal; 1 calls are kept"]


def test_missing_journal_before_another_is_damage(saved):
    journal = journal_of(saved)
    journal.append([(1, b"x")])
    journal.rotate(2)
    journal.append([(1, b"y")])
    journal.close()
    journal_path(saved, 1).unlink()
    with pytest.raises(JournalDamagedError, match=r"journal-1\.log is missing"):
        read_with_journal(saved)


def writer(path, stop):
    """Counts upwards: the snapshot's seed and the journal's calls together are always one whole sequence."""
    path = Path(path)
    lock = DirectoryLock(path)
    lock.acquire(5)
    journal = journal_of(path)
    number = 0
    while not stop.is_set():
        for _ in range(5):
            number += 1
            journal.wait(journal.append([(1, b"%d" % number)]))
        journal.rotate(journal.generation + 1)
        at_rotation = number
        for _ in range(3):
            number += 1
            journal.append([(1, b"%d" % number)])
        snapshot = make_snapshot(seed=at_rotation, uuid=UUID_A)
        write_snapshot(path, snapshot, lock=lock, generation=journal.generation)
    journal.close()


def test_readers_beside_a_journaling_writer_see_whole_sequences(tmp_path):
    path = tmp_path / "a.zdb"
    write_snapshot(path, make_snapshot(seed=0, uuid=UUID_A))
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    process = context.Process(target=writer, args=(str(path), stop))
    process.start()
    try:
        reads, latest = 0, 0
        deadline = time.monotonic() + 2.5
        while time.monotonic() < deadline:
            snapshot, replay = read_with_journal(path, mmap=reads % 2 == 0)
            with replay:
                numbers = [int(payload) for call in replay for _, payload in call]
            seed = snapshot.config["seed"]
            assert numbers == list(range(seed + 1, seed + 1 + len(numbers)))
            assert seed + len(numbers) >= latest
            latest = seed + len(numbers)
            reads += 1
    finally:
        stop.set()
        process.join(30)
    assert process.exitcode == 0
    assert reads > 3
