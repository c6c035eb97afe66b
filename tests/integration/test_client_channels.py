"""Clients before real gRPC servers: several of them, behind TLS, asking for tokens, failing."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import grpc
import pytest

from featurestore import TLS, AsyncFeatureClient, FeatureClient, InMemoryTransport
from featurestore.errors import DeadlineExceeded, InvalidRequest, Unavailable
from featurestore.serving.client.asking import Call
from featurestore.serving.client.response import OnlineResponse
from featurestore.serving.message.limits import SERVICE
from tests.authority import OPENSSL, Authority, authority
from tests.servers import wait_until

ASKED = (["view:a"], [{"key": 1}])
ANSWERS = InMemoryTransport({"view": {"key": [1], "a": [1.5]}}, join_keys={"view": ["key"]})
Before = Callable[[grpc.ServicerContext], None]


@dataclass(slots=True)
class Standing:
    """A gRPC server that answers from memory after `before`, and what it was sent."""

    server: grpc.Server
    port: int = 0
    calls: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    before: Before = lambda _: None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def answer(self, raw: bytes, context: grpc.ServicerContext) -> bytes:
        """Answer a lookup."""
        self.calls += 1
        self.tokens[dict(context.invocation_metadata()).get("authorization", "")] += 1
        self.before(context)
        return ANSWERS(Call(method="GetOnlineFeatures", raw=raw, seconds=1))


@contextmanager
def standing(*, proof: Any = None, before: Before = lambda _: None) -> Iterator[Standing]:
    """Run a server for the length of a block."""
    made = Standing(grpc.server(ThreadPoolExecutor(4)), before=before)
    handler = grpc.unary_unary_rpc_method_handler(made.answer)
    made.server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {"GetOnlineFeatures": handler}),)
    )
    free = "127.0.0.1:0"
    made.port = (
        made.server.add_secure_port(free, proof) if proof else made.server.add_insecure_port(free)
    )
    made.server.start()
    try:
        yield made
    finally:
        made.server.stop(0).wait()


def awaited(*args: Any, asks: int = 1, **options: Any) -> list[OnlineResponse]:
    """Ask by the client for asyncio."""

    async def asked() -> list[OnlineResponse]:
        async with AsyncFeatureClient(*args, **options) as client:
            return [await client.get_online_features(*ASKED) for _ in range(asks)]

    return asyncio.run(asked())


def blocked(*args: Any, asks: int = 1, **options: Any) -> list[OnlineResponse]:
    """Ask by the client that blocks."""
    with FeatureClient(*args, **options) as client:
        return [client.get_online_features(*ASKED) for _ in range(asks)]


both = pytest.mark.parametrize("ask", [blocked, awaited])


@both
def test_calls_go_round_the_servers_that_are_there(ask: Callable[..., Any]) -> None:
    """Each of three servers gets its share; one that is gone gets none, and no call fails."""
    with standing() as one, standing() as two, standing() as three:
        servers = (one, two, three)
        addresses = [server.address for server in servers]
        with FeatureClient(addresses, timeout=5) as client:

            def all_asked() -> bool:
                client.get_online_features(*ASKED)
                return all(server.calls for server in servers)

            wait_until(all_asked)
        before = [server.calls for server in servers]
        two.server.stop(0).wait()
        answers = ask(addresses, asks=60, timeout=5)
        assert [one.to_dict()["a"] for one in answers] == [[1.5]] * 60
        shares = [server.calls - calls for server, calls in zip(servers, before, strict=True)]
        assert shares[1] == 0
        assert sum(shares) == 60


@both
def test_a_call_is_tried_again_where_a_server_is_unavailable(ask: Callable[..., Any]) -> None:
    """Two failures of a kind that passes are not the caller's business."""
    failures = iter([grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])

    def before(context: grpc.ServicerContext) -> None:
        if (code := next(failures, None)) is not None:
            context.abort(code, "not now")

    with standing(before=before) as server:
        assert ask(server.address, timeout=5)[0].to_dict()["a"] == [1.5]
        assert server.calls == 3


def test_retries_have_a_budget() -> None:
    """Where every call fails, retries end: most calls are sent once."""

    def before(context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNAVAILABLE, "never")

    with standing(before=before) as server, FeatureClient(server.address, timeout=5) as client:
        for _ in range(100):
            with pytest.raises(Unavailable, match="never"):
                client.get_online_features(*ASKED)
        assert server.calls < 160


def test_calls_of_a_client_that_is_closed_are_told_so() -> None:
    """They end by an error that says it; only who is cancelled sees a cancellation."""
    proceed = Event()

    async def closed() -> None:
        with standing(before=lambda _: proceed.wait(10) and None) as server:
            client = AsyncFeatureClient(server.address, timeout=10)
            left, cancelled = (
                asyncio.create_task(client.get_online_features(*ASKED)) for _ in range(2)
            )
            await asyncio.to_thread(wait_until, lambda: server.calls == 2)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            await client.close()
            with pytest.raises(InvalidRequest, match="client: is closed; make another"):
                await left
            proceed.set()

    try:
        asyncio.run(closed())
    finally:
        proceed.set()


def test_a_client_belongs_to_one_event_loop() -> None:
    """On another it says so at once, and can be closed there."""
    with standing() as server:
        client = AsyncFeatureClient(server.address, timeout=5)
        assert asyncio.run(client.get_online_features(*ASKED)).to_dict()["a"] == [1.5]
        with pytest.raises(InvalidRequest, match="client: belongs to another event loop; make"):
            asyncio.run(client.get_online_features(*ASKED))
        asyncio.run(client.close())
        with pytest.raises(InvalidRequest, match="client: is closed"):
            asyncio.run(client.get_online_features(*ASKED))


def test_a_client_that_is_closed_by_another_thread_says_so() -> None:
    """Also to a call that was about to be made."""
    with standing() as server:

        def closing() -> str:
            client.close()
            return "token"

        client = FeatureClient(server.address, timeout=5, token=closing)
        with pytest.raises(InvalidRequest, match="client: is closed; make another"):
            client.get_online_features(*ASKED)


@both
def test_a_silent_server_costs_no_more_than_the_timeout(ask: Callable[..., Any]) -> None:
    """By default a call ends after a quarter of a second."""
    ended = Event()
    with standing(before=lambda _: ended.wait(20) or None) as server:
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded, match="no answer within the call's timeout"):
            ask(server.address)
        took = time.monotonic() - started
        ended.set()
    assert 0.2 < took < 5


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that signs for servers and clients."""
    if OPENSSL is None:
        pytest.skip("openssl is not installed")
    return authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def proof(ca: Authority) -> grpc.ServerCredentials:
    """What proves a server, and asks its clients for their certificates."""
    signed = ca.sign("server", alternative="DNS:features.internal,IP:127.0.0.1")
    pair = (signed.key.read_bytes(), signed.cert.read_bytes())
    return grpc.ssl_server_credentials([pair], ca.root.cert.read_bytes(), True)


@both
def test_both_sides_prove_themselves_and_a_token_goes_along(
    ask: Callable[..., Any], ca: Authority, proof: grpc.ServerCredentials
) -> None:
    """Certificates come from files or bytes, of one server or of several by their name."""
    mine = ca.sign("client")
    tokens = iter(str(number) for number in range(100))
    by_path = TLS(roots=ca.root.cert, certificate=mine.cert, key=str(mine.key))
    by_bytes = TLS(
        roots=ca.root.cert.read_bytes(),
        certificate=mine.cert.read_bytes(),
        key=mine.key.read_bytes(),
        server_name="features.internal",
    )
    with standing(proof=proof) as one, standing(proof=proof) as two:
        assert ask(one.address, tls=by_path, token="secret", timeout=5)
        assert one.tokens == {"Bearer secret": 1}
        addresses = f"{one.address},{two.address}"
        assert ask(addresses, tls=by_bytes, token=lambda: next(tokens), asks=40, timeout=5)
        told = (one.tokens + two.tokens).keys()
        assert told >= {f"Bearer {number}" for number in range(40)}


STRANGERS: dict[str, Callable[[Authority], TLS]] = {
    "a client without a certificate": lambda ca: TLS(roots=ca.root.cert),
    "a server of nobody known": lambda _: TLS(),
    "a server of another name": lambda ca: TLS(roots=ca.root.cert, server_name="other.internal"),
}


@pytest.mark.parametrize("tls", STRANGERS.values(), ids=STRANGERS)
def test_strangers_do_not_talk(
    tls: Callable[[Authority], TLS], ca: Authority, proof: grpc.ServerCredentials
) -> None:
    """Without a proof, of either side, no call is made and no token leaves."""
    with standing(proof=proof) as server:
        with pytest.raises(Unavailable) as caught:
            blocked(server.address, tls=tls(ca), token="canary-7f3a", timeout=5)
        assert server.calls == 0
    assert "canary-7f3a" not in str(caught.value)


def test_a_file_that_is_no_certificate_names_itself(tmp_path: Path) -> None:
    """Nothing but an answer or an error of ours comes of rubbish."""
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_bytes(b"rubbish")
    with standing() as server, pytest.raises(Unavailable):
        blocked(server.address, tls=TLS(roots=rubbish), timeout=2)
