"""From a saved index to the first answer, in a fresh process each time."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import median
from benchmarks.sections.common import Job, Result

# What the new process does: import, load, ask one query, tell. NumPy is imported by every engine alike.
_CHILD = """
import json, sys, time
import numpy as np
from benchmarks.engines import ENGINES
from benchmarks.measure import resident_bytes
name, path, query_path, dim, space = sys.argv[1:]
query = np.load(query_path)
before = resident_bytes()
clock = time.perf_counter
started = clock()
engine = ENGINES[name](int(dim), space)
engine.import_library()
imported = clock()
from pathlib import Path
engine.load(Path(path))
loaded = clock()
call = engine.caller(engine.modes[0], 64)
argument = engine.prepare(query)[0]
found = engine.ids(call(argument))
answered = clock()
print(json.dumps({
    "import_s": imported - started, "load_s": loaded - imported, "first_query_s": answered - loaded,
    "found": len(found), "resident_growth_bytes": resident_bytes() - before,
}))
"""


def run(job: Job) -> Result:
    """Start `starts` processes per engine, engines interleaved; medians."""
    query_path = job.indexes / "query.npy"
    job.indexes.mkdir(parents=True, exist_ok=True)
    np.save(query_path, job.data.queries[:1])
    usable = [name for name in job.engines if job.attempt(name, _make_ready, job, name)]
    readings: dict[str, list[dict[str, Any]]] = {}
    for _ in range(job.scale.starts):
        for name in usable:
            reading = job.attempt(name, _start, job, name, query_path)
            if reading is not None:
                readings.setdefault(name, []).append(reading)
    return {
        "engines": {
            name: {key: median(reading[key] for reading in all_of_it) for key in all_of_it[0]}
            for name, all_of_it in readings.items()
        }
    }


def _make_ready(job: Job, name: str) -> bool:
    if not job.saved_path(name).exists():
        job.built_or_loaded(name)
    return job.saved_path(name).exists()


def _start(job: Job, name: str, query_path: Path) -> dict[str, Any]:
    arguments = [name, str(job.saved_path(name)), str(query_path), str(job.data.dim), job.data.space]
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *arguments], capture_output=True, text=True, check=False
    )
    wall_s = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(
            done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"
        )
    reading: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    reading["process_wall_s"] = wall_s
    reading["process_cpu_s"] = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
    return reading
