"""Where indexes come from: created with checked options, or loaded from a directory."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from zeusdb_vs.binding import Binding, open_writer
from zeusdb_vs.checks import check_bool, check_build_options, check_int, check_str_list, did_you_mean
from zeusdb_vs.collection import Collection
from zeusdb_vs.errors import ArgumentTypeError, ConfigurationError
from zeusdb_vs.index import HNSWIndex, load_index
from zeusdb_vs.metrics import ALIASES
from zeusdb_vs.parts import CollectionConfig
from zeusdb_vs.quantization_config import read_quantization, warn_of_quantization
from zeusdb_vs.readers import MAPS_BY_DEFAULT, Reader
from zeusdb_vs.snapshots import IndexState
from zeusdb_vs.storage import Durability

logging.getLogger("zeusdb_vs").addHandler(logging.NullHandler())

MAX_DIM = 65_536
DEFAULT_M = 16
DEFAULT_M_LARGE = 32
LARGE_SIZE = 25_000
"""Records expected from which on the default `m` is the larger one."""
DEFAULT_EF_CONSTRUCTION = 200
DEFAULT_EXPECTED_SIZE = 10_000

_DURABILITIES = ("always", "interval", "never")
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
    """Creates, opens and loads indexes.

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
        quantization_config : dict, optional
            Keep codes in place of vectors once there are enough records to train a quantizer:
            ``{"type": "int8"}`` or ``{"type": "pq", "subvectors": dim // 8, "bits": 8}``, with
            ``"storage_mode"``: ``"quantized_only"`` (vectors are dropped) or ``"quantized_with_raw"`` (kept, on disk
            where the index has a directory, and results are reranked by them), ``"training_size"`` (10,000; at
            least 1,000) and ``"max_training_vectors"``. `estimate_memory` tells what each takes.
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
        config, state = _new_index(
            "create", dim, space, m, ef_construction, expected_size, indexed_fields, quantization_config
        )
        _warn_of_few_candidates(config)
        if config.quantization is not None and quantization_config is not None:
            warn_of_quantization(config.quantization, quantization_config, config.dim, config.expected_size)
        return HNSWIndex(Collection(config), state)

    def open(
        self,
        path: str | os.PathLike[str],
        *,
        dim: int | None = None,
        space: str | None = None,
        durability: Durability = "always",
        interval_ms: float = 100,
        read_only: bool = False,
        mmap: bool = MAPS_BY_DEFAULT,
        verify: bool = True,
        create: bool = True,
        lock_timeout_s: float = 10.0,
        m: int | None = None,
        ef_construction: int | None = None,
        expected_size: int | None = None,
        quantization_config: Mapping[str, Any] | None = None,
        indexed_fields: Iterable[str] | None = None,
    ) -> HNSWIndex:
        """Open the index in a directory, or make one there, and bind it: every change is stored at once.

        Each call that changes the index is written to the directory's journal before it returns, and is there
        when the directory is opened again, however this process ends. Now and then the journal is taken up
        into the saved files (a checkpoint), by itself or by `HNSWIndex.save`. Close the index in the end, or
        use it in a ``with``.

        Parameters
        ----------
        path : str or path-like
            A directory with an index, an empty one, or a new path.
        dim, space, m, ef_construction, expected_size, quantization_config, indexed_fields
            As for `create`, for a new index; `dim` is then required. Of an index that is there, what is given
            of the first four and of the quantization must agree with it.
        durability : {"always", "interval", "never"}
            What a call that has returned survives. In any case the end of this process, kill -9 too. A loss
            of power: with ``"always"`` (the call waits for an fsync, which threads share), with ``"interval"``
            unless it came within the last `interval_ms`, with ``"never"`` once the system has written it.
        interval_ms : float
            For ``"interval"``, in milliseconds, 1..3,600,000.
        read_only : bool
            Take no lock and write nothing; `HNSWIndex.reload` takes in what a writer has added since.
        mmap : bool
            Map vectors, codes and graph and read metadata and text when they are asked for, instead of
            reading all into memory. True by default except on Windows.
        verify : bool
            With `mmap`: check every file against its digests before returning. False leaves out those of
            vectors, codes, graph, metadata and text, for directories that one trusts.
        create : bool
            Make an index where there is none.
        lock_timeout_s : float
            How long to wait for another writer to close, in seconds.

        Raises
        ------
        IndexLockedError
            Another handle writes to the directory; the message names its process.
        IndexNotFoundError
            Nothing is there, with `create=False` or `read_only`.
        ForeignDirectoryError
            The path holds something that is not an index.
        ConfigurationError
            An option is out of range, missing for a new index, or not that of the index that is there.
        CorruptIndexError, JournalDamagedError, UnsupportedVersionError
            As for `load`.
        """
        for name, flag in (("read_only", read_only), ("mmap", mmap), ("verify", verify), ("create", create)):
            check_bool(flag, name)
        if durability not in _DURABILITIES:
            raise ConfigurationError(
                f"durability must be one of {', '.join(map(repr, _DURABILITIES))}, got {durability!r}"
            )
        interval_s = _check_seconds(interval_ms, "interval_ms", 1, 3_600_000) / 1000
        timeout_s = _check_seconds(lock_timeout_s, "lock_timeout_s", 0, 1e9)

        def new() -> tuple[CollectionConfig, IndexState]:
            return _new_index(
                "open makes a new index here and",
                dim,
                space,
                m,
                ef_construction,
                expected_size,
                indexed_fields,
                quantization_config,
            )

        if dim is not None:
            new()  # options that are wrong by themselves are refused whatever is there
        binding: Binding | Reader
        if read_only:
            binding = Reader(path, mmap=mmap, verify=verify)
        else:
            binding = open_writer(
                path,
                create=new if create else None,
                durability=durability,
                interval_s=interval_s,
                lock_timeout_s=timeout_s,
                mmap=mmap,
                verify=verify,
            )
        index = HNSWIndex(binding.collection, binding.state, binding=binding)
        try:
            _check_agreement(index, path, dim, space, m, ef_construction)
            _check_quantization(index, path, quantization_config)
            if quantization_config is not None and index.quantization is not None and not len(index):
                warn_of_quantization(index.quantization, quantization_config, index.dim, index.expected_size)
        except BaseException:
            index.close()
            raise
        return index

    def load(self, path: str | os.PathLike[str]) -> HNSWIndex:
        """Return the index in a directory, all of it in memory; it is not bound to the path.

        What a journal holds, of an index that was opened there, belongs to it.

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


def _new_index(
    call: str,
    dim: int | None,
    space: str | None,
    m: int | None,
    ef_construction: int | None,
    expected_size: int | None,
    indexed_fields: Iterable[str] | None,
    quantization_config: Mapping[str, Any] | None,
) -> tuple[CollectionConfig, IndexState]:
    """Return what an index with these options is, all of them checked."""
    if dim is None:
        raise ConfigurationError(f"{call} needs dim=, the width of the vectors")
    width = check_int(dim, "dim", 1, MAX_DIM)
    metric = _known("cosine" if space is None else space, "space", ALIASES)
    options = {
        "ef_construction": DEFAULT_EF_CONSTRUCTION,
        "expected_size": DEFAULT_EXPECTED_SIZE,
        **check_build_options(m, ef_construction, expected_size),
    }
    if "m" not in options:
        options["m"] = DEFAULT_M_LARGE if options["expected_size"] > LARGE_SIZE else DEFAULT_M
    fields = () if indexed_fields is None else tuple(check_str_list(indexed_fields, "indexed_fields"))
    quantization = None
    if quantization_config is not None:
        quantization = read_quantization(quantization_config, width, metric)
    config = CollectionConfig(dim=width, space=metric, **options, quantization=quantization)
    return config, IndexState(indexed_fields=fields)


def _warn_of_few_candidates(config: CollectionConfig) -> None:
    if config.ef_construction <= 2 * config.m:
        warnings.warn(
            f"ef_construction={config.ef_construction} is not above 2 * m = {2 * config.m}: "
            "neighbors are hardly chosen then and recall suffers; raise ef_construction or lower m",
            UserWarning,
            stacklevel=3,
        )


def _check_seconds(value: object, name: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ArgumentTypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}")
    if not low <= value <= high:
        raise ConfigurationError(f"{name} must be from {low:,} to {high:,}, got {value!r}")
    return float(value)


def _check_agreement(
    index: HNSWIndex,
    path: object,
    dim: int | None,
    space: str | None,
    m: int | None,
    ef_construction: int | None,
) -> None:
    """Raise ConfigurationError if an option that is given is not that of an index that is there."""
    given = {
        "dim": dim,
        "space": None if space is None else _known(space, "space", ALIASES),
        "m": m,
        "ef_construction": ef_construction,
    }
    for name, value in given.items():
        actual = getattr(index, name)
        if value is not None and value != actual:
            way_out = "rebuild() changes it" if name in ("m", "ef_construction") else "it cannot be changed"
            raise ConfigurationError(
                f"{path} holds an index with {name}={actual!r}, open was given {value!r}; leave it out, {way_out}"
            )


def _check_quantization(index: HNSWIndex, path: object, given: Mapping[str, Any] | None) -> None:
    """Raise ConfigurationError if an index that is there is quantized otherwise than is asked for."""
    if given is None:
        return
    wanted, actual = read_quantization(given, index.dim, index.space), index.quantization
    if wanted != actual:
        raise ConfigurationError(
            f"{path} holds an index with quantization {actual or 'none'}, open was given {wanted}; leave it out, "
            "rebuild(quantization_config=...) changes it"
        )


def _known(value: object, option: str, names: Mapping[str, str]) -> str:
    if not isinstance(value, str):
        raise ArgumentTypeError(f"{option} must be a str, got {value!r} of type {type(value).__name__}")
    known = names.get(value.strip().lower())
    if known is None:
        raise ConfigurationError(f"unknown {option} {value!r}; {did_you_mean(value, names)}")
    return known
