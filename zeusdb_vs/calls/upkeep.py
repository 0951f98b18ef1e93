"""The graph and the memory of an index: compacted, built anew, trimmed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zeusdb_vs.calls.handle import Handle
from zeusdb_vs.checks import check_build_options
from zeusdb_vs.errors import ConfigurationError
from zeusdb_vs.quantization_config import QuantizationConfig, read_quantization
from zeusdb_vs.upkeep import UNCHANGED, Unchanged


class UpkeepCalls(Handle):
    """The calls of `HNSWIndex` that build it anew."""

    __slots__ = ()

    def compact(self) -> int:
        """Rebuild without the places of removed records; return how many were reclaimed."""
        with self._writing():
            return self._collection.compact()

    def rebuild(
        self,
        *,
        m: int | None = None,
        ef_construction: int | None = None,
        expected_size: int | None = None,
        quantization_config: Mapping[str, Any] | Unchanged | None = UNCHANGED,
    ) -> int:
        """Build the graph anew with other parameters; return how many records it holds.

        Parameters
        ----------
        m, ef_construction, expected_size : int, optional
            As for `VectorDatabase.create`; what is not given stays.
        quantization_config : dict or None, optional
            Quantize the vectors in this way from now on, once there are enough of them, or, with None, no more.
            Not given, the present way stays.

        Raises
        ------
        ConfigurationError
            No parameter is given, or one is out of range; or the vectors, to be quantized otherwise, were
            dropped when they were quantized.
        """
        is_given = not (m is None and ef_construction is None and expected_size is None)
        if not is_given and isinstance(quantization_config, Unchanged):
            raise ConfigurationError(
                "rebuild changes m, ef_construction, expected_size or quantization_config: pass at least one; "
                "compact() rebuilds with the present ones"
            )
        checked = check_build_options(m, ef_construction, expected_size)
        quantization: QuantizationConfig | Unchanged | None = UNCHANGED
        if quantization_config is None:
            quantization = None
        elif not isinstance(quantization_config, Unchanged):
            quantization = read_quantization(quantization_config, self.dim, self.space)
        with self._writing():
            return self._collection.rebuild(**checked, quantization=quantization)

    def rebuild_with_quantization(self) -> bool:
        """Build the graph of a quantized index anew; return whether it was, False where no quantizer is trained."""
        if not self._collection.is_quantized:
            return False
        self.rebuild(m=self.m)
        return True

    def shrink_to_fit(self) -> int:
        """Give back memory that is reserved and unused; return how many bytes."""
        with self._writing():
            return self._collection.shrink_to_fit()
