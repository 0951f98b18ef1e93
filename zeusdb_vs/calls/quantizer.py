"""What an index says of its quantizer: the options, how far it is from training, what it came to."""

from __future__ import annotations

from typing import Any

from zeusdb_vs.calls.handle import Handle
from zeusdb_vs.quantization_config import QuantizationConfig
from zeusdb_vs.reports import quantization_info, storage_state, training_needed, training_progress


class QuantizerCalls(Handle):
    """The calls of `HNSWIndex` that tell of its quantizer."""

    __slots__ = ()

    @property
    def quantization(self) -> QuantizationConfig | None:
        """How vectors are quantized once there are enough of them; None: not at all."""
        return self._collection.config.quantization

    def has_quantization(self) -> bool:
        """Return whether vectors are quantized, now or once there are enough of them."""
        return self.quantization is not None

    def is_quantized(self) -> bool:
        """Return whether the quantizer is trained and searches use its codes."""
        return self._collection.is_quantized

    def can_use_quantization(self) -> bool:
        """Return whether the quantizer is trained; the same as `is_quantized`."""
        return self.is_quantized()

    def is_training_ready(self) -> bool:
        """Return whether enough vectors are there, or were, to train the quantizer."""
        return self.has_quantization() and self.training_vectors_needed() == 0

    def training_vectors_needed(self) -> int:
        """Return how many more vectors training needs; 0 without quantization."""
        return training_needed(self._collection)

    def get_training_progress(self) -> float:
        """Return how much of what training needs is there, 0..100; 0 without quantization."""
        return training_progress(self._collection)

    def get_storage_mode(self) -> str:
        """Return how vectors are kept now.

        Returns
        -------
        str
            ``"raw_only"``, ``"raw_collecting_for_training"`` or ``"quantized_active"``.
        """
        return storage_state(self._collection)

    def get_quantization_info(self) -> dict[str, Any] | None:
        """Return the quantizer's options and figures, None without one.

        Returns
        -------
        dict or None
            The options of `VectorDatabase.create`, ``is_trained``, ``compression_ratio`` (float32 over code),
            ``code_bytes`` of a record, ``memory_mb`` of the quantizer itself, ``total_centroids`` of "pq", and once
            trained ``codes``, ``rerank`` (candidates reranked for 10 hits), ``kept_neighbors`` (the share of true
            neighbors that these kept when it was trained) and ``training_seconds``, both None after a load.
        """
        return quantization_info(self._collection)
