"""The cache of compiled kernels: whatever is in it or in its way, answers are right.

One cold compilation fills a folder by two processes at once; the other tests work on copies of it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

# Loads the kernels of a search and of building a graph, and says what it found and what it had to compile.
_SCRIPT = """
import json, logging, sys
import numpy as np

class Heard(logging.Handler):
    lines = []
    def emit(self, record):
        self.lines.append(record.getMessage())

logging.getLogger("zeusdb_vs").addHandler(Heard())
logging.getLogger("zeusdb_vs").setLevel(logging.INFO)
import zeusdb_vs
from zeusdb_vs import VectorDatabase, linking

linking.SMALLEST_GRAPH = 400
rng = np.random.default_rng(0)
vectors = rng.standard_normal((600, 24), dtype=np.float32)
index = VectorDatabase().create(dim=24, space="l2")
names = index.add(vectors).ids
queries = rng.standard_normal((5, 24), dtype=np.float32)
right = [np.argsort(((vectors - q) ** 2).sum(1))[:10].tolist() for q in queries]
found = [[names.index(hit["id"]) for hit in index.search(q, ef_search=600)] for q in queries]
exact = [[names.index(hit["id"]) for hit in index.search(q, exact=True)] for q in queries]
from zeusdb_vs.kernels import compile
print(json.dumps({
    "right": found == right and exact == right,
    "compiled": any("compiling" in line for line in Heard.lines),
    "folder": str(compile.CACHE_FOLDER),
}))
"""


def _start(cache: Path, **environment: str) -> subprocess.Popen[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    return subprocess.Popen(
        [sys.executable, "-c", _SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**own, "ZEUSDB_VS_CACHE_DIR": str(cache), **environment},
    )


def _report(process: subprocess.Popen[str]) -> dict[str, object]:
    out, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    assert errors == ""
    report: dict[str, object] = json.loads(out)
    return report


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that two processes filled at the same time; one for all workers of a run."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    cache, done = base / "kernels", base / "kernels.done"
    with FileLock(base / "kernels.lock"):
        if not done.exists():
            for report in [_report(process) for process in (_start(cache), _start(cache))]:
                assert report["right"]
                assert report["compiled"]
                assert Path(str(report["folder"])).parent == cache
            done.touch()
    return cache


@pytest.fixture
def cache(filled: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it."""
    copy = tmp_path / "cache"
    shutil.copytree(filled, copy)
    yield copy
    for path in [copy, *copy.rglob("*")]:
        path.chmod(0o700)


def _files(cache: Path, ending: str) -> list[Path]:
    found = sorted(cache.rglob(f"*{ending}"))
    assert len(found) > 3
    return found


def test_two_processes_that_compile_at_once_leave_a_cache_that_serves_a_third(cache: Path) -> None:
    assert not list(cache.rglob("*.tmp.*"))
    report = _report(_start(cache))
    assert report["right"] and not report["compiled"]


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="other means keep folders private")
def test_cache_is_private_to_its_user(cache: Path, filled: Path, tmp_path: Path) -> None:
    (folder,) = cache.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    own = tmp_path / "own"
    shutil.copytree(filled, own / "zeusdb-vs")
    folder.chmod(0o777)  # anybody could have put machine code there: none of it is executed
    report = _report(_start(cache, XDG_CACHE_HOME=str(own)))
    assert report["right"] and not report["compiled"]
    assert Path(str(report["folder"])).parent == own / "zeusdb-vs"


def test_folder_that_cannot_be_made_is_passed_over(filled: Path, tmp_path: Path) -> None:
    shutil.copytree(filled, tmp_path / "zeusdb-vs")
    (tmp_path / "file").write_text("in the way")
    report = _report(_start(tmp_path / "file", XDG_CACHE_HOME=str(tmp_path)))
    assert report["right"] and not report["compiled"]


def test_read_only_cache_serves(cache: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    for path in [*cache.rglob("*"), cache]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    report = _report(_start(cache))
    assert report["right"] and not report["compiled"]
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before


@pytest.mark.parametrize(
    "kind",
    ["cut short", "empty", "garbage", "index garbage", "index cut short", "index of another", "missing"],
)
def test_damaged_entries_are_compiled_again(cache: Path, kind: str) -> None:
    # One small kernel that is called from Python: to compile all again would take long and tell no more.
    random.seed(4)
    ending = ".nbi" if kind.startswith("index") else ".nbc"
    small = [path for path in _files(cache, ending) if "collect_edges" in path.name]
    assert small
    for path in small:
        data = path.read_bytes()
        if kind.endswith("cut short"):
            path.write_bytes(data[: len(data) // 2])
        elif kind == "empty":
            path.write_bytes(b"")
        elif kind.endswith("garbage"):
            path.write_bytes(random.randbytes(len(data)))
        elif kind == "index of another":
            path.write_bytes(_files(cache, ".nbi")[0].read_bytes())
        else:
            path.unlink()
    report = _report(_start(cache))
    assert report["right"] and report["compiled"]
    # And what was damaged does not have to be compiled the next time.
    again = _report(_start(cache))
    assert again["right"] and not again["compiled"]
