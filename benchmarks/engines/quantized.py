"""Indexes that hold codes, and the unquantized ones they are measured against: one class per configuration.

Beside what any engine does, a variant says where it lives (`place`), how its search can be tried harder
(`efforts`), and what it gives up once it is built (`settle`).
"""

from __future__ import annotations

import tempfile
import warnings
from abc import abstractmethod
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.engines.base import Call, Condition, Engine, Floats, Metadata
from benchmarks.engines.faiss_sq8 import FaissSQ8
from benchmarks.engines.zeusdb_style import OriginalZeusDB, ZeusDBStyle, ZeusDBVS
from benchmarks.measure import Stopwatch
from benchmarks.settings import TRAINING_SIZE, K, Scale

# Enough rows for a graph, and for a quantizer to be trained and used.
_WARM_UP_ROWS = 4_500
_WARM_UP_TRAINING = 1_000


@dataclass(frozen=True)
class Effort:
    """How hard one search tries; None is the library's default.

    `ef` is ef_search, of an inverted file the lists probed; `fetch` the candidates rescored per hit.
    """

    ef: int | None = None
    fetch: int | None = None

    @property
    def label(self) -> str:
        named = (("ef", self.ef), ("rerank", self.fetch))
        return ", ".join(f"{name} {value}" for name, value in named if value is not None) or "default"


class Variant(Engine):
    """One configuration of one library.

    Attributes
    ----------
    family : the engine of `ENGINES` that it is a configuration of
    reranks : originals are at hand, and candidates are rescored by them
    config : its `quantization_config`, of the libraries that take one
    in_directory : it is used from its place on disk, of which it maps what it can
    takes_minutes : its build does; a smoke run goes without it
    training_s : seconds of training, of libraries that tell or let it be timed; None elsewhere
    """

    family: ClassVar[str]
    reranks: ClassVar[bool] = False
    in_directory: ClassVar[bool] = False
    config: ClassVar[dict[str, Any] | None] = None
    takes_minutes: ClassVar[bool] = False
    training_s: float | None = None

    def __init__(
        self, dim: int, space: str, place: Path | None = None, training_size: int = TRAINING_SIZE
    ) -> None:
        super().__init__(dim, space)
        self.place = place or Path()
        self.training_size = training_size

    def efforts(self, scale: Scale) -> list[list[Effort]]:
        """Chains of settings, each to be climbed until recall is enough; the default comes first."""
        chains = [[Effort()], [Effort(ef) for ef in scale.efs]]
        if self.reranks:
            # A walk narrower than what is fetched is widened to it, so each fetch begins there.
            chains += [[Effort(K * fetch * wider, fetch) for wider in (1, 2, 4)] for fetch in scale.fetches]
        return chains

    @abstractmethod
    def at(self, effort: Effort) -> Call:
        """As `caller`, at this effort."""

    def caller(self, mode: str, ef: int | None, condition: Condition | None = None) -> Call:  # noqa: ARG002
        return self.at(Effort(ef))

    def by_codes(self) -> Call | None:
        """Exhaustive search by the codes that the graph walks on; None where there are none or no such search."""
        return None

    def settle(self) -> None:
        """Come to rest after the build, as the index is then used."""

    def keep(self) -> None:
        """Leave the index at its place for another process."""
        if not self.in_directory:
            self.save(self.place)

    def reopen(self) -> None:
        """Take up what another process left there."""
        self.load(self.place)

    def parts(self) -> dict[str, int]:
        """What the index says that its parts hold, in bytes; empty where it does not say."""
        return {}


class _ZeusDBVariant(Variant, ZeusDBStyle):
    """Both ZeusDBs take the same `quantization_config`, and rescore where `storage_mode` says so."""

    def _declare(self, fields: list[str]) -> dict[str, Any]:  # noqa: ARG002
        if self.config is None:
            return {}
        return {"quantization_config": {**self.config, "training_size": self.training_size}}

    def _create(self, rows: int, fields: list[str]) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of what the configuration costs: that is measured
            return super()._create(rows, fields)

    def at(self, effort: Effort) -> Call:
        options: dict[str, Any] = {"top_k": K}
        if effort.ef is not None:
            options["ef_search"] = effort.ef
        if effort.fetch is not None:
            options["rerank"] = effort.fetch
        return partial(self._index.search, **options)


class _Ours(_ZeusDBVariant, ZeusDBVS):
    family = ZeusDBVS.name

    def warm_up(self, vectors: Floats) -> None:
        """Build, settle and search a small index of the same kind: its kernels are then compiled or loaded."""
        sample = vectors[:_WARM_UP_ROWS]
        with tempfile.TemporaryDirectory(prefix="zeusdb-vs-bench-") as folder:
            small = type(self)(self.dim, self.space, Path(folder) / "warm-up", _WARM_UP_TRAINING)
            small.build(sample)
            small.settle()
            for effort in (Effort(), Effort(64), Effort(64, 4)):
                call = small.at(effort)
                for query in small.prepare(sample[:20]):
                    call(query)
            small._index.search(sample[0], top_k=1, ef_search=1)  # a walk: small indexes are scanned
            small._index.close()

    def build(self, vectors: Floats, capacity: int | None = None, metadata: Metadata | None = None) -> None:
        super().build(vectors, capacity, metadata)
        self.training_s = (self._index.get_quantization_info() or {}).get("training_seconds")

    def by_codes(self) -> Call | None:
        if self.config is None or self.reranks:
            return None
        return partial(self._index.search, top_k=K, exact=True)

    def parts(self) -> dict[str, int]:
        return {name: size for name, size in self._index.memory().items() if name != "total"}


class _OursInDirectory(_Ours):
    """Bound to a directory, and opened from it again: what can be mapped then is."""

    in_directory = True

    def _create(self, rows: int, fields: list[str]) -> Any:
        return (
            self.import_library()
            .VectorDatabase()
            .open(
                self.place,
                dim=self.dim,
                space=self.space,
                m=self.m,
                ef_construction=self.ef_construction,
                expected_size=rows,
                **self._declare(fields),
            )
        )

    def settle(self) -> None:
        self._index.save()
        self._index.close()
        self.load(self.place)

    def load(self, path: Path) -> None:
        self._index = self.import_library().VectorDatabase().open(path)


class OursPlain(_Ours):
    name = "zeusdb-vs-plain"
    title = "zeusdb-vs, unquantized"


class OursPlainInDirectory(_OursInDirectory):
    name = "zeusdb-vs-plain-disk"
    title = "zeusdb-vs, unquantized, on disk"


class OursInt8(_Ours):
    name = "zeusdb-vs-int8"
    title = "zeusdb-vs int8"
    config: ClassVar = {"type": "int8"}


class OursPQ(_OursInDirectory):
    """dim // 8 parts of 8 bits by default: 48 of 384 dimensions."""

    name = "zeusdb-vs-pq48-disk"
    title = "zeusdb-vs pq 48x8, originals on disk"
    config: ClassVar = {"type": "pq", "storage_mode": "quantized_with_raw"}
    reranks = True


class OursPQCodes(_Ours):
    name = "zeusdb-vs-pq96"
    title = "zeusdb-vs pq 96x8, codes only"
    config: ClassVar = {"type": "pq", "subvectors": 96, "bits": 8, "storage_mode": "quantized_only"}


class OursPQ4(_OursInDirectory):
    name = "zeusdb-vs-pq96x4-disk"
    title = "zeusdb-vs pq 96x4, originals on disk"
    config: ClassVar = {"type": "pq", "subvectors": 96, "bits": 4, "storage_mode": "quantized_with_raw"}
    reranks = True


class _Faiss(Variant, FaissSQ8):
    """A base index on codes, under `IndexRefineFlat` where it reranks.

    By Euclidean distance, which ranks unit vectors as cosine does: decoded ones are not of unit length, and a
    graph on inner products with them falls apart.
    """

    family = FaissSQ8.name
    default_ef: ClassVar[int] = 16
    flags: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def _new_base(self, faiss: Any) -> Any: ...

    def build(self, vectors: Floats, capacity: int | None = None, metadata: Metadata | None = None) -> None:  # noqa: ARG002
        faiss = self.import_library()
        self._base = self._new_base(faiss)
        self._index = faiss.IndexRefineFlat(self._base) if self.reranks else self._base
        with Stopwatch() as watch:
            self._index.train(vectors[: self.training_size])
        self.training_s = watch.wall_s
        self._index.add(vectors)

    def at(self, effort: Effort) -> Call:
        self._set_ef(self.default_ef if effort.ef is None else effort.ef)
        if self.reranks:
            self._index.k_factor = 1 if effort.fetch is None else effort.fetch
        return partial(self._index.search, k=K)

    def _set_ef(self, ef: int) -> None:
        self._base.hnsw.efSearch = ef

    def by_codes(self) -> Call | None:
        if self.reranks:
            return None
        return partial(self.import_library().downcast_index(self._base.storage).search, k=K)

    def load(self, path: Path) -> None:
        faiss = self.import_library()
        self._index = faiss.read_index(str(path), sum(getattr(faiss, flag) for flag in self.flags))
        self._base = faiss.downcast_index(self._index.base_index) if self.reranks else self._index


class FaissHNSWSQ8(_Faiss):
    name = "faiss-sq8"
    title = "faiss HNSW-SQ8"

    def _new_base(self, faiss: Any) -> Any:
        base = faiss.IndexHNSWSQ(self.dim, faiss.ScalarQuantizer.QT_8bit, self.m)
        base.hnsw.efConstruction = self.ef_construction
        return base


class FaissHNSWPQ48(_Faiss):
    """Saved and read again without the tables of distances between centroids, which only adding needs.

    At this size they are most of what such an index holds: 12.6 MB for 48 parts.
    """

    name = "faiss-hnswpq48"
    flags: ClassVar[tuple[str, ...]] = ("IO_FLAG_PQ_SKIP_SDC_TABLE",)
    title = "faiss HNSW-PQ 48x8"
    subvectors: ClassVar[int] = 48

    def _new_base(self, faiss: Any) -> Any:
        base = faiss.IndexHNSWPQ(self.dim, self.subvectors, self.m)
        base.hnsw.efConstruction = self.ef_construction
        return base

    def settle(self) -> None:
        self.save(self.place)
        self.load(self.place)


class FaissHNSWPQ96(FaissHNSWPQ48):
    name = "faiss-hnswpq96"
    title = "faiss HNSW-PQ 96x8"
    subvectors = 96


class FaissHNSWPQ48Refine(FaissHNSWPQ48):
    name = "faiss-hnswpq48-refine"
    title = "faiss HNSW-PQ 48x8 + refine"
    reranks = True


class FaissHNSWPQ96Refine(FaissHNSWPQ96):
    name = "faiss-hnswpq96-refine"
    title = "faiss HNSW-PQ 96x8 + refine"
    reranks = True


class FaissHNSWPQ48Mapped(FaissHNSWPQ48Refine):
    """Codes and originals are mapped from the file."""

    name = "faiss-hnswpq48-mapped"
    title = "faiss HNSW-PQ 48x8 + refine, mapped"
    in_directory = True
    flags = ("IO_FLAG_PQ_SKIP_SDC_TABLE", "IO_FLAG_MMAP_IFC")


class FaissIVFPQRefine(_Faiss):
    """Its ef is the number of lists probed, of some 4 * sqrt(rows)."""

    name = "faiss-ivfpq48-refine"
    title = "faiss IVF-PQ 48x8 + refine"
    reranks = True
    default_ef = 1

    def efforts(self, scale: Scale) -> list[list[Effort]]:
        probes = (2, 4, 8, 16, 32, 64, 128)
        return [[Effort()], *([Effort(each, fetch) for each in probes] for fetch in scale.fetches)]

    def build(self, vectors: Floats, capacity: int | None = None, metadata: Metadata | None = None) -> None:
        self._lists = round(4 * len(vectors) ** 0.5)
        super().build(vectors, capacity, metadata)

    def _new_base(self, faiss: Any) -> Any:
        return faiss.IndexIVFPQ(faiss.IndexFlatL2(self.dim), self.dim, self._lists, 48, 8)

    def _set_ef(self, ef: int) -> None:
        self._base.nprobe = ef


class _Original(_ZeusDBVariant, OriginalZeusDB):
    family = OriginalZeusDB.name


class OriginalInt8(_Original):
    name = "zeusdb-original-int8"
    title = "ZeusDB 0.13 int8"
    config: ClassVar = {"type": "int8"}


class OriginalPQ(_Original):
    """dim / 32 parts by default: 12 of 384 dimensions."""

    name = "zeusdb-original-pq12"
    title = "ZeusDB 0.13 pq 12x8, codes only"
    config: ClassVar = {"type": "pq"}


class OriginalPQ96(_Original):
    name = "zeusdb-original-pq96"
    title = "ZeusDB 0.13 pq 96x8, codes only"
    config: ClassVar = {"type": "pq", "subvectors": 96}
    takes_minutes = True


class OriginalPQRaw(_Original):
    """Its ef does nothing: the walk is as wide as what is fetched."""

    name = "zeusdb-original-pq12-raw"
    title = "ZeusDB 0.13 pq 12x8 + originals"
    config: ClassVar = {"type": "pq", "storage_mode": "quantized_with_raw"}
    reranks = True

    def efforts(self, scale: Scale) -> list[list[Effort]]:
        return [[Effort()], [Effort(None, fetch) for fetch in (*scale.fetches, 64)]]


VARIANTS: dict[str, type[Variant]] = {
    variant.name: variant
    for variant in (
        OursPlain,
        OursPlainInDirectory,
        OursInt8,
        OursPQ,
        OursPQ4,
        OursPQCodes,
        FaissHNSWSQ8,
        FaissHNSWPQ48,
        FaissHNSWPQ96,
        FaissHNSWPQ48Refine,
        FaissHNSWPQ96Refine,
        FaissHNSWPQ48Mapped,
        FaissIVFPQRefine,
        OriginalInt8,
        OriginalPQ,
        OriginalPQ96,
        OriginalPQRaw,
    )
}
