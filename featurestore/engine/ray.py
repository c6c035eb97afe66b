"""Pieces of work as tasks of a Ray cluster; the extra `featurestore[ray]`.

What all pieces share is put into Ray's object store once and travels by reference. A piece is a
pure function, so Ray may run it again after a worker died, and nothing changes.
"""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, TypeVar

from featurestore.engine.executor import half_of_the_machine, parse_memory
from featurestore.errors import InvalidRequest, Unavailable, Unsupported

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")

_AGAIN = 3
"""How often a piece is run again whose worker died."""


class RayExecutor:
    """Runs pieces as tasks of the Ray cluster that this process is connected to.

    Where it is connected to none, `RAY_ADDRESS` says which; without it one is started on this
    machine. The tables must be at a path that all nodes reach.

    Args:
        workers: the tasks in flight, each with one core.
        memory: what the tasks under way may hold together: bytes, or text such as `2GiB`; half of
            what this process may use by default.

    Raises:
        Unsupported: Ray is not installed.
        InvalidRequest: the memory is no size, or there is no worker.
    """

    def __init__(self, *, workers: int = 2, memory: int | str | None = None) -> None:
        if workers < 1:
            raise InvalidRequest(f"workers: {workers} run nothing; give 1 or more")
        self._ray = _ray()
        self._workers = workers
        self._memory = half_of_the_machine() if memory is None else parse_memory(memory)

    def __repr__(self) -> str:
        return f"RayExecutor(workers={self._workers}, memory={self._memory})"

    @property
    def memory(self) -> int:
        """The bytes that the pieces under way at one time may hold together."""
        return self._memory

    @property
    def workers(self) -> int:
        """How many pieces run at one time."""
        return self._workers

    def run(
        self,
        work: Callable[[Shared, Task], Result],
        shared: Shared,
        tasks: Sequence[Task],
        sizes: Sequence[int],
    ) -> Iterator[tuple[int, Result]]:
        """Give each task's number and result as they end; the largest begin first.

        Raises:
            Unavailable: a piece's workers died each time it ran.
        """
        ray = self._ray
        if not ray.is_initialized():
            ray.init(num_cpus=self._workers, include_dashboard=False, log_to_driver=False)
        remote = ray.remote(num_cpus=1, max_retries=_AGAIN)(work)
        common = ray.put(shared)
        waiting = sorted(range(len(tasks)), key=lambda number: sizes[number])
        running: dict[Any, int] = {}
        try:
            while waiting or running:
                while waiting and self._has_room(running.values(), waiting[-1], sizes):
                    number = waiting.pop()
                    running[remote.remote(common, tasks[number])] = number
                done, _ = ray.wait(list(running), num_returns=1)
                for one in done:
                    yield running.pop(one), ray.get(one)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            raise Unavailable(
                f"ray: a piece of the join could not be run ({type(error).__name__}); see that the "
                "cluster's nodes have memory and live, and call again"
            ) from error
        finally:
            for one in running:
                ray.cancel(one)

    def _has_room(self, running: Any, following: int, sizes: Sequence[int]) -> bool:
        held = sum(sizes[number] for number in running)
        fits = held + sizes[following] <= self._memory
        return not running or (len(running) < self._workers and fits)


def _ray() -> Any:
    """Load Ray: only who makes a RayExecutor pays for it.

    Raises:
        Unsupported: it is not installed.
    """
    try:
        return import_module("ray")
    except ImportError as error:
        raise Unsupported(
            "RayExecutor: Ray is not installed; run `pip install 'featurestore[ray]'`"
        ) from error
