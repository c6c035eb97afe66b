"""A closed-loop client: each connection sends its next request when the last one is answered."""

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from child import main

WARM = 0.3
_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 64 << 20),
]


def put(*, address: str, method: str, loads: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Put one load after the other on a server."""
    return {"loads": [load(address, method, **one) for one in loads]}


def load(
    address: str, method: str, *, request: str, reply: str, connections: int, seconds: float
) -> dict[str, float]:
    """Send one request over and over; give requests a second and latency in milliseconds."""
    asked, expected = Path(request).read_bytes(), Path(reply).read_bytes()
    start = threading.Barrier(connections)
    took: list[list[int]] = [[] for _ in range(connections)]
    wrong: list[int] = []

    def loop(mine: list[int]) -> None:
        with grpc.insecure_channel(address, options=_OPTIONS) as channel:
            call = channel.unary_unary(method, None, None)
            call(asked, timeout=10)
            start.wait()
            now = time.perf_counter_ns()
            measured, end = now + int(WARM * 1e9), now + int((WARM + seconds) * 1e9)
            while now < end:
                began = now
                same = call(asked, timeout=10) == expected
                now = time.perf_counter_ns()
                if began >= measured:
                    mine.append(now - began)
                if not same:
                    wrong.append(1)

    threads = [threading.Thread(target=loop, args=(mine,)) for mine in took]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    latencies = np.concatenate([np.asarray(one, dtype=np.int64) for one in took]) / 1e6
    median, slow = np.percentile(latencies, [50, 99])
    return {
        "req/s": len(latencies) / seconds,
        "p50 ms": float(median),
        "p99 ms": float(slow),
        "wrong": float(len(wrong)),
    }


if __name__ == "__main__":
    raise SystemExit(main(put))
