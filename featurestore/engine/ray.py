"""Pieces of work as tasks of a Ray cluster; the extra `featurestore[ray]`.

What all pieces share is put into Ray's object store once and travels by reference. A piece is a
pure function, so Ray may run it again after a worker died, and nothing changes.
"""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, TypeVar

from featurestore.engine.executor import Bounded
from featurestore.errors import Unavailable, Unsupported

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")

_AGAIN = 3
"""How often a piece is run again whose worker died."""


class RayExecutor(Bounded):
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
        super().__init__(memory=memory, workers=workers)
        self._ray = _ray()

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
                while waiting and self.has_room(running.values(), waiting[-1], sizes):
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
