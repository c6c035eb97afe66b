"""A client that pushes events over gRPC: one by one, each looked up at once, or in batches."""

import time
from collections.abc import Mapping
from datetime import datetime, timedelta

import numpy as np
import polars as pl
from child import main
from columns import KEY
from events import SOURCE, more_events

from featurestore import FeatureClient

PATIENCE = 30.0
_MARK = 1e6


def readable(
    *, address: str, keys: int, count: int, turn: int, end: str, keep: str
) -> Mapping[str, float]:
    """Push one event after the other, each greater than all before, until a lookup shows it.

    Gives milliseconds from the call of push to the reply that shows the event.
    """
    events = more_events(keys, count, turn, datetime.fromisoformat(end))
    marks = pl.Series("amount", _MARK * (turn + 1) + np.arange(count))
    events = events.with_columns(marks)
    as_of = datetime.fromisoformat(end) + timedelta(hours=1)
    took = []
    with FeatureClient(address, timeout=PATIENCE) as client:
        for at, mark in enumerate(marks):
            one = events[at : at + 1]
            asked = one.select(KEY)
            began = time.perf_counter()
            client.push(SOURCE, one)
            while True:
                found = client.get_online_features("windowed", entities=asked, as_of=as_of)
                if found.to_dict()["max_amount_7d"][0] == mark:
                    break
                if time.perf_counter() - began > PATIENCE:
                    raise RuntimeError(f"never readable: event {at} of {count}")
            took.append((time.perf_counter() - began) * 1000)
    events.write_parquet(keep)
    return _latencies(took)


def batches(
    *, address: str, keys: int, count: int, turn: int, end: str, size: int, keep: str
) -> Mapping[str, float]:
    """Push events in batches, one call after the other; give events a second."""
    events = more_events(keys, count, turn, datetime.fromisoformat(end))
    took = []
    with FeatureClient(address, timeout=PATIENCE) as client:
        client.push(SOURCE, events.head(1))
        began = time.perf_counter()
        for batch in events.iter_slices(size):
            called = time.perf_counter()
            told = client.push(SOURCE, batch)
            took.append((time.perf_counter() - called) * 1000)
            if told.accepted != batch.height:
                raise RuntimeError(f"refused: {told}")
        seconds = time.perf_counter() - began
    events.write_parquet(keep)
    return {"events/s": events.height / seconds} | _latencies(took)


def _latencies(took: list[float]) -> dict[str, float]:
    median, slow = np.percentile(took, [50, 99])
    return {"p50 ms": float(median), "p99 ms": float(slow)}


if __name__ == "__main__":
    raise SystemExit(main(readable, batches))
