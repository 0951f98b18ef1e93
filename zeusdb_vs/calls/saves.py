"""The index and its directory: saved, forced to disk, read again."""

from __future__ import annotations

import logging
import os

from zeusdb_vs.binding import Binding
from zeusdb_vs.calls.handle import Handle
from zeusdb_vs.errors import ArgumentTypeError, ConfigurationError
from zeusdb_vs.readers import Reader
from zeusdb_vs.snapshots import save_snapshot, take_snapshot

logger = logging.getLogger("zeusdb_vs")


class SaveCalls(Handle):
    """The calls of `HNSWIndex` that write to its directory or read it again."""

    __slots__ = ()

    def save(self, path: str | os.PathLike[str] | None = None) -> None:
        """Write the index to a directory, wholly or not at all.

        Parameters
        ----------
        path : str or path-like, optional
            A new path, an empty directory, or an index of ours, which is replaced. Anything else is left
            alone. The index is not bound to it: `VectorDatabase.open` binds. Without it, the directory the
            index was opened from, whose journal begins anew (a checkpoint).

        Raises
        ------
        ArgumentTypeError
            There is no path, and the index has no directory of its own.
        StorageError
            Of the class that says what stands in the way; what was saved before is untouched.
        """
        binding = self._binding
        if path is None or (isinstance(binding, Binding) and binding.is_at(path)):
            self._checkpoint()
        else:
            self.snapshot(path)

    def snapshot(self, path: str | os.PathLike[str]) -> None:
        """Write a copy of the index as it is now to another directory, while searches and writes go on.

        Parameters
        ----------
        path : str or path-like
            As for `save`.

        Raises
        ------
        StorageError
            As for `save`.
        """
        with self._lock:
            # One moment is taken under the lock; it is written while searches and writers go on.
            snapshot, version = take_snapshot(self._collection, self._state), self._collection.view.version
        created_at = save_snapshot(path, snapshot)
        with self._lock:
            if self._binding is None:
                self._state.created_at = created_at
            if self._collection.view.version == version:
                self._saved_at = os.path.realpath(path)
        logger.info("saved %d records to %s", snapshot.counts["records"], path)

    def _checkpoint(self) -> None:
        self._check_writable()
        if not isinstance(self._binding, Binding):
            raise ArgumentTypeError(
                "save needs a path: this index is not bound to a directory; VectorDatabase().open(path) binds"
            )
        self._binding.checkpoint(self._lock)

    def flush(self) -> None:
        """Force every change so far to disk, whatever the durability; nothing to do for an index in memory.

        Raises
        ------
        StorageError
            The system could not, and the handle can only be read from now on.
        """
        self._collection.view  # noqa: B018  raises where the handle is closed
        if isinstance(self._binding, Binding):
            self._binding.flush()

    def reload(self) -> bool:
        """Take in what another process has written since, on a handle opened read-only.

        Returns
        -------
        bool
            Whether there was anything. Searches under way finish on what they began with.

        Raises
        ------
        ConfigurationError
            The handle was not opened read-only.
        StorageError
            As for `VectorDatabase.open`; the handle goes on with what it had.
        """
        binding = self._binding
        self._collection.view  # noqa: B018
        if not isinstance(binding, Reader):
            raise ConfigurationError("reload is for indexes opened with read_only=True; this one is not")
        with self._lock:
            is_new = binding.reload()
            self._collection, self._state = binding.collection, binding.state
        return is_new
