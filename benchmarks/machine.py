"""The machine a figure was measured on, and the means to hold a process to one core of it."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

PACKAGES = (
    "zeusdb-vs",
    "numpy",
    "numba",
    "llvmlite",
    "pyroaring",
    "hnswlib",
    "faiss-cpu",
    "zeusdb-vector-database",
    "usearch",
    "scann",
)
NOTABLE_FLAGS = (
    "avx2",
    "fma",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512_vnni",
    "amx_int8",
    "asimd",
    "asimddp",
    "i8mm",
)
# Read by the libraries when they are first imported, so they have to stand in the environment before.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def thread_environment(threads: int) -> dict[str, str]:
    """A copy of the environment in which every library starts with `threads` threads."""
    environment = dict(os.environ)
    environment.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    return environment


def available_cores() -> list[int]:
    """Cores this process may run on, in order."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def pin_to_one_core() -> int | None:
    """Hold this process to one core and return it; None where the system cannot.

    The last core: interrupts and the rest of the system tend to sit on the first.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = available_cores()[-1]
    os.sched_setaffinity(0, {core})
    return core


def _cpu() -> tuple[str, list[str]]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine(), []
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    model = fields.get("model name") or platform.machine()
    if "cpu family" in fields:
        model += f" (family {fields['cpu family']}, model {fields.get('model', '?')})"
    return model, [flag for flag in NOTABLE_FLAGS if flag in flags]


def _caches() -> dict[str, str]:
    found: dict[str, str] = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind = (index / "type").read_text().strip()
            level = (index / "level").read_text().strip()
            size = (index / "size").read_text().strip()
        except OSError:
            continue
        if kind != "Instruction":
            found[f"L{level}"] = size
    return found


def _memory_gib() -> float | None:
    try:
        pages, page_size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
    return round(pages * page_size / 2**30, 1)


def versions() -> dict[str, str]:
    """Version of every package of `PACKAGES` that is installed."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def describe() -> dict[str, Any]:
    """Machine, versions, load and date: what stands beside every set of figures."""
    model, flags = _cpu()
    load = os.getloadavg() if hasattr(os, "getloadavg") else (float("nan"),)
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "cpu": model,
        "cores": len(available_cores()),
        "flags": flags,
        "caches": _caches(),
        "memory_gib": _memory_gib(),
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "versions": versions(),
        "load_at_start": round(load[0], 2),
    }
