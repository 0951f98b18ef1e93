"""Text to vectors: a small lexical embedder in NumPy, and sentence-transformers where it is installed.

The lexical embedder compares letters and words and knows nothing of meaning: "car" and "automobile" are
strangers to it. It is here so that the demo runs on real text without a download.
"""

from __future__ import annotations

import base64
import importlib
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs import ConfigurationError

Progress = Callable[[int], None]
Feature = tuple[NDArray[np.int64], NDArray[np.float64]]  # coordinates, signed weights

# A word, a part of a camelCase name, or a number; underscores and dots part names as blanks do.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+|\d+")
_STOP_WORDS = frozenset(
    """
    a about after all also an and any are as at be been being but by can could do does for from get gets had
    has have how i if in into is it its may me more most my no nor not of on one only or other our own return
    returns s same should so some such t than that the their them then there these they this to up use used
    uses using very was we were what when where which while who why will with would you your
    """.split()  # noqa: SIM905
)
_SUFFIXES = ("ations", "ation", "ings", "ing", "ions", "ion", "ers", "ies", "ed", "er", "es", "s", "e", "y")
_SHORTEST_STEM = 3


class Embedder(Protocol):
    """What the demo and ``zeusdb-vs search`` ask of an embedder."""

    dim: int

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return one unit vector per text, float32 (n, dim); `progress` is told how many more are done."""

    def to_config(self) -> dict[str, Any]:
        """Return what `embedder_from_config` needs to make this embedder again, as JSON values."""


class HashingEmbedder:
    """Signed feature hashing of words, bigrams and character n-grams, weighted by how rare each word is.

    Parameters
    ----------
    dim : int
        Width of the vectors.
    idf : (16384,) uint8 array, optional
        Inverse document frequency of each word bucket in steps of ``1/16``, as learned by `fit`. All words
        weigh the same when omitted.

    Raises
    ------
    ConfigurationError
        If `dim` is below 1 or `idf` has another shape or dtype.

    Notes
    -----
    Each feature falls, with a random sign, on `_PLACES` of the vector's coordinates (Weinberger et al. 2009,
    doi:10.1145/1553374.1553516), so that two different features meet with expectation zero. A word brings its
    character 3- to 5-grams with it, which is what puts "compress" near "compression". Term frequencies enter
    as ``1 + log(tf)``. Everything depends on the text and the learned weights only, never on Python's hash
    seed: the same text gets the same bits in every process.
    """

    NAME = "hashing"

    _PLACES = 4
    _IDF_BUCKETS = 1 << 14
    _IDF_STEP = 1.0 / 16.0
    _BIGRAM_WEIGHT = 0.6
    _NGRAM_WEIGHT = 0.8
    _NGRAM_LENGTHS = (3, 4, 5)

    def __init__(self, dim: int = 384, idf: NDArray[np.uint8] | None = None) -> None:
        if dim < 1:
            raise ConfigurationError(f"dim must be at least 1, not {dim}")
        if idf is not None and (idf.shape != (self._IDF_BUCKETS,) or idf.dtype != np.uint8):
            raise ConfigurationError(
                f"idf must be uint8 of shape ({self._IDF_BUCKETS},), not {idf.dtype} {idf.shape}"
            )
        self.dim = dim
        self._idf = idf
        self._words: dict[str, Feature] = {}

    def fit(self, texts: Iterable[str]) -> HashingEmbedder:
        """Learn how rare each word is.

        Parameters
        ----------
        texts : iterable of str
            The texts that will be indexed.

        Returns
        -------
        HashingEmbedder
            This embedder, its weights replaced.
        """
        document_counts = np.zeros(self._IDF_BUCKETS, dtype=np.int64)
        total = 0
        for text in texts:
            total += 1
            buckets = {_hash(word) % self._IDF_BUCKETS for word in words(text)}
            document_counts[list(buckets)] += 1
        idf = np.log1p(total / (1.0 + document_counts))
        # Kept in whole steps at once, so that a saved and reloaded embedder gives the same bits as this one.
        self._idf = np.clip(np.rint(idf / self._IDF_STEP), 1, 255).astype(np.uint8)
        self._words.clear()
        return self

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Turn texts into unit vectors.

        Parameters
        ----------
        texts : sequence of str
            At least one word or character other than blanks in each.
        progress : callable, optional
            Called with the number of texts done since its last call.

        Returns
        -------
        (n, dim) float32 array
            One row per text, of norm 1.

        Raises
        ------
        ConfigurationError
            If a text holds no letters and no digits.
        """
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            vectors[row] = self._embed_one(text)
            if progress is not None:
                progress(1)
        return vectors

    def to_config(self) -> dict[str, Any]:
        """Return name, width and learned weights as JSON values.

        Returns
        -------
        dict
            ``{"name": "hashing", "dim": ..., "idf": base64 text or None}``.
        """
        packed = (
            None if self._idf is None else base64.b64encode(zlib.compress(self._idf.tobytes(), 9)).decode()
        )
        return {"name": self.NAME, "dim": self.dim, "idf": packed}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> HashingEmbedder:
        """Make again what `to_config` described.

        Parameters
        ----------
        config : mapping
            As `to_config` returns it.

        Returns
        -------
        HashingEmbedder
            Gives the same vectors as the one that was described.

        Raises
        ------
        ConfigurationError
            If the description is incomplete or damaged.
        """
        dim, packed = config.get("dim"), config.get("idf")
        if not isinstance(dim, int) or not (packed is None or isinstance(packed, str)):
            raise ConfigurationError("the hashing embedder's description is damaged: dim or idf is missing")
        if packed is None:
            return cls(dim)
        try:
            # One byte more than expected, so that too much shows without being unpacked whole.
            raw = zlib.decompressobj().decompress(
                base64.b64decode(packed, validate=True), cls._IDF_BUCKETS + 1
            )
        except (ValueError, zlib.error) as error:
            raise ConfigurationError(f"the hashing embedder's word weights are damaged: {error}") from error
        return cls(dim, np.frombuffer(raw, dtype=np.uint8))

    def _embed_one(self, text: str) -> NDArray[np.float64]:
        sequence = words(text) or _WORD.findall(text.lower())
        if not sequence:
            raise ConfigurationError(f"nothing to embed in {text[:60]!r}: it holds no letters and no digits")
        word_counts = Counter(sequence)
        frequencies = [1.0 + math.log(count) for count in word_counts.values()]
        features = [self._word(word) for word in word_counts]
        features.append(self._bigrams(Counter(pairwise(sequence))))
        places = np.concatenate([places for places, _ in features])
        weights = np.concatenate(
            [weights * tf for (_, weights), tf in zip(features, [*frequencies, 1.0], strict=True)]
        )
        vector = np.bincount(places, weights, minlength=self.dim)
        norm = math.sqrt(vector @ vector)
        if norm == 0.0:  # every feature cancelled out: possible in a handful of dimensions only
            vector[0] = norm = 1.0
        return vector / norm

    def _word(self, word: str) -> Feature:
        """Return the coordinates and signed weights of a word and its n-grams; kept, for words recur."""
        known = self._words.get(word)
        if known is None:
            grams = _ngrams(word, self._NGRAM_LENGTHS)
            rarity = self._rarity(word)
            gram_weight = rarity * self._NGRAM_WEIGHT / math.sqrt(max(1, len(grams)))
            hashes = [_hash(word), *map(_hash, grams)]
            known = self._words[word] = self._spread(hashes, [rarity] + [gram_weight] * len(grams))
        return known

    def _bigrams(self, counts: Mapping[tuple[str, str], int]) -> Feature:
        """Return the coordinates and signed weights of a text's bigrams, which seldom recur."""
        weights = [
            self._BIGRAM_WEIGHT * math.sqrt(self._rarity(a) * self._rarity(b)) * (1.0 + math.log(count))
            for (a, b), count in counts.items()
        ]
        return self._spread([_hash(f"{a} {b}") for a, b in counts], weights)

    def _spread(self, hashes: Sequence[int], weights: Sequence[float]) -> Feature:
        """Give each feature its coordinates and signs: a splitmix64 stream seeded by the feature's hash."""
        steps = np.arange(1, self._PLACES + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = np.asarray(hashes, dtype=np.uint64)[:, None] * np.uint64(0xD1342543DE82EF95) + steps
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
        places = ((mixed >> np.uint64(1)) % np.uint64(self.dim)).astype(np.int64)
        signs = np.where(mixed & np.uint64(1), 1.0, -1.0)
        return places.ravel(), (signs * np.asarray(weights)[:, None] / math.sqrt(self._PLACES)).ravel()

    def _rarity(self, word: str) -> float:
        return (
            1.0 if self._idf is None else float(self._idf[_hash(word) % self._IDF_BUCKETS]) * self._IDF_STEP
        )


class SentenceTransformerEmbedder:
    """A model of the sentence-transformers package, which the user installs.

    Parameters
    ----------
    model : str
        A model's name or folder, as sentence-transformers takes it; that package downloads what it lacks.

    Raises
    ------
    ConfigurationError
        If the package is not installed or cannot load the model.
    """

    NAME = "sentence-transformers"

    _BATCH = 64

    def __init__(self, model: str) -> None:
        try:
            package = importlib.import_module("sentence_transformers")
        except ImportError as error:
            raise ConfigurationError(
                f"--embedder {model} needs a package that is not installed: pip install sentence-transformers"
            ) from error
        try:
            self._model: Any = package.SentenceTransformer(model)
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigurationError(f"sentence-transformers cannot load {model!r}: {error}") from error
        self._name = model
        self.dim = self._encode(["how wide is a vector"]).shape[1]

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Turn texts into unit vectors, as `HashingEmbedder.embed` does."""
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        for start in range(0, len(texts), self._BATCH):
            batch = list(texts[start : start + self._BATCH])
            vectors[start : start + len(batch)] = self._encode(batch)
            if progress is not None:
                progress(len(batch))
        return vectors

    def to_config(self) -> dict[str, Any]:
        """Return ``{"name": "sentence-transformers", "model": ...}``."""
        return {"name": self.NAME, "model": self._name}

    def _encode(self, batch: list[str]) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = self._model.encode(
            batch, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors


def embedder_from_config(config: object, *, model: str | None = None) -> Embedder:
    """Make the embedder that an index was built with.

    Parameters
    ----------
    config : object
        The index metadata's ``"embedder"``, as `Embedder.to_config` wrote it; None when there is none.
    model : str, optional
        The sentence-transformers model that the user names. A model named by the index alone is not loaded:
        that could download and run what a stranger's directory asks for.

    Returns
    -------
    Embedder
        Gives the same vectors as the one the index was built with.

    Raises
    ------
    ConfigurationError
        If the index has no embedder, an unknown one, or one that must be named by the user.
    """
    if config is None:
        raise ConfigurationError(
            "this index does not say how its text was embedded, so it takes no question in words; "
            "search it from Python with a vector: VectorDatabase().load(path).search(vector)"
        )
    if not isinstance(config, Mapping):
        raise ConfigurationError(
            f"the index metadata's 'embedder' is damaged: an object was expected, not {config!r}"
        )
    if config.get("name") == HashingEmbedder.NAME:
        if model is not None:
            raise ConfigurationError(f"this index was embedded by {HashingEmbedder.NAME!r}, not by {model!r}")
        return HashingEmbedder.from_config(config)
    if config.get("name") == SentenceTransformerEmbedder.NAME:
        if model is None or model != config.get("model"):
            raise ConfigurationError(
                f"this index was embedded by the sentence-transformers model {config.get('model')!r}; "
                f"to load that model, name it: --embedder {config.get('model')}"
            )
        return SentenceTransformerEmbedder(model)
    raise ConfigurationError(
        f"this index was embedded by {config.get('name')!r}; known are {HashingEmbedder.NAME!r} and "
        f"{SentenceTransformerEmbedder.NAME!r}"
    )


def words(text: str) -> list[str]:
    """Split text into stemmed lower-case words, stop words left out.

    Parameters
    ----------
    text : str
        Prose or dotted names; ``camelCase`` and ``snake_case`` are taken apart.

    Returns
    -------
    list of str
        In the order of the text.
    """
    lowered = (word.lower() for word in _WORD.findall(text))
    return [_stem(word) for word in lowered if word not in _STOP_WORDS]


def _stem(word: str) -> str:
    """Cut one common English ending: rough, but the same for texts and questions."""
    if word.endswith("ss"):
        return word
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _SHORTEST_STEM:
            return word[: -len(suffix)]
    return word


def _ngrams(word: str, lengths: Sequence[int]) -> list[str]:
    """Return the character n-grams of a word between marks for its ends: "<gz", "gzi", "zip", "ip>"."""
    marked = f"<{word}>"
    return [marked[i : i + n] for n in lengths for i in range(len(marked) - n + 1)]


def _hash(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))
