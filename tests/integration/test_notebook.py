"""The notebook loop: definition objects in, training rows out, nothing applied."""

from datetime import timedelta

import polars as pl
import pytest

from featurestore import FeatureStore
from featurestore.errors import InvalidRequest, NotFound
from tests.repos import DAY, NOW, applied, at, landings, write

ROWS = landings(
    ("a", 1, None, 10.0, 3),
    ("a", 5, None, 20.0, 4),
    ("b", 2, 9, 30.0, None),
)
SPINE = pl.DataFrame({"plane": ["a", "b", "c"], "event_timestamp": [at(6), at(10), at(6)]})


@pytest.fixture(scope="module")
def definitions():
    """Feast's and our definition objects, as a notebook makes them; feast is imported once."""
    feast = pytest.importorskip("feast", reason="the extra 'definitions' is not installed")
    from feast.types import Float64  # noqa: PLC0415

    from featurestore.definitions import FeatureView, OnDemandFeatureView  # noqa: PLC0415

    plane = feast.Entity(name="plane", join_keys=["plane"], value_type=feast.ValueType.STRING)
    source = feast.FileSource(
        name="landings",
        path="data/landings.parquet",
        timestamp_field="at",
        created_timestamp_column="loaded",
    )
    history = FeatureView(
        name="history",
        entities=[plane],
        source=source,
        ttl=timedelta(days=7),
        features={
            "last_delay": pl.col("delay"),
            "was_late": pl.col("delay") > 15,
            "seats": pl.col("seats"),
        },
        columns={
            "plane": pl.String(),
            "at": pl.Datetime("us", "UTC"),
            "loaded": pl.Datetime("us", "UTC"),
            "delay": pl.Float64(),
            "seats": pl.UInt8(),
        },
    )
    trip = feast.RequestSource(name="trip", schema=[feast.Field(name="miles", dtype=Float64)])
    pace = OnDemandFeatureView(
        name="pace",
        sources=[history, trip],
        features={"per_mile": pl.col("last_delay") / pl.col("miles")},
    )
    service = feast.FeatureService(name="draft", features=[history[["last_delay"]], pace])
    return {"history": history, "pace": pace, "service": service}


@pytest.fixture
def repo(tmp_path):
    """A repo's folder with data and nothing applied."""
    return write(tmp_path / "repo", ROWS)


def test_a_view_object_is_computed_from_its_source(repo, definitions):
    """Objects need no apply, no registry and no Redis, and leave a draft lock."""
    with FeatureStore(repo, environ={"FEATURESTORE_REDIS_URL": "redis://127.0.0.1:1"}) as store:
        made = store.get_historical_features(SPINE, definitions["history"])
    assert made.to_polars()["last_delay"].to_list() == [20.0, 30.0, None]
    assert made.lock.draft
    assert sorted(p.name for p in repo.iterdir()) == ["data", "feature_store.yaml"]
    assert [p.name for p in (repo / "data").iterdir()] == ["landings.parquet"]


def test_a_selection_a_use_and_a_service_are_taken_as_they_are(repo, definitions):
    """`view[[…]]`, renamed and mapped uses, on-demand views and services all stand as objects."""
    history = definitions["history"]
    other = history[["seats"]].with_name("next").with_join_key_map({"plane": "next_plane"})
    spine = SPINE.with_columns(next_plane=pl.lit("a"), miles=pl.lit(2.0))
    with FeatureStore(repo) as store:
        made = store.get_historical_features(
            spine, [definitions["service"], other], full_feature_names=True
        ).to_polars()
    assert made["history__last_delay"].to_list() == [20.0, 30.0, None]
    assert made["pace__per_mile"].to_list() == [10.0, 15.0, None]
    assert made["next__seats"].to_list() == [4, 4, 4]


def test_a_draft_equals_what_is_applied(repo, definitions, online_url):
    """The same engine answers: a draft's rows are the materialized table's rows."""
    workspace = applied(repo, online_url)
    workspace.close()
    environ = {"FEATURESTORE_REDIS_URL": online_url}
    with FeatureStore(repo, environ=environ) as store:
        store.materialize(at(0), at(24))
        names = ["history:last_delay", "history:was_late", "history:seats"]
        stored = store.get_historical_features(SPINE, names)
        by_service = store.get_historical_features(SPINE, "model")
        draft = store.get_historical_features(SPINE, [definitions["history"]])
        store.verify()
        store.promote()
        online = store.get_online_features(names, [{"plane": "a"}], as_of=at(24))
    assert stored.to_polars().equals(draft.to_polars())
    assert not stored.lock.draft
    assert (by_service.lock.service, stored.lock.service) == ("model", None)
    assert online.to_dict() == {
        "plane": ["a"],
        "last_delay": [20.0],
        "was_late": [True],
        "seats": [4],
    }


def test_what_is_no_reference_is_refused(repo, online_url):
    """Unknown services, views and features, and things of other kinds, are named."""
    applied(repo, online_url).close()
    with FeatureStore(repo, clock=lambda: int((NOW + DAY).timestamp() * 1e6)) as store:
        for features, error, message in (
            ("modle", NotFound, "no service is called 'modle'; did you mean 'model'"),
            (["histor:seats"], NotFound, "no view is called 'histor'; did you mean 'history'"),
            (["history:seat"], NotFound, "no such feature; did you mean 'seats'"),
            (["history@0000:seats"], NotFound, "history@0000 is not here"),
            ([3], InvalidRequest, "int is no reference"),
            (3, InvalidRequest, "int names no features"),
            ([], InvalidRequest, "none asked for"),
        ):
            with pytest.raises(error, match=message):
                store.get_historical_features(SPINE, features)
