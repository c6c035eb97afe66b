"""Counting in a worker: each thread in a block of its own, so that none waits for another."""

import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from struct import Struct
from typing import Any

import numpy as np

from featurestore.errors import InvalidRequest
from featurestore.serving.process.metrics import (
    AGE,
    ARRIVED,
    BLOCKS,
    CELLS,
    DONE,
    EVICTED,
    READY,
    RELEASE,
    STATUS,
    STATUSES,
    SUBMITTED,
    THREADS,
    Page,
)

_EDGES = np.array(AGE.edges, np.int64)
_OLDEST = AGE.end - 2
_TIME = Struct("<q")
_FEW = 4
"""Up to so many rows are counted one by one: NumPy's calls have a cost of their own."""
_PATIENCE = 0.05
"""Seconds that a call's message may take to come behind it before its thread counts as held."""


class Block:
    """The numbers of one thread, one by one and as an array of the same memory."""

    __slots__ = ("_ages", "_summed", "numbers")

    def __init__(self, numbers: memoryview) -> None:
        self.numbers = numbers
        whole = np.frombuffer(numbers, np.int64)
        self._ages = whole[AGE.start : _OLDEST + 1]
        self._summed = whole[_OLDEST + 1 : _OLDEST + 2].view(np.float64)

    def answered(self, statuses: bytes, event_times: bytes, as_of: int) -> None:
        """Count an answer's statuses, and the ages (µs) of what has an event time."""
        for status in range(len(STATUSES)):
            if found := statuses.count(status):
                self.numbers[STATUS.start + status] += found
        if len(statuses) <= _FEW:
            known = [time for (time,) in _TIME.iter_unpack(event_times) if time]
            for one in known:
                self.numbers[AGE.start + bisect_left(AGE.edges, as_of - one)] += 1
            self._summed += as_of * len(known) - sum(known)
            return
        times = np.frombuffer(event_times, "<i8")
        # What has no event time is as old as can be, and then taken off again.
        counts = np.bincount(_EDGES.searchsorted(as_of - times), None, len(_EDGES) + 1)
        timed = int(np.count_nonzero(times))
        self._ages += counts
        self.numbers[_OLDEST] -= len(times) - timed
        self._summed += float(as_of) * timed - times.sum(dtype=np.float64)


class Counters:
    """A worker's page; `block` is that of the thread that asks."""

    def __init__(self, page: Page) -> None:
        page.begin()
        self.page = page
        self._header = page.header
        self._local = threading.local()
        self._blocks: list[memoryview] = []
        self._taking = threading.Lock()

    @property
    def block(self) -> Block:
        """This thread's block."""
        try:
            return self._local.block  # type: ignore[no-any-return]
        except AttributeError:
            return self._take()

    def cells(self) -> int:
        """Give how many values the lookups in hand here answer."""
        return sum([numbers[CELLS] for numbers in self._blocks])

    def arrived(self) -> None:
        """Count a call that came; only the thread that all calls come by does."""
        self._header[ARRIVED] += 1

    def submitted(self) -> None:
        """Count a call that was taken; only the thread that all calls come by does."""
        self._header[SUBMITTED] += 1

    def standing(self, *, ready: bool, release: int, evicted: int = 0) -> None:
        """Say what the worker answers now, and how many keys its Redis threw away."""
        self._header[READY], self._header[RELEASE] = int(ready), release
        self._header[EVICTED] = evicted

    def _take(self) -> Block:
        with self._taking:
            number = len(self._blocks)
            if number >= THREADS:
                raise RuntimeError(f"at most {THREADS} threads can count")
            self._header[BLOCKS] = max(self._header[BLOCKS], number + 1)
            self._blocks.append(self.page.block(number))
            self._local.block = Block(self._blocks[-1])
        return self._local.block  # type: ignore[no-any-return]


class Pool(ThreadPoolExecutor):
    """The threads that answer; it counts what it takes and what it has done.

    gRPC waits for a call's message in the thread that is to answer it. A client that sends none
    holds that thread, until its own deadline or its connection's end: where all of them wait so, as
    many others are started in their place as there may be.
    """

    def __init__(self, threads: int, counters: Counters) -> None:
        """Take as many threads as the page has blocks for.

        Raises:
            InvalidRequest: they are more, or none.
        """
        if not 1 <= threads <= THREADS:
            raise InvalidRequest(f"limits.threads: {threads!r:.40} is not 1 to {THREADS}")
        super().__init__(threads, thread_name_prefix="featurestore-call")
        self._counters = counters
        self._threads_asked = threads
        self._waiting: dict[int, float] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Take a call."""
        self._counters.submitted()
        if len(self._waiting) >= self._threads_asked:
            self._relieve()
        return super().submit(self._run, fn, *args, **kwargs)

    def begun(self) -> None:
        """Say that the message of this thread's call is here."""
        self._waiting.pop(threading.get_ident(), None)

    def _relieve(self) -> None:
        long_ago = time.monotonic() - _PATIENCE
        stuck = sum(since < long_ago for since in tuple(self._waiting.values()))
        self._max_workers = min(self._threads_asked + stuck, THREADS)

    def _run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self._waiting[threading.get_ident()] = time.monotonic()
        try:
            return fn(*args, **kwargs)
        finally:
            self.begun()
            self._counters.block.numbers[DONE] += 1
