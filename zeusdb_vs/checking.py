"""Checking a directory from its bytes to what they mean, and mending what can be made again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.checks import check_bool
from zeusdb_vs.collection import Collection, trained_quantization
from zeusdb_vs.documents import EncodedRecord, decode_document
from zeusdb_vs.errors import CorruptIndexError, JournalDamagedError
from zeusdb_vs.fields import FieldIndexes
from zeusdb_vs.filters import Field
from zeusdb_vs.ids import Ids
from zeusdb_vs.inputs import RecordBatch
from zeusdb_vs.metrics import METRICS
from zeusdb_vs.parts import CollectionConfig
from zeusdb_vs.product import ProductCodec
from zeusdb_vs.readers import apply_journal, require_journal
from zeusdb_vs.records import Records
from zeusdb_vs.snapshots import IndexState, contents_of, read_config, read_index, take_snapshot
from zeusdb_vs.storage import (
    DirectoryLock,
    JournalReplay,
    Snapshot,
    check_directory,
    read_snapshot,
    read_with_journal,
    repair_directory,
    write_snapshot,
)
from zeusdb_vs.vectors import Vectors

VECTORS, GRAPH, FIELDS = "vectors.bin", "hnsw_index.hnsw.graph", "fields.bin"
_CODE_FILES = ("codes.bin", "pq_codes.bin", "pq_centroids.bin")
DERIVED = (GRAPH, FIELDS, *_CODE_FILES)
"""Files that can be made again from the vectors and documents; codes only where the vectors are kept beside them."""
_VALUES_COMPARED = 64
"""Values of a field whose records are looked up both ways."""
_ROUNDED_SHARE = 1e-3
"""Codes that may be one off, for processors round differently."""
_OTHER_CENTROIDS_SHARE = 0.1
"""Of the centroids of a row, those that may be others as near."""
_LEAST_REACHED = 0.999


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a check of a directory found.

    Attributes
    ----------
    path : str
    problems : list of str
        Damage, each with its file and the reason; empty when there is none.
    notes : list of str
        What is in order and worth knowing: an unfinished save, a torn journal tail.
    generation : int
        How often the index has been saved there.
    records : int or None
        Records, those of the journal among them; None when they cannot be read.
    journal_calls : int
        Changes since the last checkpoint.
    is_deep : bool
        Whether graph, codes and field indexes were compared with what they are made from.
    """

    path: str
    problems: list[str]
    notes: list[str]
    generation: int
    records: int | None
    journal_calls: int
    is_deep: bool = False

    @property
    def is_ok(self) -> bool:
        """Whether there is no damage."""
        return not self.problems


@dataclass(slots=True)
class RepairReport:
    """What a repair has done.

    Attributes
    ----------
    path : str
    actions : list of str
        What was done, in order; empty when nothing was to be done.
    records : int
        Records there are now.
    """

    path: str
    actions: list[str] = field(default_factory=list)
    records: int = 0


def verify(path: str | os.PathLike[str], deep: bool = False) -> VerifyReport:
    """Check an index on disk: digests, contents, journal; writes nothing and takes no lock.

    Parameters
    ----------
    path : str or path-like
        Directory of the index.
    deep : bool
        Also compare what is derived with what it is made from: links of the graph (twice, to themselves) and
        whether walks reach every record, codes with vectors, field indexes with documents. Takes about as
        long as reading everything a few times.

    Returns
    -------
    VerifyReport

    Raises
    ------
    IndexNotFoundError, UnsupportedVersionError, CorruptIndexError
        There is no manifest that could be checked against.
    StorageError
        The system reported an error.
    """
    check_bool(deep, "deep")
    report = check_directory(path)
    problems, notes = list(report.problems), list(report.notes)
    records = None
    if not problems:
        try:
            snapshot, replay = read_with_journal(path, mmap=True)
            with replay:
                require_journal(snapshot, replay)
                collection, state = read_index(path, snapshot, Collection, mapped=True, trusted=False)
                problems += _unreadable_documents(snapshot)
                if deep and not problems:
                    problems += _graph_problems(snapshot, notes)
                    problems += _code_problems(snapshot, collection.config)
                    problems += _field_problems(snapshot)
                apply_journal(replay, collection, state)
                records = len(collection.view.live_slots())
        except CorruptIndexError as error:
            problems.append(str(error))
    return VerifyReport(
        os.fspath(path), problems, notes, report.manifest.generation, records, report.journal_calls, deep
    )


def _unreadable_documents(snapshot: Snapshot) -> Iterator[str]:
    """Yield what is wrong with metadata, text and payload: of each file the first entry that is damaged."""
    try:
        Records.from_state(_columns(snapshot), _count(snapshot))
    except CorruptIndexError as error:
        yield str(error)


def _columns(snapshot: Snapshot) -> dict[str, Sequence[str | None]]:
    names = {"metadata": "metadata.json", "text": "texts.json", "payload": "payloads.json"}
    files = contents_of(snapshot)
    return {column: files[name] for column, name in names.items() if files.get(name) is not None}


def _count(snapshot: Snapshot) -> int:
    return len(contents_of(snapshot)["mappings.bin"]["id_offsets"]) - 1


def _graph_problems(snapshot: Snapshot, notes: list[str]) -> Iterator[str]:
    graph = contents_of(snapshot)[GRAPH]
    if "calibrated_at" not in graph:
        return
    links: NDArray[np.int32] = graph["links"]
    n = len(links)
    for name in ("links", "upper"):
        rows = np.sort(graph[name], axis=1)
        twice = ((rows[:, 1:] == rows[:, :-1]) & (rows[:, 1:] >= 0)).any(axis=1)
        if twice.any():
            yield f"{GRAPH}: {name} of row {int(np.flatnonzero(twice)[0])} hold a neighbor twice"
    itself = (links == np.arange(n, dtype=np.int32)[:, np.newaxis]).any(axis=1)
    if itself.any():
        yield f"{GRAPH}: slot {int(np.flatnonzero(itself)[0])} is linked to itself"
    reached = _reachable(links, int(graph["entry_point"]))
    if reached < _LEAST_REACHED * n:
        yield f"{GRAPH}: walks reach only {reached:,} of {n:,} records"
    elif reached < n:
        notes.append(f"{n - reached:,} of {n:,} records are reached only by exact search")


def _reachable(links: NDArray[np.int32], entry: int) -> int:
    seen = np.zeros(len(links), np.bool_)
    frontier = np.array([entry])[: len(links)]  # an empty graph has no entry point
    while len(frontier):
        seen[frontier] = True
        found = links[frontier].ravel()
        frontier = np.unique(found[found >= 0])
        frontier = frontier[~seen[frontier]]
    return int(seen.sum())


def _code_problems(snapshot: Snapshot, config: CollectionConfig) -> Iterator[str]:
    files = contents_of(snapshot)
    if VECTORS not in files:
        return  # of dropped vectors nothing can be coded again
    vectors = Vectors.from_state(
        files, config.dim, METRICS[config.space], quantization=trained_quantization(files, config)
    )
    vectors.set_codec(vectors.codec)
    if vectors.codes is None:
        return
    vectors.encode()
    name = "pq_codes.bin" if isinstance(vectors.codec, ProductCodec) else "codes.bin"
    stored: NDArray[np.uint8] = files[name]["codes"]
    for start, fresh in vectors.codes.spans(0, len(stored)):
        kept = stored[start : start + len(fresh)]
        if isinstance(vectors.codec, ProductCodec):
            # The nearest of two centroids as near may be the other one, and the factors differ then.
            apart = (fresh != kept)[:, vectors.codec.head_bytes :]
            far = apart.mean(axis=1) > _OTHER_CENTROIDS_SHARE
            share = float(apart.mean())
        else:
            pairs: list[tuple[NDArray[Any], NDArray[Any]]] = [(fresh, kept)]
            if vectors.codec is not None and vectors.codec.bits == 4:
                pairs = [(fresh & 15, kept & 15), (fresh >> 4, kept >> 4)]
            steps = [np.abs(a.astype(np.int16) - b.astype(np.int16)) for a, b in pairs]
            far = np.any([(part > 1).any(axis=1) for part in steps], axis=0)
            share = max(float((part > 0).mean()) for part in steps)
        if far.any() or share > _ROUNDED_SHARE:
            at = int(np.flatnonzero(far)[0]) if far.any() else 0
            yield f"{name}: codes near slot {start + at} are not those of its vector"
            return


def _field_problems(snapshot: Snapshot) -> Iterator[str]:
    columns, n = _columns(snapshot), _count(snapshot)
    stored = FieldIndexes.from_state(dict(contents_of(snapshot)[FIELDS]), n).view()
    indexes = FieldIndexes()
    metadata, payloads = (columns.get(name, [None] * n) for name in ("metadata", "payload"))
    documents = [
        (None if a is None else decode_document(a), None if b is None else decode_document(b))
        for a, b in zip(metadata, payloads, strict=True)
    ]
    indexes.append(0, documents, n)
    fresh = indexes.view()
    if stored.fields(n) != fresh.fields(n):
        yield f"{FIELDS}: its fields are not those of the documents"
        return
    for summary in fresh.fields(n):
        values = fresh.distinct(summary.name, n, source=summary.source)
        if values != stored.distinct(summary.name, n, source=summary.source):
            yield f"{FIELDS}: the values of {summary.name!r} are not those of the documents"
            continue
        for value, _ in values[:_VALUES_COMPARED]:
            tree = Field(summary.name, source=summary.source) == value
            if not np.array_equal(stored.evaluate(tree, n), fresh.evaluate(tree, n)):
                yield f"{FIELDS}: the records with {summary.name} = {value!r} are not those of the documents"
                break


def repair(path: str | os.PathLike[str], *, lock_timeout_s: float = 10.0) -> RepairReport:
    """Mend what can be mended in a directory that is damaged or was left unfinished.

    An unfinished save is finished, leftovers are removed. A journal is cut where it is torn or damaged, which
    **drops the changes behind that point**. Graph, codes and field indexes that are damaged are made again from
    the vectors and documents. Those themselves, and ids, cannot be made again.

    Parameters
    ----------
    path : str or path-like
        Directory of the index.
    lock_timeout_s : float
        How long to wait for a writer to close, in seconds.

    Returns
    -------
    RepairReport

    Raises
    ------
    IndexLockedError
        Someone is writing.
    CorruptIndexError
        Something is damaged that cannot be made again; restore the directory from a copy.
    StorageError
        As for `verify`.
    """
    report = RepairReport(os.fspath(path))
    report.actions += repair_directory(path, lock_timeout_s=lock_timeout_s)
    snapshot, replay = read_with_journal(path, rebuildable=DERIVED)
    with replay, DirectoryLock(replay.directory) as lock:
        lock.acquire(lock_timeout_s)
        before = read_snapshot(path, mmap=True, verify=False, rebuildable=DERIVED).manifest
        if snapshot.manifest is None or before is None or before.generation != snapshot.manifest.generation:
            raise JournalDamagedError(f"{report.path} was written to while it was repaired; repair it again")
        damaged = list(snapshot.damaged)
        if VECTORS not in snapshot.files and (codes := [name for name in damaged if name in _CODE_FILES]):
            raise CorruptIndexError(
                f"{report.path}: {snapshot.damaged[codes[0]]}: this is all that is kept of the vectors, which "
                "cannot be made again; restore the directory from a copy"
            )
        if not damaged:
            try:
                collection, state = read_index(path, snapshot, Collection, mapped=False, trusted=False)
            except CorruptIndexError:
                damaged = [name for name in DERIVED if name in snapshot.files]
        if damaged:
            collection, state = _made_again(snapshot)
            apply_journal(replay, collection, state)
            write_snapshot(
                path,
                take_snapshot(collection, state),
                lock=lock,
                expected_generation=snapshot.manifest.generation,
            )
            report.actions.append(
                f"made {', '.join(damaged)} again from the vectors and documents, and saved"
            )
        else:
            apply_journal(replay, collection, state)
            if _lacks_journal(snapshot, replay):
                write_snapshot(path, take_snapshot(collection, state), lock=lock)
                report.actions.append("the journal is missing: saved without the changes that were in it")
        report.records = collection.view.live_count
    return report


def _lacks_journal(snapshot: Snapshot, replay: JournalReplay) -> bool:
    try:
        require_journal(snapshot, replay)
    except JournalDamagedError:
        return True
    return False


def _made_again(snapshot: Snapshot) -> tuple[Collection, IndexState]:
    """Return an index built from ids, documents and vectors alone, or codes where the vectors were dropped."""
    config, state = read_config(snapshot)
    files: Mapping[str, Any] = contents_of(snapshot)
    metric = METRICS[config.space]
    collection = Collection(config)
    ids = Ids.from_state(files["mappings.bin"]).names
    quantization = trained_quantization(files, config)
    if VECTORS in files:
        # Checks every vector.
        vectors = Vectors.from_state({VECTORS: files[VECTORS]}, config.dim, metric)
        batch = RecordBatch(ids, files[VECTORS]["vectors"])
        if quantization is not None:
            # Where it is whole the quantizer goes on; else another is trained, if there are enough records.
            with suppress(CorruptIndexError):
                collection.take_quantizer(
                    Vectors.from_state(files, config.dim, metric, quantization=quantization)
                )
    else:
        vectors = Vectors.from_state(files, config.dim, metric, quantization=quantization)
        collection.take_quantizer(vectors)
        nothing = np.empty((0, config.dim), np.float32)
        batch = RecordBatch(ids, nothing, coded=vectors.coded_rows(0, vectors.count))
    if len(ids) != vectors.count:
        raise CorruptIndexError(f"mappings.bin has {len(ids)} ids, for {vectors.count} vectors")
    columns = _columns(snapshot)
    if columns:
        records = Records.from_state(columns, len(ids)).view()
        documents: list[EncodedRecord] = [records.encoded(slot) for slot in range(len(ids))]
        decoded = [(records.metadata(slot) or None, records.payload(slot)) for slot in range(len(ids))]
        batch = replace(batch, documents=documents, decoded=decoded)
    collection.add(batch)
    return collection, state
