"""Deterministic embedding models for the tests."""

from __future__ import annotations

import asyncio
import zlib

import numpy as np
from langchain_core.embeddings import Embeddings


class WordEmbeddings(Embeddings):
    """The sum of a vector for each word: texts that share words are alike. Counts what it is asked."""

    def __init__(self, dim: int = 32, salt: int = 0) -> None:
        self.dim, self.salt = dim, salt
        self.documents_embedded = 0
        self.queries_embedded = 0
        self.async_calls = 0

    def _vector(self, text: str) -> list[float]:
        words = text.lower().split() or ["nothing"]
        seeds = [zlib.crc32(f"{self.salt}:{word}".encode()) for word in words]
        total = sum(np.random.default_rng(seed).standard_normal(self.dim) for seed in seeds)
        return np.asarray(total).tolist()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.documents_embedded += len(texts)
        return [self._vector(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        self.queries_embedded += 1
        return self._vector(text)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        self.async_calls += 1
        await asyncio.sleep(0)
        return self.embed_documents(texts)

    async def aembed_query(self, text: str) -> list[float]:
        self.async_calls += 1
        await asyncio.sleep(0)
        return self.embed_query(text)


class TableEmbeddings(Embeddings):
    """Vectors looked up by text."""

    def __init__(self, table: dict[str, list[float]]) -> None:
        self.table = table

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.table[text] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.table[text]
