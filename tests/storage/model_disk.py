"""A disk that loses power: what may be left of a traced sequence of file operations.

Bytes of a file are sure only after an fsync of the file, names only after an fsync of their directory.
Everything else may or may not be there: each operation on names since the last fsync of a directory it
touches survives or not on its own, in any combination (a rename is atomic), and bytes that were not forced
out may be there in part, be zeros, or be missing.
"""

from __future__ import annotations

import copy
import itertools
from pathlib import Path


class Disk:
    """Inodes are numbers; `names` maps (directory inode, name) to an inode, as the running system sees it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._numbers = itertools.count(1)
        self.directories = {0}
        self.content: dict[int, bytearray] = {}
        self.forced: dict[int, bytes] = {}
        self.names: dict[tuple[int, str], int] = {}
        self._adopt(root, 0)
        self.durable = dict(self.names)
        self.pending: list[tuple[set[int], list[tuple[str, int, str, int]]]] = []

    def _adopt(self, path: Path, inode: int) -> None:
        for entry in sorted(path.iterdir()):
            number = next(self._numbers)
            self.names[inode, entry.name] = number
            if entry.is_dir():
                self.directories.add(number)
                self._adopt(entry, number)
            else:
                self.content[number] = bytearray(entry.read_bytes())
                self.forced[number] = bytes(self.content[number])

    def _find(self, path: Path) -> int | None:
        inode = 0
        for part in path.relative_to(self.root).parts:
            inode = self.names.get((inode, part))
            if inode is None:
                return None
        return inode

    def _name(self, path: Path) -> tuple[int, str]:
        return self._find(path.parent), path.name

    def _change(self, *steps: tuple[str, tuple[int, str], int]) -> None:
        """Change names in one atomic step: ("set" or "drop", name, inode)."""
        for kind, name, inode in steps:
            if kind == "set":
                self.names[name] = inode
            else:
                self.names.pop(name, None)
        self.pending.append(({name[0] for _, name, _ in steps}, list(steps)))

    def apply(self, operation: str, *arguments) -> None:
        """Do what the observer of `fsio` was told."""
        path = arguments[0]
        if not path.is_relative_to(self.root):
            return
        if operation == "mkdir":
            inode = next(self._numbers)
            self.directories.add(inode)
            self._change(("set", self._name(path), inode))
        elif operation == "create" or (operation == "open_lock" and self._find(path) is None):
            inode = next(self._numbers)
            self.content[inode] = bytearray()
            self.forced[inode] = b""
            self._change(("set", self._name(path), inode))
        elif operation == "write":
            _, data, position = arguments
            content = self.content[self._find(path)]
            content[position : position + len(data)] = bytes(data)
        elif operation == "truncate":
            del self.content[self._find(path)][arguments[1] :]
        elif operation == "fsync":
            inode = self._find(path)
            self.forced[inode] = bytes(self.content[inode])
        elif operation == "fsync_dir":
            inode = self._find(path)
            for touched, steps in self.pending:
                if inode in touched:
                    _perform(self.durable, steps)
            self.pending = [entry for entry in self.pending if inode not in entry[0]]
        elif operation == "replace":
            source, target = self._name(path), self._name(arguments[1])
            inode = self.names[source]
            self._change(("drop", source, inode), ("set", target, inode))
        elif operation in ("unlink", "rmdir"):
            name = self._name(path)
            if name in self.names:
                self._change(("drop", name, self.names[name]))

    def after_power_loss(self, random, target: Path) -> None:
        """Write one of the states that may be left into `target`, an empty directory."""
        names = dict(self.durable)
        keep = random.choice([0.0, 0.3, 0.7, 1.0])
        for _, steps in copy.copy(self.pending):
            if random.random() < keep:
                _perform(names, steps)
        self._write(names, 0, target, random)

    def _write(self, names, inode: int, target: Path, random) -> None:
        for (directory, name), child in names.items():
            if directory != inode:
                continue
            if child in self.directories:
                (target / name).mkdir()
                self._write(names, child, target / name, random)
            else:
                (target / name).write_bytes(self._surviving(child, random))

    def _surviving(self, inode: int, random) -> bytes:
        forced, content = self.forced[inode], bytes(self.content[inode])
        if forced == content:
            return forced
        # Bytes that were forced out and not written since are sure, and stand before all others here.
        kept = len(forced) if content.startswith(forced) else 0
        cut = random.randrange(kept, len(content) + 1)
        choice = random.randrange(4)
        if choice == 0:
            return forced
        if choice == 1:
            return content[:cut]
        if choice == 2:
            return content[:cut] + bytes(len(content) - cut)
        return content


def _perform(names, steps) -> None:
    for kind, name, inode in steps:
        if kind == "set":
            names[name] = inode
        elif names.get(name) == inode:
            del names[name]
