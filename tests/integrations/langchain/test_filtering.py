"""The four forms of a filter mean the same everywhere; the translator; self-query."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.structured_query import (
    Comparator,
    Comparison,
    FilterDirective,
    Operation,
    Operator,
    StructuredQuery,
)
from langchain_embedders import WordEmbeddings
from langchain_zeusdb_vs import Filter, ZeusDBTranslator, ZeusDBVectorStore

from zeusdb_vs import FilterError, field

N = 400
FIELDS = [
    {
        "n": i,
        "lang": ["en", "de", "fr"][i % 3],
        "tags": ["x"] if i % 4 else ["x", "rare"],
        "day": date(2024, 1, 1 + i % 28),
    }
    if i % 10
    else {"n": i}
    for i in range(N)
]


def make_store() -> ZeusDBVectorStore:
    store = ZeusDBVectorStore(WordEmbeddings())
    store.add_texts([f"word{i % 7} text {i}" for i in range(N)], FIELDS, ids=range(N))
    return store


@pytest.fixture(scope="module")
def store() -> ZeusDBVectorStore:
    return make_store()


FORMS: list[tuple[list[Filter], Callable[[dict[str, Any]], bool]]] = [
    (
        [
            {"lang": "en", "n": {"$gte": 100}},
            {"$and": [{"lang": {"$eq": "en"}}, {"n": {"$not": {"$lt": 100}}}]},
            {"lang": "en", "n": {"gte": 100}},
            (field("lang") == "en") & (field("n") >= 100),
            lambda document: document.metadata.get("lang") == "en" and document.metadata["n"] >= 100,
            Operation(
                Operator.AND,
                [Comparison(Comparator.EQ, "lang", "en"), Comparison(Comparator.GTE, "n", 100)],
            ),
            StructuredQuery("", Operation(
                Operator.NOT, [Comparison(Comparator.NE, "lang", "en"), Comparison(Comparator.LT, "n", 100)]
            )),
        ],
        lambda m: m.get("lang") == "en" and m["n"] >= 100,
    ),
    # 1 % of the documents: filtering after a search finds none of them.
    (
        [{"n": {"$in": [3, 33, 333]}}, {"n": {"in": [3, 33, 333]}}, lambda d: d.metadata["n"] in (3, 33, 333),
         Comparison(Comparator.IN, "n", [3, 33, 333])],
        lambda m: m["n"] in (3, 33, 333),
    ),
    # Mongo's $ne matches documents without the field.
    ([{"lang": {"$ne": "en"}}, Comparison(Comparator.NE, "lang", "en"), lambda d: d.metadata.get("lang") != "en"],
     lambda m: m.get("lang") != "en"),
    # The bare one does not.
    ([{"lang": {"ne": "en"}}, lambda d: d.metadata.get("lang", "en") != "en"], lambda m: m.get("lang", "en") != "en"),
    ([{"nothing": "has this"}, lambda document: False], lambda m: False),
    ([{}, None, lambda document: True], lambda m: True),
]  # fmt: skip


@pytest.mark.parametrize(("filters", "expected"), FORMS)
@pytest.mark.parametrize("k", [1, 4, 25, 500])
def test_each_form_gives_exactly_the_nearest_that_match(
    store: ZeusDBVectorStore, filters: list[Filter], expected: Callable[[dict[str, Any]], bool], k: int
) -> None:
    matching = {str(i) for i, metadata in enumerate(FIELDS) if expected(metadata)}
    ranked = [document.id for document in store.similarity_search("word3", k=N) if document.id in matching]
    for filter in filters:
        found = store.similarity_search("word3", k=k, filter=filter)
        assert [document.id for document in found] == ranked[:k], filter
        assert store.similarity_search_batch(["word3", "word5"], k=k, filter=filter)[0] == found
        assert store.count(filter) == len(matching)
        assert set(store.get(filter=filter)["ids"]) == matching
        diverse = store.max_marginal_relevance_search("word3", k=k, fetch_k=max(k, 30), filter=filter)
        assert len(diverse) == min(k, len(matching)) and {document.id for document in diverse} <= matching


@pytest.mark.parametrize(("filters", "expected"), FORMS[:4])
def test_each_form_deletes_the_same(
    filters: list[Filter], expected: Callable[[dict[str, Any]], bool]
) -> None:
    kept = [str(i) for i, metadata in enumerate(FIELDS) if not expected(metadata)]
    for filter in filters:
        store = make_store()
        store.delete(filter=filter)
        assert store.get()["ids"] == kept


def test_a_callable_may_do_with_its_document_as_it_likes(store: ZeusDBVectorStore) -> None:
    def spoil(document: Document) -> bool:
        n = document.metadata.pop("n")
        document.metadata["spoilt"] = True
        return bool(n < 5)

    found = store.similarity_search("word1", k=10, filter=spoil)
    assert {document.metadata["n"] for document in found} == set(range(5))
    assert all("spoilt" not in document.metadata for document in found)


def test_what_a_callable_raises_comes_out(store: ZeusDBVectorStore) -> None:
    with pytest.raises(KeyError, match="missing"):
        store.similarity_search("word1", filter=lambda document: document.metadata["missing"])

    async def asynchronous(document: Document) -> bool:
        return True

    with pytest.raises(FilterError, match="async"):
        store.similarity_search("word1", filter=asynchronous)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ translator


@pytest.mark.parametrize(
    ("comparison", "expected"),
    [
        (Comparison(Comparator.EQ, "n", 5), lambda m: m["n"] == 5),
        (Comparison(Comparator.NE, "n", 5), lambda m: m["n"] != 5),
        (Comparison(Comparator.GT, "n", 5), lambda m: m["n"] > 5),
        (Comparison(Comparator.GTE, "n", 5), lambda m: m["n"] >= 5),
        (Comparison(Comparator.LT, "n", 5), lambda m: m["n"] < 5),
        (Comparison(Comparator.LTE, "n", 5), lambda m: m["n"] <= 5),
        (Comparison(Comparator.IN, "lang", ["en", "fr"]), lambda m: m.get("lang") in ("en", "fr")),
        (Comparison(Comparator.NIN, "lang", ["en", "fr"]), lambda m: m.get("lang") not in ("en", "fr")),
        (Comparison(Comparator.CONTAIN, "tags", "rare"), lambda m: "rare" in m.get("tags", [])),
        (Comparison(Comparator.CONTAIN, "lang", "e"), lambda m: "e" in m.get("lang", "")),
        (Comparison(Comparator.LIKE, "lang", "%e"), lambda m: m.get("lang", "").endswith("e")),
        (Comparison(Comparator.LIKE, "lang", "e"), lambda m: "e" in m.get("lang", "")),
        (Comparison(Comparator.GTE, "day", {"type": "date", "date": "2024-01-10"}),
         lambda m: "day" in m and m["day"] >= date(2024, 1, 10)),
        (Comparison(Comparator.EQ, "day", {"type": "datetime", "datetime": "2024-01-10T00:00:00Z"}),
         lambda m: m.get("day") == date(2024, 1, 10)),
    ],
)  # fmt: skip
def test_every_comparator(
    store: ZeusDBVectorStore, comparison: Comparison, expected: Callable[[dict[str, Any]], bool]
) -> None:
    expected_ids = [str(i) for i, metadata in enumerate(FIELDS) if expected(metadata)]
    assert store.get(filter=ZeusDBTranslator().visit_comparison(comparison))["ids"] == expected_ids
    assert store.get(filter=comparison)["ids"] == expected_ids


def test_translator_knows_all_there_are() -> None:
    assert set(ZeusDBTranslator.allowed_comparators) == set(Comparator)
    assert set(ZeusDBTranslator.allowed_operators) == set(Operator)


def test_translator_names_what_it_cannot_take() -> None:
    for expression in (
        Operation(Operator.AND, []),
        Comparison(Comparator.GT, "n", [1]),
        Comparison(Comparator.IN, "n", 1),
        Comparison(Comparator.LIKE, "n", 1),
        Comparison(Comparator.EQ, "n", {"type": "date", "date": "yesterday"}),
    ):
        with pytest.raises(FilterError):
            ZeusDBTranslator().visit_structured_query(StructuredQuery("", expression))


_leaves = st.builds(
    Comparison,
    st.sampled_from([Comparator.EQ, Comparator.NE, Comparator.GT, Comparator.LTE]),
    st.sampled_from(["n", "tenant"]),
    st.integers(0, 20),
)
_expressions = st.recursive(
    _leaves,
    lambda inner: st.builds(
        Operation, st.sampled_from(list(Operator)), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60)
@given(expression=_expressions)
def test_no_expression_gets_around_the_base_filter(expression: FilterDirective) -> None:
    store = _two_tenants()
    translator = ZeusDBTranslator(base_filter={"tenant": 1})
    _, arguments = translator.visit_structured_query(StructuredQuery("", expression))
    found = store.similarity_search("text", k=40, filter=arguments["filter"])
    assert {document.metadata["tenant"] for document in found} <= {1}
    assert len(found) == store.count({"$and": [{"tenant": 1}, translator_tree(expression)]})


def translator_tree(expression: FilterDirective) -> Any:
    return expression.accept(ZeusDBTranslator())


_STORES: list[ZeusDBVectorStore] = []


def _two_tenants() -> ZeusDBVectorStore:
    if not _STORES:
        store = ZeusDBVectorStore(WordEmbeddings())
        store.add_texts([f"text {i}" for i in range(40)], [{"tenant": i % 2, "n": i % 20} for i in range(40)])
        _STORES.append(store)
    return _STORES[0]


def test_base_filter_alone_and_with_a_callable() -> None:
    store = _two_tenants()
    text, arguments = ZeusDBTranslator({"tenant": 1}).visit_structured_query(StructuredQuery("bees", None))
    assert text == "bees" and store.count(arguments["filter"]) == 20
    guarded = ZeusDBTranslator(lambda document: document.metadata["tenant"] == 1)
    _, arguments = guarded.visit_structured_query(StructuredQuery("", Comparison(Comparator.LT, "n", 10)))
    assert store.count(arguments["filter"]) == 10
    assert ZeusDBTranslator().visit_structured_query(StructuredQuery("all", None)) == ("all", {})


def _model(reply: str) -> FakeListChatModel:
    return FakeListChatModel(responses=[f"```json\n{reply}\n```"])


SELF_QUERIES = [
    ('{"query": "text", "filter": "and(eq(\\"tenant\\", 0), lt(\\"n\\", 4))"}', 0),
    ('{"query": "text", "filter": "lt(\\"n\\", 4)"}', 4),
    ('{"query": "text", "filter": "or(eq(\\"tenant\\", 0), eq(\\"tenant\\", 1))"}', 20),
    ('{"query": "text", "filter": "not(eq(\\"tenant\\", 1))"}', 0),
    ('{"query": "text", "filter": "NO_FILTER"}', 20),
]


@pytest.mark.parametrize(("reply", "count"), SELF_QUERIES)
async def test_self_query_stays_within_the_base_filter(reply: str, count: int) -> None:
    pytest.importorskip("langchain_classic")
    from langchain_classic.chains.query_constructor.schema import AttributeInfo

    retriever = _two_tenants().as_self_query_retriever(
        _model(reply),
        "texts",
        [AttributeInfo(name="n", description="a number", type="integer"),
         AttributeInfo(name="tenant", description="whose", type="integer")],
        base_filter={"tenant": 1},
        search_kwargs={"k": 50, "filter": {"n": {"$gte": 0}}},
    )  # fmt: skip
    for found in (retriever.invoke("question"), await retriever.ainvoke("question")):
        assert len(found) == count
        assert all(document.metadata["tenant"] == 1 for document in found)


def test_self_query_takes_a_limit() -> None:
    pytest.importorskip("langchain_classic")
    retriever = _two_tenants().as_self_query_retriever(
        _model('{"query": "text", "filter": "gt(\\"n\\", 1)", "limit": 3}'),
        "texts",
        [{"name": "n", "description": "a number", "type": "integer"}],
        enable_limit=True,
    )
    assert len(retriever.invoke("three texts")) == 3


def test_dates_and_iso_strings_compare() -> None:
    store = ZeusDBVectorStore(WordEmbeddings())
    store.add_texts(
        ["a", "b", "c"],
        [{"at": datetime(2024, 1, 2, 3)}, {"at": "2024-01-03"}, {"at": date(2023, 1, 1)}],
        ids=["a", "b", "c"],
    )
    since = Comparison(Comparator.GTE, "at", {"type": "date", "date": "2024-01-01"})
    assert store.get(filter=since)["ids"] == ["a", "b"]


def _mixed() -> ZeusDBVectorStore:
    metadatas = [{"year": 2020}, {"year": "long ago"}, {"year": 2024}]
    return ZeusDBVectorStore.from_texts(["bees", "bread", "ants"], WordEmbeddings(), metadatas, ids=[0, 1, 2])


def _anything(document: Document) -> bool:
    return True


SINCE = {"year": {"$gte": 2000}}


@pytest.mark.parametrize(
    "call",
    [
        lambda store, **strict: [d.id for d in store.similarity_search("bees", filter=SINCE, **strict)],
        lambda store, **strict: [
            d.id for d in store.max_marginal_relevance_search("bees", filter=SINCE, **strict)
        ],
        lambda store, **strict: [
            d.id for d in store.similarity_search_batch(["bees"], filter=SINCE, **strict)[0]
        ],
        lambda store, **strict: [
            d.id for d in store.as_retriever(filter=SINCE, search_kwargs=strict).invoke("bees")
        ],
        lambda store, **strict: [
            d.id for d in store.as_retriever(filter=SINCE, search_kwargs=strict).invoke("a", filter=_anything)
        ],
        lambda store, **strict: store.get(filter=SINCE, **strict)["ids"],
        lambda store, **strict: store.get(["0", "2"], SINCE, **strict)["ids"],
        lambda store, **strict: [d.id for d in store.iterate(SINCE, **strict)],
        lambda store, **strict: "x" * store.count(SINCE, **strict),
        lambda store, **strict: "x" * store.update_metadata({"seen": True}, filter=SINCE, **strict),
        lambda store, **strict: [str(store.delete(filter=SINCE, **strict)), ""],
    ],
)
def test_strict_refuses_an_order_between_what_does_not_compare(call: Callable[..., Any]) -> None:
    store = _mixed()
    before = store.get()
    with pytest.raises(FilterError, match="year"):
        call(store, strict=True)
    assert store.get() == before
    assert len(call(store)) == len(call(_mixed(), strict=False)) == 2
    store = _mixed()
    store.delete(["1"])
    assert len(call(store, strict=True)) == 2, "all that is stored compares"


async def test_strict_of_the_async_twins() -> None:
    store = _mixed()
    for asked in (
        store.asimilarity_search("bees", filter=SINCE, strict=True),
        store.aget(filter=SINCE, strict=True),
        store.acount(SINCE, strict=True),
        store.aupdate_metadata({"seen": True}, filter=SINCE, strict=True),
        store.adelete(filter=SINCE, strict=True),
    ):
        with pytest.raises(FilterError, match="year"):
            await asked
    with pytest.raises(FilterError, match="year"):
        [document async for document in store.aiterate(SINCE, strict=True)]
    assert await store.acount(SINCE) == 2
