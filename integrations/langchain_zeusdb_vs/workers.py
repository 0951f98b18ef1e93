"""The threads in which all stores search for event loops."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

Answer = TypeVar("Answer")


class _Workers:
    """The threads.

    Two: each running thread may keep an event loop waiting for the interpreter lock, 5 ms at a time, and the engine
    itself goes to the cores without it.
    """

    def __init__(self) -> None:
        self.renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        self.executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="langchain_zeusdb_vs")


_workers = _Workers()


async def in_worker(ask: Callable[[], Answer]) -> Answer:
    """Return what a call returns, made in one of the threads with the caller's context."""
    context = copy_context()
    return await asyncio.get_running_loop().run_in_executor(_workers.executor, context.run, ask)
