"""A process that writes until it is killed, and says after each call what it has been told is stored.

``python writer.py DIRECTORY DURABILITY SEED`` prints a line when a call has returned, ``< number``. What call
a number stands for follows from the seed: `call` gives it to whoever checks.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

DIM = 6
IDS = 60
State = dict[str, tuple[bytes, dict[str, Any], str | None]]


def call(seed: int, number: int) -> tuple[str, list[str], np.ndarray, dict[str, Any]]:
    """Return what the call with a number does: kind, ids, vectors, metadata."""
    rng = np.random.default_rng((seed, number))
    kind = ("add", "add", "add", "remove", "update", "save")[rng.integers(0, 6)] if number else "add"
    ids = [f"r{i}" for i in rng.choice(IDS, rng.integers(1, 8), replace=False)]
    vectors = rng.standard_normal((len(ids), DIM)).astype(np.float32)
    return str(kind), ids, vectors, {"call": number}


def apply(state: State, seed: int, number: int) -> None:
    """Do a call to a plain dict."""
    kind, ids, vectors, metadata = call(seed, number)
    for row, record_id in enumerate(ids):
        if kind == "add":
            state.pop(record_id, None)
            state[record_id] = (vectors[row].tobytes(), metadata, f"text {number}")
        elif kind == "remove":
            state.pop(record_id, None)
        elif kind == "update" and row == 0 and record_id in state:
            vector, _, text = state[record_id]
            state[record_id] = (vector, metadata, text)


def apply_to_index(index: Any, seed: int, number: int) -> None:
    """Do a call to an index, as one call."""
    kind, ids, vectors, metadata = call(seed, number)
    if kind == "add":
        count = len(ids)
        index.add(
            {
                "ids": ids,
                "vectors": vectors,
                "metadatas": [metadata] * count,
                "texts": [f"text {number}"] * count,
            }
        )
    elif kind == "remove":
        index.remove_points(ids)
    elif kind == "update":
        index.update_metadata(ids[0], metadata)
    else:
        index.save()


def state_of(index: Any) -> State:
    """What an index holds, in the form of the plain dict."""
    names = [name for name, _ in index.list(number=10**6)]
    return {
        record["id"]: (record["vector"].tobytes(), record["metadata"], record["text"])
        for record in index.get_records(names, include=("vector", "metadata", "text"))
    }


def main(path: str, durability: Any, seed: int) -> None:
    from zeusdb_vs import VectorDatabase, binding

    binding.CHECKPOINT_RECORDS = 200  # so that they come often
    index = VectorDatabase().open(path, dim=DIM, space="l2", durability=durability)
    number = 0
    while True:
        apply_to_index(index, seed, number)
        sys.stdout.write(f"< {number}\n")
        sys.stdout.flush()
        number += 1


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
