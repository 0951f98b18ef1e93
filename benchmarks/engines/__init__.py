"""Every engine behind one interface; the order is that of the tables."""

from __future__ import annotations

from benchmarks.engines.base import Condition, Engine, Metadata
from benchmarks.engines.faiss_sq8 import FaissSQ8
from benchmarks.engines.hnswlib_f32 import HNSWLib
from benchmarks.engines.others import ScaNN, USearch
from benchmarks.engines.quantized import VARIANTS
from benchmarks.engines.zeusdb_style import OriginalZeusDB, ZeusDBVS

ENGINES: dict[str, type[Engine]] = {
    engine.name: engine for engine in (ZeusDBVS, HNSWLib, FaissSQ8, OriginalZeusDB, USearch, ScaNN)
}
OURS = ZeusDBVS.name


def title_of(name: str) -> str:
    """What tables call the engine or the variant `name`."""
    return (VARIANTS[name] if name in VARIANTS else ENGINES[name]).title


def split_by_availability(names: list[str]) -> tuple[list[str], dict[str, str]]:
    """Names of the engines that can run here, and for the others the reason why not."""
    usable: list[str] = []
    skipped: dict[str, str] = {}
    for name in names:
        reason = ENGINES[name].unavailable()
        if reason is None:
            usable.append(name)
        else:
            skipped[name] = reason
    return usable, skipped


__all__ = [
    "ENGINES",
    "OURS",
    "VARIANTS",
    "Condition",
    "Engine",
    "Metadata",
    "split_by_availability",
    "title_of",
]
