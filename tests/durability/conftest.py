"""Settings of the durability tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from zeusdb_vs.storage import fsio


@pytest.fixture(autouse=True)
def disk_that_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without power losses an fsync changes nothing that a test could see; the tests of storage check those."""
    monkeypatch.setattr(fsio, "_fsync", lambda descriptor: None)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory in memory, where there is such a thing."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="zeusdb-vs-", dir=place) as path:
        yield Path(path)
