"""Settings of the storage tests."""

import os
import tempfile
from pathlib import Path

import pytest

from zeusdb_vs.storage import fsio

# Modules with thousands of saves and loads. The others, with some dozens, run on a real disk.
BUSY = ("test_interrupted", "test_damage", "test_journal", "test_checkpoints")


@pytest.fixture(autouse=True)
def disk_that_is_not_waited_for(monkeypatch):
    """Without power losses an fsync changes nothing that a test could see, and real ones would take minutes.

    They are still announced: what must be forced to disk, and when, is checked against a model disk.
    """
    monkeypatch.setattr(fsio, "_fsync", lambda descriptor: None)


@pytest.fixture
def tmp_path(tmp_path, request):
    """A directory in memory for the busy modules, where there is such a thing."""
    memory = Path("/dev/shm")
    if not request.module.__name__.endswith(BUSY) or not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="zeusdb-vs-", dir=memory) as path:
        yield Path(path)
