"""The ``zeusdb-vs`` command.

Exit codes: 0 done; 1 failed, with the reason on stderr; 2 wrong usage; 3 the demo's second process answered
differently; 4 `verify` has found damage; 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeusdb_vs import FilterError, ZeusDBError, __version__
from zeusdb_vs.demo.terminal import open_terminal

if TYPE_CHECKING:
    from zeusdb_vs import HNSWIndex

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_DIFFERENT = 3
EXIT_DAMAGED = 4
EXIT_INTERRUPTED = 130

_EXIT_CODES = (
    "exit codes: 0 done; 1 failed (reason on stderr); 2 wrong usage; "
    "3 the demo's second process answered differently; 4 verify has found damage; 130 interrupted"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line without the program's name; `sys.argv` when omitted.

    Returns
    -------
    int
        The exit code.
    """
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone, as `head` does: not a failure
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except (ZeusDBError, OSError) as error:
        print(f"zeusdb-vs: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("zeusdb-vs: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zeusdb-vs", description="An embedded vector database in one directory.", epilog=_EXIT_CODES
    )
    parser.add_argument("--version", action="version", version=f"zeusdb-vs {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="index Python's own documentation, ask it, save it, ask again from a second process",
        epilog=_EXIT_CODES,
    )
    demo.add_argument(
        "--path", type=Path, default=Path("my.zdb"), help="where to save (default: %(default)s)"
    )
    demo.add_argument("--limit", type=_positive, metavar="N", help="index only N docstrings")
    demo.add_argument("--embedder", metavar="MODEL", help="embed with a sentence-transformers model")
    demo.set_defaults(run=_demo)

    search = commands.add_parser(
        "search", help="ask a question in words of an index that knows its embedder", epilog=_EXIT_CODES
    )
    search.add_argument("path", type=Path, help="directory of the index")
    search.add_argument("question", help="what to look for")
    search.add_argument(
        "-k", "--top-k", type=_positive, default=5, metavar="K", help="hits (default: %(default)s)"
    )
    search.add_argument("--filter", metavar="JSON", help='such as \'{"kind": "function"}\'')
    search.add_argument("--ef-search", type=_positive, metavar="N", help="search wider: slower, finds more")
    search.add_argument("--exact", action="store_true", help="compare with every record")
    search.add_argument("--embedder", metavar="MODEL", help="allow loading this sentence-transformers model")
    search.add_argument(
        "--json", action="store_true", help="print one JSON object a line, metadata and text whole"
    )
    search.set_defaults(run=_search)

    info = commands.add_parser("info", help="print what an index is and holds", epilog=_EXIT_CODES)
    info.add_argument("path", type=Path, help="directory of the index")
    info.add_argument("--json", action="store_true", help="print one JSON object")
    info.set_defaults(run=_info)

    verify = commands.add_parser("verify", help="check an index on disk; writes nothing", epilog=_EXIT_CODES)
    verify.add_argument("path", type=Path, help="directory of the index")
    verify.add_argument(
        "--deep", action="store_true", help="also compare graph, codes and field indexes with the records"
    )
    verify.add_argument("--json", action="store_true", help="print one JSON object")
    verify.set_defaults(run=_verify)

    repair = commands.add_parser(
        "repair",
        help="mend a damaged directory; drops changes behind damage in the journal",
        epilog=_EXIT_CODES,
    )
    repair.add_argument("path", type=Path, help="directory of the index")
    repair.set_defaults(run=_repair)

    compact = commands.add_parser(
        "compact",
        help="take the journal up into the saved files and drop removed records",
        epilog=_EXIT_CODES,
    )
    compact.add_argument("path", type=Path, help="directory of the index")
    compact.set_defaults(run=_compact)

    warmup = commands.add_parser(
        "warmup", help="compile all kernels into the cache, as in a container build", epilog=_EXIT_CODES
    )
    warmup.set_defaults(run=_warmup)
    return parser


def _demo(options: argparse.Namespace) -> int:
    from zeusdb_vs.demo.run import run_demo

    is_same = run_demo(options.path, open_terminal(), model=options.embedder, limit=options.limit)
    return EXIT_DONE if is_same else EXIT_DIFFERENT


def _search(options: argparse.Namespace) -> int:
    from zeusdb_vs.demo.embedder import embedder_from_config

    condition = _read_filter(options.filter)
    index = _load(options.path)
    embedder = embedder_from_config(index.get_all_metadata().get("embedder"), model=options.embedder)
    [vector] = embedder.embed([options.question])
    hits: list[dict[str, Any]] = index.search(
        vector,
        filter=condition,
        top_k=options.top_k,
        ef_search=options.ef_search,
        exact=options.exact,
        include=("metadata", "text"),
    )
    if options.json:
        for hit in hits:
            print(json.dumps(hit, ensure_ascii=False, default=str))
        return EXIT_DONE
    terminal = open_terminal()
    if not hits:
        terminal.note("No record matches." if condition else "The index is empty.")
        return EXIT_DONE
    rows = [(f"{hit['score']:.4f}", hit["id"], _describe(hit)) for hit in hits]
    terminal.table(("distance", "id", "text"), rows)
    return EXIT_DONE


def _info(options: argparse.Namespace) -> int:
    index = _load(options.path)
    stats = index.get_stats()
    metadata = index.get_all_metadata()
    if options.json:
        print(json.dumps({"info": index.info(), "stats": stats, "metadata": metadata}, default=str))
        return EXIT_DONE
    terminal = open_terminal()
    terminal.heading(str(options.path))
    terminal.fact("index", index.info())
    for name, value in stats.items():
        terminal.fact(name, _shorten(value))
    for name, value in metadata.items():
        terminal.fact(f"metadata: {name}", _shorten(value))
    return EXIT_DONE


def _verify(options: argparse.Namespace) -> int:
    from zeusdb_vs import verify

    report = verify(options.path, deep=options.deep)
    code = EXIT_DONE if report.is_ok else EXIT_DAMAGED
    if options.json:
        print(json.dumps({**asdict(report), "is_ok": report.is_ok}))
        return code
    terminal = open_terminal()
    terminal.heading(f"{options.path}: {'in order' if report.is_ok else 'damaged'}")
    for problem in report.problems:
        terminal.fact("damage", problem)
    for note in report.notes:
        terminal.fact("note", note)
    terminal.fact("records", "unknown" if report.records is None else f"{report.records:,}")
    terminal.fact("generation", f"{report.generation:,}")
    terminal.fact("changes in the journal", f"{report.journal_calls:,}")
    return code


def _repair(options: argparse.Namespace) -> int:
    from zeusdb_vs import repair

    report = repair(options.path)
    terminal = open_terminal()
    for action in report.actions or ["nothing to do"]:
        terminal.note(action)
    terminal.fact("records", f"{report.records:,}")
    return EXIT_DONE


def _compact(options: argparse.Namespace) -> int:
    from zeusdb_vs import VectorDatabase

    before = _bytes_in(options.path)
    with VectorDatabase().open(options.path, create=False) as index:
        index.save()
        records = len(index)
    terminal = open_terminal()
    terminal.fact("records", f"{records:,}")
    terminal.fact("bytes", f"{before:,} before, {_bytes_in(options.path):,} now")
    return EXIT_DONE


def _bytes_in(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else 0


def _warmup(options: argparse.Namespace) -> int:  # noqa: ARG001
    from zeusdb_vs import warmup

    started = time.perf_counter()
    warmup()
    open_terminal().fact("kernels ready in", f"{time.perf_counter() - started:.1f} s")
    return EXIT_DONE


def _load(path: Path) -> HNSWIndex:
    from zeusdb_vs import VectorDatabase

    return VectorDatabase().open(path, read_only=True)


def _read_filter(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        condition = json.loads(text)
    except ValueError as error:
        raise FilterError(
            f'--filter is not JSON ({error}): write it as \'{{"kind": "function"}}\''
        ) from error
    if not isinstance(condition, dict):
        raise FilterError(f"--filter must be a JSON object, not {text}")
    return condition


def _describe(hit: dict[str, Any]) -> str:
    """The first lines of a hit's text on one line, or its metadata when it has no text."""
    text = hit.get("text")
    return " ".join(text[:400].split()) if text else json.dumps(hit.get("metadata", {}), default=str)


def _shorten(value: object, width: int = 100) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= width else f"{text[:width]}... ({len(text):,} characters)"


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return number


if __name__ == "__main__":
    sys.exit(main())
