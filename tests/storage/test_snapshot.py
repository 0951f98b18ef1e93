"""What is written comes back: arrays, lines, JSON, in memory and mapped."""

import errno
import itertools
import json
import os
import string
import sys
import tempfile
import traceback
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from storage.snapshots import content_of, id_arrays, make_snapshot, tree_of

from zeusdb_vs.errors import ArgumentTypeError, IndexNotFoundError, StorageError
from zeusdb_vs.storage import (
    BinaryFile,
    JsonFile,
    LinesFile,
    Snapshot,
    binary,
    blocks,
    lines,
    read_manifest,
    read_snapshot,
    write_snapshot,
)

MODES = [{}, {"mmap": True}, {"mmap": True, "verify": False}]


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("n", [0, 1, 2, 9, 40])
def test_read_returns_what_was_written(tmp_path, mode, n):
    written = make_snapshot(n)
    write_snapshot(tmp_path / "a.zdb", written)
    loaded = read_snapshot(tmp_path / "a.zdb", **mode)
    loaded.verify()
    assert content_of(loaded) == content_of(written)


def test_directory_holds_the_specified_names_and_nothing_else(tmp_path):
    path = tmp_path / "a.zdb"
    snapshot = make_snapshot()
    for _ in range(3):
        write_snapshot(path, snapshot)
    assert {p.name for p in path.iterdir()} == {"manifest.json", "config.json", ".lock", *snapshot.files}
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["generation"] == 3
    assert manifest["files_included"] == sorted(["config.json", *snapshot.files])
    for name, entry in manifest["files"].items():
        data = (path / name).read_bytes()
        assert entry["bytes"] == len(data)
        assert entry["crc32"] == [f"{zlib.crc32(data):08x}"]


def test_json_files_are_plain_json_keyed_by_id(tmp_path):
    snapshot = make_snapshot(12)
    write_snapshot(tmp_path / "a.zdb", snapshot)
    ids_of_file = json.loads((tmp_path / "a.zdb" / "metadata.json").read_text("utf-8"))
    values = [None if text is None else json.loads(text) for text in snapshot.files["metadata.json"].values]
    loaded = read_snapshot(tmp_path / "a.zdb").files["mappings.bin"].arrays
    blob, offsets = loaded["id_bytes"].tobytes(), loaded["id_offsets"].tolist()
    ids = [blob[a:b].decode() for a, b in itertools.pairwise(offsets)]
    assert ids_of_file == {key: value or {} for key, value in zip(ids, values, strict=True)}
    text = (tmp_path / "a.zdb" / "metadata.json").read_text("utf-8")
    assert text.startswith("{\n") and text.endswith("\n}\n") and text.count("\n") == 12 + 2


def test_reading_leaves_the_directory_as_it_is(tmp_path):
    write_snapshot(tmp_path / "a.zdb", make_snapshot())
    before = tree_of(tmp_path)
    for mode in MODES:
        read_snapshot(tmp_path / "a.zdb", **mode)
    assert tree_of(tmp_path) == before


def test_saving_a_loaded_snapshot_keeps_uuid_creation_time_and_content(tmp_path):
    write_snapshot(tmp_path / "a.zdb", make_snapshot())
    first = read_snapshot(tmp_path / "a.zdb", mmap=True)
    write_snapshot(tmp_path / "b.zdb", first)
    write_snapshot(tmp_path / "a.zdb", first)  # over the very files that are mapped
    for path in ("a.zdb", "b.zdb"):
        again = read_snapshot(tmp_path / path)
        assert content_of(again) == content_of(first)
        assert again.created_at == first.created_at


def test_files_the_new_save_does_not_have_are_removed_and_others_stay(tmp_path):
    path = tmp_path / "a.zdb"
    write_snapshot(path, make_snapshot(texts=True))
    (path / "notes.txt").write_text("mine")
    (path / "journal-0.log").write_text("of an earlier generation")
    write_snapshot(path, make_snapshot(texts=False, seed=1))
    assert not (path / "texts.json").exists()
    assert not (path / "journal-0.log").exists()
    assert (path / "notes.txt").read_text() == "mine"


def test_mapped_arrays_are_read_only_and_aligned(tmp_path):
    write_snapshot(tmp_path / "a.zdb", make_snapshot())
    for file in read_snapshot(tmp_path / "a.zdb", mmap=True).files.values():
        if isinstance(file, BinaryFile):
            for array in file.arrays.values():
                assert not array.flags.writeable
                assert array.size == 0 or array.ctypes.data % 64 == 0


def test_loaded_arrays_are_writable_and_free_each_other(tmp_path):
    write_snapshot(tmp_path / "a.zdb", make_snapshot())
    arrays = read_snapshot(tmp_path / "a.zdb").files["hnsw_index.hnsw.graph"].arrays
    assert all(array.flags.writeable and array.flags.owndata for array in arrays.values())


def test_mapped_snapshot_stays_whole_while_it_is_saved_over(tmp_path):
    path = tmp_path / "a.zdb"
    write_snapshot(path, make_snapshot(seed=1))
    old = read_snapshot(path, mmap=True, verify=False)
    expected = content_of(make_snapshot(seed=1, uuid=old.index_uuid))
    write_snapshot(path, make_snapshot(seed=2))
    old.verify()
    assert content_of(old) == expected


_dtypes = st.sampled_from(["?", "i1", "u1", "<i2", ">i2", "<u4", ">u8", "<i8", "<f2", ">f4", "<f4", "<f8"])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    arrays=st.dictionaries(
        st.text(string.ascii_letters + string.digits + "_.", min_size=1, max_size=24),
        hnp.arrays(_dtypes, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)),
        min_size=1,
        max_size=5,
    ),
    mapped=st.booleans(),
    data=st.data(),
)
def test_any_arrays_in_any_layout_come_back(tmp_path, arrays, mapped, data):
    given_arrays = {}
    for name, array in arrays.items():
        if array.ndim:
            array = array.T if data.draw(st.booleans()) else array
            cut = data.draw(st.integers(0, len(array)))
            array = [array[:cut], array[cut:]] if data.draw(st.booleans()) else array
        given_arrays[name] = array
    snapshot = make_snapshot(2)
    snapshot.files["codes.bin"] = BinaryFile(given_arrays)
    write_snapshot(tmp_path / "a.zdb", snapshot)
    loaded = read_snapshot(tmp_path / "a.zdb", mmap=mapped).files["codes.bin"].arrays
    assert list(loaded) == list(given_arrays)
    for name, array in given_arrays.items():
        expected = np.concatenate(array) if isinstance(array, list) else np.asarray(array)
        assert loaded[name].dtype == expected.dtype.newbyteorder("<")
        assert loaded[name].shape == expected.shape
        assert loaded[name].tobytes() == np.ascontiguousarray(expected, loaded[name].dtype).tobytes()


_ids = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), unique=True, max_size=12
)
_documents = st.none() | st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=5), max_size=3)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ids=_ids, mapped=st.booleans(), batch=st.sampled_from([1, 2, 5, 2048]), data=st.data())
def test_any_ids_and_documents_come_back(tmp_path, ids, mapped, batch, data):
    id_bytes, id_offsets = id_arrays(ids)
    documents = [data.draw(_documents) for _ in ids]
    values = [None if d is None else json.dumps(d, ensure_ascii=False) for d in documents]
    files = {
        "mappings.bin": BinaryFile({"id_bytes": id_bytes, "id_offsets": id_offsets}),
        "metadata.json": LinesFile(iter(values)),
        "payloads.json": LinesFile(values),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "_BATCH", batch)
        write_snapshot(tmp_path / "a.zdb", Snapshot({}, files))
        loaded = read_snapshot(tmp_path / "a.zdb", mmap=mapped)
        got = loaded.files["metadata.json"].values
        assert list(got) == [got[i] for i in range(len(got))] == [None if v == "{}" else v for v in values]
        assert list(loaded.files["payloads.json"].values) == values
        assert got[1:3] == list(got)[1:3]
    plain = json.loads((tmp_path / "a.zdb" / "payloads.json").read_text("utf-8"))
    assert plain == (dict(zip(ids, documents, strict=True)) if any(v is not None for v in values) else {})


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_files_of_many_blocks_come_back_and_are_checked_block_by_block(tmp_path, mode, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 1000)
    monkeypatch.setattr("zeusdb_vs.storage.manifest.BLOCK_BYTES", 1000)
    monkeypatch.setattr(binary, "_CONVERT_BYTES", 333)
    written = make_snapshot(200, 33)
    write_snapshot(tmp_path / "a.zdb", written)
    loaded = read_snapshot(tmp_path / "a.zdb", **mode)
    loaded.verify()
    assert content_of(loaded) == content_of(written)
    assert len(read_manifest(tmp_path / "a.zdb").files["vectors.bin"].digest.crc32) == 27


def test_str_and_path_and_relative_paths_are_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("a.zdb", Path("a.zdb"), str(tmp_path / "a.zdb"), "./x/../a.zdb/"):
        write_snapshot(path, make_snapshot())
        assert read_snapshot(path).manifest == read_manifest(tmp_path / "a.zdb")
    assert read_manifest("a.zdb").generation == 4


@pytest.mark.parametrize("path", [None, 3, b"bytes.zdb", ["a"]])
def test_paths_of_other_types_are_refused(path):
    for call in (lambda: write_snapshot(path, make_snapshot()), lambda: read_snapshot(path)):
        with pytest.raises(ArgumentTypeError, match="path must be str"):
            call()


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_impossible_paths_are_refused(path):
    with pytest.raises(IndexNotFoundError):
        read_snapshot(path)
    with pytest.raises(StorageError):
        write_snapshot(path, make_snapshot())


BAD_FILES = {
    "unknown name": {"other.bin": BinaryFile({"a": np.zeros(1)})},
    "wrong kind": {"vectors.bin": JsonFile({})},
    "object dtype": {"vectors.bin": BinaryFile({"a": np.array([None])})},
    "text dtype": {"vectors.bin": BinaryFile({"a": np.array(["x"])})},
    "complex dtype": {"vectors.bin": BinaryFile({"a": np.zeros(2, complex)})},
    "rank": {"vectors.bin": BinaryFile({"a": np.zeros((1, 1, 1, 1))})},
    "no arrays": {"vectors.bin": BinaryFile({})},
    "no chunks": {"vectors.bin": BinaryFile({"a": []})},
    "chunks of two widths": {"vectors.bin": BinaryFile({"a": [np.zeros((2, 3)), np.zeros((2, 4))]})},
    "chunks of two dtypes": {"vectors.bin": BinaryFile({"a": [np.zeros(2, "f4"), np.zeros(2, "f8")]})},
    "name too long": {"vectors.bin": BinaryFile({"a" * 25: np.zeros(1)})},
    "name not ascii": {"vectors.bin": BinaryFile({"ä": np.zeros(1)})},
    "too few lines": {"metadata.json": LinesFile([None] * 8)},
    "too many lines": {"metadata.json": LinesFile([None] * 10)},
    "too many lines with content": {"metadata.json": LinesFile(["{}"] * 10)},
    "line break": {"metadata.json": LinesFile(['{\n"a": 1}'] * 9)},
    "surrogate": {"metadata.json": LinesFile(['{"a": "\ud800"}'] * 9)},
    "config nan": {"quantization.json": JsonFile({"a": float("nan")})},
    "config bytes": {"quantization.json": JsonFile({"a": b"x"})},
    "config too deep": {"quantization.json": JsonFile({"a": json.loads("[" * 41 + "]" * 41)})},
    "bad offsets": {
        "mappings.bin": BinaryFile({"id_bytes": np.zeros(4, "u1"), "id_offsets": np.array([0, 5])})
    },
    "no ids": {"mappings.bin": BinaryFile({"tombstones": np.zeros(4, "u1")})},
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_what_cannot_be_stored_is_refused_and_the_old_state_stays(tmp_path, case):
    path = tmp_path / "a.zdb"
    write_snapshot(path, make_snapshot())
    before = tree_of(path)
    bad = make_snapshot(seed=1)
    bad.files.update(BAD_FILES[case])
    with pytest.raises(StorageError):
        write_snapshot(path, bad)
    assert tree_of(path) == before


def test_what_the_producer_of_lines_raises_comes_out_and_the_old_state_stays(tmp_path):
    path = tmp_path / "a.zdb"
    write_snapshot(path, make_snapshot())
    before = tree_of(path)

    def values():
        yield "{}"
        raise KeyboardInterrupt

    bad = make_snapshot(seed=1)
    bad.files["metadata.json"] = LinesFile(values())
    with pytest.raises(KeyboardInterrupt):
        write_snapshot(path, bad)
    assert tree_of(path) == before


def test_save_is_refused_when_the_directory_moved_on(tmp_path):
    path = tmp_path / "a.zdb"
    generation = write_snapshot(path, make_snapshot(), expected_generation=0).generation
    write_snapshot(path, make_snapshot(seed=1), expected_generation=generation)
    before = tree_of(path)
    with pytest.raises(StorageError, match="someone else has saved there"):
        write_snapshot(path, make_snapshot(seed=2), expected_generation=generation)
    assert tree_of(path) == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no such directories")
def test_read_only_directories_load_and_refuse_saves():
    def check(path):
        for mode in MODES:
            read_snapshot(path, **mode)
        with pytest.raises(StorageError, match="Permission denied") as caught:
            write_snapshot(path, make_snapshot())
        assert caught.value.errno == errno.EACCES
        with pytest.raises(StorageError, match="Permission denied"):
            write_snapshot(path / "below.zdb", make_snapshot())

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.zdb"
        write_snapshot(path, make_snapshot())
        path.parent.chmod(0o755)
        path.chmod(0o555)
        before = tree_of(path)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                if os.geteuid() == 0:
                    os.setuid(65534)  # root writes everywhere
                check(path)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert tree_of(path) == before
        path.chmod(0o755)
