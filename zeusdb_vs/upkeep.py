"""After removals and on demand: the graph mended, removed slots left out, the graph built anew."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np

from zeusdb_vs.errors import ConfigurationError
from zeusdb_vs.ids import Ids
from zeusdb_vs.linking import wants_graph
from zeusdb_vs.parts import descriptor
from zeusdb_vs.quantization_config import QuantizationConfig
from zeusdb_vs.training import Training

_COMPACT_SHARE = 0.25
_COMPACT_LEAST = 1024


class Unchanged:
    """Stands for an option that is not given where None is a value."""


UNCHANGED = Unchanged()


class Upkeep(Training):
    """How a collection is kept in shape."""

    def _after_removals(self) -> None:
        """Mend the graph around removed slots and let go of what they held."""
        if not self._unrepaired:
            return
        dead = np.concatenate(self._unrepaired)
        self._unrepaired = []
        removed = self.view.n - self._ids.live_count
        if removed >= max(_COMPACT_LEAST, _COMPACT_SHARE * self.view.n):
            self.compact()
            return
        if self._graph is not None:
            self._graph.repair(dead, self._ids.live, self._describe(), self._scratches)
        self._records.forget(dead.astype(np.int64))
        self._fields.forget(dead)
        self._publish(self.view.n)

    def compact(self) -> int:
        """Leave out removed slots; returns how many there were. The order of the records stays."""
        n = self.view.n
        slots = self.view.live_slots()
        removed = n - len(slots)
        if removed == 0:
            return 0
        live, graph, names = self._ids.live, self._graph, self._ids.names
        if graph is not None:
            if not wants_graph(2 * len(slots)) and not self._vectors.is_quantized:
                graph = None
            else:
                # Every link to a removed slot is replaced before the slots are numbered anew.
                everything = np.flatnonzero(~live[:n]).astype(np.int32)
                describe = (
                    self._scaffolded(graph, n, None) if self._vectors.wants_scaffold else self._describe
                )
                graph.repair(everything, live, describe(), self._scratches, thorough=True)
                graph = graph.selected(slots)
        ids = Ids.from_names([names[slot] for slot in slots.tolist()])
        vectors = self._vectors.selected(slots)
        if graph is None:
            vectors.set_codec(None)
        else:
            graph.connect(ids.live, descriptor(vectors, graph), self._scratches)
        records = self._records.take(slots)
        fields = self._fields.take(slots)
        # All is there before anything is replaced: an interruption leaves the index as it was.
        self._graph, self._ids, self._vectors = graph, ids, vectors
        self._records, self._fields = records, fields
        if graph is None:
            self.calibration, self._calibrated_at = None, 0
        self._unrepaired = []
        self.numbering += 1
        self._publish(len(slots))
        return removed

    def rebuild(
        self,
        *,
        m: int | None = None,
        ef_construction: int | None = None,
        expected_size: int | None = None,
        quantization: QuantizationConfig | Unchanged | None = UNCHANGED,
    ) -> int:
        """Build the graph anew, with other parameters where given; returns the records in it.

        Parameters
        ----------
        quantization : another quantizer, None for none, `UNCHANGED` for the one there is

        Raises
        ------
        ConfigurationError
            The vectors are to be quantized otherwise, and only codes of them are left.
        """
        config = replace(
            self.config,
            m=self.config.m if m is None else m,
            ef_construction=self.config.ef_construction if ef_construction is None else ef_construction,
            expected_size=self.config.expected_size if expected_size is None else expected_size,
        )
        if not isinstance(quantization, Unchanged):
            config = replace(config, quantization=quantization)
            if not self._vectors.keeps_originals and self.view.live_count:
                raise ConfigurationError(
                    "the vectors of this index were dropped when its quantizer was trained "
                    "(storage_mode='quantized_only'): what is left cannot be quantized in another way; make a new "
                    "index from the source"
                )
        self.compact()
        n = self.view.n
        if n == 0:
            self.config = config
            keeps = isinstance(quantization, Unchanged) and self._vectors.is_quantized
            self._start_empty(self._vectors.emptied() if keeps else None)
            self._publish(0)
            return 0
        before = self.config, copy(self._vectors), self._graph, self.calibration, self._calibrated_at
        try:
            self.config = config
            if not isinstance(quantization, Unchanged):
                self._vectors = self._vectors.unquantized()
            self._renew_scratches()
            if self._vectors.is_quantized:
                graph = self._new_graph()
                describe = lambda: descriptor(self._vectors, graph)  # noqa: E731
                if self._vectors.wants_scaffold:
                    describe = self._scaffolded(graph, n, None)
                graph.insert(n, self._ids.live, describe, self._scratches, lambda _: None)
                self._graph = graph
            elif wants_graph(n) or self._graph is not None:
                self._start_graph(lambda _: None)
            self._train_if_due()
        except BaseException:
            # The graph that is there goes on with the codes and the parameters that it was built with.
            self.config, self._vectors, self._graph, self.calibration, self._calibrated_at = before
            self._renew_scratches()
            self._publish(n)
            raise
        self._publish(n)
        return n

    def shrink_to_fit(self) -> int:
        """Give back what is held in reserve; returns the bytes."""
        before = sum(self.memory_bytes().values())
        self.compact()
        self._renew_scratches()
        self._publish(self.view.n)
        return max(0, before - sum(self.memory_bytes().values()))
