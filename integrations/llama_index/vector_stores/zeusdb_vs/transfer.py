"""Stores written to paths, local or of any fsspec file system, and read again.

On the local file system a store is a directory, as the engine saves it. Elsewhere it is one file, an uncompressed zip
archive of that directory. A store that never held a node has no index to save; a short text stands for it, which
core's own reader refuses as it refuses the others.
"""

from __future__ import annotations

import json
import posixpath
import re
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from zeusdb_vs import (
    ConfigurationError,
    CorruptIndexError,
    ForeignDirectoryError,
    IndexNotFoundError,
    VectorDatabase,
)

_EMPTY_HEADER = "zeusdb-vs: a vector store without nodes; read it with ZeusDBVectorStore.from_persist_path\n"
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_HEAD_BYTES = 4096


def joined(directory: str, name: str, fs: Any | None) -> str:
    """Return the path of a name in a directory."""
    return str(Path(directory) / name) if _is_local(fs) else posixpath.join(directory, name)


def persist(index: Any | None, path: str, fs: Any | None, configuration: dict[str, Any]) -> None:
    """Write an index, or the configuration of a store that has none, to a path."""
    if _is_local(fs):
        _persist_local(index, Path(path), configuration)
        return
    assert fs is not None
    parent = posixpath.dirname(path.rstrip("/"))
    if parent:
        fs.makedirs(parent, exist_ok=True)
    partial = f"{path}.partial"
    try:
        with fs.open(partial, "wb") as stream:
            if index is None:
                stream.write(_empty_text(configuration))
            else:
                _pack(index, stream)
        fs.mv(partial, path)
    except BaseException:
        if fs.exists(partial):
            fs.rm(partial)
        raise


def load(path: str, fs: Any | None) -> tuple[Any | None, dict[str, Any]]:
    """Return the index at a path; None, and the configuration, where the store had none."""
    if _is_local(fs):
        place = Path(path)
        if place.is_file():
            with place.open("rb") as stream:
                return _load_stream(stream, path)
        return VectorDatabase().load(place), {}
    assert fs is not None
    if not fs.exists(path):
        raise IndexNotFoundError(f"{path}: nothing is there")
    if fs.isdir(path):
        raise IndexNotFoundError(f"{path}: a directory, where `persist` writes one file on this file system")
    with fs.open(path, "rb") as stream:
        return _load_stream(stream, path)


def _is_local(fs: Any | None) -> bool:
    return fs is None or isinstance(fs, LocalFileSystem)


def _persist_local(index: Any | None, place: Path, configuration: dict[str, Any]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if index is None:
        if place.exists() and not _is_empty_store(place):
            raise ForeignDirectoryError(
                f"{place} holds something already; this store has no nodes to write over it"
            )
        place.write_bytes(_empty_text(configuration))
        return
    if _is_empty_store(place):
        place.unlink()
    index.save(place)


def _empty_text(configuration: dict[str, Any]) -> bytes:
    return (_EMPTY_HEADER + json.dumps({**configuration, "path": None}) + "\n").encode()


def _is_empty_store(place: Path) -> bool:
    if not place.is_file():
        return False
    with place.open("rb") as stream:
        return stream.read(len(_EMPTY_HEADER)) == _EMPTY_HEADER.encode()


def _load_stream(stream: Any, path: str) -> tuple[Any | None, dict[str, Any]]:
    head = stream.read(_HEAD_BYTES)
    stream.seek(0)
    if head.startswith(_EMPTY_HEADER.encode()):
        return None, _read_configuration(stream.read()[len(_EMPTY_HEADER) :], path)
    if head.lstrip().startswith(b"{"):
        raise IndexNotFoundError(
            f"{path} is JSON, as core's SimpleVectorStore writes it; load it with that, and hand it to "
            "ZeusDBVectorStore.from_simple"
        )
    if not zipfile.is_zipfile(stream):
        raise CorruptIndexError(f"{path} is not a store that `persist` wrote, or only a part of one")
    stream.seek(0)
    return _unpack(stream, path), {}


def _read_configuration(text: bytes, path: str) -> dict[str, Any]:
    try:
        configuration = json.loads(text)
    except ValueError as error:
        raise CorruptIndexError(f"{path}: the configuration is damaged: {error}") from None
    if not isinstance(configuration, dict):
        raise ConfigurationError(f"{path}: the configuration is no object")
    return configuration


def _pack(index: Any, stream: Any) -> None:
    with tempfile.TemporaryDirectory(prefix="zeusdb-vs-") as folder:
        saved = Path(folder) / "index"
        index.save(saved)
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(saved.rglob("*")):
                if file.is_file() and not file.name.startswith("."):  # what is hidden locks the directory
                    archive.write(file, file.relative_to(saved).as_posix())


def _unpack(stream: Any, path: str) -> Any:
    with tempfile.TemporaryDirectory(prefix="zeusdb-vs-") as folder:
        try:
            with zipfile.ZipFile(stream) as archive:
                for entry in archive.infolist():
                    if not _SAFE_NAME.fullmatch(entry.filename):
                        raise CorruptIndexError(
                            f"{path} holds a file named {entry.filename!r}, which no store has"
                        )
                    place = Path(folder) / entry.filename
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(entry) as source, place.open("xb") as target:
                        shutil.copyfileobj(source, target, 1 << 20)
        except (zipfile.BadZipFile, EOFError, FileExistsError, NotImplementedError, RuntimeError) as error:
            raise CorruptIndexError(f"{path} is damaged: {error}") from None
        # All in memory: the folder goes away.
        return VectorDatabase().load(folder)
