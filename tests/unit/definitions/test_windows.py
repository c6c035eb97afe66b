"""Windows as users write them, and Feast's aggregations, mean the same."""

from datetime import timedelta

import feast
import polars as pl
import pytest
from feast.aggregation import Aggregation
from feast.types import Float64

from featurestore.definitions import FeatureView, Window, document
from featurestore.definitions.reading import Scope, batch_view
from featurestore.definitions.refusals import refusal
from featurestore.errors import InvalidDefinition
from featurestore.model.windows import described

PLANE = feast.Entity(name="plane", join_keys=["tailnum"], value_type=feast.ValueType.STRING)
LATE = pl.col("delay") > 15


@pytest.fixture
def landings(tmp_path):
    """A source of landings."""
    path = tmp_path / "landings.parquet"
    schema = {"tailnum": pl.String, "at": pl.Datetime("us", "UTC"), "delay": pl.Float64}
    pl.DataFrame(schema=schema).write_parquet(path)
    return feast.FileSource(name="landings", path=str(path), timestamp_field="at")


def view(source, **features):
    """A view of windows, and of one row feature."""
    features = {"last_delay": pl.col("delay"), **features}
    return FeatureView(name="history", entities=[PLANE], source=source, features=features)


def test_a_view_has_row_features_and_windows(landings, tmp_path):
    """Both stand in one view, in the order they were written, with their dtypes."""
    made = view(landings, share=Window("7d").mean(LATE), most=Window("1d").max(pl.col("delay")))
    (found,) = document(made, tmp_path)
    assert [(one.name, one.dtype) for one in found.features] == [
        ("last_delay", "float64"),
        ("share", "float64"),
        ("most", "float64"),
    ]
    assert described(found.features[1]) == "mean over 7d every 1h"
    assert {one.name for one in made.features} == {"last_delay", "share", "most"}
    assert made[["share"]].projection.features[0].name == "share"


def test_views_that_differ_in_a_window_differ(landings):
    """Feast compares views when it applies them: a changed window is a changed view."""
    assert view(landings, share=Window("7d").mean(LATE)) != view(
        landings, share=Window("8d").mean(LATE)
    )


def _batch(given, field):
    """Make a batch view of Feast's, which warns that it is experimental."""
    with pytest.warns(RuntimeWarning):
        return feast.BatchFeatureView(**given, schema=[feast.Field(name=field, dtype=Float64)])


def test_aggregations_of_a_batch_view_are_its_features(landings, tmp_path):
    """What its schema lists beside them is refused by name."""
    given = {
        "name": "history",
        "entities": [PLANE],
        "source": landings,
        "aggregations": [
            Aggregation(column="delay", function="sum", time_window=timedelta(days=2), name="total")
        ],
    }
    theirs, other = (_batch(given, name) for name in ("total", "sums"))
    scope = Scope(root=tmp_path, entities={"plane": PLANE})
    assert refusal(theirs) is None
    assert [one.name for one in batch_view(theirs, scope).features] == ["total"]
    with pytest.raises(InvalidDefinition, match=r"history\.schema\.sums: no aggregation gives it"):
        batch_view(other, scope)


def test_aggregations_of_feast_mean_windows(landings, tmp_path):
    """An Aggregation on a Feast view is the window of its function, length and slide."""
    push = feast.PushSource(name="pushed", batch_source=landings)
    with pytest.warns(RuntimeWarning):
        theirs = feast.StreamFeatureView(
            name="history",
            entities=[PLANE],
            source=push,
            timestamp_field="at",
            aggregations=[
                Aggregation(column="delay", function="mean", time_window=timedelta(days=7)),
                Aggregation(
                    column="delay",
                    function="max",
                    time_window=timedelta(days=1),
                    slide_interval=timedelta(minutes=10),
                    name="worst",
                ),
            ],
        )
    assert refusal(theirs) is None
    found = batch_view(theirs, Scope(root=tmp_path, entities={"plane": PLANE}))
    ours = FeatureView(
        name="history",
        entities=[PLANE],
        source=push,
        features={
            "mean_delay_604800s": Window("7d").mean(pl.col("delay")),
            "worst": Window("1d", every="10m").max(pl.col("delay")),
        },
    )
    (same,) = document(ours, tmp_path)
    assert {one.id for one in found.features} == {one.id for one in same.features}


WRONG = {
    "no length": (Window("0d").count(), "share.length: 0d is too short or too long"),
    "a longer step": (Window("7d", every="8d").count(), "share.every: 8d is longer than the"),
    "a name": (Window("7d").mean("delay"), "share.of: 'delay' is no Polars expression; write such"),
    "nothing": (Window("7d").last(), "share.of: is missing; say what to compute it of: last("),
    "a truth": (Window("7d").count(filter=True), "share.filter: True is no Polars expression"),
    "no function": (Window("7d"), "share: says which rows, and not what of them; write such as"),
}


@pytest.mark.parametrize(("made", "told"), WRONG.values(), ids=WRONG)
def test_a_view_refuses_a_wrong_window_and_names_the_feature(landings, made, told):
    """A window cannot know whose it is: the view says it, as soon as it is written."""
    with pytest.raises(InvalidDefinition) as raised:
        view(landings, share=made)
    assert str(raised.value).startswith(f"history.features.{told}")


TAKEN = {
    "a window, as the key": {"tailnum": Window("7d").count()},
    "a row feature, as the key": {"Tailnum": pl.col("delay")},
    "a window, as the time": {"event_timestamp": Window("7d").count()},
    "no name": {7: Window("7d").count()},
}


@pytest.mark.parametrize("features", TAKEN.values(), ids=TAKEN)
def test_a_view_refuses_a_name_that_is_taken(landings, features):
    """Ours is the first word on it: the message names the feature and the way out."""
    with pytest.raises(InvalidDefinition, match=r"^history\.features.*; (rename it|give a string)"):
        FeatureView(name="history", entities=[PLANE], source=landings, features=features)


@pytest.mark.parametrize("given", [1, True, b"id", "", ["id"]])
def test_an_event_id_is_the_name_of_a_column(landings, given):
    """Anything else is refused by the view, in words."""
    with pytest.raises(InvalidDefinition, match=r"^history\.event_id: give the name of a source"):
        FeatureView(
            name="history",
            entities=[PLANE],
            source=landings,
            features={"seen": Window("7d").count()},
            event_id=given,
        )
