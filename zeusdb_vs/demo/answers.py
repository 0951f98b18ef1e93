"""The demo's questions, and the second process that answers them from the saved directory.

Run as ``python -m zeusdb_vs.demo.answers DIRECTORY``: prints one JSON object, answers and timings.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeusdb_vs.demo.embedder import Embedder, embedder_from_config

if TYPE_CHECKING:
    from zeusdb_vs import HNSWIndex

TOP_K = 5
SCORE_TOLERANCE = 1e-6  # relative: two code paths may add up a distance in another order

Answer = list[tuple[str, float]]  # ids and scores, nearest first


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, in words, and which records may answer.

    Attributes
    ----------
    text : str
        The question.
    filter : dict, optional
        A filter over the metadata that `corpus.Entry` describes.
    """

    text: str
    filter: Mapping[str, Any] | None = None


QUESTIONS = (
    Question("how do I compress a file"),
    Question("read rows of a csv file"),
    Question("create a temporary directory that is removed afterwards"),
    Question("wait for a child process to finish"),
    Question("how do I compress a file", {"kind": "class", "public": True}),
    Question("decode a document", {"package": "json"}),
    Question("parse command line arguments", {"kind": "function"}),
    Question("send a message", {"kind": {"in": ["method", "function"]}, "module": {"startswith": "smtp"}}),
)


def answer(index: HNSWIndex, embedder: Embedder, questions: Sequence[Question] = QUESTIONS) -> list[Answer]:
    """Ask all questions, one search each.

    Parameters
    ----------
    index : HNSWIndex
        The demo's index.
    embedder : Embedder
        The one it was built with.
    questions : sequence of Question
        What to ask.

    Returns
    -------
    list of Answer
        One per question, up to `TOP_K` ids with their scores.
    """
    vectors = embedder.embed([question.text for question in questions])
    return [
        [(hit["id"], hit["score"]) for hit in index.search(vector, filter=question.filter, top_k=TOP_K)]
        for question, vector in zip(questions, vectors, strict=True)
    ]


def differences(first: Sequence[Answer], second: Sequence[Answer]) -> list[int]:
    """Find the questions that were answered differently.

    Parameters
    ----------
    first, second : sequence of Answer
        Answers to the same questions.

    Returns
    -------
    list of int
        Positions where a score differs by more than `SCORE_TOLERANCE`, or where an id differs that is not one
        of several at one distance.
    """
    return [
        position
        for position, (one, other) in enumerate(zip(first, second, strict=True))
        if not _is_same(one, other)
    ]


def _is_same(one: Answer, other: Answer) -> bool:
    if len(one) != len(other):
        return False
    scores = dict(other)
    for (name, score), (other_name, other_score) in zip(one, other, strict=True):
        if not _is_close(score, other_score):
            return False
        # Records at one distance may come in any order, and at the end of the list any of them may be there.
        if name != other_name and not _is_close(score, scores.get(name, other[-1][1])):
            return False
    return True


def _is_close(one: float, other: float) -> bool:
    return abs(one - other) <= SCORE_TOLERANCE * max(1.0, abs(one), abs(other))


def main(arguments: Sequence[str] | None = None) -> int:
    """Load a directory, answer the questions, print them as JSON.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command line without the program's name.

    Returns
    -------
    int
        0.
    """
    started = time.perf_counter()
    parser = argparse.ArgumentParser(prog="python -m zeusdb_vs.demo.answers")
    parser.add_argument("path", type=Path)
    parser.add_argument("--embedder")
    options = parser.parse_args(arguments)
    from zeusdb_vs import VectorDatabase

    index = VectorDatabase().load(options.path)
    loaded = time.perf_counter()
    embedder = embedder_from_config(index.get_all_metadata().get("embedder"), model=options.embedder)
    answers = answer(index, embedder)
    finished = time.perf_counter()
    report = {"answers": answers, "load_s": loaded - started, "answer_s": finished - loaded}
    json.dump(report, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
