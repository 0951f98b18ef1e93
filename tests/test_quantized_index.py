"""Quantized indexes in memory: options, training, what is kept, what searches answer, and the life after."""

from __future__ import annotations

import gc
import logging
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from quantized_oracle import check_hits, expected_scores, mixture, product_scores, saved

from zeusdb_vs import (
    ArgumentTypeError,
    ConfigurationError,
    HNSWIndex,
    VectorDatabase,
    ZeusDBError,
    get_num_threads,
    quantization_config,
    set_num_threads,
)
from zeusdb_vs import planner as planner_module
from zeusdb_vs import upkeep as upkeep_module
from zeusdb_vs.kernels import layout
from zeusdb_vs.searching import search_many

LEAST = 1000
"""The smallest training_size."""
RAW, ONLY = "quantized_with_raw", "quantized_only"
KINDS = [
    (kind, mode, space)
    for kind, spaces in (("pq", ("cosine", "l2", "dot")), ("int8", oracle.SPACES))
    for mode in (ONLY, RAW)
    for space in spaces
]


def _config(kind: str = "pq", mode: str = ONLY, **options: Any) -> dict[str, Any]:
    return {"type": kind, "storage_mode": mode, "training_size": LEAST, **options}


@pytest.fixture(scope="module", autouse=True)
def kernels_in_use() -> None:
    """Compiled code answers from here on: before, NumPy answers for small indexes, and rounds otherwise."""
    index = _create("int8")
    index.add(mixture(LEAST, 16, 0))
    index.search(mixture(1, 16, 1)[0])


def _create(
    kind: str = "pq", mode: str = ONLY, *, dim: int = 16, space: str = "l2", **options: Any
) -> HNSWIndex:
    config = _config(kind, mode, **options.pop("quantization", {}))
    return VectorDatabase().create(dim=dim, space=space, quantization_config=config, **options)


def _ids(start: int, stop: int) -> list[str]:
    return [f"r{i}" for i in range(start, stop)]


def _records(vectors: np.ndarray, start: int = 0) -> dict[str, Any]:
    return {
        "ids": _ids(start, start + len(vectors)),
        "vectors": vectors,
        "metadatas": [{"n": i, "third": i % 3} for i in range(start, start + len(vectors))],
    }


def _check(hits: list[dict[str, Any]], *about: Any, **options: Any) -> None:
    check_hits([hit["id"] for hit in hits], [hit["score"] for hit in hits], *about, **options)


def _tolerance(kind: str, mode: str, dim: int = 96) -> float:
    """What scores may be off as a share: float32 sums, or those of 16-bit numbers for each byte of a code."""
    return 1e-5 if (kind, mode) != ("pq", ONLY) else max(1e-4, 4e-6 * dim / 8)


def _codes(index: HNSWIndex) -> bytes:
    """All that is kept of every vector, beside originals."""
    collection = index._collection
    return collection.coded_rows(0, collection.view.n).tobytes()


# ------------------------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({}, ConfigurationError, "needs 'type': one of 'pq', 'int8'"),
        ({"type": None}, ConfigurationError, "needs 'type'"),
        ({"type": "qp"}, ConfigurationError, "unknown type 'qp'; known are 'pq', 'int8'"),
        ({"type": "rabitq"}, ConfigurationError, "known are 'pq', 'int8'"),
        ({"type": 8}, ArgumentTypeError, r"\['type'\] must be a str, got 8"),
        ("pq", ArgumentTypeError, "must be a dict such as .*, got str"),
        ([("type", "pq")], ArgumentTypeError, "got list"),
        (
            {"type": "pq", "subvector": 2},
            ConfigurationError,
            "no option 'subvector'; did you mean 'subvectors'",
        ),
        ({"type": "int8", "subvectors": 2}, ConfigurationError, "type 'int8' has no option 'subvectors'"),
        ({"type": "int8", "bits": 8}, ConfigurationError, "no option 'bits'"),
        ({"type": "pq", "scale": "per_dimension"}, ConfigurationError, "no option 'scale'"),
        ({"type": "pq", 5: 5}, ConfigurationError, "no option 5"),
        ({"type": "int8", "scale": "global"}, ConfigurationError, "scale 'global'; .*'per_dimension'"),
        ({"type": "int8", "scale": np.ones(2)}, ArgumentTypeError, "scale.* must be a str"),
        ({"type": "pq", "subvectors": 0}, ConfigurationError, r"\['subvectors'\] must be .* 1 to 16, got 0"),
        ({"type": "pq", "subvectors": 17}, ConfigurationError, "from 1 to 16, got 17"),
        ({"type": "pq", "subvectors": 5}, ConfigurationError, "subvectors=5 does not divide dim=16; .*4, 8"),
        ({"type": "pq", "subvectors": 4.0}, ArgumentTypeError, "subvectors.* got 4.0 of type float"),
        ({"type": "pq", "subvectors": True}, ArgumentTypeError, "subvectors.* got True"),
        ({"type": "pq", "subvectors": "4"}, ArgumentTypeError, "got '4' of type str"),
        ({"type": "pq", "bits": 0}, ConfigurationError, r"\['bits'\] must be an integer from 1 to 8, got 0"),
        ({"type": "pq", "bits": 9}, ConfigurationError, "from 1 to 8, got 9"),
        ({"type": "pq", "bits": None}, ArgumentTypeError, "bits"),
        ({"type": "pq", "training_size": 999}, ConfigurationError, "from 1,000 to 16,777,216, got 999"),
        ({"type": "int8", "training_size": -1}, ConfigurationError, "training_size"),
        ({"type": "pq", "training_size": 1 << 25}, ConfigurationError, "got 33,554,432"),
        ({"type": "pq", "training_size": 1e4}, ArgumentTypeError, "training_size.* of type float"),
        ({"type": "pq", "training_size": None}, ArgumentTypeError, "training_size"),
        ({"type": "pq", "max_training_vectors": 10}, ConfigurationError, "max_training_vectors.* got 10"),
        (
            {"type": "pq", "training_size": 2000, "max_training_vectors": 1500},
            ConfigurationError,
            "max_training_vectors=1500 must not be below training_size=2000",
        ),
        ({"type": "pq", "max_training_vectors": "all"}, ArgumentTypeError, "max_training_vectors"),
        ({"type": "pq", "storage_mode": "raw"}, ConfigurationError, "unknown storage_mode 'raw'"),
        ({"type": "pq", "storage_mode": "quantized"}, ConfigurationError, "did you mean 'quantized_only'"),
        ({"type": "pq", "storage_mode": None}, ConfigurationError, "needs 'storage_mode': one of"),
        ({"type": "pq", "storage_mode": 1}, ArgumentTypeError, r"\['storage_mode'\] must be a str"),
    ],
)
def test_bad_options_name_what_is_allowed(config: Any, error: type[ZeusDBError], message: str) -> None:
    with pytest.raises(error, match=message):
        VectorDatabase().create(dim=16, quantization_config=config)
    plain = VectorDatabase().create(dim=16)
    plain.add({"id": "a", "vector": np.ones(16)})
    with pytest.raises(error, match=message):
        plain.rebuild(quantization_config=config)
    assert plain.quantization is None and len(plain) == 1


def test_product_codes_have_no_l1() -> None:
    with pytest.raises(
        ConfigurationError, match="spaces cosine, l2, dot, this index is of 'l1'; use type 'int8'"
    ):
        _create("pq", space="l1")
    assert _create("int8", space="l1").has_quantization()


def test_options_are_taken_and_told() -> None:
    index = VectorDatabase().create(
        dim=24,
        quantization_config={
            "type": " PQ ",
            "subvectors": np.int64(6),
            "bits": np.uint8(5),
            "training_size": np.int32(2000),
            "max_training_vectors": 5000,
            "storage_mode": "Quantized_With_Raw",
        },
    )
    given = index.quantization
    assert given is not None
    assert (given.type, given.subvectors, given.bits) == ("pq", 6, 5)
    assert (given.training_size, given.max_training_vectors) == (2000, 5000)
    assert given.storage_mode == RAW
    info = index.get_quantization_info()
    assert info == {
        "type": "pq",
        "subvectors": 6,
        "bits": 5,
        "training_size": 2000,
        "max_training_vectors": 5000,
        "storage_mode": RAW,
        "is_trained": False,
        "compression_ratio": 24 * 32 / 30,
        "code_bytes": 4,
        "memory_mb": 0.0,
        "total_centroids": 6 * 32,
    }


def test_what_is_not_given_has_a_default() -> None:
    given = VectorDatabase().create(dim=24, quantization_config={"type": "int8"}).quantization
    assert given is not None
    assert (given.type, given.storage_mode, given.training_size) == ("int8", ONLY, 10_000)
    assert given.max_training_vectors >= given.training_size
    large = VectorDatabase().create(
        dim=24, expected_size=10**6, quantization_config={"type": "pq", "training_size": 100_000}
    )
    assert large.quantization is not None and large.quantization.max_training_vectors == 100_000
    same = VectorDatabase().create(dim=24, quantization_config={"type": "int8", "scale": "per_dimension"})
    assert same.quantization == given


@pytest.mark.parametrize(
    ("dim", "subvectors"),
    [(1, 1), (2, 1), (7, 1), (8, 1), (24, 3), (100, 10), (384, 48), (1536, 192), (997, 1)],
)
def test_default_subvectors_divide_the_dimension(dim: int, subvectors: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index = VectorDatabase().create(dim=dim, quantization_config={"type": "pq"})
    assert index.quantization is not None
    assert index.quantization.subvectors == subvectors


def test_unlikely_options_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="training_size=10,000 is above expected_size=5,000") as told:
        VectorDatabase().create(dim=8, expected_size=5000, quantization_config={"type": "int8"})
    assert told[0].filename == __file__
    with pytest.warns(UserWarning, match="compress 1536 dimensions 768 times.* dim // 8 = 192") as told:
        VectorDatabase().create(dim=1536, quantization_config={"type": "pq", "subvectors": 8})
    assert told[0].filename == __file__
    with pytest.warns(UserWarning, match="64 times"):
        VectorDatabase().create(dim=16, quantization_config={"type": "pq", "subvectors": 2, "bits": 4})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        VectorDatabase().create(dim=384, quantization_config={"type": "pq", "subvectors": 48, "bits": 8})


# ------------------------------------------------------------------------------------------------ training


def test_index_without_quantization_says_so() -> None:
    index = VectorDatabase().create(dim=4)
    assert not (index.has_quantization() or index.is_quantized() or index.can_use_quantization())
    assert not index.is_training_ready()
    assert (index.training_vectors_needed(), index.get_training_progress()) == (0, 0.0)
    assert index.get_storage_mode() == "raw_only"
    assert index.get_quantization_info() is None
    assert index.rebuild_with_quantization() is False
    assert "quantization=none" in index.info()
    assert index.get_stats()["quantization_type"] == "none"


@pytest.mark.parametrize("mode", [ONLY, RAW])
@pytest.mark.parametrize("kind", ["pq", "int8"])
def test_progress_until_training_and_after(kind: str, mode: str) -> None:
    index = _create(kind, mode, dim=16, quantization={"subvectors": 8} if kind == "pq" else {})
    line = {
        "pq": "pq(subvectors=8, bits=8, {}, compression=8.0x)",
        "int8": "int8(scale=per_dimension, {}, compression=4.0x)",
    }[kind]
    rows = mixture(1100, 16, 0)
    assert index.has_quantization()
    for count in (0, 250, 999):
        index.add(_records(rows[len(index) : count], len(index)))
        assert not (index.is_quantized() or index.can_use_quantization() or index.is_training_ready())
        assert index.training_vectors_needed() == LEAST - count
        assert index.get_training_progress() == pytest.approx(100 * count / LEAST)
        assert index.get_storage_mode() == "raw_collecting_for_training"
        assert index.info().endswith(f"vectors={count}, quantization={line.format('untrained, inactive')})")
        assert index.rebuild_with_quantization() is False
        stats = index.get_stats()
        assert (stats["raw_vectors_stored"], stats["quantized_codes_stored"]) == (count, 0)
        assert (stats["quantization_trained"], stats["training_vectors_needed"]) == (False, LEAST - count)
        assert stats["storage_mode"] == mode
    index.add(_records(rows[999:1000], 999))
    for count in (1000, 1100, 0):
        assert index.is_quantized() and index.can_use_quantization() and index.is_training_ready()
        assert (index.training_vectors_needed(), index.get_training_progress()) == (0, 100.0)
        assert index.get_storage_mode() == "quantized_active"
        assert index.info().endswith(f"vectors={count}, quantization={line.format('trained, active')})")
        stats = index.get_stats()
        assert stats["raw_vectors_stored"] == (count if mode == RAW else 0)
        assert stats["quantized_codes_stored"] == count
        assert stats["quantization_trained"] and stats["storage_mode_description"] == "quantized_active"
        info = index.get_quantization_info()
        assert info is not None and info["is_trained"]
        assert info["memory_mb"] > 0 and info["training_seconds"] > 0
        assert 0.3 < info["kept_neighbors"] <= 1
        assert (info["rerank"] == 0) == (kind == "pq" and mode == ONLY)
        assert info["codes"].startswith("pq 8x8" if kind == "pq" else "8-bit")
        if count == 1000:
            index.add(_records(rows[1000:], 1000))
        elif count == 1100:
            index.compact()
            assert index.get_quantization_info() == info, "compacting is no training"
            index.clear()


def _bulk(index: HNSWIndex, rows: np.ndarray) -> None:
    index.add(_records(rows))


def _in_parts(index: HNSWIndex, rows: np.ndarray) -> None:
    for start in range(0, len(rows), 150):
        index.add(_records(rows[start : start + 150], start))


def _one_by_one(index: HNSWIndex, rows: np.ndarray) -> None:
    index.add(_records(rows[:980]))
    for i in range(980, len(rows)):
        index.add({"id": f"r{i}", "vector": rows[i], "metadata": {"n": i, "third": i % 3}})
        assert index.is_quantized() == (i >= 999)


def _generated(index: HNSWIndex, rows: np.ndarray) -> None:
    index.add(
        {"id": f"r{i}", "vector": row, "metadata": {"n": i, "third": i % 3}} for i, row in enumerate(rows)
    )


@pytest.mark.parametrize("fill", [_bulk, _in_parts, _one_by_one, _generated])
@pytest.mark.parametrize(("kind", "mode"), [("pq", ONLY), ("pq", RAW), ("int8", ONLY)])
def test_trained_in_the_add_that_reaches_the_size(
    kind: str, mode: str, fill: Callable[[HNSWIndex, np.ndarray], None], tmp_path: Path
) -> None:
    rows = mixture(1030, 16, 0)
    index = _create(kind, mode)
    fill(index, rows)
    assert index.is_quantized()
    assert index.list(number=2000) == [(f"r{i}", {"n": i, "third": i % 3}) for i in range(1030)]
    queries = mixture(10, 16, 1)
    true = expected_scores(saved(index, tmp_path / "x"), queries, "l2", rows if mode == RAW else None)
    for hits, row in zip(index.search(queries, top_k=20, exact=True), true, strict=True):
        _check(hits, _ids(0, 1030), row, 20, space="l2", tolerance=_tolerance(kind, mode))


def test_exactly_enough_records_train() -> None:
    for kind in ("pq", "int8"):
        index = _create(kind)
        index.add(_records(mixture(LEAST, 16, 0)))
        assert index.is_quantized()


def test_only_records_that_live_count() -> None:
    rows = mixture(2000, 16, 0)
    index = _create()
    index.add(_records(rows[:900]))
    index.add(_records(rows[1000:1900]))  # the same ids again
    assert (len(index), index.training_vectors_needed()) == (900, 100)
    index.remove_points(_ids(0, 50))
    assert index.training_vectors_needed() == 150
    index.add(_records(rows[:140], 5000))
    assert not index.is_quantized()
    index.add(_records(rows[:30], 100))
    assert (index.is_quantized(), index.training_vectors_needed()) == (False, 10)
    # Five replace others, so nine are not enough.
    index.add({"ids": [*_ids(60, 65), *_ids(7000, 7009)], "vectors": rows[:14]})
    assert (index.is_quantized(), len(index)) == (False, 999)
    index.add({"ids": [*_ids(60, 65), "last"], "vectors": rows[:6]})
    assert index.is_quantized()
    assert index.search(rows[5], top_k=1)[0]["id"] in ("last", "r7005", "r5005", "r105")


@pytest.fixture
def given_threads() -> Iterator[None]:
    before = get_num_threads()
    yield
    set_num_threads(before)


@pytest.mark.parametrize(("kind", "space"), [("pq", "cosine"), ("pq", "l2"), ("int8", "l2"), ("int8", "l1")])
def test_same_input_gives_the_same_codes_on_any_number_of_threads(
    kind: str, space: str, given_threads: None, tmp_path: Path
) -> None:
    rows, queries = mixture(1500, 96, 0), mixture(20, 96, 1)
    seen = []
    for count in (1, 2, 2):
        set_num_threads(count)
        index = _create(kind, space=space, dim=96)
        _in_parts(index, rows)
        files = saved(index, tmp_path / f"{len(seen)}")
        del files["mappings.bin"]
        content = {
            (name, part): np.asarray(value).tobytes()
            for name, own in files.items()
            for part, value in own.items()
        }
        seen.append((_codes(index), content, index.search(queries)))
    assert seen[0] == seen[1] == seen[2]


class _Stop(logging.Handler):
    """Raises at the first message that begins as told."""

    def __init__(self, beginning: str, error: type[BaseException]) -> None:
        super().__init__(logging.INFO)
        self.beginning, self.error = beginning, error
        self.is_reached = False

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith(self.beginning) and ("parts" in message) == ("parts" in self.beginning):
            self.is_reached = True
            raise self.error


@pytest.fixture
def stop_at(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[str, type[BaseException]], _Stop]]:
    """Lets training be broken off where it says how far it is."""
    caplog.set_level(logging.INFO, "zeusdb_vs")
    logger, added = logging.getLogger("zeusdb_vs"), []

    def stop(beginning: str, error: type[BaseException]) -> _Stop:
        added.append(_Stop(beginning, error))
        logger.addHandler(added[-1])
        return added[-1]

    yield stop
    for handler in added:
        logger.removeHandler(handler)


def _seen(index: HNSWIndex) -> tuple[Any, ...]:
    queries = mixture(5, index.dim, 3)
    names = [name for name, _ in index.list(number=10**5)]
    return (
        index.info(),
        index.list(number=10**5),
        [record["vector"].tobytes() for record in index.get_records(names)],
        index.search(queries, filter={"third": 1}),
        index.search(queries),
        index.get_training_progress(),
        index.get_stats()["raw_vectors_stored"],
        index.get_quantization_info(),
    )


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("beginning", ["training pq", "training pq: 4 of 4 parts", "trained pq"])
@pytest.mark.parametrize("mode", [ONLY, RAW])
def test_add_that_is_interrupted_in_training_leaves_the_index_as_it_was(
    mode: str, beginning: str, error: type[BaseException], stop_at: Any, tmp_path: Path
) -> None:
    rows = mixture(1300, 16, 0)
    index = _create("pq", mode, quantization={"subvectors": 4})
    index.add(_records(rows[:900]))
    index.remove_point("r7")
    before = _seen(index)
    handler = stop_at(beginning, error)
    for _ in range(2):
        with pytest.raises(error):
            index.add(_records(rows[800:1200], 800))
        assert handler.is_reached
        assert _seen(index) == before
        assert index._collection._vectors.is_coded is False
    index.save(tmp_path / "x")
    assert _seen(VectorDatabase().load(tmp_path / "x")) == before
    logging.getLogger("zeusdb_vs").removeHandler(handler)
    index.add(_records(rows[900:950], 900))
    assert (len(index), index.is_quantized()) == (949, False)
    index.add(_records(rows[800:1200], 800))
    assert (len(index), index.is_quantized()) == (1199, True)
    hits = index.search(rows[1000], top_k=5, exact=True)
    assert mode == ONLY or hits[0]["id"] == "r1000"
    index.save(tmp_path / "x")
    assert VectorDatabase().load(tmp_path / "x").search(rows[1000], top_k=5, exact=True) == hits


def test_progress_callback_that_raises_withdraws_the_add() -> None:
    def refuse(done: int) -> None:
        raise KeyboardInterrupt

    index = _create("int8")
    index.add(_records(mixture(990, 16, 0)))
    before = _seen(index)
    with pytest.raises(KeyboardInterrupt):
        index.add(_records(mixture(20, 16, 1), 990), progress=refuse)
    assert _seen(index) == before


def test_interrupted_rebuild_keeps_what_there_was(stop_at: Any) -> None:
    index = _create("int8", RAW)
    index.add(_records(mixture(1200, 16, 0)))
    before = _seen(index)
    for beginning in ("training pq: 2 of 2 parts", "trained pq"):
        handler = stop_at(beginning, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            index.rebuild(quantization_config=_config(subvectors=2), m=20)
        assert handler.is_reached
        assert _seen(index) == before
        logging.getLogger("zeusdb_vs").removeHandler(handler)


def test_searches_go_on_while_the_quantizer_is_trained() -> None:
    """Each reader finds every record whose add had returned when its search began, before, in and after training."""
    dim, batch = 64, 260
    rows = mixture(3900, dim, 0)
    index = _create("pq", RAW, dim=dim, quantization={"training_size": 2000})
    returned, problems = [0], []
    searches = {False: 0, True: 0}
    is_done = threading.Event()

    def read(seed: int) -> None:
        chance = np.random.default_rng(seed)
        try:
            while not is_done.is_set():
                stored = returned[0]
                if stored == 0:
                    continue
                at = int(chance.integers(stored))
                was_quantized = index.is_quantized()
                (hit,) = index.search(rows[at], top_k=1, exact=True)
                if hit["id"] != f"r{at}" or not hit["score"] < 1e-3:
                    problems.append((at, stored, hit))
                hits = index.search(rows[at], top_k=30, filter={"third": at % 3})
                if len(hits) != min(30, len([i for i in range(stored) if i % 3 == at % 3])) and stored > 100:
                    problems.append((at, len(hits)))
                searches[was_quantized] += 1
        except Exception as error:
            problems.append(error)

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
    for reader in readers:
        reader.start()
    try:
        for start in range(0, len(rows), batch):
            index.add(_records(rows[start : start + batch], start))
            returned[0] = start + batch
    finally:
        is_done.set()
        for reader in readers:
            reader.join()
    assert problems == []
    assert index.is_quantized() and min(searches.values()) > 5


def test_views_from_before_the_training_stay_whole() -> None:
    rows = mixture(1200, 16, 0)
    index = _create()
    index.add(_records(rows[:900]))
    view, query = index._collection.view, rows[3:4]
    before = search_many(view, query, 5)
    index.add(_records(rows[900:], 900))
    assert index.is_quantized()
    after = search_many(view, query, 5)
    np.testing.assert_array_equal(before.slots, after.slots)
    np.testing.assert_allclose(before.distances, after.distances, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", [ONLY, RAW])
@pytest.mark.parametrize("kind", ["pq", "int8"])
@pytest.mark.parametrize("distinct", [1, 3, 300])
def test_duplicates_are_quantized(kind: str, mode: str, distinct: int) -> None:
    some = mixture(distinct, 12, 0)
    rows = some[np.arange(1200) % distinct]
    for space in ("cosine", "l2"):
        index = _create(kind, mode, dim=12, space=space)
        index.add(_records(rows))
        assert index.is_quantized()
        for query in (some[0], mixture(1, 12, 1)[0]):
            hits = index.search(query, top_k=30)
            assert len({hit["id"] for hit in hits}) == 30
        (hit,) = index.search(some[0], top_k=1)
        stored = index.get_records(hit["id"])[0]["vector"]
        if distinct <= 3:  # as many centroids as vectors: nothing is lost but what 8 bits a dimension lose
            lossless = mode == RAW or kind == "pq"
            lost = np.linalg.norm(stored - some[0]) / np.linalg.norm(some[0])
            assert lost < (1e-5 if lossless else 0.03)
            exactly = 5e-3 if space == "l2" else 1e-4  # the root of the rounding of float32
            assert hit["score"] == pytest.approx(0, abs=exactly if lossless else 0.2)


@pytest.mark.parametrize(("kind", "mode"), [("pq", ONLY), ("pq", RAW), ("int8", ONLY), ("int8", RAW)])
@pytest.mark.parametrize("dim", [1, 2, 3, 8, 48, 100, 384, 1536])
def test_any_width_is_quantized(kind: str, mode: str, dim: int, tmp_path: Path) -> None:
    rows, queries = mixture(LEAST, dim, 0), mixture(5, dim, 1)
    space = ("cosine", "l2", "dot")[dim % 3]
    index = _create(kind, mode, dim=dim, space=space, ef_construction=40, m=8)
    index.add(_records(rows))
    assert index.is_quantized()
    true = expected_scores(saved(index, tmp_path / "x"), queries, space, rows if mode == RAW else None)
    tolerance = _tolerance(kind, mode, dim)
    for loaded in (index, VectorDatabase().load(tmp_path / "x")):
        for hits, row in zip(loaded.search(queries), true, strict=True):
            _check(hits, _ids(0, LEAST), row, 10, least=0.8, space=space, tolerance=tolerance)


@pytest.mark.parametrize("bits", range(1, 9))
def test_any_number_of_bits_is_quantized(bits: int, tmp_path: Path) -> None:
    rows, queries = mixture(1100, 24, 0), mixture(10, 24, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of bits=1, which compress 64 times
        index = _create("pq", dim=24, quantization={"subvectors": 12, "bits": bits})
    index.add(_records(rows))
    files = saved(index, tmp_path / "x")
    assert files["pq_centroids.bin"]["centroids"].shape == (12, 2**bits, 2)
    # Codes of up to 4 bits share a byte.
    width = {1: 2, 2: 3, 3: 6, 4: 6}.get(bits, 12)
    assert files["pq_codes.bin"]["codes"].shape[1] == 8 + -(-width // 4) * 4
    true = product_scores(files, queries, "l2")
    for hits, row in zip(index.search(queries, exact=True), true, strict=True):
        _check(hits, _ids(0, 1100), row, 10, space="l2", tolerance=1e-4)


def test_vectors_of_extreme_norm_are_quantized() -> None:
    rows = mixture(1100, 16, 0)
    rows[::100] *= np.float32(1e30)
    rows[1::100] *= np.float32(1e-30)
    rows[2] = np.float32(3e38)
    for kind in ("pq", "int8"):
        for mode in (ONLY, RAW):
            index = _create(kind, mode, space="cosine")
            index.add(_records(rows))
            hits = index.search(rows[100], top_k=3)
            assert all(np.isfinite(hit["score"]) and -1e-6 <= hit["score"] <= 2.001 for hit in hits)
            assert all(np.isfinite(record["vector"]).all() for record in index.get_records(_ids(0, 1100)))
            assert len(index.search(id="r2", top_k=5)) == 5


@pytest.mark.parametrize("space", ["l2", "l1", "dot"])
@pytest.mark.parametrize("scale", [1e-30, 1e25, 1e37])
def test_numbers_whose_squares_leave_float32_can_be_stored(
    space: str, scale: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization_config, "LEAST_TRAINING_SIZE", 200)
    for dim in (16, 100):
        rows = (mixture(200, dim, 0) * scale).astype(np.float32)
        for kind in ("pq", "int8"):
            for mode in (ONLY, RAW):
                if (kind, space) == ("pq", "l1"):
                    continue
                index = _create(kind, mode, dim=dim, space=space, quantization={"training_size": 200})
                index.add(_records(rows))
                assert index.is_quantized()
                index.save(tmp_path / "x")
                loaded = VectorDatabase().load(tmp_path / "x")
                for one in (index, loaded):
                    decoded = np.stack([record["vector"] for record in one.get_records(_ids(0, 200))])
                    assert np.isfinite(decoded).all()
                    if mode == RAW:
                        assert decoded.tobytes() == rows.tobytes()
                    elif kind == "int8":
                        lost = np.abs(decoded / scale - rows / scale).mean()
                        assert lost < (0.02 if scale < 1e30 else 0.1) * np.abs(rows / scale).mean()
                    if space == "l2" and kind == "int8":
                        for at in (0, 150):
                            assert one.search(rows[at], top_k=1, exact=True)[0]["id"] == f"r{at}"
                loaded.add(_records(rows[:50], 2000))
                loaded.compact()


# ------------------------------------------------------------------------------------------------ what is kept


@pytest.mark.parametrize("kind", ["pq", "int8"])
def test_originals_leave_the_memory(kind: str) -> None:
    index = _create(kind, dim=32)
    index.add(_records(mixture(900, 32, 0)))
    chunks = [weakref.ref(chunk) for chunk in index._collection._vectors.originals.chunks]
    assert chunks and index.memory()["vectors"] >= 900 * 32 * 4
    index.search(mixture(3, 32, 2))
    index.add(_records(mixture(200, 32, 1), 900))
    gc.collect()
    assert [chunk() for chunk in chunks] == [None] * len(chunks)
    assert index._collection._vectors.originals.chunks == []
    index.add(_records(mixture(200, 32, 2), 1100))
    index.add({"id": "r0", "vector": mixture(1, 32, 5)[0]})
    index.remove_points(_ids(10, 20))
    index.compact()
    assert index.memory()["vectors"] == 0
    assert (index.get_stats()["raw_vectors_stored"], len(index)) == (0, 1290)


def test_norms_are_all_that_cosine_keeps_beside_codes() -> None:
    index = _create("int8", dim=128, space="cosine")
    index.add(_records(mixture(4096, 128, 0), 0))
    assert index.memory()["vectors"] == 4096 * 4
    assert index.memory()["codes"] < 1.1 * 4096 * 128


@pytest.mark.parametrize("space", ["cosine", "l2"])
@pytest.mark.parametrize("kind", ["pq", "int8"])
def test_with_raw_gives_back_what_went_in(kind: str, space: str) -> None:
    rows = mixture(1200, 24, 0)
    rows[5] *= 1e-20
    rows[6] *= 1e20
    index = _create(kind, RAW, dim=24, space=space)
    index.add(_records(rows[:700]))
    index.add(_records(rows[700:], 700))
    index.add({"id": "r3", "vector": rows[4]})
    for position, record in enumerate(index.get_records(_ids(0, 1200))):
        assert record["vector"].tobytes() == rows[4 if position == 3 else position].tobytes()
    assert index.get_stats()["raw_vectors_stored"] == 1200
    hits = index.search(rows[8], top_k=2, return_vector=True)
    assert hits[0]["vector"].tobytes() == rows[8].tobytes()


@pytest.mark.parametrize("space", oracle.SPACES)
def test_only_gives_back_nearly_what_went_in(space: str) -> None:
    rows = mixture(1500, 96, 0)
    for kind, worst in (("int8", 0.02), ("pq", 0.5)):
        if (kind, space) == ("pq", "l1"):
            continue
        index = _create(kind, space=space, dim=96)
        index.add(_records(rows))
        decoded = np.stack([record["vector"] for record in index.get_records(_ids(0, 1500))])
        assert decoded.dtype == np.float32
        lost = np.linalg.norm(decoded - rows, axis=1) / np.linalg.norm(rows, axis=1)
        assert lost.mean() < worst


# ------------------------------------------------------------------------------------------------ searches

N, DIM = 2500, 96
ROWS, QUERIES = mixture(N, DIM, 0), mixture(40, DIM, 1)
NAMES = _ids(0, N)
THIRDS = np.arange(N) % 3


@dataclass
class Built:
    """An index over ROWS and what it is to answer to QUERIES."""

    kind: str
    mode: str
    space: str
    index: HNSWIndex
    files: dict[str, dict[str, Any]]
    true: np.ndarray

    @property
    def scores(self) -> str:
        """What `explain` says of them."""
        return "exact" if self.mode == RAW else {"pq": "by code", "int8": "decoded"}[self.kind]

    def check(self, answers: Any, k: int, *, least: float = 1.0, allowed: Any = None) -> None:
        tolerance = _tolerance(self.kind, self.mode)
        for number, hits in enumerate(answers):
            _check(
                hits,
                NAMES,
                self.true[number],
                k,
                least=least,
                allowed=allowed,
                space=self.space,
                tolerance=tolerance,
            )


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, str], Built]:
    made: dict[tuple[str, str, str], Built] = {}

    def get(kind: str, mode: str, space: str) -> Built:
        if (kind, mode, space) not in made:
            index = _create(kind, mode, dim=DIM, space=space)
            index.add(_records(ROWS))
            files = saved(index, tmp_path_factory.mktemp("x") / "x")
            true = expected_scores(files, QUERIES, space, ROWS if mode == RAW else None)
            made[kind, mode, space] = Built(kind, mode, space, index, files, true)
        return made[kind, mode, space]

    return get


@pytest.fixture(params=KINDS, ids=lambda kind: "-".join(kind))
def built(request: pytest.FixtureRequest, build: Callable[..., Built]) -> Iterator[Built]:
    made = build(*request.param)
    yield made
    made.index._collection.view.plans.clear()  # made with the constants of one test


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch, built: Built) -> None:
    """Searches go through the graph: so few records would be scanned."""
    monkeypatch.setattr(planner_module, "_SCAN_START_NS", 1e12)
    built.index._collection.view.plans.clear()


def _explained(built: Built, **options: Any) -> Any:
    return built.index.search(QUERIES, explain=True, **options).explanation


def test_scanned_scores_are_those_of_the_oracle(built: Built) -> None:
    built.check(built.index.search(QUERIES), 10, least=0.9)
    built.check(built.index.search(QUERIES, exact=True), 10)
    built.check([built.index.search(query) for query in QUERIES], 10, least=0.9)
    assert _explained(built).scores == built.scores
    assert _explained(built, exact=True).scores == built.scores
    assert _explained(built, exact=True).approximate is (built.mode == ONLY)


@pytest.mark.usefixtures("walks")
def test_walked_scores_are_those_of_the_oracle(built: Built) -> None:
    explanation = _explained(built)
    assert (explanation.path, explanation.scores) == ("walk", built.scores)
    assert explanation.approximate
    assert explanation.codes == built.index.get_quantization_info()["codes"]
    answers = built.index.search(QUERIES)
    built.check(answers, 10, least=0.8)
    singles = [built.index.search(query) for query in QUERIES]
    assert [[h["id"] for h in hits] for hits in singles] == [[h["id"] for h in hits] for hits in answers]
    # Taken together nearly nothing is missed of what the same scores, all computed, would find.
    limits = np.sort(built.true, axis=1)[:, 9] + 1e-4 * np.abs(built.true).max()
    found = [
        sum(hit["score"] <= limit for hit in hits) / 10 for hits, limit in zip(answers, limits, strict=True)
    ]
    assert np.mean(found) >= 0.985


@pytest.mark.usefixtures("walks")
def test_recall_of_walks(built: Built) -> None:
    floor = {("pq", ONLY): 0.33, ("pq", RAW): 0.98, ("int8", ONLY): 0.95, ("int8", RAW): 0.99}
    ids = built.index.search_arrays(QUERIES, 10)[0]
    place = {name: row for row, name in enumerate(NAMES)}
    found = [[place[name] for name in row] for row in ids.tolist()]
    recall = oracle.recall(QUERIES, ROWS, built.space, 10, found)
    assert recall >= floor[built.kind, built.mode]


@pytest.mark.usefixtures("walks")
def test_without_rerank_scores_are_those_by_code(built: Built) -> None:
    explanation = _explained(built, rerank=0)
    assert (explanation.scores, explanation.reranked) == ("by code", 0)
    answers = built.index.search(QUERIES, rerank=0)
    exact = oracle.distances(QUERIES, ROWS, built.space)
    if built.kind == "pq":
        true = product_scores(built.files, QUERIES, built.space)
        worst = 1e-4 * np.abs(true).max()
    else:
        # A query of 8 bits against codes of 8, or against their high halves of 4: a few hundredths of the spread.
        true, worst = exact, (0.7 if built.mode == ONLY else 0.1) * exact.std()
    for number, hits in enumerate(answers):
        rows = [int(hit["id"][1:]) for hit in hits]
        scores = [hit["score"] for hit in hits]
        assert len(set(rows)) == 10 and scores == sorted(scores)
        np.testing.assert_allclose(scores, true[number, rows], rtol=0, atol=worst)
    # On the scale of the space: what estimates miss, and the nearest were chosen by it, is less than its spread.
    scores = np.array([[hit["score"] for hit in hits] for hits in answers])
    rows = np.array([[int(hit["id"][1:]) for hit in hits] for hits in answers])
    assert abs((scores - np.take_along_axis(exact, rows, 1)).mean()) < 1.5 * exact.std()


@pytest.mark.usefixtures("walks")
def test_rerank_says_how_many_are_looked_at_again(built: Built) -> None:
    wide = _explained(built, rerank=50)
    by_code = (built.kind, built.mode) == ("pq", ONLY)
    assert wide.reranked == (0 if by_code else 500)
    assert wide.scores == built.scores
    built.check(built.index.search(QUERIES, rerank=50), 10, least=0.9)
    built.check(built.index.search(QUERIES, rerank=1), 10, least=0.0)
    built.check(built.index.search(QUERIES, rerank=10**6), 10, least=0.9)
    by_default = _explained(built).reranked
    assert by_default == 0 if by_code else 10 < by_default < N
    if built.mode == RAW:
        few, many = (
            np.mean([hits[-1]["score"] for hits in built.index.search(QUERIES, rerank=rerank)])
            for rerank in (1, 50)
        )
        assert many <= few


@pytest.mark.usefixtures("walks")
@pytest.mark.parametrize("top_k", [1, 7, 300, N, N + 1000])
def test_there_are_always_as_many_hits_as_can_be(built: Built, top_k: int) -> None:
    for options in ({}, {"rerank": 0}, {"exact": True}, {"rerank": 3}):
        (hits,) = built.index.search(QUERIES[:1], top_k=top_k, **options)
        assert len({hit["id"] for hit in hits}) == min(top_k, N)
        scores = [hit["score"] for hit in hits]
        assert scores == sorted(scores)
    built.check(built.index.search(QUERIES[:3], top_k=top_k), top_k, least=0.9)


@pytest.mark.parametrize("is_walked", [False, True])
def test_filters_leave_what_matches(built: Built, is_walked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_walked:
        monkeypatch.setattr(planner_module, "_SCAN_START_NS", 1e12)
        built.index._collection.view.plans.clear()
    for filter, allowed in (
        ({"third": 1}, THIRDS == 1),
        ({"n": {"lt": 37}}, np.arange(N) < 37),
        ({"n": {"lt": 4}}, np.arange(N) < 4),
        ({"n": {"gte": 200}}, np.arange(N) >= 200),
        ({"n": -1}, np.zeros(N, bool)),
    ):
        answers = built.index.search(QUERIES[:10], filter=filter, top_k=12)
        built.check(answers, 12, least=0.6, allowed=allowed)
        for options in ({"rerank": 0}, {"rerank": 4}, {"exact": True}):
            other = built.index.search(QUERIES[:2], filter=filter, top_k=12, **options)
            assert [len(hits) for hits in other] == [min(12, int(allowed.sum()))] * 2
            assert all(allowed[int(hit["id"][1:])] for hits in other for hit in hits)


def test_other_ways_to_ask(built: Built) -> None:
    index, query = built.index, QUERIES[0]
    order = np.argsort(built.true[0], kind="stable")
    limit = float(built.true[0, order[5]] + built.true[0, order[6]]) / 2
    near = index.search(query, max_distance=limit, exact=True)
    assert [hit["id"] for hit in near] == [NAMES[row] for row in order[:6]]
    among = index.search(query, ids=[*_ids(40, 90), "nobody"], top_k=60)
    built.check([among], 60, allowed=(np.arange(N) >= 40) & (np.arange(N) < 90))
    ids, distances = index.search_arrays(QUERIES, 5, exact=True)
    assert ids.tolist() == [
        [hit["id"] for hit in hits] for hits in index.search(QUERIES, top_k=5, exact=True)
    ]
    assert distances.dtype == np.float32
    ids, distances = index.search_arrays(query, 8, filter={"n": {"lt": 3}}, rerank=2)
    assert ids[0, 3:].tolist() == [None] * 5 and np.isinf(distances[0, 3:]).all()
    others = index.search(id="r77", top_k=10)
    assert len(others) == 10 and "r77" not in [hit["id"] for hit in others]
    vector = index.get_records("r77")[0]["vector"]
    asked = [hit["id"] for hit in index.search(vector, top_k=12) if hit["id"] != "r77"]
    assert len(set(asked) & {hit["id"] for hit in others}) >= 9
    hit = index.search(query, top_k=1, include=["vector", "metadata"])[0]
    assert hit["metadata"]["n"] == int(hit["id"][1:])
    assert hit["vector"].tobytes() == index.get_records(hit["id"])[0]["vector"].tobytes()
    assert index.benchmark_concurrent_reads(8, 2)["parallel_qps"] > 0


@pytest.mark.parametrize("value", [-1, 1.5, True, "2", float("nan")])
def test_bad_rerank_is_refused(build: Callable[..., Built], value: Any) -> None:
    index = build("pq", RAW, "l2").index
    for ask in (index.search, index.search_arrays):
        with pytest.raises((ConfigurationError, ArgumentTypeError), match="rerank must be an integer from 0"):
            ask(QUERIES[0], rerank=value)


@pytest.mark.parametrize("kind", ["pq", "int8"])
def test_rerank_means_nothing_where_nothing_is_quantized(kind: str) -> None:
    index = _create(kind)
    index.add(_records(mixture(500, 16, 0)))
    query = mixture(1, 16, 1)[0]
    assert index.search(query, rerank=0) == index.search(query) == index.search(query, rerank=7)
    assert index.search(query, rerank=0, explain=True).explanation.scores == "exact"


def test_bad_queries_are_refused_as_ever(built: Built) -> None:
    for bad in (np.full(DIM, np.nan), np.full(DIM, np.inf), np.ones(DIM + 1), "text"):
        with pytest.raises(ZeusDBError):
            built.index.search(bad)
    if built.space == "cosine":
        with pytest.raises(ZeusDBError, match="zero"):
            built.index.search(np.zeros(DIM))
    assert built.index.search(QUERIES[0], top_k=0) == []


# ------------------------------------------------------------------------------------------------ life


class _Alive:
    """An index that changes, and the vectors its records should have."""

    def __init__(self, kind: str, mode: str, space: str, dim: int = 32) -> None:
        self.index = _create(kind, mode, dim=dim, space=space)
        self.kind, self.mode, self.space = kind, mode, space
        self.rows: dict[str, np.ndarray] = {}
        self.queries = mixture(15, dim, 1)

    def add(self, names: list[str], vectors: np.ndarray) -> None:
        self.index.add(
            {
                "ids": names,
                "vectors": vectors,
                "metadatas": [{"even": int(name[1:]) % 2 == 0} for name in names],
            }
        )
        for name, vector in zip(names, vectors, strict=True):
            self.rows.pop(name, None)
            self.rows[name] = vector

    def remove(self, names: list[str]) -> None:
        assert self.index.remove_points(names) == []
        for name in names:
            del self.rows[name]

    def check(self, folder: Path) -> None:
        """Every answer against the oracle; the index is saved and loaded for it, and answers alike."""
        names, vectors = list(self.rows), np.array(list(self.rows.values()))
        assert [name for name, _ in self.index.list(number=10**5)] == names
        files = saved(self.index, folder / "x")
        if not names:
            assert self.index.search(self.queries) == [[]] * len(self.queries)
            return
        is_raw = self.mode == RAW or not self.index.is_quantized()
        true = expected_scores(files, self.queries, self.space, vectors if is_raw else None)
        tolerance = _tolerance(self.kind, self.mode if self.index.is_quantized() else RAW)
        if len(names) < 50:  # none of the few scores may be as large as what estimates are rounded by
            tolerance *= 10
        even = np.array([int(name[1:]) % 2 == 0 for name in names])
        for filter, allowed in ((None, None), ({"even": True}, even)):
            answers = self.index.search(self.queries, filter=filter, top_k=10)
            for hits, row in zip(answers, true, strict=True):
                _check(
                    hits, names, row, 10, allowed=allowed, least=0.7, space=self.space, tolerance=tolerance
                )
            loaded = VectorDatabase().load(folder / "x")
            assert loaded.search(self.queries, filter=filter, top_k=10) == answers
        if is_raw:
            records = self.index.get_records(names)
            assert all(r["vector"].tobytes() == v.tobytes() for r, v in zip(records, vectors, strict=True))


@pytest.mark.parametrize(("kind", "mode", "space"), KINDS)
def test_life_after_training(
    kind: str, mode: str, space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner_module, "_SCAN_START_NS", 1e12)
    monkeypatch.setattr(upkeep_module, "_COMPACT_LEAST", 100)
    alive = _Alive(kind, mode, space)
    index = alive.index
    alive.add(_ids(0, 1100), mixture(1100, 32, 0))
    assert index.is_quantized()
    alive.add(_ids(500, 620), mixture(120, 32, 2))  # 100 upserts that move to the end
    for name in _ids(3, 8):
        alive.add([name], mixture(1, 32, int(name[1:]) + 10))
    alive.remove(_ids(100, 140))
    alive.check(tmp_path)
    assert index.update_metadata("r7", {"even": False, "new": True})
    assert index.search(alive.rows["r7"], filter={"new": True})[0]["id"] == "r7"
    assert index.update_payload("r8", {"p": 1}) == 1
    alive.remove(_ids(200, 560))  # more than a quarter: compacted
    assert index.get_stats()["stranded_graph_nodes"] == 0
    alive.check(tmp_path)
    alive.remove(_ids(0, 30))
    assert index.compact() == 30
    alive.check(tmp_path)
    assert index.shrink_to_fit() >= 0
    index.rebuild(m=12, ef_construction=100)
    assert (index.m, index.is_quantized()) == (12, True)
    alive.check(tmp_path)
    codes = _codes(index)
    assert index.rebuild_with_quantization() is True
    assert _codes(index) == codes, "the same quantizer, another graph"
    alive.check(tmp_path)
    assert index.clear() == len(alive.rows)
    alive.rows.clear()
    alive.check(tmp_path)
    assert index.is_quantized() and index.get_training_progress() == 100.0
    index.rebuild(m=10)
    assert index.rebuild_with_quantization() is True
    assert (index.m, len(index), index.is_quantized()) == (10, 0, True)
    alive.add(["r1"], mixture(1, 32, 5))
    alive.check(tmp_path)
    alive.add(_ids(2, 300), mixture(298, 32, 6))
    alive.check(tmp_path)
    alive.remove(_ids(1, 300))
    alive.check(tmp_path)
    alive.add(_ids(0, 20), mixture(20, 32, 7))
    alive.check(tmp_path)


@pytest.mark.parametrize("space", ["cosine", "l2", "dot"])
def test_rebuilt_into_any_quantization_and_back(
    space: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantization_config, "LEAST_TRAINING_SIZE", 200)
    size = {"training_size": 200}
    alive = _Alive("int8", RAW, space)
    index = alive.index
    alive.add(_ids(0, 400), mixture(400, 32, 0))
    for config in (
        None,
        _config("pq", RAW, subvectors=8, **size),
        _config("int8", RAW, **size),
        _config("pq", RAW, bits=4, subvectors=16, **size),
        None,
        _config("pq", ONLY, **size),
    ):
        assert index.rebuild(quantization_config=config) == 400
        assert index.is_quantized() == (config is not None)
        alive.kind, alive.mode = ("", RAW) if config is None else (config["type"], config["storage_mode"])
        info = index.get_quantization_info()
        assert info is None if config is None else config.items() <= info.items()
        alive.check(tmp_path)
        alive.add(_ids(50, 60), mixture(10, 32, 3))
        alive.check(tmp_path)
    before = _seen(index)
    for config in (None, _config("int8"), _config("pq", RAW)):
        with pytest.raises(
            ConfigurationError, match=r"were dropped .*storage_mode='quantized_only'.* new index"
        ):
            index.rebuild(quantization_config=config)
        assert _seen(index) == before, "nothing is lost"
    index.clear()
    # Nothing is left that could be lost.
    assert index.rebuild(quantization_config=_config("int8", RAW)) == 0
    assert index.get_storage_mode() == "raw_collecting_for_training"
    alive.rows, alive.mode = {}, RAW
    alive.add(_ids(0, 1000), mixture(1000, 32, 4))
    assert index.is_quantized()
    alive.check(tmp_path)


def test_rebuild_below_the_training_size_collects() -> None:
    index = VectorDatabase().create(dim=16, space="l2")
    rows = mixture(1100, 16, 0)
    index.add(_records(rows[:600]))
    assert index.rebuild(quantization_config=_config("int8")) == 600
    assert (index.get_storage_mode(), index.training_vectors_needed()) == ("raw_collecting_for_training", 400)
    index.add(_records(rows[600:], 600))
    assert index.is_quantized()
    with pytest.raises(ConfigurationError, match="pass at least one"):
        index.rebuild()


def test_larger_indexes_with_codes_chosen_before_training() -> None:
    """Codes of the unquantized index, and its graph, stand when training comes; records added later are found."""
    rows = mixture(6000, 48, 0)
    index = _create("pq", RAW, dim=48, quantization={"training_size": 5000})
    index.add(_records(rows[:4500]))
    assert index._collection.view.is_linked and index._collection.view.is_coded
    index.add(_records(rows[4500:5500], 4500))
    assert index.is_quantized()
    index.add(_records(rows[5500:], 5500))
    queries = mixture(50, 48, 1)
    found = [[int(name[1:]) for name in row] for row in index.search_arrays(queries, 10)[0].tolist()]
    assert oracle.recall(queries, rows, "l2", 10, found) >= 0.97
    for at in range(0, 6000, 250):
        assert index.search(rows[at], top_k=1)[0]["id"] == f"r{at}"
    assert index.get_stats()["rerank_default_fetch"] == index.get_quantization_info()["rerank"] > 0


@pytest.mark.parametrize(("kind", "floor"), [("pq", 0.97), ("int8", 0.98)])
def test_recall_on_real_embeddings(kind: str, floor: float, data_folder: Path) -> None:
    data = np.load(data_folder / "minilm-20k.npz")
    rows, queries = data["vectors"][:8000].astype(np.float32), data["queries"][:150].astype(np.float32)
    mode = RAW if kind == "pq" else ONLY
    index = _create(kind, mode, dim=rows.shape[1], space="cosine", ef_construction=100)
    index.add(_records(rows))
    found = [[int(name[1:]) for name in row] for row in index.search_arrays(queries, 10)[0].tolist()]
    assert oracle.recall(queries, rows, "cosine", 10, found) >= floor


def test_codes_that_tell_nothing_apart_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    rows = np.random.default_rng(0).standard_normal((1_100, 32)).astype(np.float32)
    for options, is_warned in (({"bits": 1}, True), ({"subvectors": 32}, False)):
        caplog.clear()
        config = {"type": "pq", "training_size": 1_000, **options}
        index = VectorDatabase().create("hnsw", dim=32, space="l2", quantization_config=config)
        index.add(rows)
        assert ("of the true neighbors" in caplog.text) is is_warned


# ------------------------------------------------------------------------------------- codes read as digits


def _smooth(count: int, dim: int, seed: int) -> np.ndarray:
    """Rows without clusters, of fewer dimensions than they have: distances are neither few nor all alike."""
    plane = np.random.default_rng(5).standard_normal((40, dim))
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((count, 40)) @ plane + 0.1 * rng.standard_normal((count, dim))).astype(
        np.float32
    )


@pytest.fixture
def no_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner_module, "_SCAN_START_NS", 1e12)


def _near(found: Any, scores: np.ndarray, k: int) -> float:
    """The share of the k nearest by score that was found."""
    shares = []
    for row, own in zip(found, scores, strict=True):
        nearest = set(np.argsort(own, kind="stable")[:k].tolist())
        shares.append(len(nearest & {int(name[1:]) for name in row}) / len(nearest))
    return float(np.mean(shares))


@pytest.mark.usefixtures("no_scans")
@pytest.mark.parametrize("space", ["cosine", "l2", "dot"])
@pytest.mark.parametrize("width", [2, 4])
def test_walks_by_digits_find_the_nearest_by_code(width: int, space: str, tmp_path: Path) -> None:
    dim, n = 64 * width, 2500
    rows, queries = _smooth(n, dim, 0), _smooth(40, dim, 1)
    index = _create(dim=dim, space=space, quantization={"subvectors": 64})
    index.add({**_records(rows), "metadatas": [{"third": row % 3} for row in range(n)]})
    assert index._collection.view.is_rough
    true = product_scores(saved(index, tmp_path / "x"), queries, space)
    loaded = VectorDatabase().load(str(tmp_path / "x"))
    assert loaded._collection.view.is_rough

    for k, floor in ((1, 0.98), (10, 0.98), (100, 0.97)):
        answers = index.search(queries, top_k=k, explain=True)
        assert (answers.explanation.path, answers.explanation.scores) == ("walk", "by code")
        found = [[hit["id"] for hit in hits] for hits in answers]
        assert _near(found, true, k) >= floor
        for hits, own in zip(answers, true, strict=True):
            scores = [hit["score"] for hit in hits]
            assert scores == sorted(scores) and len({hit["id"] for hit in hits}) == k
            of_codes = own[[int(hit["id"][1:]) for hit in hits]]
            np.testing.assert_allclose(scores, of_codes, rtol=0, atol=1e-4 * np.abs(true).max())
        assert [[hit["id"] for hit in loaded.search(query, top_k=k)] for query in queries] == found

    # A pool of the caller's own is looked at again as widely.
    assert _near([[h["id"] for h in hits] for hits in index.search(queries, ef_search=10)], true, 10) >= 0.7
    # Filters, and records that are gone.
    third = np.arange(n) % 3 == 1
    answers = index.search(queries, filter={"third": 1}, explain=True)
    assert "walk" in answers.explanation.path
    found = [[hit["id"] for hit in hits] for hits in answers]
    assert _near(found, np.where(third, true, np.inf), 10) >= 0.97
    index.delete([f"r{row}" for row in range(0, n, 2)])
    found = [[hit["id"] for hit in hits] for hits in index.search(queries)]
    assert _near(found, np.where(np.arange(n) % 2 == 1, true, np.inf), 10) >= 0.97


@pytest.mark.usefixtures("no_scans")
def test_digits_are_not_read_where_they_would_lose_neighbors() -> None:
    """In a cluster distances hardly differ, and what digits tell is mostly which one it is."""
    rows, queries = mixture(2500, 256, 0, spread=0.35), mixture(40, 256, 1, spread=0.35)
    index = _create(dim=256, quantization={"subvectors": 64})
    index.add(_records(rows))
    assert not index._collection.view.is_rough
    assert index._collection.view.ix[layout.CODE_DIGITS] == 0
    exact = index.search(queries, exact=True)
    found = index.search(queries, explain=True)
    assert found.explanation.path == "walk"
    shared = [len({h["id"] for h in a} & {h["id"] for h in b}) for a, b in zip(exact, found, strict=True)]
    assert np.mean(shared) >= 9.7


@pytest.mark.usefixtures("no_scans")
def test_answers_without_rerank_beside_originals_are_by_code_too() -> None:
    rows, queries = _smooth(2500, 128, 0), _smooth(20, 128, 1)
    index = _create(mode=RAW, dim=128, quantization={"subvectors": 64})
    index.add(_records(rows))
    assert index._collection.view.is_rough
    found = index.search(queries, rerank=0, explain=True)
    assert found.explanation.scores == "by code"
    exact = oracle.distances(queries, rows, "l2")
    assert _near([[h["id"] for h in hits] for hits in found], exact, 10) >= 0.85
    assert _near([[h["id"] for h in hits] for hits in index.search(queries)], exact, 10) >= 0.98
