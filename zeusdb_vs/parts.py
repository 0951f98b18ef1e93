"""The parts of one collection, held together: each with the same slots, and one view of all for readers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.calibration import Calibration
from zeusdb_vs.fields import FieldIndexes
from zeusdb_vs.graph import HNSWGraph
from zeusdb_vs.ids import Ids
from zeusdb_vs.kernels import layout
from zeusdb_vs.metrics import METRICS
from zeusdb_vs.quantization_config import QuantizationConfig
from zeusdb_vs.records import Records
from zeusdb_vs.scratch import ScratchPool
from zeusdb_vs.vectors import Vectors
from zeusdb_vs.views import View


@dataclass(frozen=True, slots=True)
class CollectionConfig:
    """What an index is created with.

    Attributes
    ----------
    dim : width of a vector, 1 .. 65,536
    space : "cosine", "l2", "l1" or "dot"
    m, ef_construction : as in the HNSW paper
    expected_size : records expected, a hint
    seed : of the levels, and of training
    quantization : how vectors are quantized once there are enough; None: not at all
    """

    dim: int
    space: str
    m: int = 16
    ef_construction: int = 200
    expected_size: int = 10_000
    seed: int = 0
    quantization: QuantizationConfig | None = None


class Parts:
    """What a collection consists of, empty at first. `Collection` documents the attributes."""

    def __init__(self, config: CollectionConfig) -> None:
        self.config = config
        self.metric = METRICS[config.space]
        self.calibration: Calibration | None = None
        self.training_seconds: float | None = None
        self.numbering = 0
        self._version = 0
        self._calibrated_at = 0
        self._misfits = 0
        self._start_empty()
        self._publish(0)

    def _start_empty(self, quantized: Vectors | None = None) -> None:
        self._ids = Ids()
        self._vectors = Vectors(self.config.dim, self.metric) if quantized is None else quantized
        self._records = Records()
        self._fields = FieldIndexes()
        self._graph: HNSWGraph | None = None if quantized is None else self._new_graph()
        self._unrepaired: list[NDArray[np.int32]] = []
        self.calibration = None
        self._calibrated_at = 0
        self._misfits = 0
        self._renew_scratches()

    def _new_graph(self) -> HNSWGraph:
        config = self.config
        return HNSWGraph(config.m, config.ef_construction, config.seed, self._vectors.shift)

    def _renew_scratches(self) -> None:
        self._scratches = ScratchPool(self.config.dim, self._vectors.form_bytes)

    # ------------------------------------------------------------------------------------------ publication

    def _describe(self) -> NDArray[np.int64]:
        return descriptor(self._vectors, self._graph)

    def _publish(self, n: int) -> None:
        ix = self._describe()
        ix[layout.N] = n
        self._version += 1
        self.view = View(
            n=n,
            version=self._version,
            ids=self._ids,
            vectors=self._vectors,
            graph=self._graph,
            ix=ix,
            scratches=self._scratches,
            records=self._records.view(),
            fields=self._fields.view(),
            calibration=self.calibration,
        )

    # ------------------------------------------------------------------------------------------ what there is

    @property
    def is_quantized(self) -> bool:
        """Whether the quantizer is trained and in use."""
        return self._vectors.is_quantized

    @property
    def keeps_originals(self) -> bool:
        """Whether the vectors are there as they were given."""
        return self._vectors.keeps_originals

    @property
    def codec_bytes(self) -> int:
        """Bytes of the quantizer itself, 0 while there is none."""
        return 0 if self._vectors.codec is None else self._vectors.codec.memory_bytes

    def coded_rows(self, first: int, stop: int) -> NDArray[np.uint8]:
        """Return all that is kept of the vectors of some slots; see `Vectors.coded_rows`."""
        return self._vectors.coded_rows(first, stop)

    @property
    def coded_width(self) -> int:
        """Bytes of a row of `coded_rows`."""
        return self._vectors.coded_width

    def memory_bytes(self) -> dict[str, int]:
        """Bytes held in memory, by part; pages of arrays that were reserved and never written are counted too."""
        return {
            **self._vectors.memory_bytes(),
            "graph": 0 if self._graph is None else self._graph.memory_bytes(),
            "ids": self._ids.memory_bytes(),
            "records": self._records.memory_bytes(),
            "fields": self._fields.memory_bytes(),
            "working": self._scratches.memory_bytes(),
        }

    def mapped_bytes(self) -> int:
        """Bytes of vectors, codes and graph that are mapped files and not held in memory."""
        return self._vectors.mapped_bytes() + (0 if self._graph is None else self._graph.mapped_bytes())


def descriptor(vectors: Vectors, graph: HNSWGraph | None) -> NDArray[np.int64]:
    """Return what kernels need to know of an index; whoever keeps it keeps the parts' tables alive."""
    ix = np.zeros(layout.SIZE, np.int64)
    vectors.describe(ix)
    ix[layout.ENTRY_POINT] = -1
    if graph is not None:
        graph.describe(ix)
    return ix
