"""What is run: sizes, grids, budgets. Everything that a figure depends on is here and goes into the JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

K = 10
M = 16
EF_CONSTRUCTION = 200
SEED = 20_240_601

RECALL_TARGETS = (0.90, 0.95, 0.99)
# Codes without originals end below: their curves are read off further down too.
QUANTIZED_TARGETS = (0.80, 0.90, 0.95, 0.98, 0.99)
# Vectors that a product quantizer is trained on.
TRAINING_SIZE = 10_000
SELECTIVITIES = (0.5, 0.2, 0.1, 0.05, 0.01, 0.001, 0.0001)

DATASETS = ("text", "mixture", "wide")
SECTIONS = (
    "search",
    "batch",
    "start",
    "memory",
    "filter",
    "quantization",
    "masks",
    "adds",
    "overhead",
    "writer",
)
# Sections that ask one question of one kind of data: the goals speak of 384-d embeddings.
SECTION_DATASETS: dict[str, tuple[str, ...]] = {
    "search": DATASETS,
    "batch": DATASETS,
    "start": DATASETS,
    "memory": DATASETS,
    "filter": ("text",),
    "quantization": ("text",),
    "masks": ("text",),
    "adds": ("text",),
    "overhead": ("text",),
    "writer": ("text",),
}


@dataclass(frozen=True)
class Scale:
    """Sizes and budgets of one run.

    Attributes
    ----------
    name : "full" or "quick"
    text_rows, mixture_rows, wide_rows : most rows taken of each data set
    queries : most queries timed
    repeats : interleaved passes per point; the median counts
    build_repeats : builds per engine in the search section; the median counts
    pass_s : a pass goes over all queries as often as fits into this, at least once
    filter_s : seconds of one filtered measurement; slow engines are given fewer queries
    efs : the grid of ef_search
    filter_efs : the grid for the peers' filtered search; ours runs at its default
    fetches : quantized search: candidates rescored per hit
    mask_rows : numbers of records that masks of filters are built over
    mask_calls : filters of each kind that are timed there
    overhead_calls, adds, starts : calls, single adds and fresh processes measured
    memory_datasets : where resident growth is measured by a build of its own
    """

    name: str
    text_rows: int
    mixture_rows: int
    wide_rows: int
    queries: int
    repeats: int
    build_repeats: int
    pass_s: float
    filter_s: float
    efs: tuple[int, ...]
    filter_efs: tuple[int, ...]
    fetches: tuple[int, ...]
    mask_rows: tuple[int, ...]
    mask_calls: int
    overhead_calls: int
    adds: int
    starts: int
    memory_datasets: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


FULL = Scale(
    name="full",
    text_rows=10**9,
    mixture_rows=100_000,
    wide_rows=20_000,
    queries=500,
    repeats=7,
    build_repeats=3,
    pass_s=0.15,
    filter_s=0.5,
    efs=(10, 16, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768),
    filter_efs=(32, 64, 128, 256, 512),
    fetches=(2, 4, 8, 16, 32),
    mask_rows=(100_000, 1_000_000),
    mask_calls=40,
    overhead_calls=10_000,
    adds=500,
    starts=5,
    memory_datasets=("text", "wide"),
)

# Above 4,000 rows everywhere: below, our index answers by exact search and there is no graph to measure.
QUICK = Scale(
    name="quick",
    text_rows=5_000,
    mixture_rows=8_000,
    wide_rows=4_500,
    queries=100,
    repeats=2,
    build_repeats=1,
    pass_s=0.02,
    filter_s=0.05,
    efs=(10, 24, 48, 96, 192, 384),
    filter_efs=(64, 256),
    fetches=(4, 16),
    mask_rows=(20_000,),
    mask_calls=10,
    overhead_calls=1_000,
    adds=60,
    starts=1,
    memory_datasets=("text",),
)
