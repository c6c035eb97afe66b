"""A closed-loop client: each connection sends its next request when the last one is answered."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from child import main

WARM = 0.3
_PATIENCE = 60.0
_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 64 << 20),
]
Call = Callable[[bytes], bytes]


def over_grpc(*, address: str, path: str, **load: Any) -> Mapping[str, float]:
    """Put a load on a gRPC method."""
    return _put(lambda: _grpc(address, path), **load)


def over_http(*, address: str, path: str, **load: Any) -> Mapping[str, float]:
    """Put a load of JSON bodies on a path, over HTTP/1.1."""
    return _put(lambda: _http(address, path), **load)


@contextmanager
def _grpc(address: str, path: str) -> Iterator[Call]:
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        method = channel.unary_unary(path, None, None)
        yield lambda body: method(body, timeout=_PATIENCE)


@contextmanager
def _http(address: str, path: str) -> Iterator[Call]:
    connection = http.client.HTTPConnection(address, timeout=_PATIENCE)

    def call(body: bytes) -> bytes:
        connection.request("POST", path, body, {"content-type": "application/json"})
        return connection.getresponse().read()

    try:
        yield call
    finally:
        connection.close()


def _put(
    connected: Callable[[], AbstractContextManager[Call]],
    *,
    request: str,
    reply: str,
    connections: int,
    seconds: float,
) -> dict[str, float]:
    """Send one request over and over; give requests a second and latencies in milliseconds."""
    asked, expected = Path(request).read_bytes(), Path(reply).read_bytes()
    start = threading.Barrier(connections)
    took: list[list[int]] = [[] for _ in range(connections)]
    wrong: list[int] = []
    sent: list[int] = []

    def loop(mine: list[int]) -> None:
        with connected() as call:
            call(asked)
            start.wait()
            now = time.perf_counter_ns()
            measured, end = now + int(WARM * 1e9), now + int((WARM + seconds) * 1e9)
            while now < end:
                began = now
                same = call(asked) == expected
                now = time.perf_counter_ns()
                if began >= measured:
                    mine.append(now - began)
                sent.append(1)
                if not same:
                    wrong.append(1)

    threads = [threading.Thread(target=loop, args=(mine,)) for mine in took]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    latencies = np.concatenate([np.asarray(one, dtype=np.int64) for one in took]) / 1e6
    median, slow, slowest = np.percentile(latencies, [50, 99, 99.9])
    return {
        "req/s": len(latencies) / seconds,
        "requests": connections + len(sent),
        "p50 ms": float(median),
        "p99 ms": float(slow),
        "p99.9 ms": float(slowest),
        "wrong": float(len(wrong)),
    }


if __name__ == "__main__":
    raise SystemExit(main(over_grpc, over_http))
