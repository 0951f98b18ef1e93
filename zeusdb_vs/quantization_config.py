"""What `quantization_config` may say: checked options, warnings, and their form in ``quantization.json``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from zeusdb_vs.checks import check_int, did_you_mean
from zeusdb_vs.errors import ArgumentTypeError, ConfigurationError

QUANTIZED_ONLY, QUANTIZED_WITH_RAW = "quantized_only", "quantized_with_raw"
_STORAGE_MODES = (QUANTIZED_ONLY, QUANTIZED_WITH_RAW)

LEAST_TRAINING_SIZE = 1000
DEFAULT_TRAINING_SIZE = 10_000
MOST_TRAINING_VECTORS = 1 << 24
DEFAULT_MAX_TRAINING_VECTORS = 16_384
"""Vectors looked at in training unless more are asked for: some 64 for each of 256 centroids. Four times as many kept
.001 more of the true neighbors."""
MAX_BITS = 8
_SCALE = "per_dimension"
_HIGH_RATIO = 50
"""Compression above which few true neighbors stay among the nearest by code, however many are reranked."""

_COMMON = ("type", "training_size", "max_training_vectors", "storage_mode")
_OPTIONS = {
    "pq": (*_COMMON, "subvectors", "bits"),
    "int8": (*_COMMON, "scale"),
}
_SPACES = {"pq": ("cosine", "l2", "dot"), "int8": ("cosine", "l2", "l1", "dot")}


@dataclass(frozen=True, slots=True)
class QuantizationConfig:
    """How the vectors of an index are to be quantized.

    Attributes
    ----------
    type : str
        ``"pq"`` (product quantization) or ``"int8"`` (a byte a dimension).
    storage_mode : str
        ``"quantized_only"``: originals are dropped once the quantizer is trained. ``"quantized_with_raw"``:
        they are kept, on disk where the index has a directory, and results are reranked by them.
    training_size : int
        Records from which on the quantizer is trained.
    max_training_vectors : int
        Vectors that training looks at, at most.
    subvectors, bits : int
        Of ``"pq"``: parts a vector is cut into, and bits of the code of each; 0 for other types.
    """

    type: str
    storage_mode: str
    training_size: int = DEFAULT_TRAINING_SIZE
    max_training_vectors: int = DEFAULT_MAX_TRAINING_VECTORS
    subvectors: int = 0
    bits: int = 0

    @property
    def keeps_originals(self) -> bool:
        """Whether the vectors stay as they were given."""
        return self.storage_mode == QUANTIZED_WITH_RAW

    def code_bits(self, dim: int) -> int:
        """Return the bits of codes that stand for a vector."""
        if self.type == "pq":
            return self.subvectors * self.bits
        return 8 * dim

    def compression_ratio(self, dim: int) -> float:
        """Return how many times smaller than float32 a code is."""
        return 32 * dim / self.code_bits(dim)

    def to_json(self) -> dict[str, Any]:
        """Return the options as they stand in ``quantization.json``."""
        options = asdict(self)
        if self.type != "pq":
            del options["subvectors"], options["bits"]
        return options

    @classmethod
    def from_json(cls, options: Mapping[str, Any], dim: int, space: str) -> QuantizationConfig:
        """Return the options that `to_json` gave, checked as those of users are.

        Raises
        ------
        ConfigurationError, ArgumentTypeError
            One is missing, unknown or out of range.
        """
        missing = [name for name in _COMMON if name not in options]
        if missing:
            raise ConfigurationError(f"{missing[0]} is missing")
        return read_quantization(options, dim, space)


def read_quantization(given: Any, dim: int, space: str) -> QuantizationConfig:
    """Return the options that a user gave, checked against each other, the dimension and the space.

    Raises
    ------
    ArgumentTypeError
        It is no dict, or a value has the wrong type.
    ConfigurationError
        An option is unknown, missing or out of range.
    """
    if not isinstance(given, Mapping):
        raise ArgumentTypeError(
            f"quantization_config must be a dict such as {{'type': 'int8'}}, got {type(given).__name__}"
        )
    kind = _choice(given.get("type"), "type", {name: name for name in _OPTIONS})
    for name in given:
        if name not in _OPTIONS[kind]:
            raise ConfigurationError(
                f"quantization_config of type {kind!r} has no option {name!r}; "
                f"{did_you_mean(str(name), _OPTIONS[kind])}"
            )
    if space not in _SPACES[kind]:
        raise ConfigurationError(
            f"quantization_config: type {kind!r} works in the spaces {', '.join(_SPACES[kind])}, this index is of "
            f"{space!r}; use type 'int8' or another space"
        )
    mode = _choice(
        given.get("storage_mode", QUANTIZED_ONLY), "storage_mode", {mode: mode for mode in _STORAGE_MODES}
    )
    _choice(given.get("scale", _SCALE), "scale", {_SCALE: _SCALE})
    training_size = check_int(
        given.get("training_size", DEFAULT_TRAINING_SIZE),
        "quantization_config['training_size']",
        LEAST_TRAINING_SIZE,
        MOST_TRAINING_VECTORS,
    )
    most = given.get("max_training_vectors")
    if most is None:
        most = max(training_size, DEFAULT_MAX_TRAINING_VECTORS)
    most = check_int(
        most, "quantization_config['max_training_vectors']", LEAST_TRAINING_SIZE, MOST_TRAINING_VECTORS
    )
    if most < training_size:
        raise ConfigurationError(
            f"quantization_config: max_training_vectors={most} must not be below training_size={training_size}"
        )
    subvectors = bits = 0
    if kind == "pq":
        subvectors = _subvectors(given.get("subvectors"), dim)
        bits = check_int(given.get("bits", MAX_BITS), "quantization_config['bits']", 1, MAX_BITS)
    return QuantizationConfig(kind, mode, training_size, most, subvectors, bits)


def warn_of_quantization(
    config: QuantizationConfig, given: Mapping[str, Any], dim: int, expected: int
) -> None:
    """Warn of options that are possible and unlikely to be meant; `expected` is the index's `expected_size`."""
    if expected < config.training_size:
        warnings.warn(
            f"quantization_config: training_size={config.training_size:,} is above expected_size={expected:,}: an "
            "index that never gets so many records stays unquantized; lower training_size or raise expected_size",
            UserWarning,
            stacklevel=3,
        )
    ratio = config.compression_ratio(dim)
    if "subvectors" in given and ratio > _HIGH_RATIO:
        warnings.warn(
            f"quantization_config: subvectors={config.subvectors} of {config.bits} bits compress {dim} dimensions "
            f"{ratio:.0f} times: above {_HIGH_RATIO} times codes keep few of the true neighbors apart; "
            f"dim // 8 = {default_subvectors(dim)} subvectors are the default",
            UserWarning,
            stacklevel=3,
        )


def default_subvectors(dim: int) -> int:
    """Return the divisor of `dim` nearest to dim / 8, the larger of two."""
    divisors = [n for n in range(1, dim + 1) if dim % n == 0]
    return min(divisors, key=lambda n: (abs(n - dim / 8), -n))


def _subvectors(value: Any, dim: int) -> int:
    if value is None:
        return default_subvectors(dim)
    count = check_int(value, "quantization_config['subvectors']", 1, dim)
    if dim % count:
        near = [n for n in range(1, dim + 1) if dim % n == 0]
        near = sorted(sorted(near, key=lambda n: abs(n - count))[:5])
        raise ConfigurationError(
            f"quantization_config: subvectors={count} does not divide dim={dim}; possible near it: "
            f"{', '.join(map(str, near))}"
        )
    return count


def _choice(value: Any, name: str, known: Mapping[str, str]) -> str:
    if value is None:
        raise ConfigurationError(f"quantization_config needs {name!r}: one of {', '.join(map(repr, known))}")
    if not isinstance(value, str):
        raise ArgumentTypeError(f"quantization_config[{name!r}] must be a str, got {value!r}")
    found = known.get(value.strip().lower())
    if found is None:
        raise ConfigurationError(
            f"quantization_config: unknown {name} {value!r}; {did_you_mean(value, known)}"
        )
    return found
