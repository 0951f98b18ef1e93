"""kill -9 of a process that writes, at any moment: what it was told is stored is there, whole calls only.

``ZEUSDB_VS_KILLS`` sets how many kills (8 by default, some 0.6 s each).
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from durability import writer

from zeusdb_vs import VectorDatabase, verify

KILLS = int(os.environ.get("ZEUSDB_VS_KILLS", "8"))
MOST_S = 0.25


@pytest.mark.skipif(sys.platform == "win32", reason="needs kill -9")
def test_acknowledged_calls_survive_kills(tmp_path: Path) -> None:
    path = tmp_path / "x.zdb"
    chance = random.Random(KILLS)
    state: writer.State = {}
    calls = 0
    for number in range(KILLS):
        seed = 1000 * KILLS + number
        durability = ("always", "interval", "never")[number % 3]
        acknowledged = _write_until_killed(path, durability, seed, chance.random() * MOST_S)
        calls += acknowledged
        for done in range(acknowledged):
            writer.apply(state, seed, done)
        # The call that was under way may have been stored, wholly.
        unsure = dict(state)
        writer.apply(unsure, seed, acknowledged)
        with VectorDatabase().open(path, read_only=True) as index:
            found = writer.state_of(index)
        assert found in (state, unsure), f"seed {seed}, {acknowledged} calls acknowledged"
        assert list(found) == list(state if found == state else unsure)
        assert verify(path, deep=number % 4 == 0).is_ok
        state = found
    assert calls > 10 * KILLS


def _write_until_killed(path: Path, durability: str, seed: int, after_s: float) -> int:
    """Run a writer for a while after its first call; return how many calls it was told are stored."""
    process = subprocess.Popen(
        [sys.executable, writer.__file__, str(path), durability, str(seed)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(after_s)
    process.kill()
    lines = [first, *process.stdout]
    process.stdout.close()
    process.wait()
    whole = [line for line in lines if line.startswith("< ") and line.endswith("\n")]
    assert [int(line[2:]) for line in whole] == list(range(len(whole)))
    return len(whole)
