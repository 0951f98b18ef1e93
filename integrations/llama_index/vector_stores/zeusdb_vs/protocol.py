"""What the store asks of an index, so that another than zeusdb-vs's `HNSWIndex` may stand in its place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray


class VectorIndex(Protocol):
    """What the store asks of an index; zeusdb-vs's `HNSWIndex` answers it."""

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        ...

    @property
    def space(self) -> str:
        """What distances are: "cosine", "l2", "l1" or "dot"."""
        ...

    @property
    def m(self) -> int:
        """Neighbors a record is linked to."""
        ...

    @property
    def ef_construction(self) -> int:
        """Candidates looked at when a record is linked."""
        ...

    @property
    def expected_size(self) -> int:
        """Number of records expected."""
        ...

    @property
    def quantization(self) -> Any:
        """How vectors are quantized, with a `to_json` that gives the options; None: not at all."""
        ...

    def __len__(self) -> int: ...

    def add(self, data: Any, *, on_error: Literal["collect", "raise"] = ...) -> Any:
        """Store records given as columns."""
        ...

    def search(
        self,
        vector: Any,
        filter: Any = ...,
        top_k: int = ...,
        ef_search: int | None = ...,
        *,
        include: Iterable[str] | None = ...,
        exact: bool = ...,
        ids: Iterable[str] | None = ...,
    ) -> list[Any]:
        """Return the nearest records."""
        ...

    def search_arrays(
        self,
        queries: Any,
        top_k: int = ...,
        *,
        filter: Any = ...,
        exact: bool = ...,
        ids: Iterable[str] | None = ...,
    ) -> tuple[NDArray[np.object_], NDArray[np.float32]]:
        """Return ids and distances of the nearest records."""
        ...

    def get_records(self, ids: Iterable[str], *, include: Iterable[str] | None = ...) -> list[dict[str, Any]]:
        """Return records by id, those that are there, in order."""
        ...

    def list(
        self, number: int = ..., offset: int = ..., after: str | None = ..., *, filter: Any = ...
    ) -> list[tuple[str, dict[str, Any]]]:
        """Return a page of ids and metadata."""
        ...

    def count(self, filter: Any = ...) -> int:
        """Return how many records match."""
        ...

    def fields(self) -> Sequence[Any]:
        """Return what filters can name."""
        ...

    def update_metadata(
        self,
        id: str | None = ...,
        metadata: Mapping[str, Any] | None = ...,
        *,
        where: Any = ...,
        merge: bool = ...,
    ) -> bool | int:
        """Replace metadata of one record or of those that match."""
        ...

    def delete(self, ids: Iterable[str] | None = ..., where: Any = ...) -> int:
        """Remove records."""
        ...

    def clear(self) -> int:
        """Remove every record."""
        ...

    def save(self, path: str | os.PathLike[str] | None = ...) -> None:
        """Write the index to a directory."""
        ...

    def flush(self) -> None:
        """Force changes to disk."""
        ...

    def close(self) -> None:
        """Let go of the directory."""
        ...
