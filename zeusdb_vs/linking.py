"""New slots into the graph, in codes chosen by measuring: when there is a graph, and when codes are chosen anew."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.graph import HNSWGraph
from zeusdb_vs.parts import Parts, descriptor

logger = logging.getLogger("zeusdb_vs")

SMALLEST_GRAPH = 4096
"""Below this many slots every search is an exact scan: no graph, no codes, nothing to compile."""
_RECALIBRATION_GROWTH = 3
"""Codes are chosen again when the index has grown by this many times what it was when they were chosen."""
_MISFITS_LEAST, _MISFITS_SHARE = 64, 0.01
"""And when more slots than these, beyond the usual, have values far outside the range of the codes."""
_SCAFFOLD_SHARE = 200
"""Adds of more than one in so many slots are worth coding all anew for the time they are linked."""


def wants_graph(count: int) -> bool:
    """Return whether an index of so many slots is searched by a graph."""
    return count >= SMALLEST_GRAPH


class Linking(Parts):
    """How slots come into the graph of a collection."""

    def _link(
        self, stop: int, published: Callable[[int], None], rows: NDArray[np.float32] | None = None
    ) -> None:
        """Bring slots up to `stop` into the graph, which is made once there are enough for one.

        Parameters
        ----------
        rows : the vectors of the new slots, where they are at hand
        """
        if self._graph is None and not wants_graph(stop):
            published(stop)
            return
        if self._vectors.is_quantized:
            self._link_quantized(stop, published, rows)
            return
        if self._graph is None:
            self._start_graph(published)
        else:
            self._misfits += self._vectors.encode()
            # Codes serve the data they were chosen for: a larger index, or vectors of another kind, need others.
            added = stop - self._calibrated_at
            usual = self._vectors.misfits * added // max(1, self._calibrated_at)
            if added > _RECALIBRATION_GROWTH * self._calibrated_at or (
                self._misfits > max(_MISFITS_LEAST, _MISFITS_SHARE * stop) + 2 * usual
            ):
                self._calibrate()
        assert self._graph is not None
        self._graph.insert(stop, self._ids.live, self._describe, self._scratches, published)

    def _link_quantized(
        self, stop: int, published: Callable[[int], None], rows: NDArray[np.float32] | None
    ) -> None:
        graph, first = self._graph, self.view.n
        assert graph is not None
        self._vectors.encode()
        describe = self._describe
        if self._vectors.wants_scaffold and (stop - first) * _SCAFFOLD_SHARE > stop:
            describe = self._scaffolded(graph, first, rows)
        graph.insert(stop, self._ids.live, describe, self._scratches, published)

    def _scaffolded(
        self, graph: HNSWGraph, first: int, rows: NDArray[np.float32] | None
    ) -> Callable[[], NDArray[np.int64]]:
        """Return what describes a graph over the vectors in codes that are quick to compare with one another."""
        scaffold = self._vectors.scaffold(first, rows)
        return lambda: descriptor(scaffold, graph)

    def _start_graph(self, published: Callable[[int], None]) -> None:
        """Make the graph of an index that was scanned so far; searches go on scanning until it is whole."""
        self._calibrate()
        graph = self._new_graph()
        scanned = self.view.n

        def describe() -> NDArray[np.int64]:
            return descriptor(self._vectors, graph)

        if scanned:
            graph.insert(scanned, self._ids.live, describe, self._scratches, lambda _: None)
        self._graph = graph
        if scanned:
            published(scanned)

    def _calibrate(self) -> None:
        started = time.perf_counter()
        self.calibration = self._vectors.calibrate(self._ids.live)
        self._calibrated_at = self._vectors.count
        self._misfits = 0
        logger.debug("codes chosen in %.2f s: %s", time.perf_counter() - started, self.calibration)
