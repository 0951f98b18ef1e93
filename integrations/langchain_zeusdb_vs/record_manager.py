"""`ZeusDBRecordManager`: for ``langchain_core.indexing.index``, keeps its keys in the documents' own records."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.indexing import RecordManager
from langchain_core.runnables import run_in_executor

import zeusdb_vs
from zeusdb_vs import And, ConfigurationError, HNSWIndex, RecordError, RecordNotFoundError, field

if TYPE_CHECKING:
    from langchain_zeusdb_vs.vectorstores import ZeusDBVectorStore

_KEY = "langchain_indexing"
"""Where a record's payload holds what the manager keeps."""


def _kept(name: str) -> zeusdb_vs.Field:
    return field(f"{_KEY}.{name}", source="payload")


class ZeusDBRecordManager(RecordManager):
    """Keeps what `index` and `aindex` have to remember in the payload of the documents themselves.

    A document and its key are one record, deleted by one delete: the two cannot part. Neither needs a second
    database.

    Parameters
    ----------
    store : ZeusDBVectorStore
        The store that is indexed into.
    namespace : str
        Keys of one namespace are not seen in another.

    Examples
    --------
    >>> from langchain_core.documents import Document
    >>> from langchain_core.embeddings import DeterministicFakeEmbedding
    >>> from langchain_core.indexing import index
    >>> from langchain_zeusdb_vs import ZeusDBVectorStore
    >>> store = ZeusDBVectorStore(DeterministicFakeEmbedding(size=8))
    >>> manager = ZeusDBRecordManager(store)
    >>> pages = [Document("one", metadata={"source": "a"}), Document("two", metadata={"source": "b"})]
    >>> options = {"cleanup": "full", "source_id_key": "source", "key_encoder": "sha256"}
    >>> index(pages, manager, store, **options)
    {'num_added': 2, 'num_updated': 0, 'num_skipped': 0, 'num_deleted': 0}
    >>> index(pages[:1], manager, store, **options)
    {'num_added': 0, 'num_updated': 0, 'num_skipped': 1, 'num_deleted': 1}
    """

    def __init__(self, store: ZeusDBVectorStore, namespace: str = "default") -> None:
        super().__init__(namespace)
        self._store = store
        self._lock = threading.Lock()
        self._last_time = 0.0

    def create_schema(self) -> None:
        """Do nothing: there is no second database."""

    async def acreate_schema(self) -> None:
        """Do nothing: there is no second database."""

    def get_time(self) -> float:
        """Return the time in seconds, which never runs backwards in this process."""
        with self._lock:
            self._last_time = max(self._last_time, time.time())
            return self._last_time

    async def aget_time(self) -> float:
        """As `get_time`."""
        return self.get_time()

    def update(
        self,
        keys: Sequence[str],
        *,
        group_ids: Sequence[str | None] | None = None,
        time_at_least: float | None = None,
    ) -> None:
        """Note that documents have been indexed now.

        Raises
        ------
        RecordNotFoundError
            A key is not the id of a document in the store.
        ValueError
            `group_ids` are not as many as `keys`, or `time_at_least` is yet to come.
        """
        if group_ids is not None and len(group_ids) != len(keys):
            raise RecordError(f"{len(keys):,} keys and {len(group_ids):,} group_ids: they must be as many")
        now = self.get_time()
        if time_at_least is not None and time_at_least > now:
            raise ConfigurationError(f"time_at_least={time_at_least} has not come yet, it is {now}")
        if not keys:
            return
        by_group: dict[str | None, list[str]] = {}
        for key, group in zip(keys, group_ids or [None] * len(keys), strict=True):
            by_group.setdefault(group, []).append(key)
        index = self._index()
        if index is None:
            raise RecordNotFoundError("the store is empty: add the documents before their keys are noted")
        index.get_records(keys, include=(), strict=True)
        for group, members in by_group.items():
            kept = {"namespace": self.namespace, "group": group, "time": now}
            index.update_payload(members, {_KEY: kept})

    async def aupdate(
        self,
        keys: Sequence[str],
        *,
        group_ids: Sequence[str | None] | None = None,
        time_at_least: float | None = None,
    ) -> None:
        """As `update`, without holding up the event loop."""
        await run_in_executor(None, self.update, keys, group_ids=group_ids, time_at_least=time_at_least)

    def exists(self, keys: Sequence[str]) -> list[bool]:
        """Return for each key whether its document is in the store and was indexed in this namespace."""
        index = self._index()
        if index is None:
            return [False] * len(keys)
        noted = {
            record["id"]
            for record in index.get_records(keys, include=("payload",))
            if _note(record).get("namespace") == self.namespace
        }
        return [key in noted for key in keys]

    async def aexists(self, keys: Sequence[str]) -> list[bool]:
        """As `exists`, without holding up the event loop."""
        return await run_in_executor(None, self.exists, keys)

    def list_keys(
        self,
        *,
        before: float | None = None,
        after: float | None = None,
        group_ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """Return the keys last noted before and after given times, of given groups, `limit` at most."""
        conditions: list[zeusdb_vs.Filter] = [_kept("namespace") == self.namespace]
        # A limit of 0 or None means none, as for langchain-core's own managers.
        if before:
            conditions.append(_kept("time") < before)
        if after:
            conditions.append(_kept("time") > after)
        if group_ids:
            conditions.append(_kept("group").isin(list(group_ids)))
        index = self._index()
        if index is None:
            return []
        wanted = And(*conditions)
        return [id for id, _ in index.list(limit or index.count(wanted), filter=wanted)]

    async def alist_keys(
        self,
        *,
        before: float | None = None,
        after: float | None = None,
        group_ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> list[str]:
        """As `list_keys`, without holding up the event loop."""
        return await run_in_executor(
            None, self.list_keys, before=before, after=after, group_ids=group_ids, limit=limit
        )

    def delete_keys(self, keys: Sequence[str]) -> None:
        """Forget keys. `index` has deleted their documents before, and the keys with them."""
        index = self._index()
        if index is None:
            return
        noted = [
            record["id"]
            for record in index.get_records(keys, include=("payload",))
            if _note(record).get("namespace") == self.namespace
        ]
        if noted:
            index.update_payload(noted, {_KEY: None})

    async def adelete_keys(self, keys: Sequence[str]) -> None:
        """As `delete_keys`, without holding up the event loop."""
        await run_in_executor(None, self.delete_keys, keys)

    def _index(self) -> HNSWIndex | None:
        return self._store.index if self._store.has_index else None


def _note(record: dict[str, Any]) -> dict[str, Any]:
    note = (record["payload"] or {}).get(_KEY)
    return note if isinstance(note, dict) else {}
