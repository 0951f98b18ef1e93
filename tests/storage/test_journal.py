"""The journal: whole calls or none, torn tails dropped, damage refused, nothing acknowledged lost."""

import contextlib
import errno
import os
import random
import shutil
import struct
import sys
import threading
import time
from uuid import UUID

import numpy as np
import pytest
from storage.snapshots import make_snapshot

from zeusdb_vs.errors import JournalDamagedError, ReadOnlyError, StorageError
from zeusdb_vs.storage import Journal, JournalReplay, fsio, read_manifest, write_snapshot
from zeusdb_vs.storage.frames import HEADER_BYTES, journal_path

UUID_A = UUID(int=0xA)
UUID_B = UUID(int=0xB)

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")


def replay(directory, generation=1, uuid=UUID_A, **options):
    with JournalReplay(directory, generation, uuid, **options) as found:
        return list(found)


def opened(directory, generation=1, uuid=UUID_A, *, repair=False, **options):
    with JournalReplay(directory, generation, uuid, repair=repair) as found:
        return Journal(found, **options)


def call(number, size=None):
    rng = random.Random(number)
    count = rng.randrange(1, 4)
    return [
        (rng.randrange(1, 256), rng.randbytes(rng.randrange(40) if size is None else size))
        for _ in range(count)
    ]


def written(directory, count, *, durability="always", close=True):
    """Write `count` calls and return them with the offset behind each."""
    journal = opened(directory, durability=durability)
    calls, ends = [], []
    for number in range(count):
        calls.append(call(number))
        journal.wait(journal.append(calls[-1]))
        ends.append(journal.size_bytes)
    if close:
        journal.close()
    else:
        journal._file.close()
    return calls, ends


def test_calls_come_back_in_order_over_several_openings(tmp_path):
    expected = []
    for durability in ("always", "interval", "never"):
        journal = opened(tmp_path, durability=durability)
        for number in range(5):
            expected.append(call(number))
            journal.wait(journal.append(expected[-1]))
        journal.close()
        journal.close()
        assert replay(tmp_path) == expected


def test_payloads_in_parts_come_back_joined(tmp_path):
    vectors = np.arange(200_000, dtype=np.float32).reshape(-1, 4)
    journal = opened(tmp_path)
    journal.append(
        [(7, [b"head", vectors.data, b"", bytearray(b"tail")]), (1, b""), (2, memoryview(vectors))]
    )
    journal.close()
    assert replay(tmp_path) == [
        [(7, b"head" + vectors.tobytes() + b"tail"), (1, b""), (2, vectors.tobytes())]
    ]


def test_opening_and_closing_without_changes_writes_nothing(tmp_path):
    written(tmp_path, 3)
    size = journal_path(tmp_path, 1).stat().st_size
    for _ in range(3):
        opened(tmp_path).close()
    assert journal_path(tmp_path, 1).stat().st_size == size


@pytest.mark.parametrize("durability", ["always", "never"])
def test_journal_cut_at_every_byte_loses_only_calls_behind_the_cut(tmp_path, durability):
    calls, ends = written(tmp_path, 9, durability=durability)
    path = journal_path(tmp_path, 1)
    data = path.read_bytes()
    for cut in reversed(range(len(data) + 1)):
        os.truncate(path, cut)
        whole = calls[: sum(end <= cut for end in ends)]
        assert replay(tmp_path) == whole
        if cut % 7 == 0:
            journal = opened(tmp_path)
            journal.append(call(99))
            journal.close()
            assert replay(tmp_path) == [*whole, call(99)]
            path.write_bytes(data[:cut])


@pytest.mark.parametrize("close", [True, False], ids=["closed", "killed"])
@pytest.mark.parametrize("durability", ["always", "never"])
def test_journal_with_any_bit_flipped_is_refused_or_ends_before_it(tmp_path, durability, close):
    """What is below the offset that a later commit frame vouches for is damage, the rest a torn tail."""
    calls, ends = written(tmp_path, 6, durability=durability, close=close)
    path = journal_path(tmp_path, 1)
    data = path.read_bytes()
    if close:
        sure = ends[-1]  # the closing commit vouches for all
    else:
        sure = ends[-2] if durability == "always" else HEADER_BYTES
    # One byte is written in place: a whole file per bit would mostly measure the disk.
    with path.open("r+b", buffering=0) as file:
        for position in range(len(data)):
            for bit in range(8):
                file.seek(position)
                file.write(bytes([data[position] ^ 1 << bit]))
                if position < sure:
                    with pytest.raises(JournalDamagedError):
                        replay(tmp_path)
                else:
                    assert replay(tmp_path) == calls[: sum(end <= position for end in ends)]
            file.seek(position)
            file.write(data[position : position + 1])


@pytest.mark.parametrize("size", [3, 100])
def test_repair_keeps_what_stands_before_the_damage(tmp_path, size):
    calls, ends = written(tmp_path, 6)
    path = journal_path(tmp_path, 1)
    data = path.read_bytes()
    for number in range(6):
        start = ([HEADER_BYTES, *ends])[number]
        path.write_bytes(data[: start + 5] + bytes(size) + data[start + 5 + size :])
        with pytest.raises(JournalDamagedError, match=r"journal-1\.log is damaged"):
            opened(tmp_path)
        with JournalReplay(tmp_path, 1, UUID_A, repair=True) as found:
            assert "is damaged" in found.damage
            assert list(found) == calls[:number]
            journal = Journal(found)
        journal.append(call(50))
        journal.close()
        assert replay(tmp_path) == [*calls[:number], call(50)]


def test_journals_of_others_and_things_that_are_no_journals_are_refused(tmp_path):
    written(tmp_path, 2)
    path = journal_path(tmp_path, 1)
    with pytest.raises(JournalDamagedError, match="belongs to generation 1 of index"):
        replay(tmp_path, uuid=UUID_B)
    path.rename(journal_path(tmp_path, 2))
    with pytest.raises(JournalDamagedError, match="belongs to generation 1"):
        replay(tmp_path)
    data = bytearray(journal_path(tmp_path, 2).read_bytes())
    journal_path(tmp_path, 2).unlink()
    data[8] = 9
    import zlib

    data[60:64] = zlib.crc32(data[:60]).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(JournalDamagedError, match="journal of version 9"):
        replay(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(JournalDamagedError, match="is a directory"):
        replay(tmp_path)
    path.rmdir()
    if sys.platform != "win32":
        os.mkfifo(path)
        with pytest.raises(JournalDamagedError, match="is a FIFO"):
            replay(tmp_path)
        path.unlink()
        path.symlink_to("/dev/zero")
        with pytest.raises(JournalDamagedError, match="is a symbolic link"):
            replay(tmp_path)


def test_swapped_repeated_and_missing_calls_are_noticed(tmp_path):
    calls, ends = written(tmp_path, 6)
    path = journal_path(tmp_path, 1)
    data = path.read_bytes()
    a, b, c, d = ends[0], ends[1], ends[2], ends[3]
    for forged in (
        data[:a] + data[b:],
        data[:a] + data[a:b] + data[a:b] + data[b:],
        data[:a] + data[b:c] + data[a:b] + data[c:],
        data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:],
    ):
        path.write_bytes(forged)
        with contextlib.suppress(JournalDamagedError):
            found = replay(tmp_path)
            assert found == calls[: len(found)] and len(found) <= 2


def test_frames_inside_a_payload_are_not_taken_for_frames(tmp_path):
    """A user may store the bytes of a journal, even of this one: behind a torn frame they mean nothing."""
    written(tmp_path, 4)
    own_bytes = journal_path(tmp_path, 1).read_bytes()
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    journal = opened(tmp_path, durability="never")
    journal.append([(1, own_bytes), (1, own_bytes[HEADER_BYTES:])])
    journal._file.close()
    path = journal_path(tmp_path, 1)
    data = path.read_bytes()
    for cut in range(HEADER_BYTES, len(data), 5):
        path.write_bytes(data[:cut])
        assert replay(tmp_path) == []
    path.write_bytes(data)
    assert replay(tmp_path) == [[(1, own_bytes), (1, own_bytes[HEADER_BYTES:])]]


def test_small_windows_find_what_large_ones_find(tmp_path, monkeypatch):
    calls, ends = written(tmp_path, 6)
    path = journal_path(tmp_path, 1)
    data = path.read_bytes()
    monkeypatch.setattr("zeusdb_vs.storage.replay._WINDOW_BYTES", 7)
    assert replay(tmp_path) == calls
    path.write_bytes(data[: ends[2] + 3] + b"\0\0\0" + data[ends[2] + 6 :])
    with pytest.raises(JournalDamagedError):
        replay(tmp_path)


@pytest.mark.parametrize("durability", ["always", "interval", "never"])
def test_power_loss_keeps_what_was_promised(tmp_path, durability):
    """Sectors not forced to disk survive each on its own; the others are never lost or called damaged."""
    rng = random.Random(3)
    expected = []
    for _ in range(150):
        forced = []
        journal = opened(tmp_path, durability="always" if durability == "always" else "never")
        path = journal_path(tmp_path, 1)
        base = len(expected)
        sure_bytes = journal.size_bytes
        for number in range(rng.randrange(5)):
            new = call(rng.random(), rng.choice([None, 300, 3000]))
            ticket = journal.append(new)
            expected.append(new)
            if durability == "always" and rng.random() < 0.7:
                journal.wait(ticket)
                forced, sure_bytes = expected[base : base + number + 1], journal.size_bytes
            elif durability == "interval" and rng.random() < 0.3:
                journal.flush()
                forced, sure_bytes = expected[base : base + number + 1], journal.size_bytes
        journal._file.close()
        data = bytearray(path.read_bytes())
        if rng.random() < 0.5:
            del data[rng.randrange(sure_bytes, len(data) + 1) :]
        for sector in range(0, len(data), 512):
            if rng.random() < 0.3:
                start = max(sector, sure_bytes)
                data[start : sector + 512] = bytes(max(0, min(sector + 512, len(data)) - start))
        path.write_bytes(data)
        found = replay(tmp_path)
        assert found == expected[: len(found)]
        assert len(found) >= base + len(forced)
        expected = found
        if len(expected) > 30:
            path.unlink()
            expected = []


class Failing:
    def __init__(self, operation, at, effect):
        self.operation, self.left, self.effect = operation, at, effect

    def __call__(self, operation, *arguments):
        if operation == self.operation:
            if self.left == 0:
                self.effect()
            self.left -= 1


def raising(error):
    def effect():
        raise error

    return effect


@pytest.mark.parametrize("operation", ["write", "fsync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_failed_operation_makes_the_journal_read_only_and_keeps_what_was_acknowledged(
    tmp_path, operation, code
):
    for at in range(6):
        path = tmp_path / f"{operation}{at}"
        path.mkdir()
        journal = opened(path)
        acknowledged = []
        with (
            fsio.observe(Failing(operation, at, raising(OSError(code, "injected")))),
            pytest.raises(OSError) as caught,
        ):
            for number in range(20):
                journal.wait(journal.append(call(number)))
                acknowledged.append(call(number))
        assert caught.value.errno == code
        for _ in range(2):
            with pytest.raises(ReadOnlyError, match="injected"):
                journal.append(call(5))
        journal.close()
        found = replay(path)
        assert found[: len(acknowledged)] == acknowledged
        assert len(found) <= len(acknowledged) + 1
        again = opened(path)
        again.append(call(77))
        again.close()
        assert replay(path) == [*found, call(77)]


def test_interrupted_append_is_taken_back_and_the_journal_goes_on(tmp_path):
    journal = opened(tmp_path)
    journal.append(call(0))
    with fsio.observe(Failing("write", 1, raising(KeyboardInterrupt()))), pytest.raises(KeyboardInterrupt):
        journal.append([(1, bytes(100_000)), (2, b"x")])
    with fsio.observe(Failing("fsync", 0, raising(KeyboardInterrupt()))), pytest.raises(KeyboardInterrupt):
        journal.wait(journal.append(call(1)))
    journal.wait(journal.append(call(2)))
    journal.close()
    assert replay(tmp_path) == [call(0), call(1), call(2)]


@posix
@pytest.mark.parametrize("durability", ["always", "never"])
def test_killed_writers_lose_nothing_that_was_acknowledged(tmp_path, durability):
    acknowledged = []
    for at in range(60):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                left = [at % 15]

                def kill(*_, left=left):
                    if left[0] == 0:
                        os._exit(9)
                    left[0] -= 1

                with fsio.observe(kill):
                    journal = opened(tmp_path, durability=durability)
                    for number in range(4):
                        journal.wait(journal.append(call(1000 * at + number)))
                        os.write(writer, struct.pack("<q", 1000 * at + number))
                    journal.close()
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            numbers = [n for (n,) in struct.iter_unpack("<q", pipe.read())]
        os.waitpid(child, 0)
        acknowledged += [call(n) for n in numbers]
        found = replay(tmp_path)
        assert found[: len(acknowledged)] == acknowledged
        assert len(found) <= len(acknowledged) + 1
        acknowledged = found


@posix
def test_forked_child_cannot_write_and_leaves_the_parent_alone(tmp_path):
    journal = opened(tmp_path, durability="interval", interval_s=0.01)
    journal.append(call(0))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            journal.append(call(1))
        except ReadOnlyError:
            journal.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    journal.append(call(2))
    journal.close()
    assert replay(tmp_path) == [call(0), call(2)]


def test_closed_journals_take_nothing(tmp_path):
    journal = opened(tmp_path)
    journal.close()
    with pytest.raises(ReadOnlyError, match="closed"):
        journal.append(call(0))


@pytest.mark.parametrize(("kind", "payload"), [(0, b""), (256, b""), (-1, b"")])
def test_impossible_records_are_refused_and_the_journal_goes_on(tmp_path, kind, payload):
    journal = opened(tmp_path)
    with pytest.raises(StorageError, match="kinds are 1"):
        journal.append([(1, b"good"), (kind, payload)])
    journal.append(call(3))
    journal.close()
    assert replay(tmp_path) == [call(3)]


def test_interval_forces_to_disk_by_itself(tmp_path):
    syncs = []
    with fsio.observe(lambda operation, *_: syncs.append(operation) if operation == "fsync" else None):
        journal = opened(tmp_path, durability="interval", interval_s=0.02)
        before = len(syncs)
        journal.wait(journal.append(call(0)))
        deadline = time.monotonic() + 5
        while len(syncs) == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(syncs) == before + 1
        time.sleep(0.1)
        assert len(syncs) == before + 1  # nothing new, nothing to do
    journal.close()


def test_threads_that_wait_together_share_an_fsync(tmp_path):
    """With an fsync of 5 ms, 8 threads must write at least 5 times what one thread does."""

    def slow(operation, *_):
        if operation == "fsync":
            time.sleep(0.005)

    def rate(threads, each):
        directory = tmp_path / f"{threads} {time.perf_counter()}"
        directory.mkdir()
        journal = opened(directory)

        def work():
            for number in range(each):
                journal.wait(journal.append(call(number)))

        with fsio.observe(slow):
            workers = [threading.Thread(target=work) for _ in range(threads)]
            started = time.perf_counter()
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            elapsed = time.perf_counter() - started
        journal.close()
        assert len(replay(directory)) == threads * each
        return threads * each / elapsed

    # The best of three, for a busy machine may disturb any of them.
    assert any(rate(8, 60) / rate(1, 60) >= 5 for _ in range(3))


def test_rotation_continues_in_the_next_journal(tmp_path):
    journal = opened(tmp_path, durability="never")
    for number in range(12):
        if number in (4, 5, 9):
            journal.rotate(journal.generation + 1)
        journal.append(call(number))
    journal.close()
    assert replay(tmp_path) == [call(n) for n in range(12)]
    assert replay(tmp_path, 2) == [call(n) for n in range(4, 12)]
    assert replay(tmp_path, 4) == [call(n) for n in range(9, 12)]
    assert replay(tmp_path, 5) == []
    again = opened(tmp_path)
    assert again.generation == 4
    again.append(call(12))
    again.close()
    assert replay(tmp_path) == [call(n) for n in range(13)]


@pytest.mark.parametrize("damage", ["missing", "cut", "torn last header"])
def test_rotated_journals_must_join(tmp_path, damage):
    journal = opened(tmp_path)
    for number in range(6):
        if number in (2, 4):
            journal.rotate(journal.generation + 1)
        journal.append(call(number))
    journal.close()
    middle, last = journal_path(tmp_path, 2), journal_path(tmp_path, 3)
    if damage == "missing":
        middle.unlink()
    elif damage == "cut":
        middle.write_bytes(middle.read_bytes()[:-10])
    else:
        last.write_bytes(last.read_bytes()[:50])
        assert replay(tmp_path) == [call(n) for n in range(4)]
        again = opened(tmp_path)
        assert again.generation == 3
        again.append(call(4))
        again.close()
        assert replay(tmp_path) == [call(n) for n in range(5)]
        return
    with pytest.raises(JournalDamagedError, match="calls in between are lost"):
        replay(tmp_path)
    kept = [call(n) for n in range(2 if damage == "missing" else 3)]
    assert replay(tmp_path, repair=True) == kept
    again = opened(tmp_path, repair=True)
    again.append(call(9))
    again.close()
    assert replay(tmp_path) == [*kept, call(9)]


def test_checkpoint_removes_the_journals_it_holds_and_keeps_the_next(tmp_path):
    path = tmp_path / "a.zdb"
    snapshot = make_snapshot(uuid=UUID_A)
    write_snapshot(path, snapshot)
    journal = opened(path)
    journal.append(call(0))
    journal.rotate(2)
    journal.append(call(1))
    write_snapshot(path, snapshot, generation=2, expected_generation=1)
    assert read_manifest(path).generation == 2
    assert not journal_path(path, 1).exists()
    assert replay(path, 2) == [call(1)]
    journal.close()
    with pytest.raises(StorageError, match="2 is in use"):
        write_snapshot(path, snapshot, generation=2)
    # An export over it goes past every journal, so that none is taken for its own.
    opened_again = opened(path, 2)
    opened_again.rotate(3)
    opened_again.close()
    assert write_snapshot(path, make_snapshot()).generation == 4
    assert not list(path.glob("journal-*"))


def test_a_replay_outlives_the_names_of_its_journals(tmp_path):
    calls, _ = written(tmp_path, 3)
    with JournalReplay(tmp_path, 1, UUID_A) as found:
        if sys.platform != "win32":
            journal_path(tmp_path, 1).unlink()
        assert found.calls == 3
        assert list(found) == calls
    with pytest.raises(ValueError, match="closed"):
        list(found)
