"""Documents and vectors out of other LangChain stores, through what those stores make public."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs import ArgumentTypeError


@dataclass(frozen=True, slots=True)
class Batch:
    """Some documents, as parallel lists; vectors float32 (n, dim)."""

    ids: list[str]
    texts: list[str]
    metadatas: list[dict[str, Any]]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Source:
    """A store being read.

    Attributes
    ----------
    space : str
        How it compares vectors.
    batches : iterator of Batch
    """

    space: str
    batches: Iterator[Batch]


def read_faiss(store: Any, batch_size: int) -> Source:
    """Read a ``langchain_community.vectorstores.FAISS``."""
    _expect(store, "FAISS", "index", "docstore", "index_to_docstore_id")
    # faiss.METRIC_INNER_PRODUCT is 0, METRIC_L2 is 1, METRIC_L1 is 2.
    space = {0: "dot", 1: "l2", 2: "l1"}.get(int(store.index.metric_type), "l2")
    return Source(space, _faiss_batches(store, batch_size))


def _faiss_batches(store: Any, batch_size: int) -> Iterator[Batch]:
    positions = sorted(store.index_to_docstore_id)
    for start in range(0, len(positions), batch_size):
        chosen = positions[start : start + batch_size]
        ids = [store.index_to_docstore_id[position] for position in chosen]
        documents = [store.docstore.search(id) for id in ids]
        for id, document in zip(ids, documents, strict=True):
            # The docstore answers with a sentence where a document is missing.
            if isinstance(document, str):
                raise ArgumentTypeError(
                    f"the FAISS store has a vector but no document for id {id!r}: {document}"
                )
        yield Batch(
            list(map(str, ids)),
            [document.page_content for document in documents],
            [dict(document.metadata) for document in documents],
            np.stack([store.index.reconstruct(position) for position in chosen]).astype(np.float32),
        )


def read_chroma(store: Any, batch_size: int) -> Source:
    """Read a ``langchain_chroma.Chroma``."""
    _expect(store, "Chroma", "get")
    return Source(_chroma_space(store), _chroma_batches(store, batch_size))


def _chroma_space(store: Any) -> str:
    """Return the space of a store's collection: as configured, or as its metadata says, which is the older way."""
    # The store has no public name for its collection; all that is asked of the collection is public.
    collection = getattr(store, "_collection", None)
    configuration = getattr(collection, "configuration_json", None) or {}
    for index in ("hnsw", "spann"):
        space = (configuration.get(index) or {}).get("space")
        if space is not None:
            return str(space)
    metadata = getattr(collection, "metadata", None) or {}
    return str(metadata.get("hnsw:space", "l2"))


def _chroma_batches(store: Any, batch_size: int) -> Iterator[Batch]:
    offset = 0
    while True:
        found = store.get(limit=batch_size, offset=offset, include=["documents", "metadatas", "embeddings"])
        ids = list(found["ids"])
        if not ids:
            return
        offset += len(ids)
        yield Batch(
            ids,
            [text or "" for text in found["documents"]],
            [dict(metadata or {}) for metadata in found["metadatas"]],
            np.asarray(found["embeddings"], np.float32),
        )


def read_inmemory(store: Any, batch_size: int) -> Source:
    """Read a ``langchain_core.vectorstores.InMemoryVectorStore``."""
    _expect(store, "InMemoryVectorStore", "store")
    return Source("cosine", _inmemory_batches(list(store.store.values()), batch_size))


def _inmemory_batches(records: list[dict[str, Any]], batch_size: int) -> Iterator[Batch]:
    for start in range(0, len(records), batch_size):
        chosen = records[start : start + batch_size]
        yield Batch(
            [str(record["id"]) for record in chosen],
            [record["text"] for record in chosen],
            [dict(record["metadata"] or {}) for record in chosen],
            np.asarray([record["vector"] for record in chosen], np.float32),
        )


def _expect(store: Any, kind: str, *attributes: str) -> None:
    if not all(hasattr(store, attribute) for attribute in attributes):
        raise ArgumentTypeError(f"expected a LangChain {kind} store, got {type(store).__name__}")
