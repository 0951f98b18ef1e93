"""What all calls of an index stand on: its collection and directory, the writer's lock, and the end of both.

Reads take the collection's published view once and never lock. Writes run one at a time under the handle's
lock.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from zeusdb_vs.binding import Binding
from zeusdb_vs.collection import Collection
from zeusdb_vs.errors import ClosedIndexError, ReadOnlyError
from zeusdb_vs.readers import Reader
from zeusdb_vs.snapshots import IndexState
from zeusdb_vs.views import View


class Handle:
    """The state behind an `HNSWIndex`, which documents it."""

    __slots__ = (
        "__weakref__",
        "_binding",
        "_collection",
        "_finalizer",
        "_lock",
        "_read_only",
        "_saved_at",
        "_state",
    )

    def __init__(
        self, collection: Collection, state: IndexState, *, binding: Binding | Reader | None = None
    ) -> None:
        self._collection = collection
        self._state = state
        self._binding = binding
        # Why this handle may only read; None while it may write.
        self._read_only: str | None = None
        if isinstance(binding, Reader):
            self._read_only = f"{binding.directory} was opened read-only; open it without read_only to write"
        self._lock = threading.RLock()
        # A handle that nobody closes lets go of its directory when it goes, at the latest with the process.
        self._finalizer = weakref.finalize(self, binding.close) if isinstance(binding, Binding) else None
        # The directory that holds exactly this state, while there is one: what a pickle can name.
        self._saved_at: str | None = None
        _handles.add(self)

    # ------------------------------------------------------------------------------------------ properties

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self._collection.config.dim

    @property
    def space(self) -> str:
        """``"cosine"``, ``"l2"``, ``"l1"`` or ``"dot"``."""
        return self._collection.config.space

    @property
    def m(self) -> int:
        """Neighbors a record is linked to on the upper levels; twice as many on the lowest."""
        return self._collection.config.m

    @property
    def ef_construction(self) -> int:
        """Candidates looked at when a record is linked."""
        return self._collection.config.ef_construction

    @property
    def expected_size(self) -> int:
        """Number of records the index was made for, a hint."""
        return self._collection.config.expected_size

    @property
    def indexed_fields(self) -> list[str]:
        """Fields declared at creation. Filters need no declaration."""
        return list(self._state.indexed_fields)

    @property
    def path(self) -> str | None:
        """Directory the index was opened from, None for an index in memory."""
        return None if self._binding is None else str(self._binding.directory)

    @property
    def read_only(self) -> bool:
        """Whether this handle can only be read."""
        return self._read_only is not None

    # ------------------------------------------------------------------------------------------ writing

    def _check_writable(self) -> None:
        self._collection.view  # noqa: B018  raises where the handle is closed
        if self._read_only is not None:
            raise ReadOnlyError(self._read_only)

    @contextmanager
    def _writing(self) -> Iterator[View]:
        """Hold the writer's lock; yield the view the change starts from.

        Of an index bound to a directory, the change is as durable as was asked for when this is left. The
        wait for that comes after the lock is let go, so that threads wait for the disk together.
        """
        self._check_writable()
        binding = self._binding
        if not isinstance(binding, Binding):
            with self._lock:
                self._saved_at = None
                yield self._collection.view
            return
        self._lock.acquire()
        try:
            while not binding.begin():
                # An earlier change was broken off: store the index as it is before it changes further.
                self._lock.release()
                try:
                    binding.checkpoint(self._lock)
                finally:
                    self._lock.acquire()
            self._saved_at = None
            yield self._collection.view
            ticket = binding.ticket()
        finally:
            self._lock.release()
        binding.settle(ticket, self._lock)

    # ------------------------------------------------------------------------------------------ the end

    def close(self) -> None:
        """Force all changes to disk, let go of the directory and of all memory; nothing the second time.

        Every later call raises ClosedIndexError.

        Raises
        ------
        StorageError
            The last changes could not be forced to disk. The handle is closed all the same.
        """
        with self._lock:
            closed = cast("Any", _CLOSED)
            self._collection = self._state = closed
            self._saved_at = None
        # Not under the lock: a checkpoint that is under way wants it.
        if isinstance(self._binding, Binding):
            self._binding.close()
        if self._finalizer is not None:
            self._finalizer.detach()

    @property
    def _is_closed(self) -> bool:
        return self._collection is cast("Any", _CLOSED)


class _Closed:
    """Stands in for what a closed handle has let go of."""

    def __getattr__(self, name: str) -> Any:
        raise ClosedIndexError("this index is closed; open it again with VectorDatabase().open or load")


_CLOSED = _Closed()
_handles: weakref.WeakSet[Handle] = weakref.WeakSet()


def _renew_locks_after_fork() -> None:
    for index in list(_handles):
        if index._lock.acquire(blocking=False):
            index._lock.release()
            continue
        # A thread that does not exist here was writing: what it left half-way is not on view, and stays so.
        index._lock = threading.RLock()
        index._read_only = (
            "this process was forked while the index was being written: here it can only be read"
        )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks_after_fork)
