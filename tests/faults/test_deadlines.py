"""No call outlives its deadline by more than 50 ms, whatever Redis does; nor does its thread.

Measured at the clients, over real gRPC, before a serving process and a real Redis behind a proxy.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import grpc
import pytest

from featurestore import AsyncFeatureClient, FeatureClient
from featurestore.errors import (
    DeadlineExceeded,
    FeatureStoreError,
    OnlineDataMissing,
    Overloaded,
    Unavailable,
)
from featurestore.serving.client.asking import request_message
from featurestore.serving.message.limits import SERVICE
from featurestore.storage.redis import OnlineStore
from tests.faults.broken import Proxy, ended, proxied, watched
from tests.faults.punctual import GRACE, Scene, punctual
from tests.faults.serving import KEYS, Serving, load, serving
from tests.servers import Server, free_port, running, running_cluster, wait_until

PROJECT = "deadlines"
DEADLINES = (0.05, 0.1, 0.25)
BURST = 50
THREADS = 8
SOON = 1.0
"""Seconds after which all is well again when the fault is over."""

PAUSE = 2_500
"""Milliseconds: longer than a scene."""

EXPECTED = (Unavailable, DeadlineExceeded, OnlineDataMissing, Overloaded)


@dataclass(slots=True)
class Stage:
    """A Redis behind a proxy, what serves it, and a client."""

    folder: Path
    port: int
    proxy: Proxy
    serving: Serving
    client: FeatureClient
    redis: Server = field(init=False)
    _running: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        """Start Redis, empty, and load it."""
        found = running("valkey", self.folder, port=self.port)
        self.redis = self._running.enter_context(found)
        load(self.redis.url, PROJECT)

    def end(self) -> None:
        """Kill Redis."""
        ended(self.redis)

    def close(self) -> None:
        """End what was started."""
        self._running.close()

    def well(self) -> bool:
        """Say whether a lookup is answered, and rightly."""
        scene = Scene()
        ask(self.client, scene, 1, 0.25)
        return scene.calls[0].outcome is None


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Serve for the module."""
    folder, port = tmp_path_factory.mktemp("valkey"), free_port()
    with proxied(port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        with running("valkey", folder, port=port) as first:
            load(first.url, PROJECT)
            opening = ExitStack()
            process = opening.enter_context(serving(url, PROJECT))
            client = opening.enter_context(FeatureClient(process.address))
            made = Stage(folder, port, proxy, process, client)
            assert made.well()
        with opening:
            made.start()
            yield made
            made.close()


def ask(client: FeatureClient, scene: Scene, key: int, deadline: float) -> None:
    """Look a row up; an error of the store's is an outcome, another value is none."""
    came: list[object] = []
    with scene.timing(deadline, lambda: came[0] if came else None):
        try:
            found = client.get_online_features(
                ["view:b"], entities={"key": [key]}, timeout=deadline
            )
        except EXPECTED as error:
            came.append(error)
            return
    assert found.to_dict()["b"] == [f"row of {key}"]


async def ask_async(client: AsyncFeatureClient, scene: Scene, key: int, deadline: float) -> None:
    """Do as `ask` does."""
    came: list[object] = []
    with scene.timing(deadline, lambda: came[0] if came else None):
        try:
            found = await client.get_online_features(
                ["view:b"], entities={"key": [key]}, timeout=deadline
            )
        except EXPECTED as error:
            came.append(error)
            return
    assert found.to_dict()["b"] == [f"row of {key}"]


async def burst(address: str, scene: Scene, deadline: float) -> None:
    """Ask many times at once by the client for asyncio."""
    async with AsyncFeatureClient(address) as client:
        await ask_async(client, Scene(), 0, 1)
        await asyncio.gather(*(ask_async(client, scene, key, deadline) for key in range(BURST)))


def play(serving: Serving, client: FeatureClient, scene: Scene) -> None:
    """Ask by both clients, with all deadlines, until threads that were held would show.

    What needs no Redis is answered as soon as the last deadline is over: nothing holds a thread.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        calls = [
            pool.submit(ask, client, scene, number % KEYS, DEADLINES[number % len(DEADLINES)])
            for number in range(3 * THREADS)
        ]
    for call in calls:
        call.result()
    asyncio.run(burst(serving.address, scene, 0.1))
    time.sleep(GRACE)
    with ThreadPoolExecutor(THREADS) as pool:
        free = [pool.submit(described, client, scene) for _ in range(THREADS)]
    for call in free:
        call.result()


def described(client: FeatureClient, scene: Scene) -> None:
    """Ask for what needs a thread of the server's and nothing else."""
    with scene.timing(0.25, lambda: "described"):
        assert client.describe("service", timeout=0.25 + GRACE).outputs


@contextmanager
def killed(stage: Stage) -> Iterator[None]:
    """Kill Redis; it comes back with all rows."""
    stage.end()
    yield
    stage.close()
    stage.start()


@contextmanager
def frozen(stage: Stage) -> Iterator[None]:
    """Stop Redis as a stalled machine is."""
    with stage.redis.frozen():
        yield


@contextmanager
def paused(stage: Stage) -> Iterator[None]:
    """Let Redis answer nobody for a while."""
    with stage.redis.client() as client:
        client.execute_command("CLIENT", "PAUSE", PAUSE, "ALL")
        yield
        # This waits its end, too: nobody can call it off.
        client.ping()


@contextmanager
def emptied(stage: Stage) -> Iterator[None]:
    """Take all rows away."""
    with stage.redis.client() as client:
        client.flushall()
    yield
    load(stage.redis.url, PROJECT)


def through(how: str):
    """Give the fault of a network that does so to replies."""

    @contextmanager
    def broken(stage: Stage) -> Iterator[None]:
        stage.proxy.how = how
        yield
        stage.proxy.how = "well"

    return broken


FAULTS = {
    "killed": killed,
    "frozen": frozen,
    "paused": paused,
    "emptied": emptied,
    **{how: through(how) for how in Proxy.HOWS if how != "well"},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_call_outlives_its_deadline(stage: Stage, fault: str) -> None:
    """Each ends in time with an answer or our error, and all is well a second after the fault."""
    wait_until(stage.well)

    def scene_of(scene: Scene) -> None:
        with FAULTS[fault](stage):
            play(stage.serving, stage.client, scene)

    scene = punctual(scene_of)
    assert failed(scene)
    if fault in ("slow", "torn"):
        assert failed(scene) < len(scene.calls) - THREADS
    wait_until(stage.well, seconds=SOON)
    assert stage.serving.lives


@pytest.mark.parametrize("kind", ["cluster", "sentinels"])
@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_no_call_outlives_its_deadline_while_a_primary_is_lost(
    tmp_path: Path, kind: str, how: str
) -> None:
    """Of a cluster or of sentinels: until another serves calls fail in time, then none does."""
    folders = (tmp_path / str(number) for number in count())

    def scene_of(scene: Scene) -> None:
        (folder := next(folders)).mkdir()
        with ExitStack() as stack:
            if kind == "cluster":
                cluster = stack.enter_context(running_cluster(folder, replicas=1))
                url, servers, copies = cluster.url, cluster.servers, 1
            else:
                servers, sentinels = stack.enter_context(watched(folder))
                url, copies = f"{sentinels}/shop", 2
            load(url, PROJECT)
            replicated(servers[0], copies)
            process = stack.enter_context(serving(url, PROJECT))
            client = stack.enter_context(FeatureClient(process.address))
            stack.enter_context(asking(client, scene))
            wait_until(lambda: len(scene.calls) > 100)
            if how == "killed":
                ended(servers[0])
            else:
                stack.enter_context(servers[0].frozen())
            wait_until(lambda: failed(scene))
            wait_until(lambda: not failed(scene, last=200), seconds=30)

    punctual(scene_of)


def replicated(primary: Server, copies: int) -> None:
    """Wait until all rows of a server are its replicas', too."""
    with primary.client() as client:
        wait_until(lambda: client.info("replication")["connected_slaves"] >= copies)
        assert client.execute_command("WAIT", copies, 5000) >= copies


def failed(scene: Scene, last: int = 0) -> int:
    """Count the calls, all or the last so many, that were not answered."""
    return sum(isinstance(call.outcome, FeatureStoreError) for call in scene.calls[-last:])


@contextmanager
def asking(client: FeatureClient, scene: Scene) -> Iterator[None]:
    """Ask from several threads, without pause, for the length of a block."""
    over = threading.Event()

    def run(start: int) -> None:
        for number in count(start):
            if over.is_set():
                return
            ask(client, scene, number % KEYS, DEADLINES[number % len(DEADLINES)])
            over.wait(0.005)

    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(run, 100 * start) for start in range(4)]
        try:
            yield
        finally:
            over.set()
    for call in calls:
        call.result()


def test_a_name_that_nobody_resolves_costs_the_deadline(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that hangs is asked once, by a thread on which no call waits too long.

    No name server can be frozen here, so the system's function is replaced by one that waits.
    """
    asked, answers, plain = [], threading.Event(), socket.getaddrinfo

    def hanging(host: str, *args: object, flags: int = 0, **more: object) -> object:
        if flags & socket.AI_NUMERICHOST:
            return plain(host, *args, flags=flags, **more)
        asked.append(host)
        answers.wait(60)
        return plain("127.0.0.1", *args, flags=flags, **more)

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    store = OnlineStore.connect(
        f"redis://redis.example:{server.port}", project=PROJECT, timeout=20.0
    )

    def scene_of(scene: Scene) -> None:
        def ping(deadline: float) -> None:
            with scene.timing(deadline, lambda: None), pytest.raises(Unavailable, match="Timeout"):
                store.within(deadline).ping()

        with ThreadPoolExecutor(THREADS) as pool:
            calls = [pool.submit(ping, DEADLINES[number % 3]) for number in range(3 * THREADS)]
        for call in calls:
            call.result()

    punctual(scene_of)
    assert asked == ["redis.example"]
    answers.set()
    store.within(5).ping()
    store.close()


def test_a_call_without_a_deadline_ends_all_the_same(stage: Stage) -> None:
    """Whoever would wait for ever holds a thread no longer than Redis may let it wait."""
    wait_until(stage.well)
    with grpc.insecure_channel(stage.serving.address) as channel:
        lookup = channel.unary_unary(f"/{SERVICE}/GetOnlineFeatures", None, None)
        message, _ = request_message(["view:b"], entities={"key": [1]})
        with frozen(stage), pytest.raises(grpc.RpcError) as caught:
            lookup(message.SerializeToString())
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    wait_until(stage.well, seconds=SOON)
