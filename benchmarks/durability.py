"""``python -m benchmarks.durability``: what durable directories cost, against the goals set for them.

Every figure is the best of a few runs: other work on the machine only ever adds to it. ``--records`` sets the
size of the large index, ``--folder`` the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from zeusdb_vs import VectorDatabase, binding
from zeusdb_vs.storage import fsio

DIM = 384
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]
BASE = """
import time; started = time.perf_counter()
import numpy as np
from zeusdb_vs.kernels import rotation
row, signs = np.zeros((1, 8), np.float32), np.ones((2, 8), np.float32)
rotation.rotate_rows(row.ctypes.data, 1, signs.ctypes.data, 8)
elapsed = time.perf_counter() - started
"""
OPEN = """
import sys, time; started = time.perf_counter()
import numpy as np
from zeusdb_vs import VectorDatabase
index = VectorDatabase().open(sys.argv[1], read_only=True, verify=sys.argv[2] == "verify")
index.search(np.ones(384, np.float32))
elapsed = time.perf_counter() - started
"""
REPORT = """
import json, pathlib
anonymous = 0
rollup = pathlib.Path("/proc/self/smaps_rollup")
if rollup.exists():
    anonymous = next(int(l.split()[1]) for l in rollup.read_text().splitlines() if l.startswith("Anonymous"))
print(json.dumps([elapsed, anonymous * 1024]))
"""


def records(count: int, first: int = 0) -> dict[str, Any]:
    """Clustered vectors with metadata and some 200 characters of text."""
    rng = np.random.default_rng(first)
    centers = np.random.default_rng(7).standard_normal((500, DIM)).astype(np.float32)
    vectors = centers[rng.integers(0, 500, count)] + 0.6 * rng.standard_normal((count, DIM)).astype(
        np.float32
    )
    return {
        "ids": [f"doc_{first + i}" for i in range(count)],
        "vectors": vectors,
        "metadatas": [
            {"source": WORDS[i % 10], "page": i % 97, "lang": "en", "year": 2000 + i % 25}
            for i in range(count)
        ],
        "texts": [" ".join(WORDS[(i * j) % 10] for j in range(1, 40)) for i in range(count)],
    }


def best(measure: Callable[[], float], runs: int = 5) -> float:
    return min(measure() for _ in range(runs))


def say(what: str, figure: str, goal: str, is_met: bool) -> None:
    print(f"{what:<62} {figure:>18}   goal {goal:<16} {'met' if is_met else 'MISSED'}", flush=True)


# ---------------------------------------------------------------------------------------------- measuring


def child(program: str, *arguments: str) -> tuple[float, int]:
    """Run a program in a process of its own; return its seconds and its anonymous resident bytes."""
    output = subprocess.run(
        [sys.executable, "-c", program + REPORT, *arguments], capture_output=True, text=True, check=True
    ).stdout
    elapsed, anonymous = json.loads(output)
    return elapsed, anonymous


def measure_opening(path: Path) -> None:
    child(BASE), child(OPEN, str(path), "verify")  # compiled now, if ever
    base, opened, trusting = [], [], []
    for _ in range(7):
        base.append(child(BASE))
        opened.append(child(OPEN, str(path), "verify"))
        trusting.append(child(OPEN, str(path), "trust"))
    size = sum(file.stat().st_size for file in path.iterdir())
    above = min(opened)[0] - min(base)[0]
    say(
        "open and first result, above Numba and one cached kernel",
        f"{above:.3f} s",
        "<= 0.25 s",
        above <= 0.25,
    )
    above = min(trusting)[0] - min(base)[0]
    say("the same with verify=False", f"{above:.3f} s", "<= 0.25 s", above <= 0.25)
    share = (min(o[1] for o in opened) - min(b[1] for b in base)) / size
    say(f"anonymous memory at open, of {size / 1e6:.0f} MB", f"{share:.1%}", "<= 30 %", share <= 0.30)


def measure_mapped_search(path: Path) -> None:
    queries = records(400, first=10**6)["vectors"]
    loaded = VectorDatabase().load(path)
    with VectorDatabase().open(path, read_only=True) as mapped:

        def seconds(index: Any) -> float:
            started = time.perf_counter()
            for query in queries:
                index.search(query)
            return time.perf_counter() - started

        seconds(loaded), seconds(mapped)
        times = [(seconds(loaded), seconds(mapped)) for _ in range(15)]
    ratio = min(t[1] for t in times) / min(t[0] for t in times)
    say("search of a mapped index, in times of one in memory", f"{ratio:.2f}", "<= 1.10", ratio <= 1.10)


def measure_append(folder: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((4000, DIM)).astype(np.float32)

    def per_record(index: Any) -> float:
        times = []
        for number, vector in enumerate(vectors[:2000]):
            started = time.perf_counter()
            index.add({"id": f"r{number}", "vector": vector})
            times.append(time.perf_counter() - started)
        return float(np.median(times))

    def extra() -> float:
        shutil.rmtree(folder / "append", ignore_errors=True)
        in_memory = per_record(VectorDatabase().create(dim=DIM))
        with VectorDatabase().open(folder / "append", dim=DIM, durability="never") as index:
            return per_record(index) - in_memory

    cost = best(extra, 3) * 1e6
    say('append of one 384-d record, "never", above the add', f"{cost:.0f} us", "<= 60 us", cost <= 60)


def measure_group_commit(folder: Path) -> None:
    real = fsio._fsync

    def slow(_: int) -> None:
        time.sleep(0.005)

    def rate(threads: int, each: int) -> float:
        shutil.rmtree(folder / "group", ignore_errors=True)
        with VectorDatabase().open(folder / "group", dim=DIM) as index:
            vector = np.ones(DIM, np.float32)

            def work(number: int) -> None:
                for i in range(each):
                    index.add({"id": f"{number}-{i}", "vector": vector})

            workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
            started = time.perf_counter()
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            return threads * each / (time.perf_counter() - started)

    fsio._fsync = slow
    try:
        one, eight = max(rate(1, 60) for _ in range(3)), max(rate(8, 60) for _ in range(3))
    finally:
        fsio._fsync = real
    say(
        f"8 threads that wait for 5 ms fsyncs ({eight:.0f}/s), of one",
        f"{eight / one:.1f} x",
        ">= 5 x",
        eight >= 5 * one,
    )


def measure_checkpoint(path: Path) -> None:
    """The binary files of a checkpoint; beside it the same bytes written and forced to disk by themselves."""
    spent = 0.0
    written = 0
    with VectorDatabase().open(path) as index:
        marks: list[tuple[float, str, Path]] = []

        def watch(operation: str, target: Path, *rest: Any) -> None:
            nonlocal written
            marks.append((time.perf_counter(), operation, target))
            if operation == "write" and target.suffix in (".bin", ".graph"):
                written += len(rest[0])

        started = time.perf_counter()
        with fsio.observe(watch):
            index.save()
        whole = time.perf_counter() - started
    for (at, operation, target), (until, *_) in pairwise(marks):
        if operation in ("create", "write", "fsync") and target.suffix in (".bin", ".graph"):
            spent += until - at
    data = os.urandom(1 << 24)
    raw_path = path.parent / "raw"
    started = time.perf_counter()
    with raw_path.open("wb") as raw:
        for _ in range(8):
            raw.write(data)
        raw.flush()
        os.fsync(raw.fileno())
    disk = 8 * len(data) / (time.perf_counter() - started)
    raw_path.unlink()
    rate = written / spent
    say(
        f"binary files of a checkpoint ({whole:.2f} s in all; disk {disk / 1e6:.0f} MB/s)",
        f"{rate / 1e6:.0f} MB/s",
        ">= 300 or disk",
        rate >= min(300e6, 0.8 * disk),
    )


def measure_load(path: Path) -> None:
    """Checks of graph rows only: the load of a graph, per million rows."""
    from zeusdb_vs.graph import HNSWGraph
    from zeusdb_vs.storage import read_snapshot

    files = read_snapshot(path).files
    state = dict(files["hnsw_index.hnsw.graph"].arrays)
    links = state["links"]
    config = json.loads((path / "config.json").read_text())

    def seconds() -> float:
        started = time.perf_counter()
        HNSWGraph.from_state(state, len(links), config["m"], config["ef_construction"], config["seed"], 12)
        return time.perf_counter() - started

    per_million = best(seconds) * 1e6 / len(links)
    say(
        "checks of a graph at loading, per million rows",
        f"{per_million:.2f} s",
        "<= 0.5 s",
        per_million <= 0.5,
    )
    print(f"    (load of everything: {best(lambda: timed(lambda: VectorDatabase().load(path)), 3):.2f} s)")


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def measure_searches_beside_a_save(path: Path, folder: Path) -> None:
    queries = records(200, first=10**6)["vectors"]
    with VectorDatabase().open(path, read_only=True) as index:
        for query in queries:
            index.search(query)

        def worst() -> float:
            times: list[float] = []
            is_saving = threading.Event()
            is_saving.set()

            def search() -> None:
                while is_saving.is_set():
                    for query in queries:
                        started = time.perf_counter()
                        index.search(query)
                        times.append(time.perf_counter() - started)
                        if not is_saving.is_set():
                            return

            threads = [threading.Thread(target=search) for _ in range(2)]
            for thread in threads:
                thread.start()
            shutil.rmtree(folder / "beside", ignore_errors=True)
            index.snapshot(folder / "beside")
            is_saving.clear()
            for thread in threads:
                thread.join()
            return float(np.percentile(times, 99))

        p99 = best(worst, 3) * 1e3
    say("p99 of 2 searching threads while a save runs", f"{p99:.1f} ms", "<= 10 ms", p99 <= 10)


def measure_replay(path: Path, folder: Path) -> None:
    """10,000 records that are only in the journal, of an index that is large and of one that is new."""
    for name, goal in (("new", 1.5), ("large", 1.5)):
        target = folder / f"replay-{name}"
        shutil.rmtree(target, ignore_errors=True)
        if name == "large":
            shutil.copytree(path, target)
        usual, binding.CHECKPOINT_RECORDS = binding.CHECKPOINT_RECORDS, 10**9
        batch = records(10_000, first=10**7)
        with VectorDatabase().open(target, dim=DIM, durability="never") as index:
            for start in range(0, 10_000, 100):
                index.add({key: column[start : start + 100] for key, column in batch.items()})

        def reopen(target: Path = target) -> float:
            started = time.perf_counter()
            with VectorDatabase().open(target, read_only=True) as index:
                elapsed = time.perf_counter() - started
                assert f"doc_{10**7 + 9_999}" in index
            return elapsed

        elapsed = best(reopen, 3)
        binding.CHECKPOINT_RECORDS = usual
        say(f"replay of 10,000 records, {name} index", f"{elapsed:.2f} s", f"<= {goal} s", elapsed <= goal)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.durability", description=__doc__)
    parser.add_argument("--records", type=int, default=67_000)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary directory by default")
    parser.add_argument(
        "--index", type=Path, help="an index of --records made earlier; kept for the next run"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        path = options.index or folder / "large.zdb"
        if not path.exists():
            print(f"building an index of {options.records:,} x {DIM} ...", flush=True)
            with VectorDatabase().open(path, dim=DIM, durability="never") as index:
                index.add(records(options.records))
                index.save()
        measure_opening(path)
        measure_mapped_search(path)
        measure_append(folder)
        measure_group_commit(folder)
        measure_checkpoint(path)
        measure_load(path)
        measure_searches_beside_a_save(path, folder)
        measure_replay(path, folder)


if __name__ == "__main__":
    main()
