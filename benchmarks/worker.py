"""One section on one data set in a process of its own: ``python -m benchmarks.worker JOB.json``.

The parent sets the thread limits in the environment before this process imports NumPy.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import datasets, machine
from benchmarks.sections import (
    adds,
    batch,
    filtered,
    masks,
    memory,
    overhead,
    quantization,
    search,
    start,
    writer,
)
from benchmarks.sections.common import Job, Result
from benchmarks.settings import FULL, QUICK, Scale

SECTIONS: dict[str, Callable[[Job], Result]] = {
    "search": search.run,
    "batch": batch.run,
    "start": start.run,
    "memory": memory.run,
    "filter": filtered.run,
    "quantization": quantization.run,
    "masks": masks.run,
    "adds": adds.run,
    "overhead": overhead.run,
    "writer": writer.run,
}
# These need more than one core: a batch on two threads, a reader beside a writer.
NOT_PINNED = ("batch", "writer")


def scale_named(name: str, repeats: int | None) -> Scale:
    """The scale `name`, with another number of repeats where one is given."""
    scale = {"full": FULL, "quick": QUICK}[name]
    return scale if repeats is None else Scale(**{**scale.to_dict(), "repeats": repeats})


def run(order: dict[str, Any]) -> Result:
    """Carry out one order of the parent and return what it measured."""
    section = order["section"]
    core = None if section in NOT_PINNED else machine.pin_to_one_core()
    job = Job(
        folder=Path(order["dataset"]),
        data=datasets.fetch(Path(order["dataset"])),
        scale=scale_named(order["scale"], order["repeats"]),
        engines=order["engines"],
        indexes=Path(order["indexes"]),
        failures={},
    )
    result = SECTIONS[section](job)
    result.update(
        dataset=job.data.facts(),
        core=core,
        failures=job.failures,
        machine=machine.describe(),
        scale=job.scale.to_dict(),
    )
    return result


def main() -> None:
    order = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Path(order["out"]).write_text(json.dumps(run(order)), encoding="utf-8")


if __name__ == "__main__":
    main()
