"""Every dtype, bit for bit, from packed rows in a real Redis to a client over a real socket."""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import uuid4

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurestore.model.schema import parse_dtype
from featurestore.serving.client.client import FeatureClient
from featurestore.serving.process.server import serve
from featurestore.storage.redis import OnlineStore
from tests.columns import DTYPES, bits, columns
from tests.releases import NOON, at, load_rows, publish, release_of, stored_view, table_of
from tests.servers import Server as Redis

FEATURES = {f"{place}{n}": dtype for n, dtype in enumerate(DTYPES) for place in "ab"}
WIDE = stored_view("wide", {"key": "int64"}, FEATURES)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A served project with one wide view."""

    store: OnlineStore
    client: FeatureClient


@pytest.fixture(scope="module")
def world(online_server: Redis) -> Iterator[World]:
    """Serve a view with two columns of every dtype."""
    store = OnlineStore.connect(online_server.url, project=f"dtypes-{uuid4().hex[:8]}")
    store.mark(table_of(WIDE).id)
    publish(store, release_of(store, [WIDE]))
    server = serve(store, project=store.project)
    with FeatureClient(server.address, timeout=10) as client:
        yield World(store=store, client=client)
    server.stop(0)
    store.close()


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    """Draw a few rows of all features; most columns share one draw to keep examples small."""
    rows = draw(st.integers(1, 4))
    made = []
    for name, dtype in FEATURES.items():
        filled = name.startswith("a") or draw(st.booleans())
        empty = pl.Series(name, [None] * rows, parse_dtype(dtype))
        made.append(draw(columns(dtype, rows, name)) if filled else empty)
    return pl.DataFrame(made)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(frame=frames(), data=st.data())
def test_what_is_stored_is_what_is_answered(
    world: World, frame: pl.DataFrame, data: st.DataObject
) -> None:
    """Nulls, NaN payloads, -0.0, infinities, empty and long strings, inner nulls: all bits."""
    first = int(uuid4().int % 2**62)
    keyed = frame.with_columns(key=pl.Series(range(first, first + len(frame)), dtype=pl.Int64))
    load_rows(world.store, WIDE, keyed, [at()] * len(frame))
    asked = data.draw(st.lists(st.sampled_from(list(FEATURES)), min_size=1, unique=True))
    order = data.draw(st.permutations(range(len(frame))))
    found = world.client.get_online_features(
        [f"wide:{name}" for name in asked],
        entities={"key": [first + row for row in order] + [first - 1]},
        as_of=NOON,
    )
    answered = found.to_polars()
    for name in asked:
        expected = keyed[name][list(order)]
        assert bits(answered[name][:-1]) == bits(expected)
        assert answered[name][-1] is None
        assert found.statuses[name][-1] == "NOT_FOUND"
