"""What a server does while releases move and Redis fails: whole answers, or a named error."""

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import grpc
import polars as pl
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from featurestore.errors import (
    DeadlineExceeded,
    NotMaterialized,
    OnlineDataMissing,
    Unavailable,
)
from featurestore.model.declare import service
from featurestore.serving.client.client import FeatureClient
from featurestore.serving.message.limits import SERVICE, Limits
from featurestore.serving.process.server import Server, serve
from featurestore.storage.redis import OnlineStore
from tests.releases import (
    NOON,
    at,
    load_rows,
    publish,
    release_of,
    stored_view,
    table_of,
    use,
)
from tests.servers import BINARIES, available, free_port, wait_until
from tests.servers import Server as Redis

LEFT = stored_view("left", {"key": "int64"}, {"a": "int64"})
RIGHT = stored_view("right", {"key": "int64"}, {"b": "int64"})
VIEWS = {"left": LEFT, "right": RIGHT}
PAIR = service(name="pair", projections=[use(LEFT), use(RIGHT)], views=VIEWS)
QUICK = Limits(poll=0.05)
KEYS = list(range(20))


def _store(url: str) -> OnlineStore:
    return OnlineStore.connect(url, project=f"releases-{uuid4().hex[:8]}", timeout=0.2)


def _generation(store: OnlineStore, generation: int) -> None:
    """Load tables whose every value is the generation's number."""
    for view, name in ((LEFT, "a"), (RIGHT, "b")):
        frame = pl.DataFrame({"key": KEYS, name: [generation] * len(KEYS)})
        load_rows(store, view, frame, [at()] * len(KEYS), table=table_of(view, generation))


def _publish(store: OnlineStore, generation: int) -> None:
    _generation(store, generation)
    release = release_of(store, [LEFT, RIGHT], [PAIR], number=generation, generation=generation)
    publish(store, release)


def _serving(server: Server, name: str = SERVICE) -> bool:
    with grpc.insecure_channel(server.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        reply = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


@contextmanager
def _served(store: OnlineStore, timeout: float = 5) -> Iterator[tuple[Server, FeatureClient]]:
    server = serve(store, project=store.project, limits=QUICK)
    try:
        with FeatureClient(server.address, timeout=timeout) as client:
            yield server, client
    finally:
        server.stop(0)
        store.close()


def test_no_answer_mixes_releases_while_aliases_move(online_server: Redis) -> None:
    """Every value of a reply belongs to the release that the reply names."""
    store = _store(online_server.url)
    _publish(store, 1)
    wrong, seen, ended = [], set(), threading.Event()

    def ask(client: FeatureClient) -> None:
        while not ended.is_set():
            found = client.get_online_features("pair", entities={"key": KEYS}, as_of=NOON)
            values = found.to_polars()
            if set(values["a"]) | set(values["b"]) != {found.release}:
                wrong.append(found)
            seen.add(found.release)

    with _served(store) as (server, client):
        threads = [threading.Thread(target=ask, args=(client,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for generation in range(2, 7):
            _publish(store, generation)
            wait_until(lambda number=generation: number in seen)
        ended.set()
        for thread in threads:
            thread.join()
        assert server.standing.state is not None
    assert not wrong
    assert seen == {1, 2, 3, 4, 5, 6}


def test_an_emptied_redis_is_named_and_mended(online_server: Redis) -> None:
    """Lost rows give an error with the way out and NOT_SERVING, never NOT_FOUND; a reload heals."""
    store = _store(online_server.url)
    _publish(store, 1)
    with _served(store) as (server, client):
        wait_until(lambda: _serving(server))
        for view in (LEFT, RIGHT):
            store.drop_table(table_of(view, 1).id)
        with pytest.raises(OnlineDataMissing, match="rebuild-online"):
            client.get_online_features("pair", entities={"key": KEYS}, as_of=NOON)
        wait_until(lambda: not _serving(server))
        _generation(store, 1)
        wait_until(lambda: _serving(server))
        found = client.get_online_features("pair", entities={"key": KEYS}, as_of=NOON)
        assert found.to_polars()["a"].to_list() == [1] * len(KEYS)


def test_a_server_without_a_release_says_what_to_do(online_server: Redis) -> None:
    """Before the first promotion it is NOT_SERVING and names the command; then it serves."""
    store = _store(online_server.url)
    with _served(store) as (server, client):
        assert not _serving(server)
        with pytest.raises(NotMaterialized, match="featurestore promote"):
            client.get_online_features("pair", entities={"key": KEYS})
        _publish(store, 1)
        wait_until(lambda: _serving(server))
        assert client.get_online_features("pair", entities={"key": KEYS}, as_of=NOON).release == 1


@pytest.mark.parametrize("name", available())
def test_a_killed_redis_fails_fast_and_comes_back(name: str, tmp_path: Path) -> None:
    """It may be absent at start, killed, and restarted: errors are quick, recovery is unaided."""
    port = free_port()
    store = _store(f"redis://127.0.0.1:{port}/0")
    with _served(store) as (server, client):
        assert not _serving(server)
        _assert_fails_fast(client)
        with _redis(name, port, tmp_path):
            wait_until(lambda: _answers(store))
            _publish(store, 1)
            wait_until(lambda: _serving(server))
            client.get_online_features("pair", entities={"key": KEYS}, as_of=NOON)
        _assert_fails_fast(client)
        wait_until(lambda: not _serving(server))
        with _redis(name, port, tmp_path):
            wait_until(lambda: _serving(server))
            found = client.get_online_features("pair", entities={"key": KEYS}, as_of=NOON)
            assert found.to_polars()["b"].to_list() == [1] * len(KEYS)


def test_a_frozen_redis_does_not_hold_a_call(online_server: Redis) -> None:
    """A stalled Redis gives UNAVAILABLE within its timeout, or the call's own deadline."""
    store = _store(online_server.url)
    _publish(store, 1)
    with _served(store) as (server, client):
        client.get_online_features("pair", entities={"key": KEYS}, as_of=NOON)
        with online_server.frozen():
            _assert_fails_fast(client)
            started = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                client.get_online_features("pair", entities={"key": KEYS}, timeout=0.1)
            assert time.monotonic() - started < 0.3
        wait_until(lambda: _serving(server))
        found = client.get_online_features("pair", entities={"key": KEYS}, as_of=NOON)
        assert found.release == 1


def test_a_client_without_a_server_is_told_so() -> None:
    """No server at the address gives Unavailable with the address."""
    address = f"127.0.0.1:{free_port()}"
    with FeatureClient(address) as client, pytest.raises(Unavailable, match=address):
        client.get_online_features("pair", entities={"key": KEYS})


def _assert_fails_fast(client: FeatureClient) -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable):
        client.get_online_features("pair", entities={"key": KEYS}, timeout=3)
    assert time.monotonic() - started < 2


def _answers(store: OnlineStore) -> bool:
    try:
        store.ping()
    except Unavailable:
        return False
    return True


@contextmanager
def _redis(name: str, port: int, directory: Path) -> Iterator[None]:
    """Run a server that keeps an append-only file, and kill it."""
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "yes"]
    process = subprocess.Popen(
        [str(BINARIES[name]), *options, "--logfile", "server.log"], cwd=directory
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()
