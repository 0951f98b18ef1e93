"""The threads that asynchronous calls run on: reads beside each other, writes one after the other."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

READERS = 2
"""Each running thread may keep the event loop waiting for its turn at the interpreter, 5 ms at a time, and the engine
itself goes to the processors without it."""

_lock = threading.Lock()
_pools: dict[str, tuple[int, ThreadPoolExecutor]] = {}


def _pool(name: str, threads: int) -> ThreadPoolExecutor:
    """Return a pool of this process: the threads of a parent do not exist in a fork."""
    with _lock:
        owner, pool = _pools.get(name, (0, None))
        if pool is None or owner != os.getpid():
            pool = ThreadPoolExecutor(threads, thread_name_prefix=f"zeusdb-vs-llama-index-{name}")
            _pools[name] = (os.getpid(), pool)
        return pool


async def _run(pool: ThreadPoolExecutor, call: Callable[[], Any]) -> Any:
    # The context goes along: the framework's instrumentation and callbacks live in it.
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(pool, context.run, call)


async def on_reader(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a call that reads; several run at a time."""
    found: T = await _run(_pool("read", READERS), partial(call, *args, **kwargs))
    return found


async def on_writer(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a call that writes; the index lets one write at a time anyway."""
    found: T = await _run(_pool("write", 1), partial(call, *args, **kwargs))
    return found


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
