"""What a store holds, read without searching: by id, by filter, counted, one after the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, NoReturn, TypedDict

import numpy as np
from langchain_core.documents import Document
from langchain_core.runnables import run_in_executor
from numpy.typing import NDArray

from langchain_zeusdb_vs.core import (
    PARTS,
    StoreBase,
    as_document,
    as_id,
    check_count,
    check_ids,
    refuse_unknown,
)
from langchain_zeusdb_vs.filters import Filter, check_filter, read_filter
from zeusdb_vs import ConfigurationError

_GET_PARTS = ("documents", "metadatas", "embeddings")
_GET_OPTIONS = ("ids", "filter", "limit", "offset", "include", "strict")
_FILTER_OPTIONS = ("filter", "strict")


class Records(TypedDict, total=False):
    """What `ZeusDBVectorStore.get` returns: parallel lists, of which `include` chooses all but the ids."""

    ids: list[str]
    documents: list[str]
    metadatas: list[dict[str, Any]]
    embeddings: list[NDArray[np.float32]]


class ReadingMixin(StoreBase):
    """The calls of `ZeusDBVectorStore` that read."""

    def get_by_ids(self, ids: Sequence[str | int], /) -> list[Document]:
        """Return documents by id, in the order of the ids; those that are not there are left out."""
        self._check_open()
        names = check_ids(ids)
        if self._index is None:
            return []
        return [as_document(record) for record in self._index.get_records(names, include=PARTS)]

    async def aget_by_ids(self, ids: Sequence[str | int], /) -> list[Document]:
        """As `get_by_ids`, without holding up the event loop."""
        return await run_in_executor(None, self.get_by_ids, ids)

    def get(
        self,
        ids: Iterable[str | int] | str | None = None,
        filter: Filter | None = None,
        *,
        limit: int | None = None,
        offset: int = 0,
        include: Iterable[str] = ("documents", "metadatas"),
        strict: bool = False,
        **unknown: NoReturn,
    ) -> Records:
        """Return what is stored, without searching.

        Parameters
        ----------
        ids : iterable of (str or int), optional
            Only these, in this order; ids that are not there are left out.
        filter : Filter, optional
            Only documents that match.
        limit : int, optional
            Documents wanted at most.
        offset : int
            Documents to skip.
        include : iterable of {"documents", "metadatas", "embeddings"}
            What to return beside the ids.
        strict : bool
            As for `similarity_search`.

        Returns
        -------
        dict
            ``{"ids": [...], "documents": [...], "metadatas": [...], "embeddings": [...]}``: parallel lists, in
            the order in which documents were added if no `ids` are given.
        """
        refuse_unknown(unknown, _GET_OPTIONS, "get")
        self._check_open()
        wanted = [include] if isinstance(include, str) else list(include)
        for part in wanted:
            if part not in _GET_PARTS:
                raise ConfigurationError(f"include names {part!r}; known are {', '.join(_GET_PARTS)}")
        size = None if limit is None else check_count(limit, "limit", 0)
        skip = check_count(offset, "offset", 0)
        condition = read_filter(filter)
        found: Records = {"ids": []}
        for part in wanted:
            found[part] = []  # type: ignore[literal-required]
        index = self._index
        if index is None:
            check_filter(condition)
            return found
        if ids is None and not condition.predicates:
            number = index.count() if size is None else size
            page = index.list(number, skip, filter=condition.tree, strict=strict)
            chosen = [id for id, _ in page]
        else:
            names = None if ids is None else list(dict.fromkeys(check_ids(ids)))
            chosen = self._chosen(index, names, condition, strict)[skip:][:size]
        parts = (*PARTS, "vector") if "embeddings" in wanted else PARTS
        for record in index.get_records(chosen, include=parts):
            document = as_document(record)
            found["ids"].append(record["id"])
            if "documents" in wanted:
                found["documents"].append(document.page_content)
            if "metadatas" in wanted:
                found["metadatas"].append(document.metadata)
            if "embeddings" in wanted:
                found["embeddings"].append(record["vector"])
        return found

    async def aget(
        self,
        ids: Iterable[str | int] | str | None = None,
        filter: Filter | None = None,
        *,
        limit: int | None = None,
        offset: int = 0,
        include: Iterable[str] = ("documents", "metadatas"),
        strict: bool = False,
        **unknown: NoReturn,
    ) -> Records:
        """As `get`, without holding up the event loop."""
        refuse_unknown(unknown, _GET_OPTIONS, "get")
        return await run_in_executor(
            None, self.get, ids, filter, limit=limit, offset=offset, include=include, strict=strict
        )

    def count(self, filter: Filter | None = None, *, strict: bool = False, **unknown: NoReturn) -> int:
        """Return how many documents match a filter; all of them without one. `strict` is `similarity_search`'s."""
        refuse_unknown(unknown, _FILTER_OPTIONS, "count")
        self._check_open()
        condition = read_filter(filter)
        if self._index is None:
            check_filter(condition)
            return 0
        if condition.predicates:
            return sum(1 for _ in self._matching(self._index, condition, strict=strict))
        return self._index.count(condition.tree, strict=strict)

    async def acount(self, filter: Filter | None = None, *, strict: bool = False, **unknown: NoReturn) -> int:
        """As `count`, without holding up the event loop."""
        refuse_unknown(unknown, _FILTER_OPTIONS, "count")
        return await run_in_executor(None, self.count, filter, strict=strict)

    def iterate(
        self, filter: Filter | None = None, *, strict: bool = False, **unknown: NoReturn
    ) -> Iterator[Document]:
        """Yield the documents that match a filter, in the order they were added, as they were at the start.

        Documents deleted meanwhile are left out. `strict` is that of `similarity_search`.
        """
        refuse_unknown(unknown, _FILTER_OPTIONS, "iterate")
        self._check_open()
        condition = read_filter(filter)
        if self._index is None:
            check_filter(condition)
            return iter(())
        return map(as_document, self._matching(self._index, condition, strict=strict))

    async def aiterate(
        self, filter: Filter | None = None, *, strict: bool = False, **unknown: NoReturn
    ) -> AsyncIterator[Document]:
        """As `iterate`, without holding up the event loop."""
        refuse_unknown(unknown, _FILTER_OPTIONS, "iterate")
        documents = await run_in_executor(None, self.iterate, filter, strict=strict)

        def next_documents() -> list[Document]:
            return [document for _, document in zip(range(100), documents, strict=False)]

        while page := await run_in_executor(None, next_documents):
            for document in page:
                yield document

    def __contains__(self, id: object) -> bool:
        self._check_open()
        return self._index is not None and as_id(id) in self._index
