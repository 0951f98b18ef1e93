"""Everything that changes what a store holds: add, update, delete, each with a native async twin."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NoReturn

import numpy as np
from langchain_core.documents import Document
from langchain_core.runnables import run_in_executor
from numpy.typing import NDArray

from langchain_zeusdb_vs.core import (
    StoreBase,
    as_id,
    check_count,
    check_ids,
    check_text,
    logger,
    refuse_unknown,
)
from langchain_zeusdb_vs.embedders import as_matrix
from langchain_zeusdb_vs.filters import Filter, check_filter, read_filter
from zeusdb_vs import ArgumentTypeError, ConfigurationError, FilterError, IdError, RecordError

OnError = Literal["raise", "skip"]

_UPDATE_OPTIONS = ("patch", "ids", "filter", "replace", "strict")
_ADD_OPTIONS = ("texts", "metadatas", "ids", "batch_size", "on_error")


class WritingMixin(StoreBase):
    """The calls of `ZeusDBVectorStore` that write."""

    # ------------------------------------------------------------------------------------------ add

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        ids: Iterable[str | int | None] | None = None,
        batch_size: int | None = None,
        on_error: OnError = "raise",
        **kwargs: Any,
    ) -> list[str]:
        """Embed texts and store them; one whose id is there already replaces that document.

        All are embedded before any is stored, and they are stored together: after an error nothing is.

        Parameters
        ----------
        texts : iterable of str
        metadatas : iterable of (dict or None), optional
            One for each text, copied.
        ids : iterable of (str, int or None), optional
            One for each text; None is replaced by a new UUID. Of equal ids the last counts.
        batch_size : int, optional
            Texts given to the embedding model at a time.
        on_error : {"raise", "skip"}
            ``"skip"`` leaves out documents that cannot be stored, such as one whose embedding is zero under
            cosine, and logs a warning.

        Returns
        -------
        list of str
            The ids of what was stored, in the order of the texts.

        Raises
        ------
        TypeError
            A text is no str, or an argument is unknown.
        ValueError
            The lengths differ, or a record cannot be stored (`zeusdb_vs.RecordError`, which names it).
        """
        batch = self._read_batch(texts, metadatas, ids, on_error, kwargs)
        if not batch.texts:
            return []
        return self._store(batch, self._embed_documents(batch.texts, self._batch_of(batch_size)))

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        ids: Iterable[str | int | None] | None = None,
        batch_size: int | None = None,
        on_error: OnError = "raise",
        **kwargs: Any,
    ) -> list[str]:
        """As `add_texts`, without holding up the event loop. Cancelled, it stores all or nothing."""
        # Iterables are read here, for they may belong to this thread; checking them takes longer.
        columns = _listed(texts), _listed(metadatas), _listed(ids)
        batch = await run_in_executor(None, self._read_batch, *columns, on_error, kwargs)
        if not batch.texts:
            return []
        vectors = await self._aembed_documents(batch.texts, self._batch_of(batch_size))
        return await run_in_executor(None, self._store, batch, vectors)

    def add_documents(
        self, documents: Iterable[Document], ids: Iterable[str | int | None] | None = None, **kwargs: Any
    ) -> list[str]:
        """As `add_texts`, for documents, which stay as they are; an id not given is taken from the document."""
        return self.add_texts(**self._read_documents(documents, ids), **kwargs)

    async def aadd_documents(
        self, documents: Iterable[Document], ids: Iterable[str | int | None] | None = None, **kwargs: Any
    ) -> list[str]:
        """As `add_documents`, without holding up the event loop."""
        return await self.aadd_texts(**self._read_documents(documents, ids), **kwargs)

    def add_embeddings(
        self,
        texts: Iterable[str],
        embeddings: Any,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        ids: Iterable[str | int | None] | None = None,
        *,
        on_error: OnError = "raise",
        **kwargs: Any,
    ) -> list[str]:
        """As `add_texts`, for texts embedded already: an array (n, dim) or a sequence of vectors."""
        batch = self._read_batch(texts, metadatas, ids, on_error, kwargs)
        vectors = as_matrix(embeddings, len(batch.texts), "embeddings")
        return self._store(batch, vectors) if batch.texts else []

    async def aadd_embeddings(
        self,
        texts: Iterable[str],
        embeddings: Any,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        ids: Iterable[str | int | None] | None = None,
        *,
        on_error: OnError = "raise",
        **kwargs: Any,
    ) -> list[str]:
        """As `add_embeddings`, without holding up the event loop."""
        columns = _listed(texts), _listed(metadatas), _listed(ids)
        batch = await run_in_executor(None, self._read_batch, *columns, on_error, kwargs)
        vectors = await run_in_executor(None, as_matrix, embeddings, len(batch.texts), "embeddings")
        return await run_in_executor(None, self._store, batch, vectors) if batch.texts else []

    def update_documents(
        self, ids: Iterable[str | int] | str, documents: Iterable[Document] | Document, **kwargs: Any
    ) -> list[str]:
        """Replace documents that are there by others, embedded anew.

        Raises
        ------
        KeyError
            An id is not in the store (`zeusdb_vs.RecordNotFoundError`); nothing is changed.
        """
        names, replacements = self._read_update(ids, documents)
        self._check_there(names)
        return self.add_documents(replacements, ids=names, **kwargs)

    async def aupdate_documents(
        self, ids: Iterable[str | int] | str, documents: Iterable[Document] | Document, **kwargs: Any
    ) -> list[str]:
        """As `update_documents`, without holding up the event loop."""
        names, replacements = self._read_update(ids, documents)
        await run_in_executor(None, self._check_there, names)
        return await self.aadd_documents(replacements, ids=names, **kwargs)

    def update_metadata(
        self,
        patch: Mapping[str, Any],
        ids: Iterable[str | int] | str | None = None,
        *,
        filter: Filter | None = None,
        replace: bool = False,
        strict: bool = False,
        **unknown: NoReturn,
    ) -> int:
        """Set keys of the metadata of some documents; nothing is embedded, text and vector stay.

        Parameters
        ----------
        patch : dict
            The keys to set; all other keys stay, unless `replace` is true.
        ids : iterable of (str or int), optional
            Which documents; ids that are not there are skipped.
        filter : Filter, optional
            Which documents, by their metadata; with `ids`, those of them that match.
        replace : bool
            Drop the keys that `patch` does not have.
        strict : bool
            As for `similarity_search`.

        Returns
        -------
        int
            Documents changed.
        """
        refuse_unknown(unknown, _UPDATE_OPTIONS, "update_metadata")
        self._check_writable()
        if ids is None and filter is None:
            raise ConfigurationError("update_metadata needs ids= or filter=")
        names = None if ids is None else check_ids(ids)
        condition = read_filter(filter)
        index = self._index
        if index is None:
            check_filter(condition)
            return 0
        if condition.predicates:
            names, where = self._chosen(index, names, condition, strict), None
        else:
            # An empty dict is for the engine to refuse.
            where = {} if names is None and condition.tree is None else condition.tree
        changed = index.update_metadata(
            metadata=patch, ids=names, where=where, merge=not replace, strict=strict
        )
        return int(changed)

    async def aupdate_metadata(
        self,
        patch: Mapping[str, Any],
        ids: Iterable[str | int] | str | None = None,
        *,
        filter: Filter | None = None,
        replace: bool = False,
        strict: bool = False,
        **unknown: NoReturn,
    ) -> int:
        """As `update_metadata`, without holding up the event loop."""
        refuse_unknown(unknown, _UPDATE_OPTIONS, "update_metadata")
        return await run_in_executor(
            None, self.update_metadata, patch, ids, filter=filter, replace=replace, strict=strict
        )

    # ------------------------------------------------------------------------------------------ delete

    def delete(
        self,
        ids: Iterable[str | int] | str | None = None,
        *,
        filter: Filter | None = None,
        strict: bool = False,
        **kwargs: Any,
    ) -> bool:
        """Delete documents by id, by filter, or those of the ids that match the filter.

        Without either, everything is deleted, as `VectorStore.delete` lays down, and the number is logged.

        Parameters
        ----------
        ids : iterable of (str or int), optional
            Ids that are not there are no error; an empty list deletes nothing.
        filter : Filter, optional
            An empty dict is refused.
        strict : bool
            As for `similarity_search`.

        Returns
        -------
        bool
            True.
        """
        refuse_unknown(kwargs, ("ids", "filter", "strict"), "delete")
        self._check_writable()
        if isinstance(filter, Mapping) and not filter:
            raise FilterError(
                "delete: an empty filter matches everything; call delete() to delete everything"
            )
        names = None if ids is None else check_ids(ids)
        index = self._index
        if index is None:
            check_filter(read_filter(filter))
            return True
        if names is None and filter is None:
            logger.warning("delete() without ids or filter: all %d documents deleted", index.clear())
            return True
        condition = read_filter(filter)
        if condition.predicates:
            index.remove_points(self._chosen(index, names, condition, strict))
        elif names is None or names:
            index.delete(names, condition.tree, strict=strict)
        return True

    async def adelete(
        self,
        ids: Iterable[str | int] | str | None = None,
        *,
        filter: Filter | None = None,
        strict: bool = False,
        **kwargs: Any,
    ) -> bool:
        """As `delete`, without holding up the event loop."""
        return await run_in_executor(None, lambda: self.delete(ids, filter=filter, strict=strict, **kwargs))

    # ------------------------------------------------------------------------------------------ inside

    def _batch_of(self, batch_size: int | None) -> int:
        return self._batch_size if batch_size is None else check_count(batch_size, "batch_size")

    def _read_batch(
        self, texts: Any, metadatas: Any, ids: Any, on_error: Any, unknown: Mapping[str, Any]
    ) -> _Batch:
        """Check all of a batch but its vectors, reading each iterable once."""
        refuse_unknown(unknown, _ADD_OPTIONS, "adding")
        if on_error not in ("raise", "skip"):
            raise ConfigurationError(f"on_error is 'raise' or 'skip', got {on_error!r}")
        self._check_writable()
        if isinstance(texts, str):
            raise ArgumentTypeError("texts must be a list of str, got one str; write [text]")
        strings = [check_text(text, f"text {position}") for position, text in enumerate(texts)]
        documents = _column(metadatas, "metadatas", len(strings))
        for position, metadata in enumerate(documents):
            if metadata is not None and not isinstance(metadata, Mapping):
                raise ArgumentTypeError(
                    f"metadata of text {position} must be a dict, got {type(metadata).__name__}"
                )
        if isinstance(ids, str):
            raise ArgumentTypeError("ids must be a list, got one str; write [id]")
        names = [str(uuid.uuid4()) if id is None else as_id(id) for id in _column(ids, "ids", len(strings))]
        if "" in names:
            raise IdError(f"text {names.index('')}: an id must not be empty; pass None to have one made")
        return _Batch(strings, [metadata or {} for metadata in documents], names, on_error == "skip")

    @staticmethod
    def _read_documents(documents: Iterable[Document], ids: Any) -> dict[str, Any]:
        if isinstance(documents, Document):
            raise ArgumentTypeError("documents must be a list of Document, got one; write [document]")
        given = list(documents)
        for position, document in enumerate(given):
            if not isinstance(document, Document):
                raise ArgumentTypeError(
                    f"document {position} must be a Document, got {type(document).__name__}"
                )
        return {
            "texts": [document.page_content for document in given],
            "metadatas": [document.metadata for document in given],
            "ids": [document.id for document in given] if ids is None else ids,
        }

    @staticmethod
    def _read_update(ids: Any, documents: Any) -> tuple[list[str], list[Document]]:
        names = check_ids(ids)
        replacements = [documents] if isinstance(documents, Document) else list(documents)
        if len(names) != len(replacements):
            raise RecordError(f"{len(names):,} ids for {len(replacements):,} documents; nothing was changed")
        return names, replacements

    def _check_there(self, names: list[str]) -> None:
        self._check_writable()
        self.index.get_records(names, include=(), strict=True)

    def _store(self, batch: _Batch, vectors: NDArray[np.float32]) -> list[str]:
        """Hand a whole batch to the engine, which takes all of it or nothing."""
        index = self._index_of_width(vectors.shape[1])
        columns = {
            "ids": batch.ids,
            "vectors": vectors,
            "metadatas": batch.metadatas,
            "texts": batch.texts,
        }
        if not batch.skip:
            index.add(columns, on_error="raise")
            return batch.ids
        result = index.add(columns, on_error="collect")
        refused = {error.position for error in result.errors}
        for error in result.errors:
            logger.warning("left out: %s", error)
        return [id for position, id in enumerate(batch.ids) if position not in refused]


class _Batch:
    """Checked texts, metadata and ids on their way into the engine."""

    __slots__ = ("ids", "metadatas", "skip", "texts")

    def __init__(
        self, texts: list[str], metadatas: list[Mapping[str, Any]], ids: list[str], skip: bool
    ) -> None:
        self.texts, self.metadatas, self.ids, self.skip = texts, metadatas, ids, skip


def _listed(values: Any) -> Any:
    """Return an iterable read to its end; what is none of the kind is left for the checks to name."""
    is_plain = values is None or isinstance(values, str | Mapping | Sequence)
    return list(values) if isinstance(values, Iterable) and not is_plain else values


def _column(values: Iterable[Any] | None, name: str, count: int) -> list[Any]:
    """Return one value for each text; raise where the lengths differ."""
    if values is None:
        return [None] * count
    if isinstance(values, Mapping):
        raise ArgumentTypeError(f"{name} must be a list with one entry for each text, got one dict")
    given = list(values)
    if len(given) != count:
        raise RecordError(
            f"{count:,} texts and {len(given):,} {name}: they must be as many; nothing was stored"
        )
    return given
