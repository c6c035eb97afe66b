"""Who may ask, how much at once, and what is told of it: over real sockets and a real Redis."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import grpc
import polars as pl
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from featurestore.errors import (
    FeatureStoreError,
    Forbidden,
    InvalidRequest,
    NotFound,
    Overloaded,
    Unauthenticated,
)
from featurestore.model.declare import service
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving.client.asking import request_message
from featurestore.serving.client.response import read_response
from featurestore.serving.message.faults import error_of
from featurestore.serving.message.limits import SERVICE, Limits
from featurestore.serving.process.access import read_access
from featurestore.serving.process.listening import Tls, read_tls
from featurestore.serving.process.log import Objects
from featurestore.serving.process.server import Server, serve
from featurestore.storage.redis import OnlineStore
from tests.authority import OPENSSL, Authority, authority
from tests.releases import at, load_rows, publish, release_of, stored_view, use
from tests.servers import Server as Redis
from tests.servers import wait_until
from tests.unit.serving.test_metrics import read as read_metrics

PLANE = stored_view("plane", {"tailnum": "string"}, {"seats": "int64", "wings": "int64"})
WEATHER = stored_view("weather", {"airport": "string"}, {"temp": "float64"})
VIEWS = {view.name: view for view in (PLANE, WEATHER)}
ACCESS = f"""
[callers.pricing]
tokens = ["{sha256(b"pricing-token").hexdigest()}"]
subjects = ["pricing.example.org"]
services = ["planes"]
features = ["plane:seats"]

[callers.boss]
tokens = ["{sha256(b"boss-token").hexdigest()}"]
subjects = ["boss.example.org"]
services = ["*"]
features = ["*"]
push = ["*"]
describe = true
"""
PRICING, BOSS = ("authorization", "Bearer pricing-token"), ("authorization", "Bearer boss-token")
Metadata = Sequence[tuple[str, str]]


@pytest.fixture(scope="module")
def store(valkey: Redis) -> Iterator[OnlineStore]:
    """Load a project of two views and a service of each."""
    store = OnlineStore.connect(valkey.url, project=f"guarded-{uuid4().hex[:8]}", timeout=20)
    load_rows(
        store, PLANE, pl.DataFrame({"tailnum": ["N1"], "seats": [4], "wings": [2]}), [at(hours=-1)]
    )
    load_rows(store, WEATHER, pl.DataFrame({"airport": ["JFK"], "temp": [1.5]}), [at(hours=-1)])
    services = [
        service(name="planes", projections=[use(PLANE)], views=VIEWS),
        service(name="skies", projections=[use(WEATHER)], views=VIEWS),
    ]
    publish(store, release_of(store, list(VIEWS.values()), services))
    yield store
    store.close()


@contextmanager
def served(store: OnlineStore, **options: object) -> Iterator[Server]:
    """Serve the project for the length of a block."""
    server = serve(store, project=store.project, **options)
    try:
        yield server
    finally:
        server.stop(1)


def lookup(
    features: str | list[str], entities: Mapping[str, list[str]] | None = None
) -> tuple[str, bytes]:
    """Give a method and the bytes of a lookup."""
    message, _ = request_message(features, entities=entities or {"tailnum": ["N1"]})
    return "GetOnlineFeatures", message.SerializeToString()


def ask(
    channel: grpc.Channel, address: str, call: tuple[str, bytes], metadata: Metadata = ()
) -> bytes:
    """Make a call; its failure is an error of the store."""
    name, raw = call
    method = channel.unary_unary(f"/{SERVICE}/{name}", None, None)
    try:
        reply: bytes = method(raw, timeout=20, metadata=metadata)
    except grpc.RpcError as failure:
        raise error_of(failure, address) from None
    return reply


def describing(name: str) -> tuple[str, bytes]:
    return "DescribeService", pb.DescribeServiceRequest(feature_service=name).SerializeToString()


def pushing(name: str) -> tuple[str, bytes]:
    return "Push", pb.PushRequest(source=name).SerializeToString()


def healthy(channel: grpc.Channel) -> bool:
    stub = health_pb2_grpc.HealthStub(channel)
    reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=20)
    return reply.status == health_pb2.HealthCheckResponse.SERVING


DENIED: dict[str, tuple[tuple[str, bytes], Metadata, type[FeatureStoreError], str]] = {
    "nobody": (lookup("planes"), [], Unauthenticated, "^authorization: none came"),
    "a wrong token": (
        lookup("planes"),
        [("authorization", "Bearer pricing-tokem")],
        Unauthenticated,
        "^authorization: the token is not known",
    ),
    "another service": (
        lookup("skies", {"airport": ["JFK"]}),
        [PRICING],
        Forbidden,
        r"^feature_service: 'skies' .*callers\.pricing\.services",
    ),
    "a service that is not there": (lookup("none"), [PRICING], Forbidden, "^feature_service"),
    "another feature": (
        lookup(["plane:seats", "plane:wings"]),
        [PRICING],
        Forbidden,
        r"^features: 'plane:wings' .*callers\.pricing\.features",
    ),
    "describing": (describing("planes"), [PRICING], Forbidden, "^DescribeService"),
    "pushing": (pushing("landings"), [PRICING], Forbidden, r"^push_source: .*pricing\.push"),
}


@pytest.fixture(scope="module")
def closed(store: OnlineStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve to the callers of the file alone."""
    path = tmp_path_factory.mktemp("access") / "access.toml"
    path.write_text(ACCESS)
    with served(store, access=read_access(path)) as server:
        yield server


@pytest.mark.parametrize("case", DENIED)
def test_what_is_not_said_is_denied(closed, case):
    """With an access file, every method asks who calls, and whether it may."""
    call, metadata, kind, said = DENIED[case]
    with grpc.insecure_channel(closed.address) as channel:
        with pytest.raises(FeatureStoreError, match=said) as caught:
            ask(channel, closed.address, call, metadata)
        assert type(caught.value) is kind
        assert "pricing-token" not in str(caught.value)
        assert healthy(channel)


def test_what_is_said_is_answered(closed):
    """A caller gets its service and features, and one that may do all gets all."""
    with grpc.insecure_channel(closed.address) as channel:
        for call in (lookup("planes"), lookup(["plane:seats"])):
            found = read_response(ask(channel, closed.address, call, [PRICING]), pl.DataFrame())
            assert found.to_dict()["seats"] == [4]
        skies = lookup("skies", {"airport": ["JFK"]})
        assert ask(channel, closed.address, skies, [BOSS])
        assert ask(channel, closed.address, describing("skies"), [BOSS])
        with pytest.raises(NotFound):
            ask(channel, closed.address, pushing("nowhere"), [BOSS])
        with pytest.raises(NotFound):
            ask(channel, closed.address, lookup("none"), [BOSS])


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Give an authority for certificates."""
    if OPENSSL is None:
        pytest.skip("needs openssl")
    return authority(tmp_path_factory.mktemp("authority"))


def secured(signer: Authority, *, clients: bool) -> Tls | None:
    """Give a server's certificates, read from their files."""
    own = signer.sign("server.example.org")
    return read_tls(own.cert, own.key, signer.root.cert if clients else None)


def test_tls_is_spoken_and_nothing_else(store, signer):
    """A client that trusts the authority is answered, a plain one is not."""
    with served(store, tls=secured(signer, clients=False), host="127.0.0.1") as server:
        credentials = grpc.ssl_channel_credentials(signer.root.cert.read_bytes())
        with grpc.secure_channel(server.address, credentials) as channel:
            assert ask(channel, server.address, lookup("planes"))
        with grpc.insecure_channel(server.address) as channel:
            call = channel.unary_unary(f"/{SERVICE}/GetOnlineFeatures", None, None)
            with pytest.raises(grpc.RpcError):
                call(lookup("planes")[1], timeout=5)


def test_a_client_certificate_names_its_caller(store, signer, tmp_path):
    """Its common or alternative name does; one of nobody known is let in for health alone."""
    (tmp_path / "access.toml").write_text(ACCESS)
    access = read_access(tmp_path / "access.toml")
    with served(store, tls=secured(signer, clients=True), access=access) as server:

        @contextmanager
        def channel(name: str, alternative: str) -> Iterator[grpc.Channel]:
            own = signer.sign(name, alternative=alternative)
            files = (signer.root.cert, own.key, own.cert)
            credentials = grpc.ssl_channel_credentials(*(one.read_bytes() for one in files))
            with grpc.secure_channel(server.address, credentials) as made:
                yield made

        with channel("pricing.example.org", "DNS:elsewhere") as pricing:
            assert ask(pricing, server.address, lookup("planes"))
            with pytest.raises(Forbidden):
                ask(pricing, server.address, lookup(["plane:wings"]))
        with channel("whoever", "DNS:boss.example.org") as boss:
            assert ask(boss, server.address, lookup(["plane:wings"]))
        with channel("whoever-else", "DNS:elsewhere") as nobody:
            assert healthy(nobody)
            with pytest.raises(Unauthenticated):
                ask(nobody, server.address, lookup("planes"))
        trusting = grpc.ssl_channel_credentials(signer.root.cert.read_bytes())
        with grpc.secure_channel(server.address, trusting) as bare, pytest.raises(grpc.RpcError):
            health_pb2_grpc.HealthStub(bare).Check(health_pb2.HealthCheckRequest(), timeout=5)


def test_a_public_address_needs_tls_or_a_word(store, signer):
    """It is refused before anything listens."""
    with pytest.raises(InvalidRequest, match=r"^--host: 0\.0\.0\.0 .*--insecure"):
        serve(store, project=store.project, host="0.0.0.0")
    for options in ({"insecure": True}, {"tls": secured(signer, clients=False)}):
        with served(store, host="0.0.0.0", **options) as server:
            assert server.port


def started(channel: grpc.Channel, calls: int, call: tuple[str, bytes]) -> list[grpc.Future]:
    """Begin so many calls at once."""
    method = channel.unary_unary(f"/{SERVICE}/{call[0]}")
    return [method.future(call[1], timeout=30) for _ in range(calls)]


def test_five_times_too_many_calls_are_turned_away_at_once(store, valkey, lines):
    """Those taken are all answered; the others get an error of ours while those still wait."""
    with served(store, limits=Limits(threads=2, calls=4)) as server:
        with grpc.insecure_channel(server.address) as channel:
            grpc.channel_ready_future(channel).result(10)
            with valkey.frozen():
                calls = started(channel, 20, lookup("planes"))
                wait_until(lambda: sum(one.done() for one in calls) == 16)
                turned_away = [one for one in calls if one.done()]
            for one in turned_away:
                error = error_of(one, server.address)
                assert type(error) is Overloaded
                assert "try again in a moment" in str(error)
            assert all(one.result() for one in calls if one not in turned_away)
            wait_until(lambda: read_metrics(server.metrics())["featurestore_in_flight"] == 0)
        found = read_metrics(server.metrics())
        assert found['featurestore_rejected_total{reason="calls"}'] == 16
        assert "RESOURCE_EXHAUSTED" in [one.get("code") for one in lines()]
        assert found['featurestore_requests_total{method="GetOnlineFeatures",code="OK"}'] == 4


def test_a_call_is_begun_while_half_of_its_time_is_left(store, valkey):
    """One that waited longer for its turn is turned away; one with more time is answered."""
    with served(store, limits=Limits(threads=1)) as server:
        with grpc.insecure_channel(server.address) as channel:
            grpc.channel_ready_future(channel).result(10)
            method = channel.unary_unary(f"/{SERVICE}/GetOnlineFeatures")
            with valkey.frozen():
                first = method.future(lookup("planes")[1], timeout=0.6)
                wait_until(lambda: read_metrics(server.metrics())["featurestore_in_flight"] == 1)
                late = method.future(lookup("planes")[1], timeout=1.0)
                patient = method.future(lookup("planes")[1], timeout=20)
                assert first.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                error = error_of(late.exception(), server.address)
                assert type(error) is Overloaded
                assert "ms for its turn, longer than it has left" in str(error)
            assert patient.result()
        found = read_metrics(server.metrics())
        assert found['featurestore_rejected_total{reason="wait"}'] == 1


def test_too_much_in_hand_is_turned_away(store, valkey):
    """What is asked for adds up; one call alone is answered, however large it may be."""
    eight = lookup("planes", {"tailnum": ["N1"] * 4})
    with served(store, limits=Limits(threads=3, cells=10)) as server:
        with grpc.insecure_channel(server.address) as channel:
            with valkey.frozen():
                (first,) = started(channel, 1, eight)
                wait_until(lambda: read_metrics(server.metrics())["featurestore_cells_in_flight"])
                with pytest.raises(Overloaded, match="4 rows of 2 features are 8 values, and with"):
                    ask(channel, server.address, eight)
                (small,) = started(channel, 1, lookup("planes"))
                wait_until(
                    lambda: read_metrics(server.metrics())["featurestore_cells_in_flight"] == 10
                )
            assert first.result()
            assert small.result()
            assert ask(channel, server.address, lookup("planes", {"tailnum": ["N1"] * 50}))
        found = read_metrics(server.metrics())
        assert found['featurestore_rejected_total{reason="cost"}'] == 1
        assert found["featurestore_cells_in_flight"] == 0


LARGE: dict[str, tuple[tuple[str, bytes], str]] = {
    "rows": (lookup("planes", {"tailnum": ["N1"] * 9}), "^count: 9 entities asked for, at most 8"),
    "features": (lookup(["plane:seats", "plane:wings", "weather:temp"]), "^features: 3 asked for"),
    "keys": (
        lookup(["plane:seats", "weather:temp"], {"tailnum": ["N1"] * 7, "airport": ["JFK"] * 7}),
        "^entities: 7 rows of 2 stored views are 14 keys, at most 12",
    ),
}


@pytest.fixture(scope="module")
def small(store: OnlineStore) -> Iterator[Server]:
    """Serve little at a time, and tell of everything."""
    with served(store, limits=Limits(rows=8, outputs=2, keys=12), slow=0.0) as server:
        yield server


@pytest.mark.parametrize("case", LARGE)
def test_what_is_too_large_is_named_by_its_part(small, case):
    """Rows, features and keys each have a limit, and a path in its error."""
    call, said = LARGE[case]
    with grpc.insecure_channel(small.address) as channel, pytest.raises(InvalidRequest, match=said):
        ask(channel, small.address, call)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, object]]]:
    """Give what was logged so far, as it goes out with --log-json."""
    caplog.set_level(logging.INFO)
    return lambda: [json.loads(Objects().format(one)) for one in caplog.records]


def test_a_slow_call_is_told_of_by_its_id(small, lines):
    """With its stages, rows and features; not with what was asked or answered."""
    with grpc.insecure_channel(small.address) as channel:
        method = channel.unary_unary(f"/{SERVICE}/GetOnlineFeatures")
        _, call = method.with_call(
            lookup("planes", {"tailnum": ["canary"]})[1], metadata=[("x-request-id", "mine-1")]
        )
        assert dict(call.trailing_metadata())["x-request-id"] == "mine-1"
    (told,) = [one for one in lines() if one.get("id") == "mine-1"]
    assert told["event"] == "slow"
    assert (told["method"], told["code"]) == ("GetOnlineFeatures", "OK")
    assert (told["rows"], told["features"]) == (1, 2)
    assert set(told["stages"]) == {"queue", "parse", "redis", "compute", "encode"}
    assert all(one > 0 for one in told["stages"].values())
    assert "canary" not in json.dumps(lines())


def test_a_refused_call_has_an_id_too(closed, lines):
    """It comes back with the error and stands in the log, without the token."""
    with grpc.insecure_channel(closed.address) as channel:
        method = channel.unary_unary(f"/{SERVICE}/GetOnlineFeatures")
        sent = [("authorization", "Bearer canary"), ("x-request-id", "no")]
        with pytest.raises(grpc.RpcError) as caught:
            method(lookup("planes")[1], metadata=sent)
    assert dict(caught.value.trailing_metadata())["x-request-id"] == "no"
    assert "canary" not in json.dumps(lines())


def test_every_lookup_is_counted(small):
    """Requests by code, statuses, keys, rows, each stage once, the release and readiness."""
    before = read_metrics(small.metrics())
    with grpc.insecure_channel(small.address) as channel:
        ask(channel, small.address, lookup("planes", {"tailnum": ["N1", "N2", "N3"]}))
    after = read_metrics(small.metrics())

    def more(series: str) -> float:
        return after[series] - before.get(series, 0)

    assert more('featurestore_requests_total{method="GetOnlineFeatures",code="OK"}') == 1
    assert more('featurestore_statuses_total{status="PRESENT"}') == 1
    assert more('featurestore_statuses_total{status="NOT_FOUND"}') == 2
    assert more("featurestore_event_age_seconds_count") == 1
    assert more("featurestore_keys_sum") == 3
    assert more("featurestore_rows_total") == 3
    for stage in ("queue", "parse", "redis", "compute", "encode"):
        assert more(f'featurestore_stage_seconds_count{{stage="{stage}"}}') == 1
        assert more(f'featurestore_stage_seconds_sum{{stage="{stage}"}}') > 0
    assert after['featurestore_ready{worker="0"}'] == 1
    assert after['featurestore_release{worker="0"}'] == 1


def test_no_digest_is_shown(tmp_path: Path):
    """Neither a caller nor the access shows a digest."""
    (tmp_path / "access.toml").write_text(ACCESS)
    access = read_access(tmp_path / "access.toml")
    shown = repr(access) + repr(access.who("Bearer boss-token", ()))
    assert sha256(b"boss-token").hexdigest()[:8] not in shown
