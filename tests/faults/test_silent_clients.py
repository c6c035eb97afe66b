"""Clients that connect and say nothing, or ask and never read, cost the others nothing."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import polars as pl
import pytest

from featurestore import FeatureClient
from featurestore.serving.client.asking import request_message
from featurestore.storage.redis import OnlineStore
from tests.faults.serving import Serving, serving
from tests.releases import at, load_rows, publish, release_of, stored_view
from tests.servers import Server, wait_until

FEATURES = [f"f{number}" for number in range(100)]
VIEW = stored_view("view", {"key": "int64"}, dict.fromkeys(FEATURES, "float64"))
PROJECT = "silent"
ROWS = 1_000
IDLE = 300
GENERATOR = Path(__file__).with_name("generator.py")
ROOM = 128
"""MiB that a server may hold for clients that do not read: as much as sockets and calls do."""


@pytest.fixture(scope="module")
def process(server: Server) -> Iterator[Serving]:
    """Serve answers of 800 KB for the module."""
    store = OnlineStore.connect(server.url, project=PROJECT, timeout=5.0)
    numbers = pl.int_range(ROWS, eager=True)
    rows = pl.DataFrame({"key": numbers, **dict.fromkeys(FEATURES, numbers / 4)})
    load_rows(store, VIEW, rows, [at()] * ROWS)
    publish(store, release_of(store, [VIEW]))
    store.close()
    with serving(server.url, PROJECT) as process:
        yield process


def answered(client: FeatureClient, times: int = 20) -> float:
    """Give the median time of some lookups, seconds."""
    took = []
    for key in range(times):
        began = time.monotonic()
        found = client.get_online_features(["view:f1"], entities={"key": [key]})
        took.append(time.monotonic() - began)
        assert found.to_dict()["f1"] == [key / 4]
    return sorted(took)[times // 2]


def resident(process: Serving) -> float:
    """Give a process's memory, MiB."""
    pages = int(Path(f"/proc/{process.process.pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def test_idle_sockets_cost_nothing(process: Serving) -> None:
    """Hundreds of connections that say nothing, or half a word, keep nobody from an answer."""
    host, port = process.address.split(":")
    with FeatureClient(process.address, timeout=2) as client, ExitStack() as stack:
        answered(client)
        for number in range(IDLE):
            silent = stack.enter_context(socket.create_connection((host, int(port))))
            silent.sendall(b"PRI * HTTP/2.0\r\n"[: number % 17])
        assert answered(client) < 0.25
        with FeatureClient(process.address, timeout=2) as another:
            answered(another, 1)
    assert process.lives


def test_who_never_reads_costs_what_sockets_hold(process: Serving, tmp_path: Path) -> None:
    """Answers that nobody takes are let go of at their deadlines; others are answered as before."""
    message, _ = request_message(
        [f"view:{name}" for name in FEATURES], entities={"key": list(range(ROWS))}
    )
    (tmp_path / "request").write_bytes(message.SerializeToString())
    with FeatureClient(process.address, timeout=2) as client:
        before, quick = resident(process), answered(client)
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(stopped(process.address, tmp_path / "request"))
            wait_until(lambda: answered(client) < max(0.05, 3 * quick))
            assert resident(process) < before + ROOM
        assert answered(client) < 0.25
    assert process.lives


@contextmanager
def stopped(address: str, path: Path) -> Iterator[None]:
    """Freeze a client while it asks without pause, for the length of a block."""
    command = [sys.executable, str(GENERATOR), address, str(path), "0", "0.5"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as asking:
        try:
            assert asking.stdin is not None
            assert asking.stdout is not None
            asking.stdin.write("closed 1 0.1\nopen 300 60\n")
            asking.stdin.flush()
            assert asking.stdout.readline()
            time.sleep(0.2)
            asking.send_signal(signal.SIGSTOP)
            yield
        finally:
            asking.kill()
