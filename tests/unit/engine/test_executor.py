"""Executors: every piece once, within the memory, whatever dies."""

import os
import threading
import time

import pytest

from featurestore import LocalExecutor
from featurestore.engine.executor import cores, half_of_the_machine, parse_memory
from featurestore.errors import InvalidRequest


def doubled(shared, task):
    """Give a number that depends on what is shared and on the task."""
    return shared + 2 * task


def failing(_, task):
    """Fail at one task."""
    if task == 3:
        raise InvalidRequest("entity_df.three: is bad; use four")
    return task


def results(executor, work, shared, tasks, sizes=None):
    return dict(executor.run(work, shared, tasks, sizes or [1] * len(tasks)))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_task_is_answered_once_under_its_number(workers):
    """Whatever the order they end in, each number has its own result."""
    executor = LocalExecutor(workers=workers)
    assert results(executor, doubled, 100, list(range(20))) == {n: 100 + 2 * n for n in range(20)}
    assert results(executor, doubled, 100, []) == {}


def test_what_is_under_way_stays_within_the_memory():
    """Tasks wait until those under way leave room; one that is too large runs alone."""
    lock, held, most = threading.Lock(), [], []
    sizes = [64 << 20, 40 << 20, 30 << 20, 200 << 20, 20 << 20, 10 << 20]

    def work(_, task):
        with lock:
            held.append(task)
            most.append((sum(sizes[n] for n in held), len(held)))
        time.sleep(0.02)
        with lock:
            held.remove(task)
        return task

    executor = LocalExecutor(memory=64 << 20, workers=4)
    assert set(results(executor, work, None, list(range(6)), sizes)) == set(range(6))
    assert all(total <= 64 << 20 or running == 1 for total, running in most)
    assert max(running for _, running in most) > 1


def test_an_error_of_a_task_comes_as_it_was_raised():
    """The caller sees the store's own error, and no task is left running."""
    with pytest.raises(InvalidRequest, match="three: is bad"):
        results(LocalExecutor(workers=2), failing, None, list(range(9)))


@pytest.mark.parametrize(
    ("given", "size"),
    [
        (1 << 30, 1 << 30),
        ("2GiB", 2 << 30),
        ("2 GiB", 2 << 30),
        ("1.5GB", 1_500_000_000),
        ("500 MB", 500_000_000),
        ("80000000", 80_000_000),
        ("128Mi", 128 << 20),
    ],
)
def test_a_size_is_read_as_people_write_it(given, size):
    """Powers of 1,000 and of 1,024 have their own units."""
    assert parse_memory(given) == size


@pytest.mark.parametrize("given", ["", "much", "-1", -1, "2 gigs", "GiB", 1024, "1MiB", "nan"])
def test_what_is_no_size_or_too_small_is_refused(given):
    """The error says what was given and what to write."""
    with pytest.raises(InvalidRequest, match=r"^memory: .*(2GiB|64 MiB)"):
        parse_memory(given)


@pytest.mark.parametrize("given", [0, -1, 1.5, "2"])
def test_workers_must_work(given):
    """No worker would never end, and there is no half of one."""
    with pytest.raises(InvalidRequest, match=r"workers: .* run nothing"):
        LocalExecutor(workers=given)


def test_an_executor_prints_its_memory_as_people_write_it():
    """A size of eleven digits says little."""
    executor = LocalExecutor(memory=3 << 29, workers=2)
    assert repr(executor) == "LocalExecutor(memory='1.5GiB', workers=2)"


def test_by_default_all_cores_and_half_the_memory_are_used():
    """The default neither starves nor fills the machine."""
    executor = LocalExecutor()
    assert executor.workers == cores() >= 1
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 64 << 20 <= executor.memory == half_of_the_machine() <= machine // 2
