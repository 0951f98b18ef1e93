"""Own threads over kernels that release the GIL: how many there may be, and running a range on them.

Not Numba's `parallel=True`: two threads in one of its parallel kernels abort the process under the default threading
layer, and a fork after OpenMP has started kills the child.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zeusdb_vs.errors import ConfigurationError

_ENVIRONMENT = "ZEUSDB_VS_NUM_THREADS"
_PIECES_PER_THREAD = 4
"""Pieces a range is cut into per thread: even work without a lock per item."""


def _quota() -> float:
    """CPUs that the container's quota allows (cgroup v2, then v1), inf without one."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            return int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        folder = Path("/sys/fs/cgroup/cpu")
        quota_us = int((folder / "cpu.cfs_quota_us").read_text())
        if quota_us > 0:
            return quota_us / int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        pass
    return float("inf")


def available_cpus() -> int:
    """CPUs this process may use: its affinity, and no more than the container's quota."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cpus = os.cpu_count() or 1
    return max(1, min(cpus, int(_quota())) if _quota() != float("inf") else cpus)


def _initial() -> int:
    asked = os.environ.get(_ENVIRONMENT, "")
    if asked:
        if not asked.isdigit() or int(asked) < 1:
            raise ConfigurationError(f"{_ENVIRONMENT} is {asked!r}: give a whole number >= 1, or unset it")
        return min(int(asked), available_cpus())
    return available_cpus()


_lock = threading.Lock()
_limit: int | None = None
_pool: ThreadPoolExecutor | None = None


def get_num_threads() -> int:
    """Return how many threads one call may use."""
    global _limit
    if _limit is None:
        _limit = _initial()
    return _limit


def set_num_threads(count: int) -> int:
    """Limit the threads one call may use.

    Parameters
    ----------
    count : >= 1; more than the CPUs this process may use counts as that many

    Returns
    -------
    the limit now in force

    Raises
    ------
    ConfigurationError
        `count` is not a whole number >= 1.
    """
    global _limit, _pool
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ConfigurationError(f"set_num_threads: count is {count!r}: give a whole number >= 1")
    with _lock:
        _limit = min(count, available_cpus())
        if _pool is not None:
            _pool.shutdown(wait=False)
            _pool = None
    return _limit


def _drop_pool() -> None:
    """Forget the pool in a forked child, where its threads do not exist."""
    global _pool, _lock
    _pool = None
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_drop_pool)


def run_range(task: Callable[[int, int], None], count: int, grain: int) -> None:
    """Run `task(start, stop)` over pieces of `range(count)`, on this thread and the pool's.

    Parameters
    ----------
    task : called once per piece, from several threads at once
    grain : items a piece has at least
    """
    global _pool
    threads = min(get_num_threads(), -(-count // max(1, grain)))
    if threads <= 1:
        if count > 0:
            task(0, count)
        return
    size = max(grain, -(-count // (threads * _PIECES_PER_THREAD)))
    starts = iter(range(0, count, size))
    take = threading.Lock()

    def work() -> None:
        while True:
            with take:
                start = next(starts, None)
            if start is None:
                return
            task(start, min(start + size, count))

    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(get_num_threads(), thread_name_prefix="zeusdb-vs")
        pool = _pool
        futures = [pool.submit(work) for _ in range(threads - 1)]
    try:
        work()
    finally:
        for future in futures:
            future.result()
