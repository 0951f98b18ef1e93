"""Between a collection and storage: what an index is on disk, beside the arrays of its parts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar, cast
from uuid import UUID, uuid4

from zeusdb_vs.collection import IS_TRAINED, Collection
from zeusdb_vs.documents import decode_document, encode_checked
from zeusdb_vs.errors import ArgumentTypeError, ConfigurationError, CorruptIndexError
from zeusdb_vs.metrics import METRICS
from zeusdb_vs.parts import CollectionConfig
from zeusdb_vs.quantization_config import QuantizationConfig
from zeusdb_vs.storage import FILES, BinaryFile, JsonFile, LinesFile, Snapshot, write_snapshot
from zeusdb_vs.storage.lines import NoLines
from zeusdb_vs.storage.manifest import Kind

_INDEX_TYPE = "HNSW"
QUANTIZATION = "quantization.json"
JOURNALED = "journaled"
"""In config.json: whether the directory is damaged without the journal of its generation."""


@dataclass(slots=True)
class IndexState:
    """What the handle keeps beside the collection.

    Attributes
    ----------
    indexed_fields : tuple of str
        Fields declared at creation.
    metadata : dict
        The index's own metadata, checked. Replaced, never changed in place.
    generated_ids : int
        Number in the last generated id.
    index_uuid : UUID
        Names the index.
    created_at : str or None
        ISO 8601, UTC; None until it is saved.
    """

    indexed_fields: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    generated_ids: int = 0
    index_uuid: UUID = field(default_factory=uuid4)
    created_at: str | None = None


def take_snapshot(collection: Collection, state: IndexState, *, journaled: bool = False) -> Snapshot:
    """Return one moment of an index, ready to be written; to be called by who holds the writer's lock.

    Parameters
    ----------
    journaled : bool
        Whether changes since stand in a journal that is there already: then it must never be missing.
    """
    parts = collection.state()  # which may compact first
    view = collection.view
    config = {
        "index_type": _INDEX_TYPE,
        **{name: value for name, value in asdict(collection.config).items() if name != "quantization"},
        "indexed_fields": list(state.indexed_fields),
        "generated_ids": state.generated_ids,
        # As JSON, where dates are marked objects.
        "metadata": json.loads(encode_checked(state.metadata, what="index metadata")),
    }
    if journaled:
        config[JOURNALED] = True
    return Snapshot(
        config=config,
        files={name: _to_content(name, part) for name, part in parts.items()},
        counts={"records": view.live_count, "slots": view.n},
        index_uuid=state.index_uuid,
        created_at=state.created_at,
    )


def save_snapshot(path: str | os.PathLike[str], snapshot: Snapshot) -> str | None:
    """Write a snapshot; return when the index was first saved."""
    return write_snapshot(path, snapshot).created_at


AnyCollection = TypeVar("AnyCollection", bound=Collection)


def read_index(
    path: str | os.PathLike[str],
    snapshot: Snapshot,
    kind: type[AnyCollection],
    *,
    mapped: bool,
    trusted: bool,
) -> tuple[AnyCollection, IndexState]:
    """Return the index that a snapshot holds, as a collection of the class `kind`.

    Parameters
    ----------
    path : str or path-like
        Where it was read, for messages.
    mapped : bool
        Whether arrays and lines are memory maps, and to be left on disk.
    trusted : bool
        Whether to leave unchecked what would take reading all vectors.

    Raises
    ------
    CorruptIndexError
        A part does not hold what it should, or two contradict each other.
    """
    config, state = read_config(snapshot)
    files = contents_of(snapshot)
    collection = cast(AnyCollection, kind.from_state(files, config, lazy=mapped, trusted=trusted))
    if collection.view.live_count != snapshot.counts.get("records", collection.view.live_count):
        raise CorruptIndexError(f"{os.fspath(path)}: the manifest counts other records than the files hold")
    return collection, state


_RANGES = {
    "dim": (1, 65_536),
    "m": (2, 256),
    "ef_construction": (1, 4096),
    "expected_size": (1, 1 << 40),
    "seed": (0, (1 << 64) - 1),
}


def read_config(snapshot: Snapshot) -> tuple[CollectionConfig, IndexState]:
    """Return what ``config.json`` says, every value checked.

    Raises
    ------
    CorruptIndexError
        A value is missing or cannot be.
    """
    try:
        return _read_config(snapshot)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"has no {error}" if isinstance(error, KeyError) else str(error)
        raise CorruptIndexError(f"config.json: {reason}") from None


def contents_of(snapshot: Snapshot) -> dict[str, Any]:
    """Return what each file holds: arrays by name, or one text for each record; None where no record has any."""
    return {name: _from_content(content) for name, content in snapshot.files.items()}


def _read_config(snapshot: Snapshot) -> tuple[CollectionConfig, IndexState]:
    """Return what ``config.json`` says; KeyError or ValueError where it cannot be."""
    config = snapshot.config
    if config["index_type"] != _INDEX_TYPE:
        raise ValueError(f"index_type is {config['index_type']!r}, known is {_INDEX_TYPE!r}")
    if not isinstance(config["space"], str) or config["space"] not in METRICS:
        raise ValueError(f"space is {config['space']!r}, known are {', '.join(METRICS)}")
    numbers = {name: _whole(config, name, *bounds) for name, bounds in _RANGES.items()}
    fields = config["indexed_fields"]
    if not isinstance(fields, list) or not all(isinstance(name, str) for name in fields):
        raise ValueError(f"indexed_fields is {fields!r}, must be a list of strings")
    if type(config.get(JOURNALED, False)) is not bool:
        raise ValueError(f"{JOURNALED} is {config[JOURNALED]!r}, must be true or false")
    if not isinstance(config["metadata"], dict):
        raise ValueError("metadata is no object")
    state = IndexState(
        indexed_fields=tuple(fields),
        metadata=decode_document(json.dumps(config["metadata"], ensure_ascii=False)),
        generated_ids=_whole(config, "generated_ids", 0, 1 << 62),
        index_uuid=snapshot.index_uuid,
        created_at=snapshot.created_at,
    )
    quantization = None
    if (options := snapshot.files.get(QUANTIZATION)) is not None:
        assert isinstance(options, JsonFile)
        quantization = _read_quantization(options.value, numbers["dim"], config["space"])
    return CollectionConfig(space=config["space"], quantization=quantization, **numbers), state


def _read_quantization(options: Mapping[str, Any], dim: int, space: str) -> QuantizationConfig:
    given = {name: value for name, value in options.items() if name != IS_TRAINED}
    try:
        return QuantizationConfig.from_json(given, dim, space)
    except (ConfigurationError, ArgumentTypeError) as error:
        raise CorruptIndexError(f"{QUANTIZATION}: {error}") from None


def _whole(config: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = config[name]
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}, must be a whole number from {low:,} to {high:,}")
    return value


def _to_content(name: str, part: Any) -> BinaryFile | LinesFile | JsonFile:
    kind = FILES[name].kind
    if kind is Kind.JSON:
        return JsonFile(part)
    return LinesFile(part) if kind is Kind.LINES else BinaryFile(part)


def _from_content(content: object) -> Mapping[str, Any] | Sequence[str | None] | None:
    if isinstance(content, BinaryFile):
        return content.arrays
    if isinstance(content, JsonFile):
        return content.value
    assert isinstance(content, LinesFile)
    if isinstance(content.values, NoLines):
        return None  # no record has any
    return content.values  # type: ignore[return-value]
