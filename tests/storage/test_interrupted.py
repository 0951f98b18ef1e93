"""A save cut short leaves the old state or the new one, and a directory that the next save tidies up."""

import errno
import logging
import os
import random
import shutil
import sys

import pytest
from storage.model_disk import Disk
from storage.snapshots import content_of, make_snapshot, tree_of

from zeusdb_vs.errors import IndexNotFoundError, StorageError
from zeusdb_vs.storage import fsio, read_snapshot, write_snapshot

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, "zeusdb_vs.storage")


class Interruption:
    """Calls `effect` at the operation with number `at`, or from there on."""

    def __init__(self, at, effect, *, lasting=False):
        self.at, self.effect, self.lasting = at, effect, lasting
        self.count = 0
        self.operation = None

    def __call__(self, operation, *arguments):
        number = self.count
        self.count += 1
        if number == self.at or (self.lasting and number > self.at):
            self.operation = self.operation or operation
            self.effect()


def fail(code):
    def effect():
        raise OSError(code, os.strerror(code))

    return effect


def operations_of(save):
    names = []
    with fsio.observe(lambda operation, *_: names.append(operation)):
        save()
    return names


def first_save(path):
    return None


def second_save(path):
    write_snapshot(path, make_snapshot(seed=1))
    return make_snapshot(seed=1)


def save_after_an_unfinished_roll_forward(path):
    """Committed files partly in their folder, a folder that was never committed, a torn new manifest."""
    write_snapshot(path, make_snapshot(seed=0))
    copy = shutil.copytree(path, path.with_name("copy"))
    names = operations_of(lambda: write_snapshot(copy, make_snapshot()))
    shutil.rmtree(copy)
    commit = names.index("replace")
    with fsio.observe(Interruption(commit + 5, fail(errno.EIO), lasting=True)):
        write_snapshot(path, make_snapshot(seed=1))
    assert list(path.glob(".gen-*/*"))
    (path / ".gen-77").mkdir()
    (path / ".gen-77" / "vectors.bin").write_bytes(b"half")
    (path / "manifest.json.tmp").write_bytes(b"{")
    return make_snapshot(seed=1)


SITUATIONS = [first_save, second_save, save_after_an_unfinished_roll_forward]


def check(path, old, new, *, committed=None):
    """The directory holds the old or the new snapshot, whichever `committed` says, and can be saved to."""
    expected = [] if old is None else [content_of(old)]
    try:
        found = content_of(read_snapshot(path))
        found["uuid"] = None
        mapped = content_of(read_snapshot(path, mmap=True))
        mapped["uuid"] = None
        assert mapped == found
    except IndexNotFoundError:
        assert old is None and not committed
        found = None
    if found is not None:
        for content in (*expected, wanted := content_of(new)):
            content["uuid"] = None
        assert found == wanted or (not committed and found in expected)
    if committed is False:
        assert found is None or found in expected
    last = make_snapshot(seed=99)
    write_snapshot(path, last)
    assert content_of(read_snapshot(path)) == content_of(last)
    assert {name for name in tree_of(path) if name.startswith(".") or name.endswith(".tmp")} == {".lock"}


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES], ids=errno.errorcode.get)
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda f: f.__name__)
def test_failed_operations_leave_the_old_state_and_a_usable_directory(tmp_path, situation, code, lasting):
    new = make_snapshot(seed=2, texts=False)
    template = tmp_path / "template"
    old = situation(template)
    at = 0
    while True:
        path = tmp_path / f"{at}.zdb"
        if old is not None:
            shutil.copytree(template, path)
        before = tree_of(path)
        interruption = Interruption(at, fail(code), lasting=lasting)
        committed = None
        try:
            with fsio.observe(interruption):
                write_snapshot(path, new)
            committed = True
        except StorageError as error:
            assert error.errno == code
            committed = "not confirmed on disk" in str(error)
            if not committed and old is not None and not lasting and situation is second_save:
                assert tree_of(path) == before
        if interruption.operation is None:
            break
        check(path, old, new, committed=committed)
        at += 1
        shutil.rmtree(path, ignore_errors=True)
    assert at > 25


@posix
@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda f: f.__name__)
def test_killed_saves_leave_the_old_state_or_the_new_one(tmp_path, situation):
    new = make_snapshot(seed=2, texts=False)
    outcomes = set()
    template = tmp_path / "template"
    old = situation(template)
    at = 0
    while True:
        path = tmp_path / f"{at}.zdb"
        if old is not None:
            shutil.copytree(template, path)
        child = os.fork()
        if child == 0:
            try:
                with fsio.observe(Interruption(at, lambda: os._exit(9))):
                    write_snapshot(path, new)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, 9)
        if code == 0:
            break
        kept = shutil.copytree(path, tmp_path / "kept") if path.exists() else None
        if kept:
            try:
                outcomes.add(content_of(read_snapshot(kept))["config.json"]["seed"])
            except IndexNotFoundError:
                outcomes.add(None)
            shutil.rmtree(kept)
            check(path, old, new)
        at += 1
    assert at > 25
    assert outcomes == {None if old is None else 1, 2}


@posix
def test_save_killed_while_a_save_was_being_finished_still_holds(tmp_path):
    """Kills in a row: each save starts on what the one before left."""
    rng = random.Random(5)
    path = tmp_path / "a.zdb"
    write_snapshot(path, make_snapshot(seed=0))
    current = 0
    for seed in range(1, 80):
        child = os.fork()
        if child == 0:
            try:
                with fsio.observe(Interruption(rng.randrange(60), lambda: os._exit(9))):
                    write_snapshot(path, make_snapshot(seed=seed, texts=seed % 2 == 0))
            finally:
                os._exit(0)
        rng.randrange(60)
        os.waitpid(child, 0)
        loaded = read_snapshot(path, mmap=seed % 2 == 0)
        assert loaded.config["seed"] in (current, seed)
        current = loaded.config["seed"]
        expected = make_snapshot(
            seed=current, texts=current % 2 == 0 if current else True, uuid=loaded.index_uuid
        )
        assert content_of(loaded) == content_of(expected)


def test_power_losses_leave_the_old_state_or_the_new_one(tmp_path):
    """Saves on a model disk, each cut off at a random point, each on what the last power loss left."""
    rng = random.Random(11)
    states = losses = 0
    for trial in range(40):
        work = tmp_path / f"{trial}"
        work.mkdir()
        current = None
        for seed in range(1, 9):
            path = work / "a.zdb"
            disk = Disk(work)
            trace = []
            new = make_snapshot(seed=seed, texts=seed % 2 == 0)

            def record(operation, *arguments, trace=trace):
                arguments = [bytes(a) if isinstance(a, memoryview) else a for a in arguments]
                trace.append((operation, *arguments))

            with fsio.observe(record):
                write_snapshot(path, new)
            # Where the manifest's new name is sure.
            commit = next(
                i for i, t in enumerate(trace) if t[0] == "replace" and t[2].name == "manifest.json"
            )
            sure = next(
                i for i in range(commit, len(trace)) if trace[i][0] == "fsync_dir" and trace[i][1] == path
            )
            cut = rng.randrange(len(trace) + 1)
            for entry in trace[:cut]:
                disk.apply(*entry)
            shutil.rmtree(path)
            after = tmp_path / "after"
            for last in (False, False, True):
                after.mkdir()
                disk.after_power_loss(rng, after)
                found = None
                try:
                    loaded = read_snapshot(after / "a.zdb", mmap=rng.random() < 0.5)
                    found = loaded.config["seed"]
                    expected = make_snapshot(seed=found, texts=found % 2 == 0, uuid=loaded.index_uuid)
                    assert content_of(loaded) == content_of(expected)
                except IndexNotFoundError:
                    pass
                assert found in ({seed} if cut > sure else {current, seed})
                states += 1
                losses += found != seed
                if not last:
                    shutil.rmtree(after)
            shutil.rmtree(work)
            after.rename(work)
            current = found
    assert states == 960
    assert losses > 100
