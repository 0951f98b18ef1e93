"""What an index will take, in memory and on disk, before it is made: `estimate_memory`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zeusdb_vs.checks import check_bool, check_int, did_you_mean
from zeusdb_vs.errors import ArgumentTypeError, ConfigurationError
from zeusdb_vs.metrics import ALIASES
from zeusdb_vs.product import product_row_bytes, product_table_bytes
from zeusdb_vs.quantization import DIMS_PER_BLOCK
from zeusdb_vs.quantization_config import QuantizationConfig, read_quantization

_MIB = 1 << 20
_LEAST_DIM_CODED = 48
_SMALLEST_GRAPH = 4096
_ID_OVERHEAD_BYTES = 75
"""Of an id in memory: the str, its place in a list and in a hash table, a mark."""
_ID_OFFSET_BYTES = 8
_WORKING_SETS, _MARK_BYTES, _BUFFER_BYTES = 4, 2.5, 100_000
"""Working memory of a build on two threads, which stays for later searches: marks of a slot, and buffers."""
_RECORDS_SHARE, _FIELDS_SHARE = 1.2, 0.4
"""Memory of documents and of field indexes, by the size of the metadata as JSON."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """What an index takes, in bytes.

    Attributes
    ----------
    memory : dict of str to int
        In memory, by part, as `HNSWIndex.memory` names them.
    mapped_bytes : int
        Files that are mapped: read through the system's cache, which gives them up when memory is short.
    disk : dict of str to int
        Files of the directory, by name.
    """

    memory: dict[str, int]
    mapped_bytes: int
    disk: dict[str, int]

    @property
    def memory_bytes(self) -> int:
        """All in memory."""
        return sum(self.memory.values())

    @property
    def disk_bytes(self) -> int:
        """All on disk."""
        return sum(self.disk.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / _MIB:,.1f}" for name, size in self.memory.items() if size)
        return (
            f"{self.memory_bytes / _MIB:,.1f} MiB in memory ({parts}), {self.mapped_bytes / _MIB:,.1f} MiB mapped, "
            f"{self.disk_bytes / _MIB:,.1f} MiB on disk"
        )


def estimate_memory(
    n: int,
    dim: int,
    *,
    space: str = "cosine",
    m: int = 16,
    quantization_config: Mapping[str, Any] | None = None,
    has_directory: bool = True,
    id_bytes: int = 16,
    metadata_bytes: int = 0,
) -> MemoryEstimate:
    """Estimate what an index of `n` records will take once it is built and, if it is quantized, trained.

    Parameters
    ----------
    n : int
        Records.
    dim, space, m, quantization_config
        As for `VectorDatabase.create`.
    has_directory : bool
        Whether it is opened in a directory (`VectorDatabase.open`) and checkpointed: vectors that are kept beside
        product codes then stay on disk.
    id_bytes : int
        Bytes of an id.
    metadata_bytes : int
        Bytes of metadata, text and payload of a record as JSON.

    Returns
    -------
    MemoryEstimate

    Raises
    ------
    ConfigurationError, ArgumentTypeError
        As for `VectorDatabase.create`.

    Examples
    --------
    >>> estimate = estimate_memory(1_000_000, 384, quantization_config={"type": "int8"})
    >>> round(estimate.memory["codes"] / estimate_memory(1_000_000, 384).memory["vectors"], 2)
    0.25
    """
    n, dim = check_int(n, "n", 0), check_int(dim, "dim", 1, 65_536)
    m = check_int(m, "m", 2, 256)
    id_bytes, metadata_bytes = (
        check_int(id_bytes, "id_bytes", 1),
        check_int(metadata_bytes, "metadata_bytes", 0),
    )
    check_bool(has_directory, "has_directory")
    if not isinstance(space, str):
        raise ArgumentTypeError(f"space must be a str, got {space!r}")
    metric = ALIASES.get(space.strip().lower())
    if metric is None:
        raise ConfigurationError(f"unknown space {space!r}; {did_you_mean(space, ALIASES)}")
    quantization = None
    if quantization_config is not None:
        quantization = read_quantization(quantization_config, dim, metric)
        if n < quantization.training_size:
            quantization = None  # it stays as it would be without
    originals = n * dim * 4
    norms = n * 4 if metric == "cosine" else 0
    is_linked = n >= _SMALLEST_GRAPH or quantization is not None
    code = _code_bytes(dim, metric, quantization) if is_linked else 0
    on_disk, in_memory = 0, 0
    if quantization is not None and quantization.type == "pq":
        on_disk, in_memory = product_table_bytes(dim, quantization.subvectors, quantization.bits)
    keeps = quantization is None or quantization.keeps_originals
    is_mapped = quantization is not None and keeps and has_directory
    # Rows of 2m links on the lowest level, and of m on each level above, which one in m slots of the level below has.
    links = n * (8 * m + 1) + int(n * 4 * m / (m - 1))
    graph = links if is_linked else 0
    memory = {
        "vectors": (originals if keeps and not is_mapped else 0) + norms,
        "codes": n * code + in_memory,
        "graph": graph + (4 * n if is_linked else 0),
        "ids": n * (_ID_OVERHEAD_BYTES + id_bytes),
        "records": int(n * metadata_bytes * _RECORDS_SHARE),
        "fields": int(n * metadata_bytes * _FIELDS_SHARE),
        "working": _WORKING_SETS * (int(n * _MARK_BYTES) + _BUFFER_BYTES) if is_linked else 0,
    }
    disk = {
        "vectors": (originals + norms) if keeps else 0,
        "codes": n * code + on_disk + (0 if keeps else norms),
        "graph": graph,
        "ids": n * (id_bytes + _ID_OFFSET_BYTES),
        "records": n * (metadata_bytes + id_bytes + 6) if metadata_bytes else 0,
        "fields": int(n * metadata_bytes * _FIELDS_SHARE),
    }
    return MemoryEstimate(memory, originals if is_mapped else 0, disk)


def _code_bytes(dim: int, space: str, quantization: QuantizationConfig | None) -> int:
    """Return the bytes of a record's code, of an unquantized index as its data most often let it choose."""
    four, eight = (64 * -(-dim // DIMS_PER_BLOCK[bits]) for bits in (4, 8))
    bias = 4 if space == "l2" else 0
    if quantization is None:
        if dim < _LEAST_DIM_CODED:
            return 0
        return (eight if space == "l1" else four) + bias
    if quantization.type == "int8":
        in_planes = 2 * four <= eight and space != "l1" and not quantization.keeps_originals
        return (2 * four if in_planes else eight) + bias
    return product_row_bytes(quantization.subvectors, quantization.bits, is_l2=space == "l2")
