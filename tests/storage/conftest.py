"""Settings of the storage tests."""

import pytest

from zeusdb_vs.storage import fsio


@pytest.fixture(autouse=True)
def disk_that_is_not_waited_for(monkeypatch):
    """Without power losses an fsync changes nothing that a test could see, and real ones would take minutes.

    They are still announced: what must be forced to disk, and when, is checked against a model disk.
    """
    monkeypatch.setattr(fsio, "_fsync", lambda descriptor: None)
