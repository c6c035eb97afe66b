"""Many at once: threads that start at the same moment, as processes on many machines would."""

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from featurestore.errors import FeatureStoreError

T = TypeVar("T")


def race(calls: Sequence[Callable[[], T]]) -> list[T | FeatureStoreError]:
    """Call all at the same moment; give what each returned or was refused with, in their order."""
    ready = threading.Barrier(len(calls))
    ends: dict[int, T | FeatureStoreError] = {}

    def run(number: int, call: Callable[[], T]) -> None:
        ready.wait()
        try:
            ends[number] = call()
        except FeatureStoreError as error:
            ends[number] = error

    threads = [threading.Thread(target=run, args=one) for one in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [ends[number] for number in range(len(calls))]
