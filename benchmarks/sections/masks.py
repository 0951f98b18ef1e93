"""What metadata costs and what a filter costs by itself: our index only, ten fields, none declared.

On the data set: what indexing the fields adds to a bulk `add`, and filters timed through ``index.count(filter)``, which
evaluates them and searches nothing. Every call brings constants of its own, so that no cached mask answers; `repeated`
is one filter over and over. Then masks over many records and the memory of their indexes, each in a process of its own
(`fieldmasks.py`): these need no data set, for no vector is searched.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import metadata
from benchmarks.engines import OURS
from benchmarks.measure import Stopwatch, percentiles, time_each_us
from benchmarks.metadata import Filter
from benchmarks.sections.common import Job, Result, in_a_process

_VARIATIONS = 60
_ASKED = ("equality, 1 %", "membership, 3 of 100", "range, half", "five conditions", "array contains")


def run(job: Job) -> Result:
    """Build without and with ten fields of metadata; time filters of several kinds; then masks over many records."""
    if OURS not in job.engines:
        return {"engines": {}}
    figures = job.attempt(OURS, _measure, job)
    sizes = {rows: job.attempt(OURS, _measure_fields, job, rows) for rows in job.scale.mask_rows}
    return {
        "engines": {OURS: figures} if figures else {},
        "sizes": {str(rows): size for rows, size in sizes.items() if size},
    }


def _measure(job: Job) -> Result:
    rows = len(job.data.vectors)
    records = metadata.records(rows)
    bare, full = job.new(OURS), job.new(OURS)
    bare.warm_up(job.data.vectors)
    with Stopwatch() as without:
        bare.build(job.data.vectors)
    del bare
    with Stopwatch() as with_fields:
        full.build(job.data.vectors, metadata=records)
        # Indexing the fields may be put off until the first filter: that belongs to the adding.
        with Stopwatch() as folding:
            full.count({"doc_id": "doc-0"})
    kinds = {name: make for name, make in metadata.conditions(rows).items() if name in _ASKED}
    kinds["equality, one match"] = metadata.few(rows)["equality, one match"]
    kinds["text contains"] = metadata.texts("title")["contains"]
    kinds["repeated"] = lambda _: metadata.REPEATED
    return {
        "add_cpu_s": without.cpu_s,
        "add_with_metadata_cpu_s": with_fields.cpu_s,
        "first_filter_cpu_s": folding.cpu_s,
        "metadata_json_bytes": metadata.json_bytes(records),
        "memory_bytes": full.memory_bytes(),
        "filters": {name: _time(full.count, make) for name, make in kinds.items()},
    }


def _time(count: Callable[[Filter], int], make: Callable[[int], Filter]) -> Result:
    filters = [make(i) for i in range(_VARIATIONS)]
    matches = count(filters[0])
    return {"us": percentiles(time_each_us(count, filters[1:])), "matches": matches}


def _measure_fields(job: Job, rows: int) -> Result:
    figures: Result = {}
    for what in ("memory", "masks"):
        job.say(f"{what} of the fields of {rows:,} records")
        order = {"what": what, "rows": rows, "calls": job.scale.mask_calls}
        figures[what] = in_a_process("fieldmasks", order, job.folder / "fieldmasks")
    return figures
