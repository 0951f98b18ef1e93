"""One whole of all parts: writes keep them in step, and publish the record that readers take.

The caller lets one writer in at a time. A reader takes `collection.view` once and needs no lock: what a view shows is
never changed, only followed by another view.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.arrays import checked_number
from zeusdb_vs.errors import CorruptIndexError
from zeusdb_vs.fields import FieldIndexes
from zeusdb_vs.graph import HNSWGraph
from zeusdb_vs.ids import Ids
from zeusdb_vs.inputs import RecordBatch
from zeusdb_vs.linking import wants_graph
from zeusdb_vs.parts import CollectionConfig
from zeusdb_vs.quantization_config import QuantizationConfig
from zeusdb_vs.records import Records
from zeusdb_vs.upkeep import Upkeep
from zeusdb_vs.vectors import Vectors

IS_TRAINED = "is_trained"

Document = tuple[dict[str, Any] | None, dict[str, Any] | None]


class Collection(Upkeep):
    """Records of one vector space.

    Parameters
    ----------
    config : what it is created with

    Attributes
    ----------
    view : what readers take
    calibration : how the codes in use were chosen; None while there are none
    numbering : grows whenever slots are numbered anew
    training_seconds : how long training took; None where it was not here
    """

    # ------------------------------------------------------------------------------------------ writes

    def add(self, batch: RecordBatch, *, progress: Callable[[int], None] | None = None) -> None:
        """Store records, replacing those with the same ids; wholly or, if it is interrupted, not at all.

        Parameters
        ----------
        batch : checked records, ids unique inside it
        progress : called with the records searchable so far
        """
        first = self.view.n
        count = len(batch)
        if count == 0:
            return
        claimed = first
        replaced: list[NDArray[np.int32]] = []

        def published(stop: int) -> None:
            nonlocal claimed
            if stop > claimed:
                replaced.append(self._ids.claim(claimed, stop))
                claimed = stop
            self._publish(claimed)
            if progress is not None:
                progress(claimed - first)

        try:
            self._append(batch)
            self._link(first + count, published, batch.vectors if batch.coded is None else None)
            self._train_if_due()
        except BaseException:
            self._withdraw(first, claimed)
            raise
        self._unrepaired.extend(part for part in replaced if len(part))
        self._after_removals()

    def _append(self, batch: RecordBatch) -> None:
        """Write the records to the slots behind the last, where nobody looks yet."""
        count = len(batch)
        if batch.coded is None:
            first = self._vectors.append(batch.vectors)
        else:
            first = self._vectors.append_coded(batch.coded)
        self._ids.append(batch.ids)
        if batch.documents is None:
            self._records.append_empty(count)
        else:
            self._records.append(batch.documents)
        self._fields.append(first, batch.decoded, count)

    def _withdraw(self, first: int, claimed: int) -> None:
        """Undo an add that failed: its slots are burned, what it replaced lives again."""
        stop = self._vectors.count
        missing = stop - len(self._ids.names)
        if missing > 0:
            self._ids.append([""] * missing)
        if len(self._records) < stop:
            self._records.append_empty(stop - len(self._records))
        self._ids.withdraw(first, stop)
        dead = np.arange(first, stop, dtype=np.int32)
        self._records.forget(dead.astype(np.int64))
        self._fields.forget(dead[dead < len(self._fields)])
        if self._graph is not None:
            self._vectors.encode()
            self._graph.skip(stop)
            self._unrepaired.append(dead[: max(0, claimed - first)])
        self._publish(stop)

    def remove(self, slots: NDArray[np.integer]) -> None:
        """Remove the records of live slots, each named once."""
        dead = np.asarray(slots, np.int32)
        if len(dead) == 0:
            return
        self._ids.remove(dead)
        self._publish(self.view.n)
        self._unrepaired.append(dead)
        self._after_removals()

    def update(
        self,
        slots: NDArray[np.integer],
        *,
        metadata: Sequence[str | None] | None = None,
        text: Sequence[str | None] | None = None,
        payload: Sequence[str | None] | None = None,
        new: Sequence[Document] = (),
    ) -> None:
        """Replace what is stored beside the vectors of some live slots; what is not given stays.

        Parameters
        ----------
        metadata, text, payload : encoded, parallel to `slots`
        new : decoded (metadata, payload) as they are afterwards, parallel to `slots`, for the field indexes
        """
        positions = np.asarray(slots, np.int64)
        self._records.update(positions, metadata=metadata, text=text, payload=payload)
        if len(new):
            self._fields.update(positions, None, new)
        self._publish(self.view.n)

    def clear(self) -> int:
        """Remove all records; returns how many there were."""
        count = self.view.live_count
        self.numbering += 1
        self._start_empty(self._vectors.emptied() if self._vectors.is_quantized else None)
        self._publish(0)
        return count

    def take_quantizer(self, vectors: Vectors) -> None:
        """Go on, while empty, with the quantizer that others were coded with."""
        self._start_empty(vectors.emptied())
        self._publish(0)

    def adopt_originals(self, rows: NDArray[np.float32]) -> None:
        """Take the originals of the first slots from an equal array that is mapped; see `Vectors.adopt_originals`."""
        vectors = copy(self._vectors)
        vectors.adopt_originals(rows)
        self._vectors = vectors
        self._publish(self.view.n)

    # ------------------------------------------------------------------------------------------ state

    def state(self) -> dict[str, Any]:
        """Return the whole, by file name: named arrays for binary files, JSON texts for the others.

        Removed slots are compacted away first, so that nothing of them is saved.
        """
        self.compact()
        vectors = self._vectors.state()
        n = self.view.n
        graph = self._graph or self._new_graph()
        files: dict[str, Any] = {
            **vectors,
            "mappings.bin": self._ids.state(),
            "hnsw_index.hnsw.graph": graph.state(),
            "fields.bin": self._fields.state(),
        }
        if not files["fields.bin"]["data"]:
            files["fields.bin"]["data"] = np.empty(0, np.uint8)
        if self.config.quantization is not None:
            is_trained = self._vectors.is_quantized
            files["quantization.json"] = {**self.config.quantization.to_json(), IS_TRAINED: is_trained}
        if self._graph is not None:
            files["hnsw_index.hnsw.graph"]["calibrated_at"] = self._calibrated_at
        records = self._records.lines()
        files["metadata.json"] = records.get("metadata", [None] * n)
        for column, name in (("text", "texts.json"), ("payload", "payloads.json")):
            if column in records:
                files[name] = records[column]
        return files

    @classmethod
    def from_state(
        cls, files: Mapping[str, Any], config: CollectionConfig, *, lazy: bool = False, trusted: bool = False
    ) -> Collection:
        """Return the collection that `files` describe, every part checked by itself and against the others.

        Parameters
        ----------
        files : as `state` returns them; arrays may be memory maps, which stay where they are
        lazy : whether metadata, text and payload stay in the sequences given, to be read when asked for
        trusted : whether to leave unchecked what would take reading all vectors

        Raises
        ------
        CorruptIndexError
            A part is missing, damaged, or does not fit the others.
        """
        for name in ("mappings.bin", "hnsw_index.hnsw.graph", "metadata.json", "fields.bin"):
            if name not in files:
                raise CorruptIndexError(f"{name} is missing")
        collection = cls(config)
        vectors = Vectors.from_state(
            files,
            config.dim,
            collection.metric,
            quantization=trained_quantization(files, config),
            trusted=trusted,
        )
        n = vectors.count
        ids = Ids.from_state(files["mappings.bin"])
        if len(ids.names) != n:
            raise CorruptIndexError(f"mappings.bin has {len(ids.names)} ids, for {n} vectors")
        graph_state = files["hnsw_index.hnsw.graph"]
        if "calibrated_at" in graph_state:
            graph = HNSWGraph.from_state(
                graph_state, n, config.m, config.ef_construction, config.seed, vectors.shift
            )
            collection._graph = graph
            collection._calibrated_at = int(
                checked_number(graph_state, "hnsw_index.hnsw.graph", "calibrated_at", 0, 1 << 31)
            )
        elif wants_graph(n) or vectors.is_coded:
            raise CorruptIndexError(f"hnsw_index.hnsw.graph holds no graph of the {n} vectors")
        columns = {"metadata": "metadata.json", "text": "texts.json", "payload": "payloads.json"}
        lines = {column: files[name] for column, name in columns.items() if files.get(name) is not None}
        collection._vectors, collection._ids = vectors, ids
        collection._records = Records.from_state(lines, n, lazy=lazy)
        collection._fields = FieldIndexes.from_state(files["fields.bin"], n)
        collection._renew_scratches()
        collection._publish(n)
        return collection


def trained_quantization(files: Mapping[str, Any], config: CollectionConfig) -> QuantizationConfig | None:
    """Return how the vectors of a saved index are quantized; None where no quantizer was trained."""
    if config.quantization is None:
        return None
    is_trained = files["quantization.json"].get(IS_TRAINED)
    if type(is_trained) is not bool:
        raise CorruptIndexError(f"quantization.json: {IS_TRAINED} is {is_trained!r}, must be true or false")
    return config.quantization if is_trained else None
