"""Entity rows as callers bring them, over tables in several buckets: joined, or refused by name."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pandas as pd
import polars as pl
import pytest

from featurestore.errors import InvalidRequest, NotFound
from featurestore.jobs.materialize import materialize
from featurestore.model.declare import batch_view
from featurestore.model.documents import Source
from featurestore.model.time import EVENT, micros, normalize_schema
from tests.repos import applied, at, in_buckets, landings, notebook, write

ROWS = landings(*((f"{n}", 1 + n % 3, None, float(n), n) for n in range(40)))
NUMBERED = ROWS.with_columns(flight=pl.col("plane").cast(pl.Int64), carrier=pl.lit("XX"))
SOURCE = Source(
    name="flights",
    path="data/landings.parquet",
    format="parquet",
    timestamp_field="at",
    columns=normalize_schema(NUMBERED.schema),
)
FLIGHT = batch_view(
    name="flight",
    join_keys={"flight": None},
    source=SOURCE,
    features={"late": pl.col("delay"), "seats": pl.col("seats")},
)
CARRIER = batch_view(
    name="carrier", join_keys={"carrier": None}, source=SOURCE, features={"last": pl.col("delay")}
)
ASKED = ["flight:late", "flight:seats"]


@pytest.fixture(scope="module")
def store(tmp_path_factory, valkey):
    """A store with a view of whole-number keys in eight buckets and one of text keys in two."""
    root = write(tmp_path_factory.mktemp("rows"), NUMBERED, name="entity-rows")
    workspace = applied(root, valkey.url, FLIGHT, CARRIER)
    for view, buckets in ((FLIGHT, 8), (CARRIER, 2)):
        in_buckets(workspace, view, buckets)
    materialize(workspace, micros(at(0)), micros(at(24)))
    with notebook(workspace) as store:
        yield store
    workspace.close()


def spine(keys, moments=None):
    """Give entity rows of these flights."""
    times = [at(9)] * len(keys) if moments is None else moments
    return pl.DataFrame(
        {"flight": keys, EVENT: times}, schema_overrides={EVENT: pl.Datetime("us", "UTC")}
    )


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64, pl.Null])
def test_no_entity_rows_give_none_with_all_columns(store, dtype):
    """The outputs are there with their dtypes, also in a file."""
    made = store.get_historical_features(spine(pl.Series([], dtype=dtype)), ASKED).to_polars()
    assert made.columns == ["flight", EVENT, "late", "seats"]
    assert (made.height, made.schema["late"], made.schema["seats"]) == (0, pl.Float64, pl.UInt8)


def test_no_entity_rows_are_written_too(store, tmp_path):
    """An empty training set is a file with its columns."""
    store.get_historical_features(spine(pl.Series([], dtype=pl.Int64)), ASKED).to_parquet(
        tmp_path / "none.parquet"
    )
    assert pl.read_parquet(tmp_path / "none.parquet").columns == ["flight", EVENT, "late", "seats"]


def test_null_keys_and_times_match_nothing_and_stay(store):
    """Such rows come back where they were, without values."""
    rows = spine([5, None, 7, 5], [at(9), at(9), None, at(9)])
    made = store.get_historical_features(rows, ASKED).to_polars()
    assert made.select("flight", EVENT).equals(rows)
    assert made["late"].to_list() == [5.0, None, None, 5.0]


ZONES = (
    datetime(2024, 3, 1, 10, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime(2024, 3, 1, 2, 30, tzinfo=UTC),
    datetime(2024, 3, 1, 4, tzinfo=timezone(timedelta(hours=5))),
)


def test_moments_of_mixed_zones_are_instants(store):
    """A pandas column may hold a zone per row: each is the instant that it tells."""
    moments = pd.Series(ZONES, dtype=object)
    frame = pd.DataFrame({"flight": [1, 2, 3], EVENT: moments})
    made = store.get_historical_features(frame, ["flight:late"])
    instants = [moment.astimezone(UTC) for moment in moments]
    plain = store.get_historical_features(spine([1, 2, 3], instants), ["flight:late"])
    assert made.features.equals(plain.features)
    assert made.features["late"].to_list() == [1.0, None, None]


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        (pl.Series([3, 7], dtype=pl.Int32), [3.0, 7.0]),
        (pl.Series([3, 7], dtype=pl.UInt8), [3.0, 7.0]),
        (pl.Series([3.0, 7.0, None]), [3.0, 7.0, None]),
        (pl.Series([3.0, float("nan")]), [3.0, None]),
        (pl.Series([None, None], dtype=pl.Null), [None, None]),
    ],
)
def test_keys_of_a_compatible_dtype_are_joined(store, keys, found):
    """Narrower integers and whole floats find the rows of an Int64 key, in the right bucket."""
    made = store.get_historical_features(spine(keys), ["flight:late"]).to_polars()
    assert made["late"].to_list() == found
    assert made.schema["flight"] == keys.dtype


@pytest.mark.parametrize(
    ("rows", "features", "told"),
    [
        (spine(["3"]), ASKED, r"entity_df\.flight: the key is declared int64, .*String.*cast"),
        (spine([2.5]), ASKED, r"entity_df\.flight: .*not an integer.*cast the column"),
        (spine([1]).with_columns(late=1.0), ASKED, "column 'late' has the name .*rename or drop"),
        (spine([1]), ["flight:late", "flight:late"], "would both be called 'late'; ask"),
        (spine([1]), ["flight:late", "carrier:last"], "join key 'carrier' of carrier is missing"),
        (spine([1]).rename({"flight": "plane"}), ASKED, "join key 'flight' of flight is missing"),
    ],
)
def test_what_cannot_be_joined_is_refused_with_the_way_out(store, rows, features, told):
    """Before any row of a table is read."""
    with pytest.raises(InvalidRequest, match=told):
        store.get_historical_features(rows, features)


def test_views_of_different_entities_answer_side_by_side(store):
    """Each by its own key, in its own buckets; a null key of one leaves the other's values."""
    rows = spine([3, None, 40]).with_columns(carrier=pl.Series(["XX", "XX", None]))
    made = store.get_historical_features(rows, ["carrier:last", "flight:late"]).to_polars()
    assert made["late"].to_list() == [3.0, None, None]
    first, second, third = made["last"]
    assert (first == second > 0, third) == (True, None)
    with pytest.raises(InvalidRequest, match=r"same join keys.*carrier and flight"):
        store.get_historical_features(features=["carrier:last", "flight:late"], end_date=at(9))


def test_an_unknown_feature_is_named(store):
    """With what it may have been."""
    with pytest.raises(NotFound, match="did you mean 'late'"):
        store.get_historical_features(spine([1]), ["flight:lat"])
