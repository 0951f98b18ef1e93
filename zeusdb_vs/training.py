"""Training of a quantizer once there are enough records, while searches go on as before."""

from __future__ import annotations

import logging
import time
from copy import copy

from zeusdb_vs.linking import Linking
from zeusdb_vs.quantization_config import QuantizationConfig
from zeusdb_vs.vectors import Vectors

logger = logging.getLogger("zeusdb_vs")

_TRAINING_REPORTS = 4
_LEAST_KEPT = 0.3
"""Share of true neighbors below which codes that are all there is tell next to nothing apart."""


class Training(Linking):
    """How a collection comes to codes of a trained quantizer."""

    def _train_if_due(self) -> None:
        """Train the quantizer once there are enough records; searches go on as before until it is in place."""
        config = self.config.quantization
        if config is None or self._vectors.is_quantized or self._ids.live_count < config.training_size:
            return
        self._train(config)

    def _train(self, config: QuantizationConfig) -> None:
        started = time.perf_counter()
        count = self._ids.live_count

        def report(done: int, parts: int) -> None:
            if done * _TRAINING_REPORTS // parts == (done - 1) * _TRAINING_REPORTS // parts:
                return
            logger.info("training %s: %d of %d parts", config.type, done, parts)

        before = self._graph, copy(self._vectors), self.calibration, self._calibrated_at, self._misfits
        try:
            logger.info("training %s on %d records", config.type, min(count, config.max_training_vectors))
            if self._graph is None:
                self._start_graph(lambda _: None)
            vectors = self._vectors.quantized(config, self._ids.live, self.config.seed, report)
            self._put_in_place(vectors)
            seconds = time.perf_counter() - started
            logger.info("trained %s in %.1f s: %s", config.type, seconds, vectors.code_name)
            if not config.keeps_originals and vectors.kept is not None and vectors.kept < _LEAST_KEPT:
                logger.warning(
                    "the codes of %s keep only %.0f %% of the true neighbors of this index's own vectors, which are "
                    "dropped: take more subvectors, type 'int8' or storage_mode 'quantized_with_raw', and scale values "
                    "whose squares are beyond float32",
                    vectors.code_name,
                    100 * vectors.kept,
                )
        except BaseException:
            # Nothing is lost yet: the caller undoes what brought the training about.
            self._graph, self._vectors, self.calibration, self._calibrated_at, self._misfits = before
            self._renew_scratches()
            raise
        self.training_seconds = seconds

    def _put_in_place(self, vectors: Vectors) -> None:
        """Go on with other codes of the same vectors; what readers hold stays as it is."""
        self._vectors = vectors
        self.calibration = None
        self._calibrated_at = vectors.count
        self._misfits = 0
        self._renew_scratches()
        self._publish(self.view.n)
