"""Where independent pieces of work run: the threads of this process, or a cluster.

A piece is `work(shared, task)`: a pure function of what all pieces share and of its own task, so
that it may run anywhere, twice, and in any order.
"""

import os
import re
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol, TypeVar

from featurestore.errors import InvalidRequest

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")

_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT]i?)?B?\s*")
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_UNITS |= {f"{name}i": 1 << 10 * power for power, name in enumerate("KMGT", 1)}
_LEAST = 64 << 20
_CGROUP = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class Executor(Protocol):
    """Runs pieces of work; `memory` bounds what those under way on one machine hold, in bytes."""

    @property
    def memory(self) -> int:
        """The bytes that the pieces under way at one time may hold together."""
        ...

    @property
    def workers(self) -> int:
        """How many pieces run at one time."""
        ...

    def run(
        self,
        work: Callable[[Shared, Task], Result],
        shared: Shared,
        tasks: Sequence[Task],
        sizes: Sequence[int],
    ) -> Iterator[tuple[int, Result]]:
        """Give each task's number and result as they end; `sizes` are the bytes each may hold."""
        ...


def parse_memory(given: int | str, path: str = "memory") -> int:
    """Read a size in bytes: a number, or text such as `2GiB` or `500 MB`.

    Raises:
        InvalidRequest: it is no size, or less than 64 MiB, which is too little to work in.
    """
    found = _SIZE.fullmatch(str(given))
    size = int(float(found[1]) * _UNITS[found[2] or ""]) if found else -1
    if size < 0:
        raise InvalidRequest(f"{path}: {given!r} is no size; write a number of bytes, or '2GiB'")
    if size < _LEAST:
        raise InvalidRequest(f"{path}: {given!r} is too little to work in; give 64 MiB or more")
    return size


def half_of_the_machine() -> int:
    """Give half the memory that this process may use, in bytes: the machine's, or its cgroup's."""
    pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 20
    whole = pages * (os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096)
    limits = [path.read_text(encoding="ascii").strip() for path in _CGROUP if path.is_file()]
    return min([whole, *(int(limit) for limit in limits if limit.isdigit())]) // 2


def cores() -> int:
    """Give how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Bounded:
    """What every executor is made of: the memory and the workers that it may use.

    Raises:
        InvalidRequest: the memory is no size, or there is no worker.
    """

    def __init__(self, *, memory: int | str | None, workers: int) -> None:
        if not isinstance(workers, int) or workers < 1:
            raise InvalidRequest(f"workers: {workers!r} run nothing; give 1 or more")
        self._memory = half_of_the_machine() if memory is None else parse_memory(memory)
        self._workers = workers

    def __repr__(self) -> str:
        memory = f"{self._memory / 2**30:.3g}GiB"
        return f"{type(self).__name__}(memory='{memory}', workers={self._workers})"

    @property
    def memory(self) -> int:
        """The bytes that the pieces under way at one time may hold together."""
        return self._memory

    @property
    def workers(self) -> int:
        """How many pieces run at one time."""
        return self._workers

    def has_room(self, running: Collection[int], following: int, sizes: Sequence[int]) -> bool:
        """Say whether a task may begin beside those that run; one always may, however large."""
        held = sum(sizes[number] for number in running)
        fits = held + sizes[following] <= self._memory
        return not running or (len(running) < self._workers and fits)


class LocalExecutor(Bounded):
    """Runs pieces on threads of this process, as many at a time as the memory allows.

    Args:
        memory: what the pieces under way may hold together: bytes, or text such as `2GiB`; half of
            what this process may use by default. One piece always runs, however large it is.
        workers: the pieces that run at one time; one for each core by default.

    Raises:
        InvalidRequest: the memory is no size, or there is no worker.
    """

    def __init__(self, *, memory: int | str | None = None, workers: int | None = None) -> None:
        super().__init__(memory=memory, workers=cores() if workers is None else workers)

    def run(
        self,
        work: Callable[[Shared, Task], Result],
        shared: Shared,
        tasks: Sequence[Task],
        sizes: Sequence[int],
    ) -> Iterator[tuple[int, Result]]:
        """Give each task's number and result as they end; the largest begin first."""
        waiting = deque(sorted(range(len(tasks)), key=lambda number: -sizes[number]))
        running: dict[Future[Result], int] = {}
        with ThreadPoolExecutor(self._workers) as pool:
            while waiting or running:
                while waiting and self.has_room(running.values(), waiting[0], sizes):
                    number = waiting.popleft()
                    running[pool.submit(work, shared, tasks[number])] = number
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future.result()
