"""What a section is given, and what several of them do alike."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import truth
from benchmarks.datasets import REPOSITORY, DataSet
from benchmarks.engines import ENGINES, Engine
from benchmarks.engines.base import Condition, ids_of
from benchmarks.measure import Point, Stopwatch, loops_for
from benchmarks.settings import Scale

Result = dict[str, Any]
T = TypeVar("T")

# The first calls after another engine's find the caches full of that engine's rows: these are not timed.
RUN_IN_CALLS = 20


@dataclass
class Job:
    """One section on one data set in one process.

    Attributes
    ----------
    folder : where the data set lies, for processes that fetch it themselves
    data : the data set
    scale : sizes and budgets
    engines : names of those that take part, all of them available
    indexes : folder where the search section leaves its saved indexes for the others
    failures : engine name -> what went wrong; a failed engine leaves the others' figures standing
    """

    folder: Path
    data: DataSet
    scale: Scale
    engines: list[str]
    indexes: Path
    failures: dict[str, str]

    def say(self, text: str) -> None:
        print(f"  [{time.strftime('%H:%M:%S')}] {self.data.name}: {text}", file=sys.stderr, flush=True)

    def new(self, name: str) -> Engine:
        return ENGINES[name](self.data.dim, self.data.space)

    def attempt(self, name: str, action: Callable[..., T], *arguments: Any) -> T | None:
        """Run `action` for the engine `name`; when it fails, write that down and return None."""
        try:
            return action(*arguments)
        except Exception as error:  # whatever a library throws at us is its figure
            where = traceback.extract_tb(error.__traceback__)[-1]
            said = (str(error).splitlines() or [""])[0][:200]
            text = f"{type(error).__name__}: {said} ({Path(where.filename).name}:{where.lineno})"
            self.failures.setdefault(name, text)
            self.say(f"{name} FAILED: {text}")
            return None

    def saved_path(self, name: str) -> Path:
        return self.indexes / f"{name}.index"

    def built_or_loaded(self, name: str) -> Engine:
        """The index that the search section saved; built here when that section did not run."""
        engine = self.new(name)
        if self.saved_path(name).exists():
            engine.load(self.saved_path(name))
            return engine
        self.say(f"building {name}")
        engine.warm_up(self.data.vectors)
        engine.build(self.data.vectors)
        self.attempt(name, self.save, name, engine)
        return engine

    def save(self, name: str, engine: Engine) -> Stopwatch:
        """Save `engine` for the other sections, wholly or not at all; returns what it took."""
        path = self.saved_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"unfinished-{name}")
        with Stopwatch() as watch:
            engine.save(unfinished)
        unfinished.replace(path)
        return watch


def measure_point(
    job: Job,
    engine: Engine,
    mode: str,
    ef: int | None,
    rows: list[int],
    true_distances: truth.Distances,
    condition: Condition | None = None,
) -> tuple[Point, float]:
    """Ask the queries `rows` once; return a point with their recall, not yet timed, and the seconds."""
    queries = job.data.queries[rows]
    call = engine.caller(mode, ef, condition)
    prepared = engine.prepare(queries)
    start = time.perf_counter()
    answers = [call(query) for query in prepared]
    taken = time.perf_counter() - start
    found = ids_of(engine, answers)
    reached = truth.recall(found, job.data.vectors, queries, job.data.space, true_distances[rows])
    return Point("default" if ef is None else f"ef {ef}", reached, ef), taken


def loops_of(job: Job, pass_s: float) -> int:
    return loops_for(job.scale.pass_s, pass_s)


def in_a_process(module: str, order: dict[str, Any], place: Path) -> Result:
    """Run a module of the benchmarks in a process of its own, and return what it writes as JSON.

    Parameters
    ----------
    module
        Its name, such as ``"footprint"``: it is given the path of its order.
    order
        What it is asked for; ``"out"`` is added, where it writes its answer.
    place
        Path, without an ending, of the files of both.
    """
    order_path, out = (place.with_name(f"{place.name}.{end}") for end in ("order", "out"))
    order_path.write_text(json.dumps({**order, "out": str(out)}), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", str(order_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise RuntimeError(said[-1] if said else f"exit {done.returncode}")
    reading: Result = json.loads(out.read_text(encoding="utf-8"))
    return reading
