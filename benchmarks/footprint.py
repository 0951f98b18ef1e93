"""One index built in a process of its own, and what that took: ``python -m benchmarks.footprint ORDER.json``.

The figures are those of the index alone: the library is imported and its kernels are warmed up before the first
reading, and the vectors are mapped from their file, which is let go before the last.
"""

from __future__ import annotations

import json
import sys
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engines import VARIANTS
from benchmarks.engines.base import Floats, disk_bytes
from benchmarks.engines.quantized import Effort
from benchmarks.measure import Stopwatch, resident

_SEARCHES = 1_000


def measure(order: dict[str, Any]) -> dict[str, Any]:
    """Build one variant, let it settle, search it, and leave it at its place.

    Returns
    -------
    dict
        Seconds of the build, of its training where the library tells, and of settling; growth in resident bytes
        from before the build to after the searches; what the index says of its parts; bytes on disk.
    """
    folder = Path(order["dataset"])
    queries = np.load(folder / "queries.npy")
    vectors = _map(folder)
    variant = VARIANTS[order["engine"]](
        vectors.shape[1], order["space"], Path(order["place"]), order["training_size"]
    )
    variant.import_library()
    variant.warm_up(vectors)
    del vectors  # its pages are none of the index's
    before = resident()
    with Stopwatch() as building:
        variant.build(_map(folder))
    with Stopwatch() as settling:
        variant.settle()
    call = variant.at(Effort())
    for query in islice(cycle(variant.prepare(queries)), _SEARCHES):
        call(query)
    after = resident()
    parts = variant.parts()
    variant.keep()
    growth = after - before if after is not None and before is not None else None
    return {
        "cpu_s": building.cpu_s,
        "wall_s": building.wall_s,
        "training_s": variant.training_s,
        "settle_cpu_s": settling.cpu_s,
        "settle_wall_s": settling.wall_s,
        "anonymous_bytes": None if growth is None else growth.anonymous,
        "mapped_bytes": None if growth is None else growth.mapped,
        "parts": parts,
        "disk_bytes": disk_bytes(variant.place),
    }


def _map(folder: Path) -> Floats:
    return np.asarray(np.load(folder / "vectors.npy", mmap_mode="r"))


def main() -> None:
    order = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Path(order["out"]).write_text(json.dumps(measure(order)), encoding="utf-8")


if __name__ == "__main__":
    main()
