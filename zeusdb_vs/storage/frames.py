"""The journal: what has changed since the snapshot, call by call, so that restarting costs what changed.

A journal is a header and frames. Each frame holds one opaque record and a CRC-32 chained over the frame
before it, so that a frame lost, repeated or moved shows at the next one. A commit frame ends each call:
after a crash a call is there wholly or not at all.

Pages that were not forced to disk may reach it in any order, so after a power loss good frames can follow
bad ones and mean nothing. What tells an ordinary torn tail from damage are the commit frames: each one says
up to where the journal was known to be on disk when it was written, under a CRC-32 of its own that needs no
chain. A call that is unreadable below the highest such point was acknowledged as durable and is damage;
above it is a tail to be dropped.

Layout, all little-endian (docs/format.md has the tables)::

    header   64 bytes   magic, version, generation, index uuid, first sequence number, crc
    frame    32 bytes   mark, chained crc, kind, length, sequence number;
                        then the payload, padded to 8 bytes
    commit              a frame of kind 0 with the payload: its own offset, the offset known to be on disk,
                        the first sequence number of the call, crc
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from uuid import UUID

HEADER_BYTES = 64
MAX_PAYLOAD_BYTES = 1 << 30

MAGIC = b"ZVSJNL\r\n"
VERSION = 1
HEADER = struct.Struct("<8sH6xQ16sQ12xI")
MARK = b"ZVSF"
# mark, chained crc | kind, length, sequence number: the chained CRC covers what stands behind the bar and the
# payload.
FRAME = struct.Struct("<4sIB7xQQ")
COMMIT_KIND = 0
# own offset, offset known to be on disk, first sequence number of the call, crc, zero
COMMIT = struct.Struct("<QQQII")
COMMIT_BYTES = FRAME.size + COMMIT.size


def journal_path(directory: Path, generation: int) -> Path:
    """Return where the changes since `generation` stand."""
    return directory / f"journal-{generation}.log"


def padding(length: int) -> int:
    """Return how many bytes follow a payload, so that the next frame begins at a multiple of 8."""
    return -length % 8


def header_bytes(generation: int, index_uuid: UUID, first_sequence: int) -> bytes:
    """Return the header of a journal."""
    head = HEADER.pack(MAGIC, VERSION, generation, index_uuid.bytes, first_sequence, 0)
    return head[:-4] + zlib.crc32(head[:-4]).to_bytes(4, "little")


def commit_seed(generation: int, index_uuid: UUID) -> int:
    """Start of the CRC of commit frames: one of another journal, or one in a user's data, must not pass."""
    return zlib.crc32(index_uuid.bytes + generation.to_bytes(8, "little"))


def read_commit(frame: memoryview, position: int, seed: int) -> tuple[int, int] | None:
    """Return (offset known to be on disk, first sequence number of the call) of a whole commit frame."""
    if len(frame) < COMMIT_BYTES:
        return None
    mark, _, kind, length, _ = FRAME.unpack(frame[: FRAME.size])
    own_offset, known, first_sequence, crc, _ = COMMIT.unpack(frame[FRAME.size :])
    if (
        mark != MARK
        or kind != COMMIT_KIND
        or length != COMMIT.size
        or own_offset != position
        or known > position
    ):
        return None
    if crc != zlib.crc32(frame[8 : FRAME.size + 24], seed):
        return None
    return known, first_sequence
