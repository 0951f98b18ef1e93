"""Processes that load while another one saves: every load is one whole save."""

import multiprocessing
import time

from storage.snapshots import content_of, make_snapshot

from zeusdb_vs.storage import read_snapshot, write_snapshot

SECONDS = 3.0


def saver(path, stop):
    seed = 1
    while not stop.is_set():
        write_snapshot(path, make_snapshot(seed=seed, texts=seed % 2 == 0))
        seed += 1
    return seed


def loader(path, stop, results, mapped):
    loads, seeds = 0, set()
    try:
        while not stop.is_set():
            loaded = read_snapshot(path, mmap=mapped, verify=loads % 2 == 0)
            loaded.verify()
            seed = loaded.config["seed"]
            expected = make_snapshot(seed=seed, texts=seed % 2 == 0, uuid=loaded.index_uuid)
            if content_of(loaded) != content_of(expected):
                raise AssertionError(f"a load mixed generations, seed {seed}")
            loads += 1
            seeds.add(seed)
        results.put((loads, len(seeds), None))
    except BaseException as error:
        results.put((loads, len(seeds), repr(error)))


def test_loads_beside_a_saver_are_each_one_whole_save(tmp_path):
    path = tmp_path / "a.zdb"
    write_snapshot(path, make_snapshot(seed=0))
    context = multiprocessing.get_context("spawn")
    stop, results = context.Event(), context.Queue()
    processes = [
        context.Process(target=saver, args=(path, stop)),
        context.Process(target=loader, args=(path, stop, results, False)),
        context.Process(target=loader, args=(path, stop, results, True)),
    ]
    for process in processes:
        process.start()
    time.sleep(SECONDS)
    stop.set()
    outcomes = [results.get(timeout=60) for _ in range(2)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert all(error is None for _, _, error in outcomes), outcomes
    assert all(loads > 3 for loads, _, _ in outcomes), outcomes
