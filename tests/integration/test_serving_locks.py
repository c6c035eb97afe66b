"""What a model served with its lock is answered, whatever the alias names."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import grpc
import polars as pl
import pytest

from featurestore.errors import InvalidRequest, LockUnknown, NotFound, NotMaterialized
from featurestore.model.catalog import Catalog
from featurestore.model.declare import on_demand_view
from featurestore.model.documents import LiveView, Release, View
from featurestore.model.lock import Lock
from featurestore.model.query import references, resolve
from featurestore.model.schema import Column
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving.client.client import FeatureClient
from featurestore.serving.message.faults import error_of
from featurestore.serving.message.limits import SERVICE, Limits
from featurestore.serving.process.server import Server, serve
from featurestore.storage.redis import OnlineStore
from tests.locks import lock_of
from tests.releases import NOON, at, load_rows, publish, release_of, stored_view, table_of, use
from tests.servers import Server as Redis
from tests.servers import free_port, wait_until

KEYS = {"tailnum": "string"}
WEEK, HOUR = timedelta(days=7), timedelta(hours=1)
V1 = stored_view("plane", KEYS, {"last_delay": "float64", "seats": "int16"}, ttl=WEEK)
BREAKING = stored_view("plane", KEYS, {"last_delay": "float32", "seats": "int32"}, ttl=WEEK)
ADDITIVE = stored_view(
    "plane", KEYS, {"last_delay": "float64", "seats": "int16", "more": "bool"}, ttl=HOUR
)
OTHER = stored_view("other", KEYS, {"x": "int64"})


def _pace(of: View) -> View:
    return on_demand_view(
        name="pace",
        sources=[(of, use(of))],
        request=[Column(name="miles", dtype="float64")],
        features={"per_mile": pl.col("last_delay") / pl.col("miles")},
    )


PACE = _pace(V1)
NAMES = ["pace:per_mile", "plane:seats", "plane:last_delay"]
ROWS = {"tailnum": ["a", "b"], "miles": [2.0, 4.0]}
ANSWER = ROWS | {"per_mile": [0.5, None], "seats": [7, None], "last_delay": [1.0, None]}
VALUES = {"last_delay": [1.0, 9.0], "seats": [7, 8]}
EVENTS = [at(days=-1), at(days=-8)]


def _lock(store: OnlineStore) -> Lock:
    """Give the lock of a model trained on the first version; row b is older than its ttl."""
    catalog = Catalog(current={"plane": V1, "pace": PACE})
    return lock_of(resolve(references(NAMES, catalog), catalog), project=store.project)


@pytest.fixture(params=[BREAKING, ADDITIVE], ids=["breaking", "additive"])
def moved(request: pytest.FixtureRequest) -> View:
    """Give the version that went live since."""
    view: View = request.param
    return view


@pytest.fixture
def store(online_server: Redis) -> Iterator[OnlineStore]:
    """Connect a project with the rows of three versions and of another view."""
    made = OnlineStore.connect(online_server.url, project=f"locks-{uuid4().hex[:8]}")
    frame = pl.DataFrame({"tailnum": ["a", "b"], **VALUES, "more": True, "x": 1})
    for view in (V1, ADDITIVE, OTHER):
        load_rows(made, view, frame, EVENTS)
    load_rows(made, BREAKING, frame.with_columns(last_delay=-1, seats=-1), EVENTS)
    yield made
    made.close()


def _release(store: OnlineStore, number: int, *views: View, warm: tuple[View, ...] = ()) -> Release:
    live = release_of(store, [*views, OTHER], number=number)
    return replace(live, warm=release_of(store, warm).views)


@contextmanager
def _served(store: OnlineStore, *, port: int = 0) -> Iterator[tuple[Server, FeatureClient]]:
    server = serve(store, project=store.project, port=port, limits=Limits(poll=0.05))
    try:
        with FeatureClient(server.address, lock=_lock(store), timeout=5) as client:
            yield server, client
    finally:
        server.stop(0)


def test_a_lock_keeps_its_answers_while_releases_move(store: OnlineStore, moved: View) -> None:
    """From its own version live, then warm, then live again: equal values, ids and ttl."""
    publish(store, _release(store, 1, V1, PACE))
    with _served(store) as (server, client), FeatureClient(server.address, timeout=5) as plain:
        for number, (live, warm) in enumerate(((V1, ()), (moved, (V1, PACE)), (V1, ())), start=1):
            if number > 1:
                publish(store, _release(store, number, live, _pace(live), warm=warm))
                wait_until(
                    lambda n=number: (
                        plain.get_online_features(["other:x"], entities={"tailnum": ["a"]}).release
                        == n
                    )
                )
            found = client.get_online_features(entities=ROWS, as_of=NOON)
            assert found.release == number
            assert found.to_dict() == ANSWER
            assert found.versions == {"plane": V1.id, "pace": PACE.id}
            assert found.statuses["seats"] == ["PRESENT", "OUTSIDE_MAX_AGE"]
            told = client.describe()
            assert [one.feature_id for one in told.outputs] == [
                one.feature_id for one in _lock(store).outputs
            ]
            assert (told.service_id, told.stored[0].ttl) == (_lock(store).id, V1.ttl)


def test_an_additive_release_answers_old_locks_without_their_table(store: OnlineStore) -> None:
    """The live table that holds the feature ids answers, by the lock's ttl and not its own."""
    publish(store, _release(store, 1, ADDITIVE, _pace(ADDITIVE)))
    with _served(store) as (_, client):
        assert client.get_online_features(entities=ROWS, as_of=NOON).to_dict() == ANSWER
        assert client.describe().stored[0].table == table_of(ADDITIVE).id


def test_without_a_version_that_holds_them_the_way_out_is_named(store: OnlineStore) -> None:
    """Never silently another version: FAILED_PRECONDITION with the command that warms it."""
    publish(store, _release(store, 1, BREAKING, _pace(BREAKING)))
    with _served(store) as (server, client):
        for call in (lambda: client.get_online_features(entities=ROWS), client.describe):
            with pytest.raises(NotMaterialized, match="featurestore lock register") as caught:
                call()
            assert V1.version in str(caught.value)
        publish(store, _release(store, 2, BREAKING, _pace(BREAKING), warm=(V1, PACE)))
        wait_until(lambda: server.standing.state.release.number == 2)  # type: ignore[union-attr]
        assert client.get_online_features(entities=ROWS, as_of=NOON).to_dict() == ANSWER


def test_lost_warm_rows_fail_their_own_requests_only(store: OnlineStore) -> None:
    """The server stays ready: readiness is about what is live."""
    publish(store, _release(store, 1, BREAKING, _pace(BREAKING), warm=(V1, PACE)))
    store.drop_table(table_of(V1).id)
    with _served(store) as (server, client), FeatureClient(server.address, timeout=5) as plain:
        with pytest.raises(NotMaterialized, match="featurestore lock register"):
            client.get_online_features(entities=ROWS)
        with pytest.raises(NotMaterialized, match=table_of(V1).id):
            plain.get_online_features([f"plane@{V1.id[:8]}:seats"], entities={"tailnum": ["a"]})
        server._watch.look()
        assert server.standing.ready
        found = plain.get_online_features(["plane:seats"], entities={"tailnum": ["a"]}, as_of=NOON)
        assert found.to_dict()["seats"] == [-1]


def test_of_two_warm_tables_of_a_version_the_newest_answers(store: OnlineStore) -> None:
    """A generation is a copy; the newest one of the version is read."""
    release = _release(store, 1, BREAKING, _pace(BREAKING), warm=(V1, PACE))
    newer = LiveView(view=V1, table=table_of(V1, 10))
    older = LiveView(view=V1, table=table_of(V1, 9))
    publish(store, replace(release, warm=(newer, older, *release.warm)))
    with _served(store) as (_, client):
        assert client.describe().stored[0].table == table_of(V1, 10).id


def test_a_restarted_server_is_sent_the_lock_again(store: OnlineStore) -> None:
    """The document travels once; a server that does not know the id gets it, unseen by the user."""
    publish(store, _release(store, 1, V1, PACE))
    port = free_port()
    with _served(store, port=port) as (server, client):
        for _ in range(2):
            client.get_online_features(entities=ROWS, as_of=NOON)
        server.stop(0)
        with _served(store, port=port):
            wait_until(lambda: _answers(client))


def _answers(client: FeatureClient) -> bool:
    return client.get_online_features(entities=ROWS, as_of=NOON).to_dict() == ANSWER


def test_a_call_by_an_unknown_id_says_so_on_the_wire(store: OnlineStore) -> None:
    """Any client can tell: FAILED_PRECONDITION and the class LockUnknown."""
    publish(store, _release(store, 1, V1, PACE))
    request = pb.GetOnlineFeaturesRequest(count=1, lock=pb.LockReference(id="0" * 64))
    with _served(store) as (server, _), grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(f"/{SERVICE}/GetOnlineFeatures")
        with pytest.raises(grpc.RpcError) as caught:
            call(request.SerializeToString(), timeout=5)
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert isinstance(error_of(caught.value, ""), LockUnknown)


def test_locks_that_cannot_be_meant_are_refused(store: OnlineStore) -> None:
    """Drafts, strangers and contradictions; and features beside a lock."""
    publish(store, _release(store, 1, V1, PACE))
    lock = _lock(store)
    bad = {
        "never registered": replace(lock, draft=True),
        "is 'elsewhere'": replace(lock, project="elsewhere"),
        r"lock\.outputs: is empty": replace(lock, outputs=()),
        r"lock\.views\[0\]\.ttl": replace(
            lock, views=(replace(lock.views[0], ttl=-1), *lock.views[1:])
        ),
    }
    with _served(store) as (server, client):
        for told, one in bad.items():
            with (
                FeatureClient(server.address, lock=one, timeout=5) as other,
                pytest.raises(InvalidRequest, match=told),
            ):
                other.get_online_features(entities=ROWS)
            with pytest.raises(InvalidRequest, match=told):
                client.describe(one)
        with pytest.raises(InvalidRequest, match="a lock says what is answered"):
            client.get_online_features(["plane:seats"], entities=ROWS)


def test_references_may_pin_versions_of_one_view(store: OnlineStore) -> None:
    """Live and warm versions answer side by side, each under its own name and id."""
    publish(store, _release(store, 1, BREAKING, _pace(BREAKING), warm=(V1, PACE)))
    pin = f"plane@{V1.id[:6]}"
    asked = [f"{pin}:last_delay", "plane:last_delay", f"pace@{PACE.id[:6]}:per_mile"]
    with _served(store) as (server, _), FeatureClient(server.address, timeout=5) as plain:
        found = plain.get_online_features(asked, entities=ROWS, full_feature_names=True, as_of=NOON)
        with pytest.raises(NotFound, match="plane@0000 is not here"):
            plain.get_online_features(["plane@0000:seats"], entities=ROWS)
    assert found.to_polars().drop(ROWS).row(0) == (1.0, -1.0, 0.5)
    assert found.versions[pin] == V1.id
    assert found.versions["plane"] == BREAKING.id
