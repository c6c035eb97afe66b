"""Servers are restarted under load, one after the other, and no call of our clients fails."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import polars as pl
import pytest

from featurestore import AsyncFeatureClient, FeatureClient
from featurestore.serving.client.response import OnlineResponse
from featurestore.storage.redis import OnlineStore
from tests.releases import at, load_rows, publish, release_of, stored_view
from tests.servers import free_port, wait_until

VIEW = stored_view("view", {"key": "int64"}, {"a": "float64"})
ASKED = (["view:a"], [{"key": 1}])
THREADS = 4
PATIENCE = 10
"""Seconds a call may take: more than the five in which a server lets calls end."""

_ESTABLISHED = "01"


@dataclass(slots=True)
class Load:
    """What callers met: how many answers were right, and everything else."""

    right: int = 0
    wrong: list[object] = field(default_factory=list)
    events: list[tuple[float, str]] = field(default_factory=list)

    def take(self, found: OnlineResponse | BaseException) -> None:
        """Count an answer or an error."""
        if isinstance(found, OnlineResponse) and found.to_dict()["a"] == [1.5]:
            self.right += 1
        else:
            self.wrong.append(found)
            self.note("failed")

    def note(self, what: str) -> None:
        """Keep when something happened, to tell what a failed call had to do with."""
        self.events.append((round(time.monotonic(), 3), what))

    def grows_by(self, more: int) -> None:
        """Wait until so many more answers came."""
        wanted = self.right + more
        wait_until(lambda: self.right >= wanted or self.wrong, seconds=30)


@dataclass(slots=True)
class Process:
    """A serving process on a port, which can be restarted."""

    url: str
    project: str
    port: int
    running: "subprocess.Popen[str]" = field(init=False)

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self.running = subprocess.Popen(
            [
                *(sys.executable, "-m", "featurestore.serving"),
                *("--project", self.project, "--port", str(self.port)),
            ],
            env={**os.environ, "FEATURESTORE_REDIS_URL": self.url, "POLARS_MAX_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.running.stdout is not None
        assert json.loads(self.running.stdout.readline())["address"]

    def is_connected(self) -> bool:
        """Say whether a client has a connection to it."""
        told = "".join(Path(f"/proc/net/{one}").read_text() for one in ("tcp", "tcp6"))
        return bool(re.search(rf":{self.port:04X} [0-9A-F]+:[0-9A-F]+ {_ESTABLISHED} ", told))

    def stop(self) -> None:
        """End it as an orchestrator does, and wait."""
        self.running.send_signal(signal.SIGTERM)
        assert self.running.wait(20) == 0
        assert self.running.stdout is not None
        self.running.stdout.close()


@pytest.fixture(scope="module")
def two(server) -> Iterator[list[Process]]:
    """Two serving processes of one project."""
    store = OnlineStore.connect(server.url, project=f"rolling-{uuid4().hex[:8]}")
    load_rows(store, VIEW, pl.DataFrame({"key": [1], "a": [1.5]}), [at()])
    publish(store, release_of(store, [VIEW]))
    processes = [Process(server.url, store.project, free_port()) for _ in range(2)]
    for process in processes:
        process.start()
    yield processes
    for process in processes:
        process.stop()
    store.close()


@contextmanager
def blocking(address: str) -> Iterator[Load]:
    """Ask from several threads through one client for the length of a block."""
    load, ended = Load(), threading.Event()

    def ask(client: FeatureClient) -> None:
        while not ended.is_set():
            try:
                load.take(client.get_online_features(*ASKED))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a failed call
                load.take(error)

    with FeatureClient(address, timeout=PATIENCE) as client:
        threads = [threading.Thread(target=ask, args=(client,)) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        try:
            yield load
        finally:
            ended.set()
            for thread in threads:
                thread.join()


@contextmanager
def awaiting(address: str) -> Iterator[Load]:
    """Ask from several tasks through one asyncio client for the length of a block."""
    load, ended = Load(), threading.Event()

    async def ask(client: AsyncFeatureClient) -> None:
        while not ended.is_set():
            try:
                load.take(await client.get_online_features(*ASKED))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a failed call
                load.take(error)

    async def all_ask() -> None:
        async with AsyncFeatureClient(address, timeout=PATIENCE) as client:
            await asyncio.gather(*(ask(client) for _ in range(THREADS)))

    thread = threading.Thread(target=asyncio.run, args=(all_ask(),))
    thread.start()
    try:
        yield load
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("asking", [blocking, awaiting])
def test_a_rolling_restart_fails_no_call(two: list[Process], asking: Callable[..., Load]) -> None:
    """Each of two servers is ended by SIGTERM and started again, while calls go round.

    The second one's turn comes when the first is found again, as a moment after it is ready.
    """
    with asking(",".join(f"127.0.0.1:{process.port}" for process in two)) as load:
        load.grows_by(100)
        for process in two:
            load.note(f"{process.port} is told to stop")
            process.stop()
            load.note("has stopped")
            load.grows_by(100)
            process.start()
            load.note("listens again")
            wait_until(process.is_connected)
            load.grows_by(100)
    assert load.wrong == [], load.events
