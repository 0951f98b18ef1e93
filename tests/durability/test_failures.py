"""ENOSPC, EIO and EACCES at operations on the disk of a life: what was acknowledged is there afterwards.

``ZEUSDB_VS_FAULT_STEP=1`` tries every operation, some 40 s; by default each kind tries one in four.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

import pytest
from durability.common import DIM, columns, rows

from zeusdb_vs import HNSWIndex, ReadOnlyError, StorageError, VectorDatabase, verify
from zeusdb_vs.storage import fsio

STEP = int(os.environ.get("ZEUSDB_VS_FAULT_STEP", "4"))
Contents = list[tuple[str, bytes, Any, Any]]


def _contents(index: HNSWIndex) -> Contents:
    names = [name for name, _ in index.list(number=10**6)]
    records = index.get_records(names, include=("vector", "metadata", "text"))
    return [(r["id"], r["vector"].tobytes(), r["metadata"], r["text"]) for r in records]


class _Fault:
    """Fails one operation, or all from one on."""

    def __init__(self, at: int, code: int, lasting: bool) -> None:
        self.at, self.code, self.lasting = at, code, lasting
        self.count = 0

    def __call__(self, operation: str, *_: object) -> None:
        number = self.count
        self.count += 1
        if number == self.at or (self.lasting and number > self.at):
            raise OSError(self.code, os.strerror(self.code))


def _live(path: Path) -> tuple[Contents, Contents]:
    """Lead a life; return what was acknowledged last, and what the call that failed would have made of it."""
    known: Contents = []
    attempted: Contents = []
    calls = (
        lambda index: index.add(columns(0, [f"r{i}" for i in range(8)])),
        lambda index: index.remove_points(["r1", "r2"]),
        lambda index: index.save(),
        lambda index: index.add(columns(1, ["r3", "new"])),
        lambda index: index.update_metadata("r4", {"n": "changed"}),
        lambda index: index.save(),
        lambda index: index.clear(),
        lambda index: index.add(columns(2, ["last"])),
    )
    # The same calls on an index in memory say what each of them makes.
    shadow = VectorDatabase().create(dim=DIM)
    try:
        index = VectorDatabase().open(path, dim=DIM, lock_timeout_s=0)
    except StorageError:
        return known, known
    try:
        with contextlib.suppress(StorageError, ReadOnlyError):
            for number, call in enumerate(calls):
                if number not in (2, 5):
                    call(shadow)
                attempted = _contents(shadow)
                call(index)
                known = attempted
    finally:
        with contextlib.suppress(StorageError):
            index.close()
    return known, attempted


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_failing_operation_loses_nothing_acknowledged(code: int, lasting: bool, tmp_path: Path) -> None:
    counting = _Fault(-1, code, False)
    with fsio.observe(counting):
        _live(tmp_path / "counted")
    assert counting.count > 80
    for at in range((code + lasting) % STEP, counting.count, STEP):
        path = tmp_path / str(at)
        with fsio.observe(_Fault(at, code, lasting)):
            known, attempted = _live(path)
        with VectorDatabase().open(path, dim=DIM, lock_timeout_s=0) as index:
            assert _contents(index) in (known, attempted), f"operation {at}"
            index.add(rows(5, 1))
            index.save()
        assert verify(path).is_ok
