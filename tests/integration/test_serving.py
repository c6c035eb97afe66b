"""Lookups over real sockets and a real Redis: statuses, times, projections, errors."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import grpc
import numpy as np
import polars as pl
import pytest

from featurestore.errors import (
    CorruptData,
    FeatureStoreError,
    InvalidRequest,
    NotFound,
    NotMaterialized,
    Unsupported,
)
from featurestore.model.declare import on_demand_view, service
from featurestore.model.documents import LiveView
from featurestore.model.identity import identified
from featurestore.model.schema import Column
from featurestore.model.time import moment
from featurestore.serving.client.client import FeatureClient
from featurestore.serving.message.limits import SERVICE, Limits
from featurestore.serving.process.server import Server, serve
from featurestore.storage.keys import canonical_keys
from featurestore.storage.redis import OnlineStore
from featurestore.storage.rows import RowLayout, row_columns
from tests.releases import (
    NOON,
    at,
    load_rows,
    publish,
    release_of,
    stored_view,
    table_of,
    use,
    without_dialect,
)
from tests.servers import Server as Redis

PLANE = stored_view(
    "plane",
    {"tailnum": "string"},
    {"last_delay": "float64", "was_late": "bool", "seats": "int16"},
    ttl=timedelta(days=7),
)
WEATHER = stored_view(
    "weather", {"airport": "string"}, {"temp": "float32", "sky": "string"}, created=True
)
ROUTE = stored_view(
    "route",
    {"origin": "string", "dest": "string"},
    {"flights": "int32"},
    delay=timedelta(minutes=10),
)
CITY = stored_view("city", {}, {"traffic": "int64"})
YEARS = stored_view("years", {"year": "int16"}, {"planes": "uint32"})
PACE = on_demand_view(
    name="pace",
    sources=[(PLANE, use(PLANE))],
    request=[Column(name="distance", dtype="float64")],
    features={"delay_per_mile": pl.col("last_delay") / pl.col("distance"), "one": pl.lit(1.5)},
)
ALIEN = without_dialect(identified(replace(PACE, name="alien")))
COLD = stored_view("cold", {"tailnum": "string"}, {"x": "float64"})
VIEWS = {view.name: view for view in (PLANE, WEATHER, ROUTE, CITY, YEARS, PACE, ALIEN, COLD)}
EARLY = at(hours=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A served project: its store, server and client."""

    store: OnlineStore
    server: Server
    client: FeatureClient

    def ask(self, *args: Any, **kwargs: Any) -> Any:
        """Look up as of noon unless told otherwise."""
        return self.client.get_online_features(*args, **{"as_of": NOON, **kwargs})


def _services() -> list[Any]:
    weathers = [
        use(WEATHER, "temp", "sky", alias="there", airport="dest"),
        use(WEATHER, "temp", alias="here", airport="origin"),
    ]
    return [
        service(name="late", projections=[use(PLANE, "last_delay"), use(PACE)], views=VIEWS),
        service(name="alien", projections=[use(ALIEN)], views=VIEWS),
        service(name="cold", projections=[use(COLD)], views=VIEWS),
        service(name="twice", projections=weathers[:1], views=VIEWS),
    ]


def _load(store: OnlineStore) -> None:
    planes = pl.DataFrame(
        {
            "tailnum": ["new", "edge", "old", "void"],
            "last_delay": [3.0, 0.1, 7.0, None],
            "was_late": [True, False, True, None],
            "seats": [1, 2, 3, None],
        }
    )
    week = -timedelta(days=7) / timedelta(microseconds=1)
    load_rows(store, PLANE, planes, [at(), at(days=-7), int(at() + week) - 1, at()])
    weather = pl.DataFrame({"airport": ["JFK", "LGA", "EWR"], "temp": [1.5, None, 2.5], "sky": "ö"})
    load_rows(store, WEATHER, weather, [EARLY] * 3, [at(hours=1), None, at()])
    routes = pl.DataFrame({"origin": ["JFK", "a"], "dest": ["LAX", "bc"], "flights": [7, 8]})
    load_rows(store, ROUTE, routes, [EARLY, at()])
    load_rows(store, CITY, pl.DataFrame({"traffic": [99]}), [EARLY])
    load_rows(store, YEARS, pl.DataFrame({"year": [1999], "planes": [4_000_000_000]}), [EARLY])


@pytest.fixture(scope="module")
def world(online_server: Redis) -> Iterator[World]:
    """Serve a project with every kind of view."""
    store = OnlineStore.connect(online_server.url, project=f"serving-{uuid4().hex[:8]}")
    _load(store)
    release = release_of(store, list(VIEWS.values()), _services())
    bare = tuple(
        LiveView(view=one.view) if one.view.name == "cold" else one for one in release.views
    )
    publish(store, replace(release, views=bare))
    server = serve(store, project=store.project, limits=Limits(rows=50))
    with FeatureClient(server.address, timeout=5) as client:
        yield World(store=store, server=server, client=client)
    server.stop(0)
    store.close()


def test_values_statuses_and_times_of_each_kind_of_row(world: World) -> None:
    """Present, exactly ttl old, one microsecond older, null and unknown rows say what they are."""
    tails = ["new", "edge", "old", "void", "nobody", None]
    found = world.ask(["plane:seats", "plane:last_delay"], entities={"tailnum": tails})
    assert found.to_dict() == {
        "tailnum": tails,
        "seats": [1, 2, None, None, None, None],
        "last_delay": [3.0, 0.1, None, None, None, None],
    }
    expected = ["PRESENT", "PRESENT", "OUTSIDE_MAX_AGE", "NULL_VALUE", "NOT_FOUND", "NOT_FOUND"]
    assert found.statuses == {"seats": expected, "last_delay": expected}
    week_ago = NOON - timedelta(days=7)
    times = [NOON, week_ago, week_ago - timedelta(microseconds=1), NOON, None, None]
    assert found.event_times["seats"] == times
    assert found.release == 1
    assert found.as_of == NOON
    assert found.versions == {"plane": PLANE.id}


def test_the_age_edge_moves_with_as_of(world: World) -> None:
    """A microsecond after its ttl a row is outside; the values of other rows stay."""
    later = NOON + timedelta(microseconds=1)
    found = world.ask(["plane:seats"], entities={"tailnum": ["new", "edge"]}, as_of=later)
    assert found.statuses["seats"] == ["PRESENT", "OUTSIDE_MAX_AGE"]
    assert found.to_dict()["seats"] == [1, None]


def test_a_request_may_ask_for_younger_rows_never_for_older_ones(world: World) -> None:
    """The shorter of the view's ttl and the request's own age holds, with the same edge."""
    keys = {"tailnum": ["new", "edge", "old"]}
    week, least = timedelta(days=7), timedelta(microseconds=1)
    ages = world.ask(["plane:seats"], entities=keys).ages["seats"]
    assert ages == [timedelta(0), week, week + least]
    for max_age, expected in (
        (None, [True, True, False]),
        (timedelta(days=365), [True, True, False]),
        (week, [True, True, False]),
        (week - least, [True, False, False]),
        (least, [True, False, False]),
    ):
        found = world.ask(["plane:seats"], entities=keys, max_age=max_age)
        there = [status == "PRESENT" for status in found.statuses["seats"]]
        assert there == expected
        assert [value is not None for value in found.to_dict()["seats"]] == expected
    with pytest.raises(InvalidRequest, match="max_age"):
        world.ask(["plane:seats"], entities=keys, max_age=timedelta(0))


@pytest.mark.parametrize(("kept", "answered"), [(100, 99), (0, 100)])
def test_rows_are_kept_in_the_process_only_where_that_is_asked_for(
    world: World, kept: int, answered: int
) -> None:
    """Until its time is over a row that was read is answered again, whatever Redis holds since."""
    load_rows(world.store, CITY, pl.DataFrame({"traffic": [99]}), [EARLY])
    limits = Limits(kept_rows=kept, kept_for=3600.0)
    server = serve(world.store, project=world.store.project, limits=limits)
    with FeatureClient(server.address, timeout=5) as client:
        assert client.get_online_features(["city:traffic"]).to_dict() == {"traffic": [99]}
        load_rows(world.store, CITY, pl.DataFrame({"traffic": [100]}), [EARLY + 1])
        assert client.get_online_features(["city:traffic"]).to_dict() == {"traffic": [answered]}
    server.stop(0)
    world.store.drop_table(table_of(CITY).id)
    load_rows(world.store, CITY, pl.DataFrame({"traffic": [99]}), [EARLY])


def test_a_row_not_yet_known_is_withheld_and_says_so(world: World) -> None:
    """The later of event time plus delay and created time decides, a null created time does not."""
    asked = {"airport": ["JFK", "LGA", "EWR"]}
    found = world.ask(["weather:temp", "weather:sky"], entities=asked)
    assert found.statuses["sky"] == ["NOT_YET_KNOWN", "PRESENT", "PRESENT"]
    assert found.to_dict()["sky"] == [None, "ö", "ö"]
    asked = {"origin": ["JFK", "a", "ab"], "dest": ["LAX", "bc", "c"]}
    found = world.ask(["route:flights"], entities=asked)
    assert found.statuses["flights"] == ["PRESENT", "NOT_YET_KNOWN", "NOT_FOUND"]
    ten = NOON + timedelta(minutes=10)
    found = world.ask(["route:flights"], entities=asked, as_of=ten)
    assert found.to_dict()["flights"] == [7, 8, None]


def test_a_tombstone_is_no_row(world: World) -> None:
    """A key whose newest row says that it is gone is NOT_FOUND, its values null."""
    layout = RowLayout(columns=row_columns(PLANE))
    gone = canonical_keys(pl.DataFrame({"tailnum": ["gone"]}), PLANE.join_keys)
    rows = layout.tombstones(pl.Series([at()]), None, 0)
    world.store.put(table_of(PLANE).id, [key for key in gone if key], rows)
    found = world.ask(["plane:seats"], entities={"tailnum": ["gone"]})
    assert found.statuses["seats"] == ["NOT_FOUND"]
    assert found.event_times["seats"] == [None]


def test_a_torn_row_is_an_error_that_names_its_table(world: World) -> None:
    """Bytes that are not a row of the table give CorruptData, never numbers."""
    torn = canonical_keys(pl.DataFrame({"tailnum": ["torn"]}), PLANE.join_keys)
    world.store.put(table_of(PLANE).id, [key for key in torn if key], [b"\x01torn"])
    with pytest.raises(CorruptData, match=rf"plane\.{table_of(PLANE).id}"):
        world.ask(["plane:seats"], entities={"tailnum": ["new", "torn"]})
    assert world.ask(["plane:seats"], entities={"tailnum": ["new"]}).to_dict()["seats"] == [1]


def test_the_default_moment_is_the_servers_clock(world: World) -> None:
    """Without as_of age is judged by the clock that the server was given."""
    clock = at(days=3)
    server = serve(world.store, project=world.store.project, clock=lambda: clock)
    with FeatureClient(server.address, timeout=5) as client:
        found = client.get_online_features(["plane:seats"], [{"tailnum": "new"}])
        assert found.as_of == moment(clock)
        assert found.statuses["seats"] == ["PRESENT"]
    server.stop(0)


def test_one_view_answers_under_two_names(world: World) -> None:
    """Two uses of a view read different keys and keep their statuses apart."""
    both = service(
        name="both",
        projections=[
            use(WEATHER, "temp", alias="there", airport="dest"),
            use(WEATHER, "temp", alias="here", airport="origin"),
        ],
        views={"weather": WEATHER},
    )
    publish(world.store, release_of(world.store, [WEATHER], [both], number=7), alias="both")
    server = serve(world.store, project=world.store.project, alias="both")
    with FeatureClient(server.address, timeout=5) as client:
        found = client.get_online_features(
            "both", [{"origin": "EWR", "dest": "JFK"}], full_feature_names=True, as_of=NOON
        )
    server.stop(0)
    assert found.to_dict() == {
        "origin": ["EWR"],
        "dest": ["JFK"],
        "there__temp": [None],
        "here__temp": [2.5],
    }
    assert found.statuses == {"there__temp": ["NOT_YET_KNOWN"], "here__temp": ["PRESENT"]}


def test_an_entity_less_view_answers_every_row(world: World) -> None:
    """Without entities there is one row; beside others the value is repeated."""
    assert world.ask(["city:traffic"]).to_dict() == {"traffic": [99]}
    found = world.ask(["city:traffic", "plane:seats"], entities={"tailnum": ["new", "edge"]})
    assert found.to_dict() == {"tailnum": ["new", "edge"], "traffic": [99, 99], "seats": [1, 2]}


def test_on_demand_features_read_aged_rows_and_request_data(world: World) -> None:
    """Their inputs are null where a row is too old, and request data may come with the entities."""
    rows = [{"tailnum": name, "distance": 3} for name in ("new", "edge", "old", "nobody")]
    found = world.ask("late", rows)
    assert found.names == ("last_delay", "delay_per_mile", "one")
    # A batch multiplies by the reciprocal unless every row is treated alike.
    assert found.to_dict()["delay_per_mile"] == [1.0, 0.1 / 3, None, None]
    assert found.to_dict()["one"] == [1.5] * 4
    alone = [world.ask("late", [row]).to_dict()["delay_per_mile"][0] for row in rows]
    assert alone == found.to_dict()["delay_per_mile"]
    apart = world.ask(
        "late",
        entities={"tailnum": [row["tailnum"] for row in rows]},
        request_data={"distance": np.full(4, 3.0)},
    )
    assert apart.to_polars().drop("tailnum").equals(found.to_polars().drop("tailnum", "distance"))
    assert found.statuses["delay_per_mile"] == ["PRESENT"] * 4
    assert found.event_times["delay_per_mile"] == [None] * 4


def test_keys_join_by_value_and_numbers_keep_their_width(world: World) -> None:
    """An Int64 or integral Float64 key finds an Int16 one; large unsigned values survive."""
    for year in ([1999], np.array([1999.0]), pl.Series([1999], dtype=pl.Int32)):
        found = world.ask(["years:planes"], entities={"year": year})
        assert found.to_polars()["planes"].to_list() == [4_000_000_000]
        assert found.to_polars()["planes"].dtype == pl.UInt32


def test_arrays_of_an_answer_are_masked_not_filled(world: World) -> None:
    """A missing value is masked in NumPy, and present ones keep their dtype."""
    found = world.ask(["plane:seats", "plane:was_late"], entities={"tailnum": ["new", "nobody"]})
    arrays = found.to_numpy()
    assert arrays["seats"].mask.tolist() == [False, True]
    assert arrays["seats"].compressed().tolist() == [1]
    assert arrays["was_late"].compressed().tolist() == [True]


def test_describe_says_what_to_bring_and_what_comes(world: World) -> None:
    """A service's description lists entities, request data, outputs, tables and policies."""
    found = world.client.describe("late")
    assert [(one.name, one.dtype) for one in found.entities] == [("tailnum", "string")]
    assert [(one.name, one.dtype) for one in found.request_data] == [("distance", "float64")]
    assert [one.name for one in found.outputs] == ["last_delay", "delay_per_mile", "one"]
    assert [found.projections[one.projection].view for one in found.outputs] == [
        "plane",
        "pace",
        "pace",
    ]
    assert found.stored[0].ttl == timedelta(days=7) // timedelta(microseconds=1)
    assert found.stored[0].watermark == at()


REFUSALS: list[tuple[str, dict[str, Any], type[FeatureStoreError], str]] = [
    ("service", {"features": "lato"}, NotFound, "feature_service: .*did you mean 'late'"),
    ("view", {"features": ["plan:seats"]}, NotFound, "features: .*did you mean 'plane'"),
    ("feature", {"features": ["plane:seat"]}, NotFound, "plane:seat: .*did you mean 'seats'"),
    ("version", {"features": ["plane@0000:seats"]}, NotFound, "plane@0000"),
    ("form", {"features": ["seats"]}, InvalidRequest, "not of the form"),
    ("none", {"features": []}, InvalidRequest, "features: none"),
    (
        "misspelt entity",
        {"features": ["plane:seats"], "entities": {"tailnumb": ["a"]}},
        InvalidRequest,
        r"entities\.tailnum: missing.*did you mean 'tailnumb'",
    ),
    (
        "key dtype",
        {"features": ["plane:seats"], "entities": {"tailnum": [1]}},
        InvalidRequest,
        r"entities\.tailnum: the key is declared string",
    ),
    (
        "key range",
        {"features": ["years:planes"], "entities": {"year": [70_000]}},
        InvalidRequest,
        r"entities\.year: .*does not fit int16",
    ),
    (
        "request data missing",
        {"features": "late", "entities": {"tailnum": ["new"]}},
        InvalidRequest,
        r"request_data\.distance: missing",
    ),
    (
        "request data dtype",
        {"features": "late", "entities": {"tailnum": ["new"], "distance": ["far"]}},
        InvalidRequest,
        r"request_data\.distance: is String, but float64 is declared",
    ),
    (
        "no rows",
        {"features": ["plane:seats"], "entities": {"tailnum": pl.Series([], dtype=pl.String)}},
        InvalidRequest,
        "count: 0 entities",
    ),
    (
        "too many rows",
        {"features": ["plane:seats"], "entities": {"tailnum": ["x"] * 51}},
        InvalidRequest,
        "count: 51 entities asked for, at most 50",
    ),
    ("dialect", {"features": "alien"}, Unsupported, "alien.*polars-0.0"),
    (
        "no table",
        {"features": "cold", "entities": {"tailnum": ["new"]}},
        NotMaterialized,
        "cold: .*has no table in release 1",
    ),
    (
        "collision",
        {"features": ["plane:seats", "plane:seats"], "entities": {"tailnum": ["new"]}},
        InvalidRequest,
        "would both be called",
    ),
]


@pytest.mark.parametrize(
    ("asked", "kind", "message"),
    [case[1:] for case in REFUSALS],
    ids=[case[0] for case in REFUSALS],
)
def test_a_wrong_request_is_refused_with_its_path(
    world: World, asked: dict[str, Any], kind: type[FeatureStoreError], message: str
) -> None:
    """What does not fit is named by its dotted path, and the server lives on."""
    with pytest.raises(kind, match=message):
        world.ask(**asked)
    assert world.ask(["city:traffic"]).to_dict() == {"traffic": [99]}


@pytest.mark.parametrize(
    "raw", [b"\xff\xff\xff", b"\x0a\xff", b"", bytes(1000), b"\x12\x00\x18\x01"]
)
def test_bytes_that_are_no_request_are_invalid_arguments(world: World, raw: bytes) -> None:
    """Malformed bytes get INVALID_ARGUMENT, and the process answers the next call."""
    with grpc.insecure_channel(world.server.address) as channel:
        call = channel.unary_unary(f"/{SERVICE}/GetOnlineFeatures")
        with pytest.raises(grpc.RpcError) as caught:
            call(raw, timeout=5)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert world.ask(["city:traffic"]).to_dict() == {"traffic": [99]}


def test_a_request_over_the_size_limit_is_refused_before_it_is_read(world: World) -> None:
    """A message of more than 4 MiB gets RESOURCE_EXHAUSTED, and the process answers on."""
    with grpc.insecure_channel(world.server.address) as channel:
        call = channel.unary_unary(f"/{SERVICE}/GetOnlineFeatures")
        with pytest.raises(grpc.RpcError) as caught:
            call(bytes(5 << 20), timeout=5)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert world.ask(["city:traffic"]).to_dict() == {"traffic": [99]}


def test_no_value_of_a_request_is_logged_or_quoted(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither logs nor errors repeat what a caller sent."""
    canary = "canary-7f3a"
    with caplog.at_level("DEBUG"):
        world.ask(["plane:seats"], entities={"tailnum": [canary]})
        with pytest.raises(InvalidRequest) as caught:
            world.ask(["years:planes"], entities={"year": [canary]})
    assert canary not in caplog.text
    assert canary not in str(caught.value)


def test_silent_clients_do_not_stop_the_others(world: World) -> None:
    """Calls whose message never comes hold threads; others are started in their place."""
    ended = threading.Event()
    silent = [
        grpc.insecure_channel(world.server.address, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(3 * Limits().threads)
    ]

    def nothing() -> Iterator[bytes]:
        ended.wait(30)
        yield from ()

    calls = [
        channel.stream_unary(f"/{SERVICE}/GetOnlineFeatures", None, None).future(
            nothing(), timeout=30
        )
        for channel in silent
    ]
    answered = 0
    try:
        for _ in range(100):
            with suppress(FeatureStoreError):
                world.client.get_online_features(["city:traffic"], timeout=0.25)
                answered += 1
                if answered == 5:
                    break
        assert answered == 5
        assert not any(call.done() for call in calls)
    finally:
        ended.set()
        for call, channel in zip(calls, silent, strict=True):
            call.cancel()
            channel.close()
