"""The `zeusdb-vs` command: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import zeusdb_vs
from zeusdb_vs import VectorDatabase
from zeusdb_vs.cli import main
from zeusdb_vs.demo.embedder import HashingEmbedder
from zeusdb_vs.demo.terminal import PlainTerminal, RichTerminal

NOTES = {
    "gzip": "Compress a file with gzip, or decompress it.",
    "csv": "Read rows from a CSV file and write them back.",
    "smtp": "Send an e-mail message to a mail server.",
}


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small index that knows its embedder."""
    embedder = HashingEmbedder(64).fit(NOTES.values())
    index = VectorDatabase().create("hnsw", dim=embedder.dim)
    index.add(
        {
            "ids": list(NOTES),
            "vectors": embedder.embed(list(NOTES.values())),
            "metadatas": [{"kind": "file"}, {"kind": "file"}, {"kind": "net"}],
            "texts": list(NOTES.values()),
        }
    )
    index.add_metadata({"embedder": embedder.to_config()})
    path = tmp_path_factory.mktemp("cli") / "notes.zdb"
    index.save(path)
    return path


@pytest.fixture(scope="module")
def mute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small index that does not say how it was embedded."""
    index = VectorDatabase().create("hnsw", dim=2, space="l2")
    index.add({"id": "a", "vector": [1, 2]})
    path = tmp_path_factory.mktemp("cli") / "mute.zdb"
    index.save(path)
    return path


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zeusdb_vs", *arguments], capture_output=True, text=True, check=False
    )


def test_module_runs_as_the_command() -> None:
    process = _run("--version")
    assert (process.returncode, process.stdout) == (0, f"zeusdb-vs {zeusdb_vs.__version__}\n")


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["search"], ["search", "x", "y", "-k", "0"]])
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "usage: zeusdb-vs" in capsys.readouterr().err


def test_search_prints_the_nearest_first(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", str(notes), "how are files compressed?"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0].split() == ["distance", "id", "text"]
    assert lines[1].split()[1] == "gzip"
    assert len(lines) == 1 + len(NOTES)


def test_search_as_json_gives_whole_hits(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "search",
        str(notes),
        "send mail",
        "--json",
        "-k",
        "1",
        "--filter",
        '{"kind": "net"}',
        "--exact",
    ]
    assert main(arguments) == 0
    hit = json.loads(capsys.readouterr().out)
    assert (hit["id"], hit["metadata"], hit["text"]) == ("smtp", {"kind": "net"}, NOTES["smtp"])
    assert 0 <= hit["score"] < 1


def test_search_says_so_when_nothing_matches(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", str(notes), "mail", "--filter", '{"kind": "none"}']) == 0
    assert "No record matches" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mail", "--filter", "{kind: net}"], "--filter is not JSON"),
        (["mail", "--filter", "[1]"], "must be a JSON object"),
        (["mail", "--filter", '{"kind": {"equals": 1}}'], "equals"),
        (["?!"], "no letters and no digits"),
        (["mail", "--embedder", "all-MiniLM"], "'hashing'"),
    ],
)
def test_search_that_cannot_be_done_exits_with_1(
    notes: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", str(notes), *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("zeusdb-vs: ")
    assert message in captured.err
    assert captured.out == ""


def test_search_without_a_known_embedder_exits_with_1(mute: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", str(mute), "anything"]) == 1
    assert "does not say how its text was embedded" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["info"], ["search", "mail"]])
def test_missing_directory_exits_with_1_and_no_traceback(tmp_path: Path, command: list[str]) -> None:
    process = _run(command[0], str(tmp_path / "missing.zdb"), *command[1:])
    assert process.returncode == 1
    assert "missing.zdb" in process.stderr
    assert "Traceback" not in process.stderr


def test_info_prints_figures_and_index_metadata(notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(notes)]) == 0
    output = capsys.readouterr().out
    assert "HNSWIndex(dim=64, space=cosine" in output
    assert "metadata: embedder" in output
    assert max(map(len, output.splitlines())) < 200, "the embedder's weights are printed whole"


def test_info_as_json(mute: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(mute), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["info"].startswith("HNSWIndex(dim=2, space=l2")
    assert report["stats"]["total_vectors"] == 1
    assert report["metadata"] == {}


def test_output_that_nobody_reads_is_no_failure(notes: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "zeusdb_vs", "info", str(notes)],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_interrupt_exits_with_130_and_no_traceback(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "zeusdb_vs", "demo", "--path", str(tmp_path / "my.zdb")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while "files" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip() == "zeusdb-vs: interrupted"
    assert not (tmp_path / "my.zdb").exists()


def test_both_terminals_print_the_same_words(capsys: pytest.CaptureFixture[str]) -> None:
    console = pytest.importorskip("rich.console")
    seen = []
    for terminal in (PlainTerminal(), RichTerminal(console.Console(width=100, force_terminal=False))):
        terminal.heading("A heading")
        terminal.fact("label", "value [not markup]")
        terminal.note("a note [not markup]")
        terminal.table(("one", "two"), [("a", "[b]"), ("c", "long " * 60)])
        terminal.verdict(True, "fine")
        with terminal.progress("steps", 4) as advance:
            for _ in range(4):
                advance(1)
        seen.append(capsys.readouterr().out)
    for output in seen:
        words = (
            *("A heading", "label", "value [not markup]", "a note [not markup]", "one", "two"),
            *("a", "[b]", "OK", "fine", "steps"),
        )
        for word in words:
            assert word in output
        assert max(map(len, output.splitlines())) <= 120
