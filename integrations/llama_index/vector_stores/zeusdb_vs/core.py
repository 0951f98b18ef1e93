"""What all parts of the store stand on: its options, and the index that they lead to."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.vector_stores.types import BasePydanticVectorStore, MetadataFilters
from llama_index.vector_stores.zeusdb_vs.filters import Deep, translate
from llama_index.vector_stores.zeusdb_vs.protocol import VectorIndex
from llama_index.vector_stores.zeusdb_vs.selecting import check_order

from zeusdb_vs import ConfigurationError, Filter, IndexNotFoundError, VectorDatabase

_PARTS = ("metadata", "text", "payload")
_PARTS_AND_VECTOR = (*_PARTS, "vector")
IGNORED_OPTIONS = ("class_name", "stores_text", "is_embedding_query", "index_type", "index_name")
"""What a dict of the configuration, or a call written for ZeusDB's own adapter, names beside the options."""


class StoreBase(BasePydanticVectorStore):
    """The options and the index of a store. `ZeusDBVectorStore` documents them."""

    stores_text: bool = True
    is_embedding_query: bool = True
    flat_metadata: bool = False

    path: str | None = None
    dim: int | None = None
    space: str = "cosine"
    m: int | None = None
    ef_construction: int | None = None
    expected_size: int | None = None
    ef_search: int | None = None
    quantization_config: dict[str, Any] | None = None
    durability: str = "always"
    read_only: bool = False
    include_embeddings: bool = False
    strict_filters: bool = False
    strict_node_ids: bool = False

    _index: VectorIndex | None = PrivateAttr(default=None)
    _creating: Any = PrivateAttr(default_factory=threading.Lock)

    # ------------------------------------------------------------------------------------------ the index

    @property
    def client(self) -> Any:
        """The index; None before the first node, where no `dim` was given."""
        return self._index

    def _adopt(self, index: VectorIndex, *, dim: int | None = None, space: str | None = None) -> None:
        """Use an index and take over what it was made with."""
        if dim is not None and dim != index.dim:
            raise ConfigurationError(
                f"the index holds vectors of width {index.dim}, dim={dim} was given; leave it out"
            )
        if space is not None and _canonical_space(space) != index.space:
            raise ConfigurationError(
                f"the index was made for the space {index.space!r}, space={space!r} was given; leave it out"
            )
        self.dim, self.space = index.dim, index.space
        self.m, self.ef_construction, self.expected_size = index.m, index.ef_construction, index.expected_size
        self.quantization_config = None if index.quantization is None else index.quantization.to_json()
        self._index = index

    def _new_options(self) -> dict[str, Any]:
        given = {
            "m": self.m,
            "ef_construction": self.ef_construction,
            "expected_size": self.expected_size,
            "quantization_config": self.quantization_config,
        }
        return {"space": self.space, **{name: value for name, value in given.items() if value is not None}}

    def _check_options(self) -> None:
        """Raise for options that are wrong now, though the index has to wait for its first node."""
        VectorDatabase().create("hnsw", dim=_possible_width(self.quantization_config), **self._new_options())

    def _create(self, dim: int) -> VectorIndex:
        if self.path is None:
            return VectorDatabase().create("hnsw", dim=dim, **self._new_options())
        return VectorDatabase().open(
            self.path,
            dim=dim,
            durability=self.durability,  # type: ignore[arg-type]
            read_only=self.read_only,
            **self._new_options(),
        )

    def _open_at_start(self, space: str | None) -> None:
        """Open the directory if there is an index; else make one as soon as the width is known."""
        assert self.path is not None
        try:
            index = VectorDatabase().open(
                self.path,
                dim=self.dim,
                space=space,
                m=self.m,
                ef_construction=self.ef_construction,
                quantization_config=self.quantization_config,
                durability=self.durability,  # type: ignore[arg-type]
                read_only=self.read_only,
                create=False,
            )
        except IndexNotFoundError:
            place = Path(self.path)
            if self.read_only or (place.exists() and (not place.is_dir() or any(place.iterdir()))):
                raise
            if self.dim is None:
                self._check_options()
                return
            index = self._create(self.dim)  # type: ignore[assignment]
        self._adopt(index)

    # ------------------------------------------------------------------------------------------ what calls share

    def _parts(self, include_embeddings: bool | None = None) -> tuple[str, ...]:
        wanted = self.include_embeddings if include_embeddings is None else include_embeddings
        return _PARTS_AND_VECTOR if wanted else _PARTS

    def _translated(self, filters: MetadataFilters | None) -> Filter | Deep | None:
        translation = translate(filters)
        if self.strict_filters and translation.ordered and self._index is not None:
            check_order(self._index, translation)
        return translation.tree

    def _configuration(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields if name not in IGNORED_OPTIONS}


def _possible_width(quantization_config: Mapping[str, Any] | None) -> int:
    """Return a width that options can be checked with while the real one is unknown: what subvectors divide."""
    subvectors = (quantization_config or {}).get("subvectors")
    return subvectors if type(subvectors) is int and subvectors > 0 else 1


def _canonical_space(space: str) -> str:
    return VectorDatabase().create("hnsw", dim=1, space=space).space
