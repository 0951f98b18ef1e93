"""What the sections ask of an engine.

An adapter does nothing inside a timed call that its library's user would not do: `caller` hands out the
library's own bound method with its arguments filled in (`functools.partial`), `prepare` lays the queries out
beforehand in the form that the library takes fastest, and `ids` reads the answers afterwards.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.settings import EF_CONSTRUCTION, K, M

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Metadata = Sequence[dict[str, Any]]
Call = Callable[[Any], Any]


@dataclass(frozen=True)
class Condition:
    """A filter in the language that both ZeusDBs speak, and the same as a mask over rows for the others."""

    filter: dict[str, Any]
    mask: NDArray[np.bool_]

    @property
    def matches(self) -> int:
        return int(self.mask.sum())


class Engine(ABC):
    """One index of one library.

    Attributes
    ----------
    name : key in the JSON
    title : what tables and plots call it
    package : its distribution, for the version
    modes : ways of asking one query at a time; the first is the one that counts
    whole_modes : those of them that also take all queries in one call
    has_useful_default : its own default effort is meant to give good recall, so that is measured too
    can_filter, can_add, can_batch : what it takes part in
    stores_metadata : filters by metadata, which an index saved by the search section lacks
    sections : those it takes part in unless it is asked for by name; None is all
    """

    name: ClassVar[str]
    title: ClassVar[str]
    package: ClassVar[str]
    modes: ClassVar[tuple[str, ...]] = ("search",)
    whole_modes: tuple[str, ...] = ()
    has_useful_default: ClassVar[bool] = False
    can_filter: ClassVar[bool] = False
    can_add: ClassVar[bool] = True
    can_batch: ClassVar[bool] = True
    stores_metadata: ClassVar[bool] = False
    sections: ClassVar[tuple[str, ...] | None] = None

    def __init__(self, dim: int, space: str, m: int = M, ef_construction: int = EF_CONSTRUCTION) -> None:
        self.dim = dim
        self.space = space
        self.m = m
        self.ef_construction = ef_construction

    @classmethod
    def unavailable(cls) -> str | None:
        """Why this engine cannot run here; None if it can."""
        try:
            cls.import_library()
        except ImportError as error:
            return f"cannot be imported ({cls.package}): {error}"
        return None

    @classmethod
    @abstractmethod
    def import_library(cls) -> Any:
        """Import the library, with its threads set to one."""

    def warm_up(self, vectors: Floats) -> None:  # noqa: B027 - most have nothing to compile
        """Do once what a process pays once, such as compiling; never timed as a build or a search."""

    @abstractmethod
    def build(self, vectors: Floats, capacity: int | None = None, metadata: Metadata | None = None) -> None:
        """Index `vectors` in one bulk call; `capacity` is the number of rows that will follow in all."""

    def add_one(self, row: int, vector: Floats) -> None:
        """Add `vector` (dim,) as row number `row`."""
        raise NotImplementedError

    def add_bulk(self, first_row: int, vectors: Floats) -> None:
        """Add `vectors` as rows from `first_row` in one call."""
        raise NotImplementedError

    def prepare(self, queries: Floats) -> list[Any]:
        """One argument per call."""
        return [np.ascontiguousarray(query) for query in queries]

    @abstractmethod
    def caller(self, mode: str, ef: int | None, condition: Condition | None = None) -> Call:
        """The function to time: one prepared query in, the library's own answer out.

        Valid until the next `caller` or `batch`: some libraries keep the effort in the index. `ef` None is
        the library's default.
        """

    @abstractmethod
    def ids(self, answer: Any) -> Ids:
        """Row numbers (<= k,) in the answer of a `caller`."""

    def batch(self, queries: Floats, ef: int, threads: int) -> Any:
        """All queries in one call on `threads` threads, as the library does it best."""
        raise NotImplementedError

    def batch_ids(self, answer: Any) -> Ids:
        """Row numbers (q, k) in the answer of `batch`."""
        raise NotImplementedError

    @abstractmethod
    def save(self, path: Path) -> None: ...

    @abstractmethod
    def load(self, path: Path) -> None: ...

    def count(self, condition: dict[str, Any]) -> int:
        """Number of records that a filter lets through."""
        raise NotImplementedError

    def memory_bytes(self) -> dict[str, int]:
        """What the index says of its own memory."""
        raise NotImplementedError

    def explain(self, query: Any, condition: Condition) -> str | None:  # noqa: ARG002
        """How the engine says it answers a filtered query; None if it does not say."""
        return None


def ids_of(engine: Engine, answers: Sequence[Any]) -> Ids:
    """Row numbers (q, k) of many answers, padded with -1."""
    table = np.full((len(answers), K), -1, dtype=np.int64)
    for row, answer in zip(table, answers, strict=True):
        found = engine.ids(answer)[:K]
        row[: len(found)] = found
    return table


def disk_bytes(path: Path) -> int:
    """Bytes of the file `path`, or of all files below it."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size
