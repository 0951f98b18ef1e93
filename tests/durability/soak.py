"""A long run with everything at once: ``python tests/durability/soak.py --minutes 60``.

A writer, searchers, a reader that reloads, checkpoints and copies, on one directory. Every half minute it is
compared with a plain dict, and resident memory and open files are printed; they must stay flat. Exit code 1
if anything was lost, wrong, or grew.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np  # noqa: E402

from zeusdb_vs import HNSWIndex, VectorDatabase, binding, verify  # noqa: E402

DIM = 48
IDS = 6000
PERIOD_S = 30.0


class Soak:
    """What the threads share."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "soak.zdb"
        self.folder = folder
        self.model: dict[str, bytes] = {}
        self.turn = threading.Lock()
        self.is_over = threading.Event()
        self.failures: list[str] = []
        self.calls = self.searches = self.reloads = self.copies = 0
        self.index = self.open()

    def open(self) -> HNSWIndex:
        return VectorDatabase().open(self.path, dim=DIM, space="l2", durability="interval")

    def run(self, work: Any) -> None:
        try:
            while not self.is_over.is_set():
                work()
        except BaseException as error:
            self.failures.append(f"{work.__name__}: {error!r}")
            self.is_over.set()

    def write(self) -> None:
        chance = random.Random(self.calls)
        ids = [f"r{chance.randrange(IDS)}" for _ in range(chance.choice((1, 1, 5, 50)))]
        ids = list(dict.fromkeys(ids))
        with self.turn:
            if chance.random() < 0.6:
                vectors = (
                    np.random.default_rng(self.calls).standard_normal((len(ids), DIM)).astype(np.float32)
                )
                self.index.add({"ids": ids, "vectors": vectors, "texts": [f"call {self.calls}"] * len(ids)})
                for row, name in enumerate(ids):
                    self.model.pop(name, None)
                    self.model[name] = vectors[row].tobytes()
            elif chance.random() < 0.8:
                self.index.remove_points(ids)
                for name in ids:
                    self.model.pop(name, None)
            else:
                self.index.update_metadata(ids[0], {"call": self.calls})
            self.calls += 1
        time.sleep(0.0005)

    def search(self) -> None:
        query = np.random.default_rng(self.searches).standard_normal(DIM).astype(np.float32)
        hits = self.index.search(query, top_k=10)
        assert len({hit["id"] for hit in hits}) == len(hits)
        assert [hit["score"] for hit in hits] == sorted(hit["score"] for hit in hits)
        self.searches += 1

    def reload(self) -> None:
        with VectorDatabase().open(self.path, read_only=True) as reader:
            for _ in range(20):
                reader.reload()
                reader.search(np.ones(DIM, np.float32))
                self.reloads += 1
                time.sleep(0.05)

    def copy(self) -> None:
        target = self.folder / "copy.zdb"
        self.index.snapshot(target)
        assert verify(target).is_ok
        shutil.rmtree(target)
        self.copies += 1
        time.sleep(1)

    def compare(self) -> None:
        """Stop the writer; compare memory, disk and model; store all and check it in depth."""
        with self.turn:
            self.same(self.index)
            with VectorDatabase().open(self.path, read_only=True) as reader:
                self.same(reader)
            self.index.save()
            report = verify(self.path, deep=True)
            assert report.is_ok, report.problems

    def same(self, index: HNSWIndex) -> None:
        names = [name for name, _ in index.list(number=10**7)]
        assert names == list(self.model), "order or ids"
        for record in index.get_records(names):
            assert record["vector"].tobytes() == self.model[record["id"]], record["id"]


def resident_mb() -> float:
    status = Path("/proc/self/statm")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    options = parser.parse_args()
    binding.CHECKPOINT_RECORDS = 3000  # so that they come often
    with tempfile.TemporaryDirectory(prefix="zeusdb-vs-soak-") as name:
        soak = Soak(Path(name))
        works = (soak.write, soak.search, soak.search, soak.reload, soak.copy)
        threads = [threading.Thread(target=soak.run, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 60 * options.minutes
        figures: list[tuple[float, int]] = []
        while time.monotonic() < until and not soak.is_over.wait(min(PERIOD_S, 10 * options.minutes)):
            try:
                soak.compare()
            except BaseException as error:
                soak.failures.append(f"compare: {error!r}")
                break
            figures.append((resident_mb(), open_files()))
            print(
                f"{soak.calls:,} writes, {soak.searches:,} searches, {soak.reloads:,} reloads, {soak.copies:,} "
                f"copies, {len(soak.model):,} records, generation {verify(soak.path).generation}, "
                f"{figures[-1][0]:.0f} MB, {figures[-1][1]} files",
                flush=True,
            )
        soak.is_over.set()
        for thread in threads:
            thread.join()
        soak.index.close()
        settled = figures[len(figures) // 3 :]
        if len(settled) > 3:
            if settled[-1][0] > 1.3 * settled[0][0] + 20:
                soak.failures.append(f"memory grew from {settled[0][0]:.0f} to {settled[-1][0]:.0f} MB")
            if settled[-1][1] > settled[0][1] + 20:
                soak.failures.append(f"open files grew from {settled[0][1]} to {settled[-1][1]}")
    for failure in soak.failures:
        print(failure, file=sys.stderr)
    return 1 if soak.failures else 0


if __name__ == "__main__":
    sys.exit(main())
