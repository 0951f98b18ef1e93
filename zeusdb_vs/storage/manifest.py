"""``manifest.json``: what a saved index consists of; replacing it is what makes a save count."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

from zeusdb_vs._version import __version__
from zeusdb_vs.errors import CorruptIndexError, IndexNotFoundError, StorageError, UnsupportedVersionError
from zeusdb_vs.storage import fsio, strict_json
from zeusdb_vs.storage.blocks import BLOCK_BYTES, FileDigest

MANIFEST = "manifest.json"
MANIFEST_TMP = "manifest.json.tmp"
CONFIG = "config.json"
MAPPINGS = "mappings.bin"

FORMAT = "zeusdb-vs"
FORMAT_VERSION = (1, 0)
LIBRARY = "zeusdb-vs"

# Features a directory may say its reader must know. There are none yet.
KNOWN_FEATURES: frozenset[str] = frozenset()

# Read whole, so bounded: an index of 100 GB has a manifest of some 100 KB.
MAX_MANIFEST_BYTES = 16 * 1024 * 1024


class Kind(Enum):
    """How a file is laid out."""

    BINARY = "binary"
    JSON = "json"
    LINES = "lines"


@dataclass(frozen=True, slots=True)
class FileSpec:
    """What a file name stands for; `empty` and `opener` are those of a lines file."""

    kind: Kind
    empty: str = "null"
    opener: str = "{"


# Nothing else is ever opened, replaced or removed beneath an index's directory.
FILES: Mapping[str, FileSpec] = {
    CONFIG: FileSpec(Kind.JSON),
    MAPPINGS: FileSpec(Kind.BINARY),
    "metadata.json": FileSpec(Kind.LINES, empty="{}"),
    "texts.json": FileSpec(Kind.LINES, opener='"'),
    "payloads.json": FileSpec(Kind.LINES),
    "vectors.bin": FileSpec(Kind.BINARY),
    "codes.bin": FileSpec(Kind.BINARY),
    "fields.bin": FileSpec(Kind.BINARY),
    "hnsw_index.hnsw.graph": FileSpec(Kind.BINARY),
    "quantization.json": FileSpec(Kind.JSON),
    "pq_centroids.bin": FileSpec(Kind.BINARY),
    "pq_codes.bin": FileSpec(Kind.BINARY),
}

_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """What the manifest says of one file."""

    digest: FileDigest
    arrays: Mapping[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the entry as it stands in the manifest."""
        entry: dict[str, Any] = {
            "bytes": self.digest.bytes,
            "crc32": [f"{crc:08x}" for crc in self.digest.crc32],
        }
        if self.arrays:
            entry["arrays"] = {
                n: {"dtype": dtype, "shape": list(shape)} for n, (dtype, shape) in self.arrays.items()
            }
        return entry


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of one saved generation.

    Attributes
    ----------
    index_uuid : UUID
        Names the index; equal in every generation of a directory-bound index.
    generation : int
        Grows with each save into the directory, from 1.
    created_at, saved_at : str
        ISO 8601, UTC.
    counts : mapping of str to int
        Figures for whoever reads the manifest by eye.
    files : mapping of str to FileEntry
        Every file of the generation but the manifest.
    library_version, format_version : str
        What wrote it.
    required_features : tuple of str
        What a reader must know to read it right.
    """

    index_uuid: UUID
    generation: int
    created_at: str
    saved_at: str
    counts: Mapping[str, int]
    files: Mapping[str, FileEntry]
    library_version: str = __version__
    format_version: str = ".".join(map(str, FORMAT_VERSION))
    required_features: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the text of ``manifest.json``.

        Raises
        ------
        StorageError
            It would be larger than a reader accepts.
        """
        content = {
            "format": FORMAT,
            "format_version": self.format_version,
            "min_reader_version": f"{FORMAT_VERSION[0]}.0",
            "required_features": list(self.required_features),
            "library": LIBRARY,
            "library_version": self.library_version,
            "created_at": self.created_at,
            "saved_at": self.saved_at,
            "index_uuid": str(self.index_uuid),
            "generation": self.generation,
            "counts": dict(self.counts),
            "block_bytes": BLOCK_BYTES,
            "files": {name: entry.to_json() for name, entry in self.files.items()},
            "files_included": sorted(self.files),
        }
        data = _laid_out({**content, "digest": digest_of(content)})
        if len(data) > MAX_MANIFEST_BYTES:
            raise StorageError(
                f"{MANIFEST} would have {len(data)} bytes, at most {MAX_MANIFEST_BYTES} can be read back"
            )
        return data


def _laid_out(content: Mapping[str, Any]) -> bytes:
    """Return JSON with one key a line and one file a line."""
    rows = []
    for key, value in content.items():
        text = strict_json.encode(value).decode()
        if key == "files":
            files = (f'  "{name}": {strict_json.encode(entry).decode()}' for name, entry in value.items())
            text = "{\n" + ",\n".join(files) + "\n }"
        rows.append(f' "{key}": {text}')
    return ("{\n" + ",\n".join(rows) + "\n}\n").encode()


def digest_of(content: Mapping[str, Any]) -> str:
    """Return the digest of a manifest's keys other than ``digest``; the rule is the same in every version."""
    rest = {key: value for key, value in content.items() if key != "digest"}
    return "sha256:" + hashlib.sha256(strict_json.canonical(rest)).hexdigest()


def read_manifest_bytes(directory: Path) -> bytes:
    """Return the bytes of a directory's manifest.

    Raises
    ------
    IndexNotFoundError
        There is no manifest.
    CorruptIndexError
        What stands there is not a regular file, or is larger than any manifest.
    StorageError
        It cannot be read.
    """
    path = directory / MANIFEST
    try:
        with fsio.FileReader(path) as file:
            if file.size > MAX_MANIFEST_BYTES:
                raise CorruptIndexError(
                    f"{path} has {file.size} bytes, a manifest at most {MAX_MANIFEST_BYTES}"
                )
            return file.read(0, file.size)
    except FileNotFoundError:
        raise IndexNotFoundError(
            f"{directory} holds no index (it has no {MANIFEST}); is the path right?"
        ) from None
    except fsio.NotRegularFileError as error:
        raise CorruptIndexError(f"{path} {error.strerror}") from None


def is_manifest_of_ours(data: bytes) -> bool:
    """Return whether `data` is a manifest of this library, of whatever version and in whatever state."""
    try:
        content = strict_json.parse(data)
    except strict_json.StrictJSONError:
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def parse_manifest(data: bytes, directory: Path) -> Manifest:
    """Check and return the manifest that `data` stands for.

    Raises
    ------
    IndexNotFoundError
        It is the manifest of something else.
    UnsupportedVersionError
        It was written in a format this version cannot read.
    CorruptIndexError
        It is damaged.
    """
    path = directory / MANIFEST
    try:
        content = strict_json.parse(data)
    except strict_json.StrictJSONError as error:
        raise CorruptIndexError(f"{path} {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise IndexNotFoundError(f"{path} is not the manifest of a {FORMAT} index")
    # Versions come first: a later format may have other keys, and its reader deserves a better word than
    # "damaged".
    _check_versions(content, path)
    try:
        if content["digest"] != digest_of(content):
            raise ValueError("its digest does not go with its content")
        return _manifest_of(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"it has no key {error}" if isinstance(error, KeyError) else str(error)
        raise CorruptIndexError(f"{path} is damaged: {reason}") from None


def _check_versions(content: Mapping[str, Any], path: Path) -> None:
    written = content.get("format_version")
    needed = content.get("min_reader_version")
    features = content.get("required_features")
    mine = ".".join(map(str, FORMAT_VERSION))
    versions = [_VERSION.fullmatch(text) if isinstance(text, str) else None for text in (written, needed)]
    if versions[0] is None or versions[1] is None or not isinstance(features, list):
        raise CorruptIndexError(f"{path} is damaged: it does not say which format version it has")
    saved_by = f"{content.get('library')} {content.get('library_version')}"
    way_out = f"it was saved by {saved_by}; upgrade with: pip install -U {LIBRARY}"
    needed_numbers = tuple(map(int, versions[1].groups()))
    if int(versions[0].group(1)) != FORMAT_VERSION[0] or needed_numbers > FORMAT_VERSION:
        raise UnsupportedVersionError(
            f"{path} has format version {written} and needs a reader of {needed} or later, "
            f"{LIBRARY} {__version__} reads format version {mine}; {way_out}"
        )
    unknown = [
        feature for feature in features if not isinstance(feature, str) or feature not in KNOWN_FEATURES
    ]
    if unknown:
        raise UnsupportedVersionError(
            f"{path} (format version {written}) requires {unknown[0]!r}, which {LIBRARY} {__version__} "
            f"(format version {mine}) does not know; {way_out}"
        )


def _integer(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"{what} is {value!r}, not a number")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} is {value!r}, not a string")
    return value


def _manifest_of(content: Mapping[str, Any]) -> Manifest:
    if content["block_bytes"] != BLOCK_BYTES:
        raise ValueError(f"block_bytes is {content['block_bytes']!r}, it must be {BLOCK_BYTES}")
    if sorted(content["files"]) != content["files_included"]:
        raise ValueError("files and files_included name different files")
    for required in (CONFIG, MAPPINGS):
        if required not in content["files"]:
            raise ValueError(f"{required} is missing from files")
    return Manifest(
        index_uuid=UUID(content["index_uuid"]),
        generation=_integer(content["generation"], "generation"),
        created_at=_text(content["created_at"], "created_at"),
        saved_at=_text(content["saved_at"], "saved_at"),
        counts={name: _integer(count, f"counts.{name}") for name, count in content["counts"].items()},
        # Files this version does not know are optional, or a required feature would have named them.
        files={name: _entry(entry, name) for name, entry in content["files"].items() if name in FILES},
        library_version=_text(content["library_version"], "library_version"),
        format_version=content["format_version"],
        required_features=tuple(content["required_features"]),
    )


def _entry(entry: Mapping[str, Any], name: str) -> FileEntry:
    size = _integer(entry["bytes"], f"files.{name}.bytes")
    crcs = entry["crc32"]
    if not isinstance(crcs, list) or len(crcs) != -(-size // BLOCK_BYTES):
        raise ValueError(f"files.{name}.crc32 does not have one CRC-32 per block of its {size} bytes")
    if not all(isinstance(crc, str) and re.fullmatch("[0-9a-f]{8}", crc) for crc in crcs):
        raise ValueError(f"files.{name}.crc32 holds something other than 8 hexadecimal digits")
    arrays = {}
    for array, spec in entry.get("arrays", {}).items():
        shape = tuple(_integer(dim, f"files.{name}.arrays.{array}.shape") for dim in spec["shape"])
        arrays[array] = (_text(spec["dtype"], f"files.{name}.arrays.{array}.dtype"), shape)
    return FileEntry(FileDigest(size, tuple(int(crc, 16) for crc in crcs)), arrays)
