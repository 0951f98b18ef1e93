"""Between a collection and storage: what an index is on disk, beside the arrays of its parts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID, uuid4

from zeusdb_vs.collection import Collection, CollectionConfig
from zeusdb_vs.documents import decode_document, encode_checked
from zeusdb_vs.errors import CorruptIndexError
from zeusdb_vs.storage import FILES, BinaryFile, LinesFile, Snapshot, read_snapshot, write_snapshot
from zeusdb_vs.storage.manifest import Kind

_INDEX_TYPE = "HNSW"


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


def take_snapshot(collection: Collection, state: IndexState) -> Snapshot:
    """Return one moment of an index, ready to be written; to be called by who holds the writer's lock."""
    parts = collection.state()  # which may compact first
    view = collection.view
    config = {
        "index_type": _INDEX_TYPE,
        **asdict(collection.config),
        "indexed_fields": list(state.indexed_fields),
        "generated_ids": state.generated_ids,
        # As JSON, where dates are marked objects.
        "metadata": json.loads(encode_checked(state.metadata, what="index metadata")),
    }
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


def load_snapshot(path: str | os.PathLike[str]) -> tuple[Collection, IndexState]:
    """Return the index that a directory holds.

    Raises
    ------
    CorruptIndexError
        A part does not hold what it should, or two contradict each other.
    StorageError
        Of the class that says why there is nothing to load.
    """
    snapshot = read_snapshot(path)
    config = dict(snapshot.config)
    try:
        if config.pop("index_type") != _INDEX_TYPE:
            raise ValueError("index_type is not HNSW")
        state = IndexState(
            indexed_fields=tuple(str(name) for name in config.pop("indexed_fields")),
            metadata=decode_document(json.dumps(config.pop("metadata"), ensure_ascii=False)),
            generated_ids=int(config.pop("generated_ids")),
            index_uuid=snapshot.index_uuid,
            created_at=snapshot.created_at,
        )
        collection_config = CollectionConfig(**config)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptIndexError(f"{os.fspath(path)}/config.json: {error!r}") from None
    files = {name: _from_content(content) for name, content in snapshot.files.items()}
    collection = Collection.from_state(files, collection_config)
    if collection.view.live_count != snapshot.counts.get("records", collection.view.live_count):
        raise CorruptIndexError(f"{os.fspath(path)}: the manifest counts other records than the files hold")
    return collection, state


def _to_content(name: str, part: Any) -> BinaryFile | LinesFile:
    return LinesFile(part) if FILES[name].kind is Kind.LINES else BinaryFile(part)


def _from_content(content: object) -> Mapping[str, Any] | Sequence[str | None]:
    if isinstance(content, BinaryFile):
        return content.arrays
    assert isinstance(content, LinesFile)
    return content.values  # type: ignore[return-value]
