"""Saving never destroys what is not ours; loading says exactly what it met."""

import json
import os
import shutil
import stat
import sys

import pytest
from storage.snapshots import content_of, make_snapshot, tree_of

from zeusdb_vs.errors import (
    CorruptIndexError,
    ForeignDirectoryError,
    IndexNotFoundError,
    StorageError,
    UnsupportedVersionError,
)
from zeusdb_vs.storage import read_manifest, read_snapshot, write_snapshot

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX links and FIFOs")


def refuses_and_touches_nothing(root, path, error=ForeignDirectoryError):
    before = tree_of(root)
    with pytest.raises(error) as caught:
        write_snapshot(path, make_snapshot())
    assert tree_of(root) == before
    assert str(path) in str(caught.value) or str(path.resolve()) in str(caught.value)


def a_file(path):
    path.write_text("precious")


def a_foreign_directory(path):
    path.mkdir()
    (path / "thesis.tex").write_text("precious")


def a_web_extension(path):
    path.mkdir()
    (path / "manifest.json").write_text('{"manifest_version": 3}')


def a_torn_manifest(path):
    path.mkdir()
    (path / "manifest.json").write_text('{"format": "zeusdb-vs", ')


def a_manifest_directory(path):
    (path / "manifest.json").mkdir(parents=True)


def files_of_ours_without_a_manifest(path):
    write_snapshot(path, make_snapshot())
    (path / "manifest.json").unlink()


def a_foreign_lock_file(path):
    path.mkdir()
    (path / ".lock").write_text("someone else's")


def a_foreign_file_in_a_generation_folder(path):
    (path / ".gen-1").mkdir(parents=True)
    (path / ".gen-1" / "thesis.tex").write_text("precious")


@pytest.mark.parametrize(
    "make",
    [
        a_file,
        a_foreign_directory,
        a_web_extension,
        a_torn_manifest,
        a_manifest_directory,
        files_of_ours_without_a_manifest,
        a_foreign_lock_file,
        a_foreign_file_in_a_generation_folder,
    ],
    ids=lambda make: make.__name__,
)
@pytest.mark.parametrize("through_a_link", [False, True])
def test_foreign_targets_are_left_alone(tmp_path, make, through_a_link):
    target = tmp_path / "target"
    make(target)
    path = target
    if through_a_link:
        path = tmp_path / "link"
        path.symlink_to(target)
    refuses_and_touches_nothing(tmp_path, path)


@posix
def test_dangling_and_circular_links_are_left_alone(tmp_path):
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    refuses_and_touches_nothing(tmp_path, tmp_path / "dangling")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    before = tree_of(tmp_path)
    with pytest.raises(StorageError):
        write_snapshot(tmp_path / "circle", make_snapshot())
    assert tree_of(tmp_path) == before
    with pytest.raises(StorageError):
        read_snapshot(tmp_path / "circle")
    with pytest.raises(IndexNotFoundError):
        read_snapshot(tmp_path / "dangling")


@posix
@pytest.mark.parametrize("kind", ["fifo", "/dev/null", "file below"])
def test_special_files_are_left_alone_without_waiting(tmp_path, kind):
    path = tmp_path / "target"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "file below":
        path.write_text("precious")
        path = path / "index.zdb"
    else:
        path.symlink_to(kind)
    before = tree_of(tmp_path)
    with pytest.raises(ForeignDirectoryError):
        write_snapshot(path, make_snapshot())
    with pytest.raises(IndexNotFoundError):
        read_snapshot(path)
    assert tree_of(tmp_path) == before


@pytest.mark.parametrize("state", ["empty", "ours", "interrupted first save"])
def test_links_to_directories_of_ours_are_followed(tmp_path, state):
    target = tmp_path / "target"
    target.mkdir()
    if state == "ours":
        write_snapshot(target, make_snapshot(seed=1))
    elif state == "interrupted first save":
        (target / ".gen-1").mkdir()
        (target / ".gen-1" / "vectors.bin").write_bytes(b"half")
        (target / "manifest.json.tmp").write_bytes(b"{")
        (target / ".lock").write_bytes(b"")
    (tmp_path / "link").symlink_to("target")
    written = make_snapshot(seed=2)
    write_snapshot(tmp_path / "link", written)
    assert (tmp_path / "link").is_symlink()
    assert content_of(read_snapshot(tmp_path / "link")) == content_of(written)
    assert content_of(read_snapshot(target)) == content_of(written)
    assert not [*target.glob(".gen*"), *target.glob("*.tmp")]


def test_empty_directories_and_fresh_mount_points_are_taken(tmp_path):
    (tmp_path / "lost+found").mkdir()
    write_snapshot(tmp_path, make_snapshot())
    assert (tmp_path / "lost+found").is_dir()
    read_snapshot(tmp_path)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="needs root to mount")
def test_mount_points_are_saved_into(tmp_path):
    if os.system(f"mount -t tmpfs -o size=4m none {tmp_path} 2>/dev/null") != 0:
        pytest.skip("may not mount here")
    try:
        for seed in range(2):
            written = make_snapshot(seed=seed)
            write_snapshot(tmp_path, written)
            assert content_of(read_snapshot(tmp_path)) == content_of(written)
        big = make_snapshot(5000, 384, seed=9)  # 7.7 MB into 4: a real ENOSPC
        with pytest.raises(StorageError, match="No space left"):
            write_snapshot(tmp_path, big)
        assert content_of(read_snapshot(tmp_path)) == content_of(written)
        write_snapshot(tmp_path, written)
    finally:
        os.system(f"umount {tmp_path}")


def test_missing_parents_are_created(tmp_path):
    write_snapshot(tmp_path / "a" / "b" / "c.zdb", make_snapshot())
    read_snapshot(tmp_path / "a" / "b" / "c.zdb")


@posix
def test_links_under_names_of_ours_are_replaced_and_what_they_lead_to_stays(tmp_path):
    path = tmp_path / "a.zdb"
    write_snapshot(path, make_snapshot())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("precious")
    (path / "vectors.bin").unlink()
    (path / "vectors.bin").symlink_to(elsewhere)
    (path / "manifest.json.tmp").symlink_to(elsewhere)
    written = make_snapshot(seed=1)
    write_snapshot(path, written)
    assert elsewhere.read_text() == "precious"
    assert content_of(read_snapshot(path)) == content_of(written)
    assert not (path / "vectors.bin").is_symlink()


def test_directories_under_names_of_ours_stay_and_the_save_holds(tmp_path):
    path = tmp_path / "a.zdb"
    write_snapshot(path, make_snapshot(texts=False))
    (path / "texts.json").mkdir()
    (path / "texts.json" / "thesis.tex").write_text("precious")
    for seed in range(1, 4):
        written = make_snapshot(seed=seed)
        write_snapshot(path, written)
        assert content_of(read_snapshot(path)) == content_of(written)
        assert content_of(read_snapshot(path, mmap=True)) == content_of(written)
    assert (path / "texts.json" / "thesis.tex").read_text() == "precious"
    shutil.rmtree(path / "texts.json")
    write_snapshot(path, written)
    assert stat.S_ISREG((path / "texts.json").lstat().st_mode)
    assert not list(path.glob(".gen*"))


def test_index_of_a_later_format_is_neither_read_nor_replaced(tmp_path):
    path = tmp_path / "a.zdb"
    write_snapshot(path, make_snapshot())
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["format_version"] = "7.3"
    (path / "manifest.json").write_text(json.dumps(manifest))
    refuses_and_touches_nothing(tmp_path, path, UnsupportedVersionError)


def test_index_with_a_damaged_manifest_is_not_replaced(tmp_path):
    path = tmp_path / "a.zdb"
    write_snapshot(path, make_snapshot())
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["generation"] += 1
    (path / "manifest.json").write_text(json.dumps(manifest))
    refuses_and_touches_nothing(tmp_path, path, CorruptIndexError)


def test_reading_names_what_is_missing(tmp_path):
    with pytest.raises(IndexNotFoundError, match="does not exist"):
        read_snapshot(tmp_path / "nothing.zdb")
    (tmp_path / "file.zdb").write_text("x")
    with pytest.raises(IndexNotFoundError, match="is a regular file, an index is a directory"):
        read_snapshot(tmp_path / "file.zdb")
    (tmp_path / "empty.zdb").mkdir()
    with pytest.raises(IndexNotFoundError, match=r"no manifest\.json"):
        read_manifest(tmp_path / "empty.zdb")
    (tmp_path / "empty.zdb" / "manifest.json").write_text("{}")
    with pytest.raises(IndexNotFoundError, match="not the manifest of a zeusdb-vs index"):
        read_snapshot(tmp_path / "empty.zdb")
