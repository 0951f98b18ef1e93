"""Snapshots and journal as one store, through kills and power losses: nothing acknowledged is lost."""

import logging
import os
import random
import shutil
import struct
import sys

import pytest
from storage.counter_store import Store, read_number
from storage.model_disk import Disk

from zeusdb_vs.errors import IndexNotFoundError
from zeusdb_vs.storage import fsio


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL, "zeusdb_vs.storage")


def work(path, rng, pipe):
    store = Store(path, durability=rng.choice(["always", "always", "interval"]))
    for _ in range(rng.randrange(1, 7)):
        if rng.random() < 0.25:
            number = store.checkpoint()
        else:
            number = store.add()
        os.write(pipe, struct.pack("<q", number))
    store.close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_kills_at_random_operations_lose_nothing_acknowledged(tmp_path):
    path = tmp_path / "a.zdb"
    rng = random.Random(17)
    acknowledged = killed = 0
    for _ in range(150):
        seed, left = rng.random(), [rng.randrange(70)]
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:

                def kill(*_, left=left):
                    left[0] -= 1
                    if left[0] < 0:
                        os._exit(9)

                with fsio.observe(kill):
                    work(path, random.Random(seed), writer)
                code = 0
            finally:
                os._exit(code)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            numbers = [n for (n,) in struct.iter_unpack("<q", pipe.read())]
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 9)
        killed += code == 9
        acknowledged = max([acknowledged, *numbers])
        try:
            found, replay = read_number(path)
            replay.close()
        except IndexNotFoundError:
            found = 0
        assert acknowledged <= found <= acknowledged + 2
        acknowledged = found
    assert killed > 50 and acknowledged > 100


def test_power_losses_lose_nothing_that_was_forced_to_disk(tmp_path):
    """Each trial goes through several power losses, one upon the state that another has left."""
    rng = random.Random(23)
    states = 0
    for trial in range(30):
        root = tmp_path / f"{trial}"
        root.mkdir()
        path = root / "a.zdb"
        sure = 0
        for _ in range(6):
            disk = Disk(root)
            trace = []

            def record(operation, *arguments, trace=trace):
                trace.append((operation, *(bytes(a) if isinstance(a, memoryview) else a for a in arguments)))

            # Durability "always": the number of a call that returned is sure from there on.
            with fsio.observe(record):
                store = Store(path)
                for _ in range(rng.randrange(1, 6)):
                    if rng.random() < 0.3:
                        store.checkpoint()
                    else:
                        store.add()
                    trace.append(("sure", store.number))
                if rng.random() < 0.3:
                    store.journal.close()
                store.journal._file.close()
                store.journal._is_closed = True
                store.lock.release()
            cut = rng.randrange(len(trace) + 1)
            for operation, *arguments in trace[:cut]:
                if operation == "sure":
                    sure = max(sure, arguments[0])
                else:
                    disk.apply(operation, *arguments)
            shutil.rmtree(root)
            for last in (False, False, True):
                root.mkdir()
                disk.after_power_loss(rng, root)
                try:
                    found, replay = read_number(path)
                    replay.close()
                except IndexNotFoundError:
                    found = 0
                assert found >= sure
                states += 1
                if not last:
                    shutil.rmtree(root)
            sure = found
    assert states == 540
