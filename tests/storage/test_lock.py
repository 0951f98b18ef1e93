"""One writer at a time, named when it is in the way, and nothing stale when it dies."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from storage.snapshots import content_of, make_snapshot

from zeusdb_vs.errors import IndexLockedError, StorageError
from zeusdb_vs.storage import DirectoryLock, read_snapshot, write_snapshot

HOLDER = """
import sys
from pathlib import Path
from zeusdb_vs.storage import DirectoryLock
lock = DirectoryLock(Path(sys.argv[1]))
lock.acquire(5.0)
print("held", flush=True)
sys.stdin.read()
"""

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")


def started(script, path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )


@pytest.fixture
def holder(tmp_path):
    path = tmp_path / "a.zdb"
    write_snapshot(path, make_snapshot(seed=1))
    with started(HOLDER, path) as process:
        assert process.stdout.readline().strip() == b"held"
        yield path, process
        process.kill()


def test_save_waits_and_then_names_the_process_and_the_path(holder):
    path, process = holder
    started = time.monotonic()
    with pytest.raises(IndexLockedError) as caught:
        write_snapshot(path, make_snapshot(seed=2), lock_timeout_s=0.2)
    assert 0.2 <= time.monotonic() - started < 2.0
    assert f"pid {process.pid}" in str(caught.value)
    assert str(path) in str(caught.value)
    assert read_snapshot(path).config["seed"] == 1  # readers never wait


def test_save_goes_on_when_the_other_process_lets_go_or_dies(holder):
    path, process = holder
    threading.Timer(0.2, process.kill).start()
    write_snapshot(path, make_snapshot(seed=2), lock_timeout_s=5.0)
    assert read_snapshot(path).config["seed"] == 2
    assert (path / ".lock").exists()


def test_a_second_thread_of_the_same_process_is_kept_out(tmp_path):
    with DirectoryLock(tmp_path) as first, DirectoryLock(tmp_path) as second:
        first.acquire(0)
        with pytest.raises(IndexLockedError, match=f"this process \\(pid {os.getpid()}\\)"):
            second.acquire(0)
        first.release()
        second.acquire(0)
        assert second.is_held and not first.is_held


def test_save_under_a_lock_already_held(tmp_path):
    path = tmp_path / "a.zdb"
    path.mkdir()
    with DirectoryLock(path) as lock:
        with pytest.raises(StorageError, match="not held"):
            write_snapshot(path, make_snapshot(), lock=lock)
        lock.acquire(0)
        write_snapshot(path, make_snapshot(), lock=lock)
        with pytest.raises(StorageError, match="not held"):
            write_snapshot(tmp_path / "b.zdb", make_snapshot(), lock=lock)


@posix
def test_forked_child_does_not_hold_the_lock_and_does_not_free_it(tmp_path):
    with DirectoryLock(tmp_path) as lock, DirectoryLock(tmp_path) as other:
        lock.acquire(0)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                if not lock.is_held:
                    lock.release()
                    code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert lock.is_held
        with pytest.raises(IndexLockedError):
            other.acquire(0)


@posix
def test_lock_of_a_dead_parent_is_free_although_its_child_lives(tmp_path):
    script = HOLDER.replace("sys.stdin.read()", "import os\nif os.fork() == 0: sys.stdin.read()\nos._exit(0)")
    with started(script, tmp_path) as process:
        assert process.stdout.readline().strip() == b"held"
        process.wait(10)
        with DirectoryLock(tmp_path) as lock:
            lock.acquire(2.0)
        process.stdin.close()


@posix
@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_other_things_in_place_of_the_lock_file_are_left_alone(tmp_path, kind):
    path = tmp_path / "a.zdb"
    write_snapshot(path, make_snapshot(seed=1))
    (path / ".lock").unlink()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("precious")
    if kind == "link":
        (path / ".lock").symlink_to(elsewhere)
    elif kind == "fifo":
        os.mkfifo(path / ".lock")
    else:
        (path / ".lock").mkdir()
    with pytest.raises(StorageError, match="cannot be locked"):
        write_snapshot(path, make_snapshot(seed=2))
    assert elsewhere.read_text() == "precious"
    assert read_snapshot(path).config["seed"] == 1


def test_many_threads_saving_at_once_each_save_whole(tmp_path):
    path = tmp_path / "a.zdb"
    failures = []

    def save(seed):
        try:
            for _ in range(3):
                write_snapshot(path, make_snapshot(seed=seed), lock_timeout_s=30)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=save, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    loaded = read_snapshot(path)
    assert loaded.manifest.generation == 12
    assert content_of(loaded) == content_of(make_snapshot(seed=loaded.config["seed"], uuid=loaded.index_uuid))
