"""Where indexes come from: created with checked options, or loaded from a directory."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from zeusdb_vs.checks import check_int, check_str_list, did_you_mean
from zeusdb_vs.collection import Collection, CollectionConfig
from zeusdb_vs.errors import ArgumentTypeError, ConfigurationError
from zeusdb_vs.index import HNSWIndex, check_build_options, load_index
from zeusdb_vs.metrics import ALIASES
from zeusdb_vs.snapshots import IndexState

logging.getLogger("zeusdb_vs").addHandler(logging.NullHandler())

MAX_DIM = 65_536
DEFAULT_M = 16
DEFAULT_M_LARGE = 32
LARGE_SIZE = 25_000
"""Records expected from which on the default `m` is the larger one."""
DEFAULT_EF_CONSTRUCTION = 200
DEFAULT_EXPECTED_SIZE = 10_000

_INDEX_TYPES = ("hnsw",)
_OPTIONS = (
    "index_type",
    "dim",
    "space",
    "m",
    "ef_construction",
    "expected_size",
    "quantization_config",
    "indexed_fields",
)


class VectorDatabase:
    """Creates and loads indexes.

    >>> index = VectorDatabase().create("hnsw", dim=3, space="l2")
    >>> index.add([[1.0, 2.0, 3.0]]).summary()
    '1 inserted, 0 errors'
    """

    def create(
        self,
        index_type: str = "hnsw",
        *,
        dim: int | None = None,
        space: str = "cosine",
        m: int | None = None,
        ef_construction: int | None = DEFAULT_EF_CONSTRUCTION,
        expected_size: int | None = DEFAULT_EXPECTED_SIZE,
        quantization_config: Mapping[str, Any] | None = None,
        indexed_fields: Iterable[str] | None = None,
        **unknown: object,
    ) -> HNSWIndex:
        """Create an empty index.

        Parameters
        ----------
        index_type : str
            ``"hnsw"``, the one there is.
        dim : int
            Width of the vectors, 1..65,536. Required.
        space : str
            ``"cosine"`` (1 - cos), ``"l2"`` (Euclidean), ``"l1"`` or ``"dot"`` (1 - dot product), in any
            letter case; ``"euclidean"``, ``"manhattan"``, ``"ip"`` and ``"inner_product"`` are taken too.
        m : int, optional
            Neighbors a record is linked to, 2..256; twice as many on the lowest level. 16 by default, 32 when
            more than 25,000 records are expected.
        ef_construction : int
            Candidates looked at when a record is linked, 1..4,096; should exceed ``2 * m``.
        expected_size : int
            Records expected, a hint: no memory is taken for it.
        quantization_config : None
            Not available in this version.
        indexed_fields : iterable of str, optional
            Accepted for code that declares them; filters are fast on every field.

        Raises
        ------
        ConfigurationError
            An option is unknown, missing or out of range.
        ArgumentTypeError
            An option has the wrong type; a bool or float is no integer.
        """
        if unknown:
            name = next(iter(unknown))
            raise ConfigurationError(f"create has no option {name!r}; {did_you_mean(name, _OPTIONS)}")
        _known(index_type, "index_type", {name: name for name in _INDEX_TYPES})
        if dim is None:
            raise ConfigurationError("create needs dim=, the width of the vectors")
        if quantization_config is not None:
            raise ConfigurationError(
                "quantization_config: this version has no quantization yet; leave it out or pass None"
            )
        width = check_int(dim, "dim", 1, MAX_DIM)
        metric = _known(space, "space", ALIASES)
        options = {
            "ef_construction": DEFAULT_EF_CONSTRUCTION,
            "expected_size": DEFAULT_EXPECTED_SIZE,
            **check_build_options(m, ef_construction, expected_size),
        }
        if "m" not in options:
            options["m"] = DEFAULT_M_LARGE if options["expected_size"] > LARGE_SIZE else DEFAULT_M
        if options["ef_construction"] <= 2 * options["m"]:
            warnings.warn(
                f"ef_construction={options['ef_construction']} is not above 2 * m = {2 * options['m']}: "
                "neighbors are hardly chosen then and recall suffers; raise ef_construction or lower m",
                UserWarning,
                stacklevel=2,
            )
        fields = () if indexed_fields is None else tuple(check_str_list(indexed_fields, "indexed_fields"))
        collection = Collection(CollectionConfig(dim=width, space=metric, **options))
        return HNSWIndex(collection, IndexState(indexed_fields=fields))

    def load(self, path: str | os.PathLike[str]) -> HNSWIndex:
        """Return an index saved by `HNSWIndex.save`; it is not bound to the path.

        Raises
        ------
        IndexNotFoundError
            Nothing is there, or nothing of ours.
        CorruptIndexError
            Files are damaged, missing or contradict each other.
        UnsupportedVersionError
            A later version wrote it in a form this one cannot read.
        """
        return load_index(path)

    def available_index_types(self) -> list[str]:
        """Return the names `create` knows."""
        return list(_INDEX_TYPES)


def _known(value: object, option: str, names: Mapping[str, str]) -> str:
    if not isinstance(value, str):
        raise ArgumentTypeError(f"{option} must be a str, got {value!r} of type {type(value).__name__}")
    known = names.get(value.strip().lower())
    if known is None:
        raise ConfigurationError(f"unknown {option} {value!r}; {did_you_mean(value, names)}")
    return known
