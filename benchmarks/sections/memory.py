"""Resident growth of building an index; run in a fresh process for one engine at a time."""

from __future__ import annotations

from benchmarks.measure import give_back_memory, resident_bytes
from benchmarks.sections.common import Job, Result


def run(job: Job) -> Result:
    """Build the one engine of the job from an array that stays resident; by how much has the process grown?

    What warming up freed goes back to the system first: an allocator that kept it could build in it unseen.
    """
    figures = {name: job.attempt(name, _measure, job, name) for name in job.engines[:1]}
    return {"engines": {name: figure for name, figure in figures.items() if figure is not None}}


def _measure(job: Job, name: str) -> Result:
    vectors = job.data.vectors
    touched = float(vectors.sum())  # resident before the first reading, whatever the loader did
    job.new(name).warm_up(vectors)
    engine = job.new(name)
    engine.import_library()
    give_back_memory()
    before = resident_bytes()
    engine.build(vectors)
    after = resident_bytes()
    call = engine.caller(engine.modes[0], 64)
    for query in engine.prepare(job.data.warm_up[:100]):
        call(query)
    searched = resident_bytes()
    return {
        "growth_bytes": after - before,
        "growth_after_search_bytes": searched - before,
        "of_float32": (after - before) / vectors.nbytes,
        "float32_bytes": vectors.nbytes,
        "checksum": touched,
    }
