"""The process is killed at its system calls themselves, not at our own announcements of them.

Every state-changing call is one case. By default a sample of them is run; ZEUSDB_VS_LONG=1 runs all.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from storage.counter_store import Store, read_number

STRACE = shutil.which("strace")
ROOT = Path(__file__).parents[2]
CALLS = "mkdir,rmdir,unlink,rename,write,fsync,ftruncate"
SAMPLE_EVERY = 1 if os.environ.get("ZEUSDB_VS_LONG") else 12

PROGRAM = """
import sys
from pathlib import Path
from storage.counter_store import Store
store = Store(Path(sys.argv[1]))
for _ in range(2):
    print(store.add(), flush=True)
    print(store.checkpoint(), flush=True)
store.close()
"""

pytestmark = pytest.mark.skipif(STRACE is None, reason="strace is not installed")


def run(path, *options):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [STRACE, "-f", "-qq", "-o", f"{path}.trace", *options, sys.executable, "-c", PROGRAM, str(path)],
        env=environment,
        stdout=subprocess.PIPE,
        timeout=60,
        check=False,
    )


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "template.zdb"
    store = Store(path)
    for _ in range(3):
        store.add()
    store.close()
    probe = subprocess.run([STRACE, "-qq", "-o", os.devnull, "true"], check=False, stderr=subprocess.DEVNULL)
    if probe.returncode != 0:
        pytest.skip("strace may not trace here")
    return path


def test_kills_at_system_calls_lose_nothing_acknowledged(tmp_path, template):
    whole = shutil.copytree(template, tmp_path / "whole.zdb")
    done = run(whole, "-e", f"trace={CALLS}")
    assert done.returncode == 0 and done.stdout.split() == [b"4", b"5", b"6", b"7"]
    traced = re.findall(r"^\d+ +(\w+)\(", Path(f"{whole}.trace").read_text(), re.MULTILINE)
    cases = [(call, traced[: i + 1].count(call)) for i, call in enumerate(traced)]
    assert {"mkdir", "rmdir", "unlink", "rename", "write", "fsync"} <= set(traced)
    for call, number in cases[::SAMPLE_EVERY]:
        path = shutil.copytree(template, tmp_path / f"{call}{number}.zdb")
        killed = run(path, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}")
        # strace dies of what its child died of; a child that lives on was never killed.
        assert killed.returncode == -9, (call, number)
        acknowledged = max([3, *map(int, killed.stdout.split())])
        found, replay = read_number(path)
        replay.close()
        assert acknowledged <= found <= acknowledged + 2, (call, number)
        store = Store(path)
        assert store.add() == found + 1
        assert store.checkpoint() == found + 2
        store.close()
        shutil.rmtree(path)
