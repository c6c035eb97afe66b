"""Views of expressions keep Feast's manners and lose nothing on the way."""

from collections.abc import Callable
from copy import copy
from datetime import timedelta
from pathlib import Path

import feast
import polars as pl
import pytest
from feast.types import Bool, Float64, Int64, Invalid

from featurestore.definitions import FeatureView, OnDemandFeatureView
from featurestore.definitions.on_demand import evaluate
from featurestore.errors import InvalidDefinition, InvalidExpression

PLANE = feast.Entity(name="plane", join_keys=["tailnum"], value_type=feast.ValueType.STRING)
SOURCE = feast.FileSource(
    name="landings", path="data/landings.parquet", timestamp_field="landed_at"
)
FLIGHT = feast.RequestSource(name="flight", schema=[feast.Field(name="distance", dtype=Float64)])


def history(**changes: object) -> FeatureView:
    given = {
        "name": "plane_history",
        "source": SOURCE,
        "entities": [PLANE],
        "ttl": timedelta(days=7),
        "filter": ~pl.col("cancelled"),
        "features": {
            "last_delay": pl.col("arr_delay"),
            "was_late": pl.col("arr_delay") > 15,
        },
        "tags": {"team": "ops"},
    }
    return FeatureView(**(given | changes))


def pace(view: feast.FeatureView) -> OnDemandFeatureView:
    return OnDemandFeatureView(
        name="pace",
        sources=[view, FLIGHT],
        features={"per_mile": pl.col("last_delay") / pl.col("distance")},
    )


def test_a_view_is_a_feast_view_with_typed_fields(repo: Path) -> None:
    """Feast sees one field per feature, with the type its source gives it."""
    view = history()
    assert isinstance(view, feast.FeatureView)
    assert [(f.name, f.dtype) for f in view.features] == [
        ("last_delay", Float64),
        ("was_late", Bool),
    ]
    assert [(f.name, f.dtype) for f in pace(view).features] == [("per_mile", Float64)]


def test_a_view_can_be_written_before_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the file Feast's types are unknown, or come from the declared columns."""
    monkeypatch.chdir(tmp_path)
    assert {f.dtype for f in history().features} == {Invalid}
    declared = history(features={"seats": pl.col("seats") * 2}, columns={"seats": pl.Int64})
    assert [f.dtype for f in declared.features] == [Int64]


@pytest.mark.parametrize(
    "use",
    [
        copy,
        lambda view: view[["was_late"]],
        lambda view: view.with_name("other"),
        lambda view: view.with_join_key_map({"tailnum": "alternate"}),
        lambda view: view.with_name("other").with_join_key_map({"tailnum": "alternate"})[
            ["was_late"]
        ],
    ],
    ids=["copy", "select", "name", "map", "all"],
)
def test_a_use_keeps_the_definition(repo: Path, use: Callable[[FeatureView], FeatureView]) -> None:
    """Selecting, renaming and mapping change the projection of a copy, and nothing else."""
    view = history()
    before = copy(view.projection)
    used = use(view)
    assert isinstance(used, FeatureView)
    assert used is not view
    assert used.expressions is view.expressions
    assert used.ttl == timedelta(days=7)
    assert used.tags == {"team": "ops"}
    assert view.projection == before


def test_a_service_takes_uses_of_views(repo: Path) -> None:
    """A feature service holds each use with its selection, alias and join-key map."""
    view = history()
    other = view.with_name("other").with_join_key_map({"tailnum": "alternate"})
    service = feast.FeatureService(name="s", features=[view[["was_late"]], other, pace(view)])
    told = [
        (p.name_to_use(), [f.name for f in p.features], p.join_key_map)
        for p in service.feature_view_projections
    ]
    assert told == [
        ("plane_history", ["was_late"], {}),
        ("other", ["last_delay", "was_late"], {"tailnum": "alternate"}),
        ("pace", ["per_mile"], {}),
    ]


def test_selecting_an_unknown_feature_is_refused(repo: Path) -> None:
    """`view[[…]]` names only features that the view has."""
    with pytest.raises(ValueError, match="was_lat does not exist"):
        history()[["was_lat"]]


def test_an_on_demand_view_keeps_both_uses_of_a_view(repo: Path) -> None:
    """Two uses of one view are two sources, as long as their aliases differ."""
    view = history()
    twice = OnDemandFeatureView(
        name="gap",
        sources=[view, view.with_name("other")],
        features={"gap": pl.col("plane_history__last_delay") - pl.col("other__last_delay")},
    )
    assert set(twice.source_feature_view_projections) == {"plane_history", "other"}
    assert copy(twice).expressions is twice.expressions
    with pytest.raises(InvalidDefinition, match=r"gap\.sources: two are called 'plane_history'"):
        OnDemandFeatureView(name="gap", sources=[view, view], features={"gap": pl.lit(1)})


def test_views_that_differ_in_an_expression_are_not_equal(repo: Path) -> None:
    """Equality sees expressions and rules, not only what Feast compares."""
    assert history() == history()
    assert history() != history(filter=None)
    assert history() != history(
        features={"last_delay": -pl.col("arr_delay"), "was_late": pl.lit(1)}
    )
    assert hash(history()) == hash(history(filter=None))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"features": {}}, r"plane_history\.features: give at least one"),
        ({"features": {"a": 1}}, r"plane_history\.features\.a: a feature is a Polars expression"),
        ({"filter": "cancelled"}, r"plane_history\.filter: give a Polars expression"),
        ({"delay": 3}, r"plane_history\.delay: give a timedelta, not 3"),
        ({"ttl": "7d"}, r"plane_history\.ttl: give a timedelta, not '7d'"),
        ({"columns": {"a": int}}, r"plane_history\.columns\.a: give a Polars dtype"),
        ({"time_zone": "Mars/Base"}, r"plane_history\.time_zone: 'Mars/Base' is no time zone"),
    ],
)
def test_an_argument_of_another_kind_is_refused(
    repo: Path, changes: dict[str, object], said: str
) -> None:
    """The constructor names the argument and what belongs there."""
    with pytest.raises(InvalidDefinition, match=said):
        history(**changes)


def test_transform_gives_the_features_of_a_frame(repo: Path, landings: pl.DataFrame) -> None:
    """The filter applies, keys are kept, and the engine computes the rest."""
    assert history().transform(landings).to_dict(as_series=False) == {
        "tailnum": ["N1"],
        "last_delay": [3.0],
        "was_late": [False],
    }
    frame = pl.DataFrame({"last_delay": [3.0], "distance": [2.0]})
    assert pace(history()).transform(frame).to_dict(as_series=False) == {"per_mile": [1.5]}


def test_transform_reads_naive_times_in_the_views_zone(repo: Path, landings: pl.DataFrame) -> None:
    """A naive source time is a local time of `time_zone`, here one hour before UTC."""
    view = history(
        features={"hour": pl.col("landed_at").dt.hour()}, time_zone="Europe/Berlin", filter=None
    )
    assert view.transform(landings)["hour"].to_list() == [23, 23]


def test_transform_refuses_what_is_not_row(repo: Path, landings: pl.DataFrame) -> None:
    """An expression that mixes rows has no value for one row."""
    view = history(features={"gap": pl.col("arr_delay") - pl.col("arr_delay").mean()})
    with pytest.raises(InvalidExpression, match=r"plane_history\.features\.gap"):
        view.transform(landings)


def test_feasts_copy_of_an_on_demand_view_runs_the_same_engine(repo: Path) -> None:
    """What Feast's registry stores is source that computes the features; nothing is pickled."""
    view = pace(history())
    stored = view.to_proto().spec.feature_transformation.user_defined_function
    assert stored.body == b""
    scope: dict[str, Callable[..., object]] = {}
    exec(stored.body_text, scope)
    frame = pl.DataFrame({"last_delay": [3.0, 1.0], "distance": [2.0, 3.0]})
    expected = frame.select(per_mile=pl.col("last_delay") / pl.col("distance"))
    assert scope["evaluate"] is evaluate
    assert scope["transform"](frame.to_pandas()).equals(expected.to_pandas())
    loaded = feast.OnDemandFeatureView.from_proto(view.to_proto())
    assert loaded.feature_transformation == view.feature_transformation
    assert loaded.feature_transformation.transform(frame.to_pandas()).equals(expected.to_pandas())
