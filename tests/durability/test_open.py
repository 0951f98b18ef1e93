"""Indexes bound to a directory: what is there again, who may write, what closing means."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from durability.common import DIM, change_in_every_way, columns, everything, reopened, rows

from zeusdb_vs import (
    ArgumentTypeError,
    ClosedIndexError,
    ConfigurationError,
    ForeignDirectoryError,
    HNSWIndex,
    IndexLockedError,
    IndexNotFoundError,
    ReadOnlyError,
    StorageError,
    VectorDatabase,
    binding,
    verify,
)
from zeusdb_vs.storage import fsio

DURABILITIES = ("always", "interval", "never")


def _open(path: Path, **options: Any) -> HNSWIndex:
    return VectorDatabase().open(path, lock_timeout_s=0, **options)


# ---------------------------------------------------------------------------------------------- what is kept


@pytest.mark.parametrize("space", oracle.SPACES)
@pytest.mark.parametrize("durability", DURABILITIES)
def test_every_change_is_there_again(space: str, durability: Any, tmp_path: Path) -> None:
    index = _open(tmp_path / "x", dim=DIM, space=space, durability=durability)
    change_in_every_way(index)
    expected = everything(index)
    # While it is open: a copy of the directory is what a kill -9 would leave.
    shutil.copytree(tmp_path / "x", tmp_path / "killed")
    for mapped in (True, False):
        assert reopened(tmp_path / "x", mmap=mapped) == expected
        assert reopened(tmp_path / "killed", mmap=mapped) == expected
    assert everything(VectorDatabase().load(tmp_path / "killed")) == expected
    index.close()
    assert reopened(tmp_path / "x") == expected
    with _open(tmp_path / "x", durability=durability) as index:
        assert everything(index) == expected


def test_generated_ids_go_on_after_reopening(tmp_path: Path) -> None:
    with _open(tmp_path / "x", dim=DIM) as index:
        assert index.add(rows(0, 2)).ids == ["vec_1", "vec_2"]
        index.remove_point("vec_2")
    with _open(tmp_path / "x") as index:
        assert index.add(rows(1, 1)).ids == ["vec_3"]


def test_clear_is_kept(tmp_path: Path) -> None:
    with _open(tmp_path / "x", dim=DIM) as index:
        index.add(columns(0, ["a", "b", "c"]))
        index.save()
        index.add(columns(1, ["d", "a"]))
        index.clear()
        index.add(columns(2, ["b", "e"]))
        expected = everything(index)
    assert reopened(tmp_path / "x") == expected
    assert [record["id"] for record in expected["records"]] == ["b", "e"]


def test_rebuild_is_kept(tmp_path: Path) -> None:
    with _open(tmp_path / "x", dim=DIM, m=8) as index:
        index.add(rows(0, 10))
        index.rebuild(m=12, ef_construction=77)
        index.add(rows(1, 1))
    with _open(tmp_path / "x") as index:
        assert (index.m, index.ef_construction, len(index)) == (12, 77, 11)


def test_large_indexes_come_back_with_graph_and_journal(tmp_path: Path) -> None:
    with _open(tmp_path / "x", dim=DIM, space="l2") as index:
        index.add(columns(0, [f"r{i}" for i in range(6000)]))
        index.save()
        index.add(columns(1, [f"r{i}" for i in range(5900, 6300)]))
        index.remove_points([f"r{i}" for i in range(300)])
        index.update_metadata("r400", {"n": "changed"})
        expected = everything(index)
        assert reopened(tmp_path / "x") == expected
        assert reopened(tmp_path / "x", mmap=False) == expected
        index.save()
        assert reopened(tmp_path / "x", verify=False) == expected
    with _open(tmp_path / "x") as index:
        assert everything(index) == expected
        assert index._collection.view.is_linked
        index.add(columns(3, [f"s{i}" for i in range(50)]))
        index.remove_points([f"r{i}" for i in range(400, 500)])
        expected = everything(index)
    assert reopened(tmp_path / "x") == expected


def test_checkpoint_begins_a_new_journal(tmp_path: Path) -> None:
    index = _open(tmp_path / "x", dim=DIM)
    change_in_every_way(index)
    expected = everything(index)
    assert _journals(tmp_path / "x") == ["journal-1.log"]
    index.save()
    assert _journals(tmp_path / "x") == ["journal-2.log"]
    assert (tmp_path / "x" / "journal-2.log").stat().st_size == 64
    assert everything(index) == expected == reopened(tmp_path / "x")
    index.save(tmp_path / "x")  # its own path
    assert _journals(tmp_path / "x") == ["journal-3.log"]
    index.close()


def test_checkpoints_happen_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "CHECKPOINT_RECORDS", 50)
    with _open(tmp_path / "x", dim=DIM) as index:
        for number in range(30):
            index.add(rows(number, 5))
        expected = everything(index)
    assert _journals(tmp_path / "x") != ["journal-1.log"]
    assert reopened(tmp_path / "x") == expected


def test_deleted_records_leave_the_disk_with_a_checkpoint(tmp_path: Path) -> None:
    with _open(tmp_path / "x", dim=DIM) as index:
        secret = np.full(DIM, 1234.5678, np.float32)
        index.add({"id": "secret-id", "vector": secret, "metadata": {"k": "secret-m"}, "text": "secret-t"})
        index.add(columns(0, [f"r{i}" for i in range(50)]))
        index.save()
        needles = (secret.tobytes(), b"secret-id", b"secret-m", b"secret-t")
        assert all(needle in _bytes_of(tmp_path / "x") for needle in needles)
        index.remove_point("secret-id")
        index.save()
        assert not any(needle in _bytes_of(tmp_path / "x") for needle in needles)


def _bytes_of(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file())


def _journals(path: Path) -> list[str]:
    return sorted(file.name for file in path.glob("journal-*"))


def test_save_elsewhere_exports_and_does_not_bind(tmp_path: Path) -> None:
    with _open(tmp_path / "x", dim=DIM) as index:
        change_in_every_way(index)
        expected = everything(index)
        index.save(tmp_path / "copy")
        index.snapshot(tmp_path / "backup")
        index.add(rows(50, 3))
        assert len(reopened(tmp_path / "x")["records"]) == len(expected["records"]) + 3
    assert reopened(tmp_path / "copy") == expected == reopened(tmp_path / "backup")
    assert everything(VectorDatabase().load(tmp_path / "backup")) == expected


def test_replacing_an_opened_directory_by_an_export_drops_its_journal(tmp_path: Path) -> None:
    with _open(tmp_path / "x", dim=DIM) as index:
        index.add(rows(0, 5))
    other = VectorDatabase().create(dim=DIM)
    other.add(rows(1, 2))
    other.save(tmp_path / "x")
    assert reopened(tmp_path / "x") == everything(other)


# ---------------------------------------------------------------------------------------------- who may


def test_second_writer_is_refused_and_readers_are_not(tmp_path: Path) -> None:
    with _open(tmp_path / "x", dim=DIM) as index:
        index.add(rows(0, 3))
        with pytest.raises(IndexLockedError) as refused:
            _open(tmp_path / "x")
        assert str(os.getpid()) in str(refused.value)
        assert str(tmp_path / "x") in str(refused.value)
        with pytest.raises(IndexLockedError):
            other = VectorDatabase().create(dim=2)
            other_save(other, tmp_path / "x")
        assert len(reopened(tmp_path / "x")["records"]) == 3
    with _open(tmp_path / "x") as index:
        assert len(index) == 3


def other_save(index: HNSWIndex, path: Path) -> None:
    from zeusdb_vs.snapshots import take_snapshot
    from zeusdb_vs.storage import write_snapshot

    write_snapshot(path, take_snapshot(index._collection, index._state), lock_timeout_s=0)


def test_handle_that_is_dropped_gives_its_directory_back(tmp_path: Path) -> None:
    index = _open(tmp_path / "x", dim=DIM)
    index.add(rows(0, 3))
    del index
    assert len(_open(tmp_path / "x")) == 3


def test_read_only_handles_write_nothing(tmp_path: Path) -> None:
    with _open(tmp_path / "x", dim=DIM) as index:
        change_in_every_way(index)
    before = {file.name: file.read_bytes() for file in (tmp_path / "x").iterdir()}

    def refuse(operation: str, *_: object) -> None:
        raise AssertionError(f"a reader wants to {operation}")

    with fsio.observe(refuse), _open(tmp_path / "x", read_only=True) as index:
        assert index.read_only
        for write in (
            lambda: index.add(rows(0, 1)),
            lambda: index.remove_point("r5"),
            lambda: index.remove_points(["r5"]),
            lambda: index.update_metadata("r5", {}),
            lambda: index.update_payload("r5", {}),
            lambda: index.add_metadata({"a": 1}),
            lambda: index.clear(),
            lambda: index.compact(),
            lambda: index.rebuild(m=4),
            lambda: index.save(),
        ):
            with pytest.raises(ReadOnlyError, match="read-only"):
                write()
        index.flush()
    assert {file.name: file.read_bytes() for file in (tmp_path / "x").iterdir()} == before


def test_reader_reloads_what_a_writer_has_added(tmp_path: Path) -> None:
    with _open(tmp_path / "x", dim=DIM) as writer:
        reader = _open(tmp_path / "x", read_only=True)
        assert not reader.reload()
        for round_ in range(6):
            writer.add(columns(round_, [f"r{i}" for i in range(round_, round_ + 20)]))
            writer.remove_point(f"r{round_}")
            writer.add_metadata({"round": round_})
            if round_ % 2:
                writer.save()
            assert everything(reader) != everything(writer)
            assert reader.reload()
            assert everything(reader) == everything(writer)
            assert not reader.reload()
        reader.close()
        with pytest.raises(ConfigurationError, match="read_only"):
            writer.reload()


def test_closed_index_answers_nothing(tmp_path: Path) -> None:
    index = _open(tmp_path / "x", dim=DIM)
    index.add(rows(0, 3))
    index.close()
    index.close()
    calls = (
        lambda: index.search(rows(0, 1)[0]),
        lambda: index.search_arrays(rows(0, 1)),
        lambda: len(index),
        lambda: "a" in index,
        lambda: index.add(rows(0, 1)),
        lambda: index.add_metadata({"a": 1}),
        lambda: index.get_all_metadata(),
        lambda: index.save(),
        lambda: index.save(tmp_path / "y"),
        lambda: index.flush(),
        lambda: index.reload(),
        lambda: index.info(),
        lambda: index.dim,
        lambda: index.__enter__(),
        lambda: pickle.dumps(index),
    )
    for call in calls:
        with pytest.raises(ClosedIndexError):
            call()
    assert "closed" in repr(index)
    in_memory = VectorDatabase().create(dim=2)
    with in_memory:
        pass
    with pytest.raises(ClosedIndexError):
        in_memory.info()


def test_opened_index_is_pickled_by_its_directory(tmp_path: Path) -> None:
    with _open(tmp_path / "x", dim=DIM) as index:
        change_in_every_way(index)
        copy = pickle.loads(pickle.dumps(index))
        assert everything(copy) == everything(index)
        assert copy.read_only
        index.add(rows(9, 1))
        assert copy.reload()
        assert everything(copy) == everything(index)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_may_read_and_not_write(tmp_path: Path) -> None:
    index = _open(tmp_path / "x", dim=DIM)
    index.add(rows(0, 3))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert len(index.search(rows(0, 1)[0])) == 3
            try:
                index.add(rows(1, 1))
            except ReadOnlyError:
                code = 0
            index.close()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    with pytest.raises(IndexLockedError):
        _open(tmp_path / "x")
    index.add(rows(1, 1))
    assert len(reopened(tmp_path / "x")["records"]) == 4
    index.close()


# ---------------------------------------------------------------------------------------------- options


def test_opening_creates_what_create_creates(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "dim": 5, "space": "L2", "m": 7, "ef_construction": 99, "expected_size": 123, "indexed_fields": ["a"]
    }  # fmt: skip
    made = VectorDatabase().create(**options)
    with _open(tmp_path / "new" / "x", **options) as index:
        assert index.info() == made.info()
        assert index.indexed_fields == ["a"]
        assert index.path == str(tmp_path / "new" / "x")
    with _open(tmp_path / "new" / "x", **options) as index:
        assert index.info() == made.info()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs dim="),
        ({"dim": 0}, "dim"),
        ({"dim": DIM, "space": "l3"}, "space"),
        ({"dim": DIM, "durability": "sometimes"}, "durability"),
        ({"dim": DIM, "interval_ms": 0}, "interval_ms"),
        ({"dim": DIM, "lock_timeout_s": -1}, "lock_timeout_s"),
    ],
)
def test_wrong_options_leave_nothing_behind(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=message):
        VectorDatabase().open(tmp_path / "x", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "value"), [("dim", 9), ("space", "l2"), ("m", 8), ("ef_construction", 50)])
def test_options_that_contradict_the_index_are_refused(name: str, value: Any, tmp_path: Path) -> None:
    _open(tmp_path / "x", dim=DIM).close()
    with pytest.raises(ConfigurationError, match=f"{name}="):
        _open(tmp_path / "x", **{name: value})
    _open(tmp_path / "x", dim=DIM, space="cosine").close()  # and the lock is free


def test_what_is_not_there_or_not_ours_is_refused(tmp_path: Path) -> None:
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(IndexNotFoundError):
            _open(tmp_path / "x", dim=DIM, **options)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "diary.txt").write_text("dear diary")
    with pytest.raises(ForeignDirectoryError):
        _open(tmp_path / "foreign", dim=DIM)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        _open(tmp_path / "file", dim=DIM)
    assert sorted(name.name for name in (tmp_path / "foreign").iterdir()) == ["diary.txt"]


def test_index_in_memory_has_no_place_to_save_to() -> None:
    with pytest.raises(ArgumentTypeError, match="path"):
        VectorDatabase().create(dim=2).save()


@pytest.mark.parametrize("wrong", [5, b"bytes", ["x"]])
def test_path_must_be_a_path(wrong: Any, tmp_path: Path) -> None:
    for call in (
        VectorDatabase().open,
        lambda path: VectorDatabase().open(path, dim=2, read_only=True),
        verify,
    ):
        with pytest.raises(ArgumentTypeError):
            call(wrong)
    with _open(tmp_path / "x", dim=DIM) as index, pytest.raises(ArgumentTypeError):
        index.save(wrong)


# ---------------------------------------------------------------------------------------------- failures


class _Failing:
    """Makes an operation on the journal fail from a moment on."""

    def __init__(self, operation: str, code: int) -> None:
        self.operation, self.code, self.is_on = operation, code, False

    def __call__(self, operation: str, path: Path, *_: object) -> None:
        if self.is_on and operation == self.operation and path.name.startswith("journal"):
            raise OSError(self.code, os.strerror(self.code))


@pytest.mark.parametrize("operation", ["write", "fsync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_failed_journal_makes_the_handle_read_only(operation: str, code: int, tmp_path: Path) -> None:
    failing = _Failing(operation, code)
    with fsio.observe(failing):
        index = _open(tmp_path / "x", dim=DIM, durability="always")
        index.add(columns(0, ["a", "b"]))
        failing.is_on = True
        with pytest.raises(StorageError) as failed:
            index.add(columns(1, ["c"]))
        assert failed.value.errno == code
        failing.is_on = False
        for write in (lambda: index.add(rows(0, 1)), lambda: index.remove_point("a"), lambda: index.save()):
            with pytest.raises(ReadOnlyError):
                write()
        assert index.search(rows(0, 1)[0], top_k=1)
        index.close()
    with _open(tmp_path / "x") as index:
        assert {"a", "b"} <= {name for name, _ in index.list(10)} <= {"a", "b", "c"}
        index.add(columns(2, ["d"]))


def test_failed_checkpoint_loses_nothing(tmp_path: Path) -> None:
    def fail(operation: str, path: Path, *_: object) -> None:
        if operation == "write" and path.name == "vectors.bin":
            raise OSError(errno.ENOSPC, "full")

    with _open(tmp_path / "x", dim=DIM) as index:
        change_in_every_way(index)
        for _ in range(3):
            with fsio.observe(fail), pytest.raises(StorageError):
                index.save()
            index.add(rows(7, 1))
            assert everything(index) == reopened(tmp_path / "x")
        index.save()
        assert everything(index) == reopened(tmp_path / "x")
        assert len(_journals(tmp_path / "x")) == 1


def test_interrupted_write_is_mended_by_the_next(tmp_path: Path) -> None:
    """An interrupt between the change in memory and the journal must not let the two drift apart."""

    def interrupt(operation: str, path: Path, *_: object) -> None:
        if operation == "write" and path.name.startswith("journal"):
            raise KeyboardInterrupt

    with _open(tmp_path / "x", dim=DIM) as index:
        index.add(columns(0, ["a", "b", "c"]))
        for write in (
            lambda: index.add(columns(1, ["d"])),
            lambda: index.remove_point("a"),
            lambda: index.update_metadata("b", {"n": 9}),
            lambda: index.clear(),
        ):
            with fsio.observe(interrupt), pytest.raises(KeyboardInterrupt):
                write()
            index.add(columns(2, ["e", "f"]))
            index.remove_point("f")
            assert everything(index) == reopened(tmp_path / "x")


def test_threads_wait_for_the_disk_together(tmp_path: Path) -> None:
    """With an fsync of 5 ms, 8 threads must store far more than one thread does."""
    syncs = 0

    def slow(operation: str, *_: object) -> None:
        nonlocal syncs
        if operation == "fsync":
            syncs += 1
            time.sleep(0.005)

    with fsio.observe(slow), _open(tmp_path / "x", dim=DIM) as index:
        before = syncs

        def work(number: int) -> None:
            for i in range(20):
                index.add({"id": f"{number}-{i}", "vector": rows(i, 1)[0]})

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(index) == 160
        assert syncs - before < 80
    assert len(reopened(tmp_path / "x")["records"]) == 160


def test_directory_is_free_after_a_process_that_did_not_close(tmp_path: Path) -> None:
    program = (
        "import sys, os, numpy as np\n"
        "from zeusdb_vs import VectorDatabase\n"
        "index = VectorDatabase().open(sys.argv[1], dim=4)\n"
        "index.add(np.eye(4))\n"
        "os._exit(0) if sys.argv[2] == 'hard' else None\n"
    )
    for number, way in enumerate(("hard", "soft"), 1):
        subprocess.run([sys.executable, "-c", program, str(tmp_path / "x"), way], check=True)
        with _open(tmp_path / "x") as index:
            assert len(index) == 4 * number
