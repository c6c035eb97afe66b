"""Every rule a declaration must keep: what is refused, where, and what it says."""

import re
from datetime import timedelta

import polars as pl
import pytest

from featurestore.errors import InvalidDefinition, InvalidExpression
from featurestore.model.declare import project, service
from tests.declared import SCHEMA, columns, pace, source, use, view

DELAY = {"last_delay": pl.col("delay")}


def lacking(column):
    """Describe the source without a column."""
    return source(columns=columns(**{n: d for n, d in SCHEMA.items() if n != column}))


def holding(**dtypes):
    """Describe the source with columns of other dtypes, or more columns."""
    return source(columns=columns(**SCHEMA | dtypes))


BAD_VIEWS = {
    "a name with a slash": ({"name": "a/b"}, "'a/b': a name holds letters, digits"),
    "a name that climbs": ({"name": "../up"}, "'../up': a name holds letters"),
    "a hidden name": ({"name": ".history"}, "'.history': a name holds letters"),
    "an empty name": ({"name": ""}, "'': a name holds letters"),
    "a name with a newline": ({"name": "history\n"}, "a name holds letters"),
    "a negative ttl": (
        {"ttl": timedelta(days=-1)},
        "history.ttl: -1 day, 0:00:00 is negative; give a span of zero or more",
    ),
    "a negative delay": (
        {"delay": timedelta(microseconds=-1)},
        "history.delay: -1 day, 23:59:59.999999 is negative",
    ),
    "a negative settle": ({"settle": timedelta(hours=-2)}, "history.settle: -1 day, 22:00:00 is"),
    "a delay beyond all data": (
        {"delay": timedelta.max},
        "history.delay: 999999999 days, 23:59:59.999999 is longer than ten thousand years",
    ),
    "no timestamp": (
        {"source": source(timestamp_field="")},
        (
            "history.source.timestamp_field: the source 'landings' names none; "
            "set FileSource(timestamp_field=…)"
        ),
    ),
    "an unknown timestamp": (
        {"source": source(timestamp_field="att")},
        (
            "history.source.timestamp_field: column 'att' is not in source 'landings'; "
            "did you mean 'at'?"
        ),
    ),
    "a timestamp that is no time": (
        {"source": source(timestamp_field="flight")},
        (
            "history.source.timestamp_field: column 'flight' is int64, not a datetime; "
            "convert it upstream"
        ),
    ),
    "an unknown created column": (
        {"source": source(created_field="load")},
        (
            "history.source.created_timestamp_column: column 'load' is not in source 'landings'; "
            "did you mean 'loaded'?"
        ),
    ),
    "a created column that is no time": (
        {"source": source(created_field="plane")},
        "history.source.created_timestamp_column: column 'plane' is string, not a datetime",
    ),
    "an unknown zone": (
        {"source": source(time_zone="Europe/Atlantis")},
        "history.time_zone: 'Europe/Atlantis' is no time zone",
    ),
    "two columns of one name": (
        {"source": source(columns=columns(**SCHEMA) + columns(delay="int8"))},
        "history.source.field_mapping: source 'landings' would have two columns called 'delay'",
    ),
    "an unknown event id": (
        {"event_id": "flights"},
        "history.event_id: column 'flights' is not in source 'landings'; did you mean 'flight'?",
    ),
    "an unknown known-at rule": (
        {"known_at": "never"},
        "history.known_at: 'never' is neither 'created' nor 'event'",
    ),
    "an unknown join key": (
        {"join_keys": {"tail": None}},
        "history.entities.tail: column 'tail' is not in source 'landings'; known are",
    ),
    "a missing key column": (
        {"source": lacking("plane")},
        "history.entities.plane: column 'plane' is not in source 'landings'",
    ),
    "a key of floats": (
        {"join_keys": {"delay": None}},
        "history.entities.delay: a join key cannot be float64; cast it upstream",
    ),
    "a key of lists": (
        {"join_keys": {"tags": None}, "source": holding(tags="list[int64]")},
        "history.entities.tags: a join key cannot be list[int64]",
    ),
    "a key declared otherwise": (
        {"join_keys": {"plane": "int64"}},
        (
            "history.entities.plane: the entity says int64 but column 'plane' of source 'landings' "
            "is string; change the entity's value_type"
        ),
    ),
    "a number declared a string": (
        {"join_keys": {"flight": "string"}},
        "history.entities.flight: the entity says string but column 'flight'",
    ),
    "a truth declared a number": (
        {"join_keys": {"cancelled": "int64"}},
        "history.entities.cancelled: the entity says int64 but column 'cancelled'",
    ),
    "a key named as a time column": (
        {"join_keys": {"event_timestamp": None}, "source": holding(event_timestamp="datetime")},
        "history.entities.event_timestamp: the store keeps a column of its own under this name",
    ),
    "a key named as the bucket": (
        {"join_keys": {"Bucket": None}, "source": holding(Bucket="int32")},
        "history.entities.Bucket: the store keeps a column of its own",
    ),
    "no features": ({"features": {}}, "history.features: a view needs at least one feature"),
    "no columns left": (
        {"features": None, "columns": []},
        "history.features: a view needs at least one feature",
    ),
    "a plain column that is not there": (
        {"features": None, "columns": ["dely"]},
        "history.schema.dely: column 'dely' is not in source 'landings'; did you mean 'delay'?",
    ),
    "a feature named as the key": (
        {"features": {"plane": pl.col("delay")}},
        "history.features.plane: the name is taken by a key, time or request column",
    ),
    "a feature named as a time": (
        {"features": {"event_timestamp": pl.col("at")}},
        "history.features.event_timestamp: the name is taken",
    ),
    "a feature named as the revision": (
        {"features": {"revision": pl.col("seats")}},
        "history.features.revision: the name is taken",
    ),
    "features that differ in case": (
        {"features": {"delay": pl.col("delay"), "Delay": pl.col("delay")}},
        (
            "history.features.Delay: the name is taken by a key, time or request column or another "
            "feature (names that differ in case only count as one)"
        ),
    ),
    "a private feature": (
        {"features": {"__key_plane": pl.col("delay")}},
        "history.features.__key_plane: a feature's name is not empty and does not start with '__'",
    ),
    "a nameless feature": (
        {"features": {"": pl.col("delay")}},
        "history.features.: a feature's name is not empty",
    ),
}
BAD_EXPRESSIONS = {
    "an unknown column": (
        {"features": {"late": pl.col("dely") > 15}},
        "history.features.late: column 'dely' is not in source 'landings'; did you mean 'delay'?",
    ),
    "a private column": (
        {
            "features": {"known": pl.col("__known_at")},
            "source": holding(__known_at="datetime"),
        },
        "history.features.known: column '__known_at' starts with '__'",
    ),
    "a node that mixes rows": (
        {"features": {"share": pl.col("delay") - pl.col("delay").mean()}},
        "history.features.share: ",
    ),
    "a dtype that is not kept": (
        {"features": {"span": pl.col("at") - pl.col("loaded")}},
        "history.features.span: dtype Duration(time_unit='us') is not supported; supported are",
    ),
    "a list of strings": (
        {"features": {"words": pl.col("plane").str.split(" ")}},
        "history.features.words: lists and arrays hold numbers, not string; add a cast(…)",
    ),
    "a number that is no filter": (
        {"filter": pl.col("delay") + 1},
        "history.filter: gives Float64, not Boolean; write a comparison",
    ),
    "a filter on an unknown column": (
        {"filter": pl.col("canceled")},
        "history.filter: column 'canceled' is not in source 'landings'; did you mean 'cancelled'?",
    ),
}


@pytest.mark.parametrize(("edit", "message"), BAD_VIEWS.values(), ids=BAD_VIEWS.keys())
def test_a_view_that_breaks_a_rule_is_refused_by_its_path(edit, message):
    """What is wrong with a view is said with its dotted path before anything is written."""
    with pytest.raises(InvalidDefinition, match=re.escape(message)):
        view(**edit)


@pytest.mark.parametrize(("edit", "message"), BAD_EXPRESSIONS.values(), ids=BAD_EXPRESSIONS.keys())
def test_an_expression_that_does_not_fit_is_refused_by_its_path(edit, message):
    """What is wrong with an expression is said with the feature's or filter's path."""
    with pytest.raises(InvalidExpression, match=re.escape(message)):
        view(**edit)


KEY_DTYPES = {
    "as the column": (None, "uint8"),
    "wider": ("int64", "int64"),
    "narrower": ("int8", "int8"),
}


@pytest.mark.parametrize(("declared", "dtype"), KEY_DTYPES.values(), ids=KEY_DTYPES.keys())
def test_integers_of_any_width_make_a_key_of_the_declared_dtype(declared, dtype):
    """An integer column joins as the entity declares it; undeclared, as it is."""
    (key,) = view(join_keys={"seats": declared}, features=DELAY).join_keys
    assert (key.name, key.dtype) == ("seats", dtype)


def test_integral_floats_may_be_declared_an_integer_key():
    """Pandas keeps a nullable integer column as floats: they join an integer key."""
    (key,) = view(join_keys={"delay": "int64"}, features={"s": pl.col("seats")}).join_keys
    assert key.dtype == "int64"


def test_a_plain_view_has_every_column_that_is_no_key_and_no_time():
    """Without expressions a view's features are its columns, in their order."""
    made = view(features=None, source=source(created_field="loaded"))
    assert [f.name for f in made.features] == ["delay", "seats", "flight", "cancelled"]
    assert view(features=None, columns=["seats"]).features[0].dtype == "uint8"


def test_join_keys_are_sorted_by_name():
    """Whatever order the entities stand in, the keys stand by name."""
    made = view(join_keys={"seats": None, "plane": None, "flight": None}, features=DELAY)
    assert [k.name for k in made.join_keys] == ["flight", "plane", "seats"]


@pytest.mark.parametrize("span", [None, timedelta(0), timedelta.max])
def test_a_ttl_that_reaches_all_data_is_no_bound(span):
    """None, zero and spans longer than the calendar mean the same."""
    assert view(ttl=span).ttl is None
    assert view(ttl=span).id == view().id


def test_durations_are_whole_microseconds():
    """Spans are stored as integers, exact to the microsecond."""
    made = view(ttl=timedelta(days=7, microseconds=1), delay=timedelta(microseconds=3))
    assert (made.ttl, made.delay, made.settle) == (604_800_000_001, 3, 3_600_000_000)


HISTORY = view()
BAD_ON_DEMAND = {
    "no features": ({"features": {}}, "pace.features: a view needs at least one feature"),
    "a bad name": ({"name": "a b"}, "'a b': a name holds letters"),
    "a source that is on demand": (
        {"sources": [(pace(), use("pace"))]},
        "pace.sources.pace: an on-demand view cannot feed another; repeat the expression",
    ),
    "two sources of one alias": (
        {"sources": [(HISTORY, use("history")), (HISTORY, use("history", plane="next"))]},
        "pace.sources.history: two sources have this name; give one another with with_name(…)",
    ),
    "a projection of an unknown feature": (
        {"sources": [(HISTORY, use("history", features=["last_dely"]))]},
        "pace.sources.history: history has no 'last_dely'; did you mean 'last_delay'?",
    ),
    "a map of an unknown join key": (
        {"sources": [(HISTORY, use("history", plan="next"))]},
        (
            "pace.sources.history: join_key_map names 'plan', which is no join key of history; "
            "did you mean 'plane'?"
        ),
    ),
    "two request fields of one name": (
        {"request": columns(miles="float64") + columns(miles="int64")},
        "pace.request.miles: two request fields have this name",
    ),
    "a feature named as request data": (
        {"features": {"miles": pl.col("last_delay")}},
        "pace.features.miles: the name is taken by a key, time or request column",
    ),
    "a feature named as a time": (
        {"features": {"event_timestamp": pl.col("last_delay")}},
        "pace.features.event_timestamp: the name is taken",
    ),
    "an unknown input": (
        {"features": {"x": pl.col("last_dely")}},
        (
            "pace.features.x: column 'last_dely' is no feature or request field of its sources; "
            "did you mean 'last_delay'?"
        ),
    ),
    "a feature outside the projection": (
        {
            "sources": [(HISTORY, use("history", features=["last_delay"]))],
            "features": {"x": pl.col("seats")},
        },
        "pace.features.x: column 'seats' is no feature or request field",
    ),
    "an ambiguous input": (
        {
            "sources": [(HISTORY, use("history", "here")), (HISTORY, use("history", "there"))],
            "features": {"x": pl.col("last_delay")},
        },
        (
            "pace.features.x: 'last_delay' is ambiguous; write 'here__last_delay' or "
            "'there__last_delay'"
        ),
    ),
    "a request field named as a feature": (
        {
            "request": columns(last_delay="float64"),
            "features": {"x": pl.col("last_delay")},
        },
        "pace.features.x: 'last_delay' is ambiguous; write 'history__last_delay'",
    ),
    "a dtype that is not kept": (
        {"request": columns(now="datetime"), "features": {"x": pl.col("now") - pl.col("now")}},
        "pace.features.x: dtype Duration(time_unit='us') is not supported",
    ),
}


@pytest.mark.parametrize(("edit", "message"), BAD_ON_DEMAND.values(), ids=BAD_ON_DEMAND.keys())
def test_an_on_demand_view_that_breaks_a_rule_is_refused_by_its_path(edit, message):
    """What is wrong with an on-demand view is said with its dotted path."""
    with pytest.raises(InvalidDefinition, match=re.escape(message)):
        pace(**edit)


def test_an_input_is_named_plainly_or_by_alias():
    """`feature` and `alias__feature` name the same input where one source has it."""
    made = pace(features={"a": pl.col("last_delay"), "b": pl.col("history__last_delay")})
    assert [(i.column, i.projection, i.feature) for i in made.inputs] == [
        ("history__last_delay", "history", "last_delay"),
        ("last_delay", "history", "last_delay"),
    ]
    assert {i.feature_id for i in made.inputs} == {view().features[0].id}


def test_a_view_used_twice_is_told_apart_by_alias():
    """The same feature of two entities is two inputs."""
    made = pace(
        (HISTORY, use("history", "here")),
        (HISTORY, use("history", "there", plane="other")),
        features={"gap": pl.col("here__last_delay") - pl.col("there__last_delay")},
    )
    assert [i.projection for i in made.inputs] == ["here", "there"]


VIEWS = {"history": HISTORY, "pace": pace()}
BAD_SERVICES = {
    "a bad name": ("a/b", [use("history")], "'a/b': a name holds letters"),
    "an unknown view": (
        "model",
        [use("histori")],
        "model: no view is called 'histori'; did you mean 'history'?",
    ),
    "an unknown feature": (
        "model",
        [use("history", features=["seat"])],
        "model: history:seat: the view history@",
    ),
    "two uses of one alias": (
        "model",
        [use("history"), use("history", features=["seats"])],
        "model: two uses are called 'history'; give one another name with with_name(…)",
    ),
    "an unknown join key": (
        "model",
        [use("history", plan="next")],
        "model: history: join_key_map names 'plan', which is no join key of history",
    ),
    "a map of an on-demand view": (
        "model",
        [use("pace", plane="next")],
        "model: pace: pace is computed on demand and has no join keys",
    ),
}


@pytest.mark.parametrize(("name", "uses", "message"), BAD_SERVICES.values(), ids=BAD_SERVICES)
def test_a_service_that_asks_for_what_is_not_there_is_refused(name, uses, message):
    """What is wrong with a service is said with its name."""
    with pytest.raises(InvalidDefinition, match=re.escape(message)):
        service(name=name, projections=uses, views=VIEWS)


def test_a_use_without_features_takes_all():
    """A whole view in a service is all of its features, in order."""
    made = service(name="model", projections=[use("history")], views=VIEWS)
    assert made.projections[0].features == ("last_delay", "seats")


MODEL = service(name="model", projections=[use("history")], views=VIEWS)
BAD_PROJECTS = {
    "a name with a brace": ("sh{op}", [HISTORY], [], "project: 'sh{op}' may hold letters"),
    "a name that climbs": ("..", [HISTORY], [], "project: '..' may hold letters"),
    "an empty name": ("", [HISTORY], [], "project: '' may hold letters"),
    "two views of one name": (
        "shop",
        [HISTORY, view(ttl=timedelta(days=1))],
        [],
        "history: two views have this name; rename one",
    ),
    "two services of one name": (
        "shop",
        [HISTORY],
        [MODEL, MODEL],
        "model: two services have this name; rename one",
    ),
}
OTHER_SOURCES = {
    "another path": source(path="data/other.parquet"),
    "another format": source(format="delta"),
    "another timestamp": source(timestamp_field="loaded"),
    "another created column": source(created_field="loaded"),
    "another mapping": source(field_mapping=(("late", "delay"),)),
}


@pytest.mark.parametrize(
    ("name", "views", "services", "message"), BAD_PROJECTS.values(), ids=BAD_PROJECTS.keys()
)
def test_a_project_whose_names_clash_is_refused(name, views, services, message):
    """Names within a project are unique, and its own can stand in keys and paths."""
    with pytest.raises(InvalidDefinition, match=re.escape(message)):
        project(name=name, views=views, services=services)


@pytest.mark.parametrize("other", OTHER_SOURCES.values(), ids=OTHER_SOURCES.keys())
def test_two_sources_of_one_name_are_refused(other):
    """A source's name is its identity: two views must tell it alike."""
    with pytest.raises(InvalidDefinition, match=r"past\.source: another source is called 'landin"):
        project(name="shop", views=[HISTORY, view("past", source=other)], services=[])


def test_views_may_differ_in_how_they_read_one_source():
    """A time zone and the columns read are the view's own."""
    other = source(time_zone="Europe/Berlin", columns=columns(**SCHEMA | {"gate": "string"}))
    made = project(name="shop", views=[view("past", source=other), HISTORY], services=[])
    assert [v.name for v in made.views] == ["history", "past"]
