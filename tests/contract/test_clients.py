"""One body of laws for both clients, before a real server and before an in-memory transport."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any
from uuid import uuid4

import polars as pl
import pytest

from featurestore import AsyncFeatureClient, FeatureClient, InMemoryTransport
from featurestore.errors import InvalidRequest, NotFound, Unavailable, Unsupported
from featurestore.model.declare import service
from featurestore.serving.client.response import OnlineResponse
from featurestore.serving.process.server import serve
from featurestore.storage.redis import OnlineStore
from tests.releases import NOON, at, load_rows, publish, release_of, stored_view, use
from tests.servers import Server as Redis
from tests.servers import free_port

PLANE = stored_view(
    "plane",
    {"tailnum": "string", "year": "int16"},
    {"delay": "float64", "seats": "int16", "name": "string", "path": "list[float32]"},
    ttl=timedelta(days=7),
)
CITY = stored_view("city", {}, {"traffic": "int64", "seen": "datetime"})
SERVICE = service(
    name="late",
    projections=[use(PLANE, "delay", "name"), use(CITY, "traffic")],
    views={"plane": PLANE, "city": CITY},
)
PLANES = pl.DataFrame(
    {
        "tailnum": ["a", "b", "old", "void"],
        "year": pl.Series([1, 2, 3, 4], dtype=pl.Int16),
        "delay": [3.0, None, 7.0, None],
        "seats": pl.Series([1, 2, 3, None], dtype=pl.Int16),
        "name": ["ö", "", "x", None],
        "path": pl.Series([[1.0], [], [2.0], None], dtype=pl.List(pl.Float32)),
    }
)
CITIES = pl.DataFrame({"traffic": [99], "seen": pl.Series([NOON]).cast(pl.Datetime("us", "UTC"))})
EVENTS = [at(hours=-1), at(), at(days=-8), at()]
Ask = Callable[..., OnlineResponse]


def memory(**options: Any) -> InMemoryTransport:
    """Give a transport that has what the server has."""
    moments = pl.Series(EVENTS).cast(pl.Datetime("us", "UTC"))
    planes = PLANES.with_columns(
        event_timestamp=moments,
        status=pl.Series([None, None, "OUTSIDE_MAX_AGE", None], dtype=pl.String),
    )
    cities = CITIES.with_columns(event_timestamp=moments[:1])
    return InMemoryTransport(
        {"plane": planes, "city": cities},
        join_keys={"plane": ["tailnum", "year"]},
        services={"late": ["plane:delay", "plane:name", "city:traffic"]},
        **options,
    )


@pytest.fixture(scope="module")
def address(valkey: Redis) -> Iterator[str]:
    """Serve the two views."""
    store = OnlineStore.connect(valkey.url, project=f"clients-{uuid4().hex[:8]}")
    load_rows(store, PLANE, PLANES, EVENTS)
    load_rows(store, CITY, CITIES, EVENTS[:1])
    publish(store, release_of(store, [PLANE, CITY], [SERVICE]))
    server = serve(store, project=store.project)
    yield server.address
    server.stop(0)
    store.close()


def blocking(**options: Any) -> Ask:
    """Ask by the client that blocks."""

    def ask(*args: Any, **kwargs: Any) -> OnlineResponse:
        with FeatureClient(timeout=5, **options) as client:
            return client.get_online_features(*args, **kwargs)

    return ask


def awaiting(**options: Any) -> Ask:
    """Ask by the client for asyncio."""

    async def asked(args: Any, kwargs: Any) -> OnlineResponse:
        async with AsyncFeatureClient(timeout=5, **options) as client:
            return await client.get_online_features(*args, **kwargs)

    return lambda *args, **kwargs: asyncio.run(asked(args, kwargs))


@pytest.fixture(params=["awaiting a server", "blocking in memory", "awaiting in memory"])
def ask(request: pytest.FixtureRequest, address: str) -> Ask:
    """Ask in each way but the plain one."""
    options = {"address": address} if "server" in request.param else {"transport": memory()}
    return (awaiting if "awaiting" in request.param else blocking)(**options)


TAILS = {"tailnum": ["a", "b", "old", "void", "c", None], "year": [1, 2, 3, 4, 1, 1]}
ASKED: dict[str, tuple[Any, dict[str, Any]]] = {
    "a service": ("late", {"entities": TAILS}),
    "references": (["plane:path", "plane:seats"], {"entities": TAILS}),
    "full names": ("late", {"entities": TAILS, "full_feature_names": True}),
    "rows": (["plane:name"], {"entity_rows": [{"tailnum": "a", "year": 1}]}),
    "an age": ("late", {"entities": TAILS, "max_age": timedelta(minutes=30)}),
    "no entities": (["city:seen", "city:traffic"], {}),
}


@pytest.mark.parametrize(("features", "how"), ASKED.values(), ids=ASKED)
def test_every_way_to_ask_gives_one_answer(
    ask: Ask, address: str, features: Any, how: dict[str, Any]
) -> None:
    """Values, names, statuses, times and ages are those of the blocking client of a server."""
    found = ask(features, as_of=NOON, **how)
    expected = blocking(address=address)(features, as_of=NOON, **how)
    assert found.to_polars().equals(expected.to_polars())
    assert found.to_polars().schema == expected.to_polars().schema
    for told in ("names", "statuses", "event_times", "ages", "as_of", "release", "origins"):
        assert getattr(found, told) == getattr(expected, told), told
    arrays = {name: column.tolist() for name, column in expected.to_numpy().items()}
    for name, column in found.to_numpy().items():
        assert repr(column.tolist()) == repr(arrays[name])
    assert set(found.versions) == set(expected.versions)


def test_what_answers_of_a_server_share_is_read_once(address: str) -> None:
    """A server's answers begin alike, and the client makes one head of them."""
    with FeatureClient(address, timeout=5) as client:
        found = [
            client.get_online_features(service, entities=TAILS, as_of=NOON)
            for service in ("late", ["plane:seats"], "late", ["plane:seats"])
        ]
    assert found[0].head is found[2].head
    assert found[1].head is found[3].head
    assert found[0].names != found[1].names


REFUSED: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "service": ("lat", {"entities": TAILS}, NotFound, "feature_service: .*did you mean 'late'"),
    "view": (["plan:seats"], {"entities": TAILS}, NotFound, "features: .*did you mean 'plane'"),
    "feature": (["plane:seat"], {"entities": TAILS}, NotFound, "plane:seat: .*mean 'seats'"),
    "entity": (["plane:seats"], {"entities": {"year": [1]}}, InvalidRequest, "entities.tailnum"),
    "dtype": (
        ["plane:seats"],
        {"entities": {"tailnum": [1], "year": [1]}},
        InvalidRequest,
        "entities.tailnum: the key is declared string",
    ),
    "twice": (["plane:seats"] * 2, {"entities": TAILS}, InvalidRequest, "would both be called"),
}


@pytest.mark.parametrize(("features", "how", "kind", "message"), REFUSED.values(), ids=REFUSED)
def test_every_way_to_ask_is_refused_alike(
    ask: Ask, features: Any, how: dict[str, Any], kind: type[Exception], message: str
) -> None:
    """The class and the path of an error do not depend on who carries it."""
    with pytest.raises(kind, match=message):
        ask(features, **how)


def test_pushes_in_memory_are_kept_for_the_test_to_see() -> None:
    """A service's test reads what the service pushed."""
    transport = memory()
    with FeatureClient(transport=transport) as client:
        result = client.push("landings", {"tailnum": ["a"], "delay": [1.5]}, to="online")
        with pytest.raises(Unsupported, match="DescribeService: is not answered in memory"):
            client.describe("late")
    assert (result.accepted, result.to, result.refused.is_empty()) == (1, "online", True)
    ((source, frame),) = transport.pushed
    assert (source, frame.to_dicts()) == ("landings", [{"tailnum": "a", "delay": 1.5}])


def test_the_clock_of_a_transport_is_the_tests() -> None:
    """Without as_of an answer is of the moment that the clock gives."""
    with FeatureClient(transport=memory(clock=lambda: at(hours=1))) as client:
        found = client.get_online_features(["city:traffic"])
    assert found.as_of == NOON + timedelta(hours=1)
    assert found.ages == {"traffic": [timedelta(hours=2)]}


VIEWS: dict[str, tuple[Any, str]] = {
    "a key twice": ({"k": [1, 1]}, "views.v: has two rows of one key"),
    "no key": ({"x": [1]}, "views.v: has no column of the join key 'k'"),
    "status": ({"k": [1], "status": ["PRESNT"]}, "views.v.status: .*did you mean 'PRESENT'"),
    "a number as status": ({"k": [1], "status": [1]}, r"views\.v\.status: '1' is none"),
    "a day": ({"k": [1], "event_timestamp": [date(2013, 7, 1)]}, "is not a datetime in each row"),
    "no time": ({"k": [1, 2], "event_timestamp": [NOON, None]}, "is not a datetime in each row"),
    "no frame": (7, "views.v: int is no frame"),
}


@pytest.mark.parametrize(("view", "message"), VIEWS.values(), ids=VIEWS)
def test_a_view_in_memory_has_a_row_for_a_key(view: Any, message: str) -> None:
    """What no server could answer from is refused when it is given."""
    with pytest.raises(InvalidRequest, match=message):
        InMemoryTransport({"v": view}, join_keys={"v": ["k"]})


def test_a_row_in_memory_is_not_known_before_its_event() -> None:
    """As of an earlier moment it answers null, as a server's rows do."""
    view = {"k": [1], "there": [5], "event_timestamp": [NOON]}
    transport = InMemoryTransport({"v": view}, join_keys={"v": ["k"]})
    with FeatureClient(transport=transport) as client:
        for moment, status, value in (
            (NOON, "PRESENT", 5),
            (NOON - timedelta(microseconds=1), "NOT_YET_KNOWN", None),
        ):
            found = client.get_online_features(["v:there"], entities={"k": [1]}, as_of=moment)
            assert found.statuses == {"there": [status]}
            assert found.to_dict()["there"] == [value]


def test_a_transport_stands_alone() -> None:
    """An address beside a transport would be silently unused, so it is refused."""
    with pytest.raises(InvalidRequest, match="transport: stands for the servers"):
        FeatureClient("127.0.0.1:1", transport=memory())


def test_a_server_that_is_not_there_is_unavailable_to_both() -> None:
    """The error names the address, within the timeout."""
    port = free_port()
    for ask in (blocking, awaiting):
        with pytest.raises(Unavailable, match=f"127.0.0.1:{port}"):
            ask(address=f"127.0.0.1:{port}")(["city:traffic"])


def test_a_closed_client_says_so() -> None:
    """A call after close is an error of the caller's."""

    async def late() -> None:
        client = AsyncFeatureClient("127.0.0.1:1")
        await client.close()
        await client.get_online_features(["city:traffic"])

    client = FeatureClient("127.0.0.1:1")
    client.close()
    with pytest.raises(InvalidRequest, match="client: is closed"):
        client.get_online_features(["city:traffic"])
    with pytest.raises(InvalidRequest, match="client: is closed"):
        asyncio.run(late())
