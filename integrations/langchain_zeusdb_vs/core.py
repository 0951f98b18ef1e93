"""What all parts of the store stand on: the engine's index, the embedding model, and the life of both."""

from __future__ import annotations

import difflib
import inspect
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import isnan
from typing import Any, Literal, NoReturn, TypeAlias

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import run_in_executor
from langchain_core.vectorstores import VectorStore
from numpy.typing import NDArray

from langchain_zeusdb_vs.embedders import as_matrix, as_vector, difference, identity_of, name_of
from langchain_zeusdb_vs.filters import Condition
from langchain_zeusdb_vs.scores import RELEVANCE
from zeusdb_vs import (
    ArgumentTypeError,
    ClosedIndexError,
    ConfigurationError,
    DimensionError,
    HNSWIndex,
    IndexNotFoundError,
    ReadOnlyError,
    VectorDatabase,
)

logger = logging.getLogger("langchain_zeusdb_vs")

Path: TypeAlias = "str | os.PathLike[str]"
OnMismatch: TypeAlias = Literal["error", "warn", "ignore"]
Durability: TypeAlias = Literal["always", "interval", "never"]
Hit: TypeAlias = dict[str, Any]

PARTS = ("metadata", "text")
PARTS_AND_VECTOR = ("metadata", "text", "vector")
_OWN_KEY = "langchain_zeusdb_vs"
"""Where the index's own metadata holds what the adapter keeps."""
_SPACES = {"euclidean": "l2", "manhattan": "l1", "ip": "dot", "inner_product": "dot"}
_PAGE = 1_000


class StoreBase(VectorStore):
    """The index and the model behind a store. `ZeusDBVectorStore` documents the arguments."""

    def __init__(
        self,
        embedding: Embeddings | None = None,
        *,
        index: HNSWIndex | None = None,
        path: Path | None = None,
        space: str | None = None,
        dim: int | None = None,
        m: int | None = None,
        ef_construction: int | None = None,
        ef_search: int | None = None,
        expected_size: int | None = None,
        quantization_config: Mapping[str, Any] | None = None,
        relevance_score_fn: Callable[[float], float] | None = None,
        on_embedding_mismatch: OnMismatch = "error",
        durability: Durability = "always",
        read_only: bool = False,
        batch_size: int = 256,
        zeusdb_index: HNSWIndex | None = None,
        **unknown: NoReturn,  # which no argument is, says a type checker; the others find out here
    ) -> None:
        if unknown:
            known = [name for name in inspect.signature(StoreBase.__init__).parameters if name != "self"]
            refuse_unknown(unknown, known[:-1], "ZeusDBVectorStore")
        if embedding is not None and not isinstance(embedding, Embeddings):
            raise ArgumentTypeError(
                f"embedding must be a langchain_core Embeddings, got {type(embedding).__name__}; "
                "pass None to work with vectors only"
            )
        if on_embedding_mismatch not in ("error", "warn", "ignore"):
            raise ConfigurationError(
                f"on_embedding_mismatch is 'error', 'warn' or 'ignore', got {on_embedding_mismatch!r}"
            )
        index = zeusdb_index if index is None else index
        if index is not None and path is not None:
            raise ConfigurationError("pass index= or path=, not both: an index knows its own directory")
        if index is not None and quantization_config is not None:
            raise ConfigurationError(
                "quantization_config is for a new index; the one given changes by rebuild(quantization_config=...)"
            )
        self._embedding = embedding
        self._ef_search = ef_search
        self._batch_size = check_count(batch_size, "batch_size")
        self._relevance_score_fn = relevance_score_fn
        self._on_mismatch = on_embedding_mismatch
        self._path = path
        self._read_only = read_only
        self._space = "cosine" if space is None else space
        self._creation: dict[str, Any] = {
            "space": space,
            "m": m,
            "ef_construction": ef_construction,
            "expected_size": expected_size,
            "quantization_config": quantization_config,
        }
        self._durability: Durability = durability
        self._making = threading.Lock()
        self._closed = False
        self._identity: dict[str, Any] | None = None
        self._index = index
        if index is None:
            self._index = self._find_or_make(dim)
        if self._index is not None:
            self._adopt(self._index)

    # ------------------------------------------------------------------------------------------ the index

    def _find_or_make(self, dim: int | None) -> HNSWIndex | None:
        """Return the index that is there or can be made already; None while the width is unknown."""
        if self._path is None:
            if dim is not None:
                return self._make(dim)
            self._check_options()
            return None
        try:
            return VectorDatabase().open(
                self._path,
                dim=dim,
                durability=self._durability,
                read_only=self._read_only,
                create=dim is not None,
                **self._creation,
            )
        except IndexNotFoundError:
            if self._read_only:
                raise
            self._check_options()
            return None

    def _check_options(self) -> None:
        """Raise now for options that are wrong, though the index has to wait for its first vector."""
        options = self._given_options()
        VectorDatabase().create("hnsw", dim=_possible_width(options.get("quantization_config")), **options)

    def _given_options(self) -> dict[str, Any]:
        return {name: value for name, value in self._creation.items() if value is not None}

    def _make(self, dim: int) -> HNSWIndex:
        if self._path is None:
            return VectorDatabase().create("hnsw", dim=dim, **self._given_options())
        return VectorDatabase().open(self._path, dim=dim, durability=self._durability, **self._creation)

    def _index_of_width(self, dim: int) -> HNSWIndex:
        """Return the index, made now if these are its first vectors; raise where they do not fit."""
        index = self._index
        if index is None:
            with self._making:
                self._check_open()
                if self._index is None:
                    made = self._make(dim)
                    self._adopt(made)
                    self._index = made
                index = self._index
        if dim != index.dim:
            source = "these vectors" if self._embedding is None else name_of(self._embedding)
            raise DimensionError(
                f"{source} have {dim} values, this store was filled with vectors of {index.dim}; "
                "embed with the model it was filled with"
            )
        return index

    def _adopt(self, index: HNSWIndex) -> None:
        """Check that an index fits the model; one that this store has opened is closed if not."""
        try:
            self._recognise_model(index)
        except BaseException:
            if self._path is not None:
                index.close()
            raise

    def _recognise_model(self, index: HNSWIndex) -> None:
        """Raise if a directory was filled by another embedding model; note the model where none is noted."""
        if self._embedding is None or self._on_mismatch == "ignore":
            return
        kept = index.get_metadata(_OWN_KEY)
        stored = kept.get("embedding") if isinstance(kept, dict) else None
        if stored is None:
            # A store in memory is filled by the model it was made with; a directory outlives it.
            if index.path is not None and not index.read_only:
                self._note_model(index)
            return
        self._identity = identity_of(self._embedding)
        problem = difference(stored, self._identity)
        if problem is None:
            return
        message = (
            f"{index.path or 'this index'} belongs to another embedding model: {problem}. Searches would give "
            "nonsense. Pass that model, or on_embedding_mismatch='ignore' if you know better"
        )
        if self._on_mismatch == "warn":
            logger.warning(message)
            return
        raise ConfigurationError(message)

    def _note_model(self, index: HNSWIndex) -> None:
        """Keep the model's identity in the index, once."""
        if self._embedding is None or self._on_mismatch == "ignore":
            return
        kept = index.get_metadata(_OWN_KEY)
        if isinstance(kept, dict) and "embedding" in kept:
            return
        if self._identity is None:
            self._identity = identity_of(self._embedding)
        if self._identity["dim"] != index.dim:
            raise DimensionError(
                f"{self._identity['name']} gives {self._identity['dim']} values, the index holds {index.dim}"
            )
        index.add_metadata({_OWN_KEY: {"embedding": self._identity}})

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedIndexError(
                "this store is closed; open it again with ZeusDBVectorStore.open(path, embedding)"
            )

    def _check_writable(self) -> None:
        """Raise where nothing can be written, before anything is paid for."""
        self._check_open()
        if self._index is not None and self._index.read_only:
            raise ReadOnlyError("this store was opened read-only; open it without read_only to write")

    def close(self) -> None:
        """Force everything to disk and let go of the directory; every later call raises ClosedIndexError."""
        self._closed = True
        if self._index is not None:
            self._index.close()

    async def aclose(self) -> None:
        """As `close`, without holding up the event loop."""
        await run_in_executor(None, self.close)

    @property
    def index(self) -> HNSWIndex:
        """The engine's index; ConfigurationError while there is none, before the first vector is known."""
        self._check_open()
        if self._index is None:
            raise ConfigurationError(
                "there is no index before the first documents; pass dim= to have one at once"
            )
        return self._index

    @property
    def has_index(self) -> bool:
        """Whether there is an index yet; raises where the store is closed."""
        self._check_open()
        return self._index is not None

    @property
    def embeddings(self) -> Embeddings | None:
        """The embedding model, None where the store works with vectors only."""
        return self._embedding

    @property
    def space(self) -> str:
        """``"cosine"``, ``"l2"``, ``"l1"`` or ``"dot"``."""
        if self._index is not None:
            return self._index.space
        plain = self._space.strip().lower()
        return _SPACES.get(plain, plain)

    # ------------------------------------------------------------------------------------------ embedding

    def _model(self) -> Embeddings:
        if self._embedding is None:
            raise ConfigurationError(
                "this store has no embedding model: pass embedding=, or use the calls that take vectors "
                "(add_embeddings, similarity_search_by_vector)"
            )
        return self._embedding

    def _embed_documents(self, texts: Sequence[str], batch_size: int) -> NDArray[np.float32]:
        model = self._model()
        parts = []
        for start in range(0, len(texts), batch_size):
            part = list(texts[start : start + batch_size])
            parts.append(as_matrix(model.embed_documents(part), len(part), name_of(model)))
        return _joined(parts, name_of(model))

    async def _aembed_documents(self, texts: Sequence[str], batch_size: int) -> NDArray[np.float32]:
        model = self._model()
        parts = []
        for start in range(0, len(texts), batch_size):
            part = list(texts[start : start + batch_size])
            vectors = await model.aembed_documents(part)
            parts.append(await run_in_executor(None, as_matrix, vectors, len(part), name_of(model)))
        return _joined(parts, name_of(model))

    def _embed_query(self, query: str) -> NDArray[np.float32]:
        model = self._model()
        return as_vector(model.embed_query(check_text(query, "query")), name_of(model))

    async def _aembed_query(self, query: str) -> NDArray[np.float32]:
        model = self._model()
        return as_vector(await model.aembed_query(check_text(query, "query")), name_of(model))

    # ------------------------------------------------------------------------------------------ scores

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """Return what turns a distance into relevance from 0 to 1."""
        return self._relevance_score_fn or RELEVANCE[self.space]

    # ------------------------------------------------------------------------------------------ records

    def _matching(
        self,
        index: HNSWIndex,
        condition: Condition,
        parts: Sequence[str] = PARTS,
        *,
        strict: bool = False,
    ) -> Iterator[Hit]:
        """Return records that meet a condition, in the order they were added, read a page at a time."""
        number = index.count(condition.tree)
        ids = [id for id, _ in index.list(number, filter=condition.tree, strict=strict)]
        return self._accepted(index, ids, condition, parts)

    def _accepted(
        self, index: HNSWIndex, ids: Sequence[str], condition: Condition, parts: Sequence[str]
    ) -> Iterator[Hit]:
        wanted = tuple({*parts, *PARTS}) if condition.predicates else tuple(parts)
        for start in range(0, len(ids), _PAGE):
            for record in index.get_records(ids[start : start + _PAGE], include=wanted):
                if not condition.predicates or condition.holds(as_document(record)):
                    yield record

    def _chosen(
        self, index: HNSWIndex, names: list[str] | None, condition: Condition, strict: bool
    ) -> list[str]:
        """Return the ids, of those given or of all, whose documents match; those given in their order."""
        if names is None:
            return [record["id"] for record in self._matching(index, condition, (), strict=strict)]
        if condition.tree is not None:
            number = index.count(condition.tree)
            matching = {id for id, _ in index.list(number, filter=condition.tree, strict=strict)}
            names = [name for name in names if name in matching]
        records = index.get_records(names, include=PARTS if condition.predicates else ())
        return [
            record["id"]
            for record in records
            if not condition.predicates or condition.holds(as_document(record))
        ]


def as_document(hit: Hit) -> Document:
    """Return a record or hit of the engine, whose metadata is the caller's own, as a Document."""
    text, metadata = hit["text"], hit["metadata"]
    if text is None:
        # Records of langchain-zeusdb hold their text among the metadata.
        legacy = metadata.pop("text", "") if isinstance(metadata.get("text"), str) else ""
        return Document(page_content=legacy, metadata=metadata, id=hit["id"])
    return Document(page_content=text, metadata=metadata, id=hit["id"])


def check_text(value: Any, what: str) -> str:
    """Return a str; raise ArgumentTypeError for anything else."""
    if not isinstance(value, str):
        raise ArgumentTypeError(f"{what} must be a str, got {type(value).__name__}: {value!r:.80}")
    return value


def check_count(value: Any, what: str, least: int = 1) -> int:
    """Return an integer of at least `least`; a bool or float is none."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ArgumentTypeError(f"{what} must be an int, got {type(value).__name__}: {value!r:.80}")
    if value < least:
        raise ConfigurationError(f"{what} must be at least {least}, got {value}")
    return int(value)


def check_share(value: Any, what: str) -> float:
    """Return a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise ArgumentTypeError(f"{what} must be a number, got {type(value).__name__}: {value!r:.80}")
    if isnan(value) or not 0 <= value <= 1:
        raise ConfigurationError(f"{what} must be from 0 to 1, got {value!r}")
    return float(value)


def check_ids(ids: str | int | Iterable[Any]) -> list[str]:
    """Return ids as a list of str: integers become str, a single id becomes a list."""
    given = [ids] if isinstance(ids, str | int) else ids
    return [as_id(id) for id in given]


def as_id(id: Any) -> str:
    """Return an id as the engine keeps it."""
    if isinstance(id, str):
        return id
    if isinstance(id, int | np.integer) and not isinstance(id, bool):
        return str(int(id))
    raise ArgumentTypeError(f"ids are str or int, got {type(id).__name__}: {id!r:.80}")


def refuse_unknown(unknown: Mapping[str, Any], known: Sequence[str], call: str) -> None:
    """Raise for keyword arguments nobody reads: a ``filters=`` that is ignored shows one tenant another's data.

    Raises
    ------
    ArgumentTypeError
        A TypeError naming the nearest argument there is.
    """
    if not unknown:
        return
    name = next(iter(unknown))
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ArgumentTypeError(f"{call} got an unknown argument {name!r}{hint} (known: {', '.join(known)})")


def _possible_width(quantization_config: Any) -> int:
    """Return a width that options can be checked with while the real one is unknown: what subvectors divide."""
    subvectors = quantization_config.get("subvectors") if isinstance(quantization_config, Mapping) else None
    return subvectors if type(subvectors) is int and subvectors > 0 else 1


def _joined(parts: list[NDArray[np.float32]], source: str) -> NDArray[np.float32]:
    if not parts:
        return np.empty((0, 0), np.float32)
    if len({part.shape[1] for part in parts}) > 1:
        raise DimensionError(
            f"{source} gave vectors of different widths: {[part.shape[1] for part in parts]}"
        )
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
