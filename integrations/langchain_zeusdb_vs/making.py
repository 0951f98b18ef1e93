"""Stores made from something: texts, documents, embeddings, a directory, the store of another library."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import run_in_executor

from langchain_zeusdb_vs import migration
from langchain_zeusdb_vs.core import Path
from langchain_zeusdb_vs.writing import WritingMixin
from zeusdb_vs import VectorDatabase

Store = TypeVar("Store", bound="MakingMixin")


class MakingMixin(WritingMixin):
    """The calls of `ZeusDBVectorStore` that return a store."""

    # ------------------------------------------------------------------------------------------ from data

    @classmethod
    def from_texts(
        cls: type[Store],
        texts: Iterable[str],
        embedding: Embeddings,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        ids: Iterable[str | int | None] | None = None,
        **kwargs: Any,
    ) -> Store:
        """Return a store filled with texts; `kwargs` are those of the constructor."""
        return cls._filled(cls(embedding, **kwargs), lambda store: store.add_texts(texts, metadatas, ids=ids))

    @classmethod
    async def afrom_texts(
        cls: type[Store],
        texts: Iterable[str],
        embedding: Embeddings,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        ids: Iterable[str | int | None] | None = None,
        **kwargs: Any,
    ) -> Store:
        """As `from_texts`, without holding up the event loop."""
        store = await run_in_executor(None, lambda: cls(embedding, **kwargs))
        try:
            await store.aadd_texts(texts, metadatas, ids=ids)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def from_documents(
        cls: type[Store], documents: Iterable[Document], embedding: Embeddings, **kwargs: Any
    ) -> Store:
        """Return a store filled with documents; ids are taken from `ids`, or the documents, or made."""
        return cls.from_texts(
            embedding=embedding, **cls._read_documents(documents, kwargs.pop("ids", None)), **kwargs
        )

    @classmethod
    async def afrom_documents(
        cls: type[Store], documents: Iterable[Document], embedding: Embeddings, **kwargs: Any
    ) -> Store:
        """As `from_documents`, without holding up the event loop."""
        columns = cls._read_documents(documents, kwargs.pop("ids", None))
        return await cls.afrom_texts(embedding=embedding, **columns, **kwargs)

    @classmethod
    def from_embeddings(
        cls: type[Store],
        text_embeddings: Iterable[tuple[str, Any]],
        embedding: Embeddings | None = None,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        ids: Iterable[str | int | None] | None = None,
        **kwargs: Any,
    ) -> Store:
        """Return a store filled with pairs of a text and its embedding; `embedding` is for later queries."""
        pairs = list(text_embeddings)
        return cls._filled(
            cls(embedding, **kwargs),
            lambda store: store.add_embeddings(
                [text for text, _ in pairs], [vector for _, vector in pairs], metadatas, ids
            ),
        )

    @classmethod
    async def afrom_embeddings(
        cls: type[Store],
        text_embeddings: Iterable[tuple[str, Any]],
        embedding: Embeddings | None = None,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        ids: Iterable[str | int | None] | None = None,
        **kwargs: Any,
    ) -> Store:
        """As `from_embeddings`, without holding up the event loop."""
        return await run_in_executor(
            None, lambda: cls.from_embeddings(text_embeddings, embedding, metadatas, ids, **kwargs)
        )

    # ------------------------------------------------------------------------------------------ from a directory

    @classmethod
    def open(cls: type[Store], path: Path, embedding: Embeddings | None = None, **kwargs: Any) -> Store:
        """Return the store in a directory, made there if there is none; `kwargs` are the constructor's."""
        return cls(embedding, path=path, **kwargs)

    @classmethod
    async def aopen(
        cls: type[Store], path: Path, embedding: Embeddings | None = None, **kwargs: Any
    ) -> Store:
        """As `open`, without holding up the event loop."""
        return await run_in_executor(None, lambda: cls(embedding, path=path, **kwargs))

    @classmethod
    def from_existing_index(
        cls: type[Store], embedding: Embeddings | None, path: Path, **kwargs: Any
    ) -> Store:
        """As `open`; other stores' name for it."""
        return cls(embedding, path=path, **kwargs)

    @classmethod
    def load_local(
        cls: type[Store],
        folder_path: Path,
        embeddings: Embeddings | None,
        index_name: str = "index",
        *,
        allow_dangerous_deserialization: bool = False,  # noqa: ARG003
        **kwargs: Any,
    ) -> Store:
        """Return what `save_local` wrote, in memory.

        `allow_dangerous_deserialization` is taken for FAISS's sake and means nothing: nothing is unpickled.
        """
        return cls.load_index(pathlib.Path(folder_path) / f"{index_name}.zdb", embeddings, **kwargs)

    @classmethod
    def load_index(cls: type[Store], path: Path, embedding: Embeddings | None = None, **kwargs: Any) -> Store:
        """Return a saved store, in memory and not bound to the path; langchain-zeusdb's name."""
        return cls(embedding, index=VectorDatabase().load(path), **kwargs)

    # ------------------------------------------------------------------------------------------ from elsewhere

    @classmethod
    def from_faiss(
        cls: type[Store],
        store: Any,
        embedding: Embeddings | None = None,
        *,
        batch_size: int = 1_000,
        **kwargs: Any,
    ) -> Store:
        """Return a store with the documents and vectors of a LangChain FAISS store; nothing is embedded.

        Parameters
        ----------
        store : langchain_community.vectorstores.FAISS
            Left as it is. Vectors are read through ``index.reconstruct``, so quantized ones come as FAISS kept them.
        embedding : Embeddings, optional
            The store's own model by default.
        batch_size : int
            Documents moved at a time.
        **kwargs
            Of the constructor, such as ``path``. The space is FAISS's: l2, or dot for inner products.
        """
        return cls._moved(store, embedding, kwargs, migration.read_faiss(store, batch_size))

    @classmethod
    def from_chroma(
        cls: type[Store],
        store: Any,
        embedding: Embeddings | None = None,
        *,
        batch_size: int = 1_000,
        **kwargs: Any,
    ) -> Store:
        """Return a store with the documents and vectors of a LangChain Chroma store; nothing is embedded.

        Parameters
        ----------
        store : langchain_chroma.Chroma
            Left as it is.
        embedding, batch_size
            As for `from_faiss`.
        **kwargs
            Of the constructor. The space is the collection's: cosine, l2, or dot for inner products.
        """
        return cls._moved(store, embedding, kwargs, migration.read_chroma(store, batch_size))

    @classmethod
    def from_inmemory(
        cls: type[Store],
        store: Any,
        embedding: Embeddings | None = None,
        *,
        batch_size: int = 1_000,
        **kwargs: Any,
    ) -> Store:
        """Return a store with the documents and vectors of an InMemoryVectorStore; nothing is embedded."""
        return cls._moved(store, embedding, kwargs, migration.read_inmemory(store, batch_size))

    # ------------------------------------------------------------------------------------------ inside

    @staticmethod
    def _filled(store: Store, fill: Callable[[Store], object]) -> Store:
        """Return a store once it is filled; one that could not be is closed, so that its directory is free."""
        try:
            fill(store)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def _moved(
        cls: type[Store],
        source: Any,
        embedding: Embeddings | None,
        kwargs: dict[str, Any],
        source_batches: migration.Source,
    ) -> Store:
        model = source.embeddings if embedding is None else embedding

        def fill(store: Store) -> None:
            for batch in source_batches.batches:
                store.add_embeddings(batch.texts, batch.vectors, batch.metadatas, batch.ids)

        return cls._filled(cls(model, **{"space": source_batches.space, **kwargs}), fill)
