"""A snapshot: one moment of an index, as the engine hands it to storage and gets it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from zeusdb_vs.storage import strict_json
from zeusdb_vs.storage.binary import BinaryFile
from zeusdb_vs.storage.blocks import CheckedReader, FileMismatchError
from zeusdb_vs.storage.directory import corrupt, storage_errors
from zeusdb_vs.storage.lines import LinesFile
from zeusdb_vs.storage.manifest import Manifest

# Arrays of mappings.bin that storage itself reads, to pair records with their lines.
ID_BYTES = "id_bytes"
ID_OFFSETS = "id_offsets"

MAX_JSON_BYTES = 64 * 1024 * 1024
# Index metadata of the user's stands a few levels down in config.json and may itself be 32 deep.
MAX_JSON_DEPTH = strict_json.MAX_DEPTH + 8


@dataclass(frozen=True, slots=True)
class JsonFile:
    """A file that is one JSON object of at most 64 MiB and 40 levels."""

    value: Mapping[str, Any]


FileContent = BinaryFile | LinesFile | JsonFile


@dataclass(slots=True)
class Snapshot:
    """One moment of an index, as it is written and read.

    Attributes
    ----------
    config : dict
        What ``config.json`` holds: JSON values, at most 64 MiB and 40 levels.
    files : dict of str to BinaryFile, LinesFile or JsonFile
        By file name; the names and the kind of each are those of `FILES`. ``mappings.bin`` is required and
        has the arrays ``id_bytes`` (uint8: UTF-8 of the live ids, in slot order) and ``id_offsets``
        (integers, one more than ids).
    counts : dict of str to int
        Figures that the manifest shows.
    index_uuid : UUID
        Names the index.
    created_at : str or None
        ISO 8601, UTC; None means at this save. Set after reading.
    manifest : Manifest or None
        After reading: the manifest it came from.
    damaged : dict of str to str
        After reading with `rebuildable`: files that could not be read and are not in `files`, and why.
    """

    config: dict[str, Any]
    files: dict[str, FileContent]
    counts: dict[str, int] = field(default_factory=dict)
    index_uuid: UUID = field(default_factory=uuid4)
    created_at: str | None = None
    manifest: Manifest | None = None
    damaged: dict[str, str] = field(default_factory=dict)
    _unverified: list[CheckedReader] = field(default_factory=list, repr=False)

    def verify(self) -> None:
        """Stream the files that `read_snapshot(mmap=True, verify=False)` only mapped past their digests.

        Raises
        ------
        CorruptIndexError
            A file is not what was saved.
        """
        while self._unverified:
            with self._unverified[-1] as reader:
                try:
                    with storage_errors("reading", reader.file.path):
                        reader.finish()
                except FileMismatchError as error:
                    raise corrupt(reader.file.path, str(error)) from None
            self._unverified.pop()
