"""What a call asks for, resolved: lookups once each, outputs in order, refusals by name."""

import re

import polars as pl
import pytest

from featurestore.errors import InvalidRequest, NotFound
from featurestore.model.catalog import Catalog
from featurestore.model.query import references, resolve
from featurestore.model.schema import Column
from tests.declared import SCHEMA, columns, pace, source, use, view

HISTORY = view()
SEATED = view("seated", join_keys={"seats": "uint8"}, features={"d": pl.col("delay")})
FLOWN = view(
    "flown",
    join_keys={"plane": "int64"},
    source=source(name="flown", columns=columns(**SCHEMA | {"plane": "int64"})),
    features={"gone": pl.col("delay")},
)
CITY = view("city", join_keys={}, features={"traffic": pl.col("delay")})
GAP = pace(
    (HISTORY, use("history", "there", plane="other")),
    (HISTORY, use("history")),
    name="gap",
    features={
        "gap": pl.col("there__last_delay") - pl.col("history__last_delay"),
        "far": pl.col("miles") > 1,
    },
)
VIEWS = Catalog(current={v.name: v for v in (HISTORY, SEATED, FLOWN, CITY, GAP, pace())})


def test_references_become_projections_in_order():
    """`view:feature` names a feature of a view; `view@version:feature` pins it as well."""
    pinned = f"history@{HISTORY.id[:7]}:seats"
    assert references(["city:traffic", pinned], VIEWS) == (
        use("city", features=["traffic"]),
        use(pinned.partition(":")[0], features=["seats"]),
    )


BAD_REFERENCES = {
    "none": ([], InvalidRequest, "features: none asked for; name a service"),
    "no feature": (["history"], InvalidRequest, "'history' is not of the form 'view:feature'"),
    "an empty feature": (["history:"], InvalidRequest, "is not of the form"),
    "an empty view": ([":seats"], InvalidRequest, "is not of the form"),
    "an unknown view": (["histori:seats"], NotFound, "no view is called 'histori'; did you mean"),
    "another version": (
        ["history@000000000000:seats"],
        NotFound,
        f"features: history@000000000000 is not here; the view is at {HISTORY.version}",
    ),
}


@pytest.mark.parametrize(("names", "error", "message"), BAD_REFERENCES.values(), ids=BAD_REFERENCES)
def test_a_malformed_or_unknown_reference_is_refused(names, error, message):
    """A reference that names nothing says what is known."""
    with pytest.raises(error, match=re.escape(message)):
        references(names, VIEWS)


def test_each_use_of_a_view_is_looked_up_once():
    """Features asked one by one share a lookup; another alias or key map is another one."""
    asked = [
        use("history", features=["seats"]),
        use("history", features=["last_delay"]),
        use("history", "there", ["seats"], plane="other"),
    ]
    query = resolve(asked, VIEWS, full_feature_names=True)
    assert [(one.alias, [f.name for f in one.features]) for one in query.lookups] == [
        ("history", ["seats", "last_delay"]),
        ("there", ["seats"]),
    ]
    assert [one.lookup for one in query.outputs] == [0, 0, 1]
    assert query.entities == columns(plane="string", other="string")


def test_outputs_stand_in_the_callers_order_and_by_either_name():
    """Plain names by default, `alias__feature` in full."""
    asked = [use("city"), use("history", "h", ["seats"])]
    assert [o.name for o in resolve(asked, VIEWS).outputs] == ["traffic", "seats"]
    full = resolve(asked, VIEWS, full_feature_names=True)
    assert [o.name for o in full.outputs] == ["city__traffic", "h__seats"]


def test_a_use_without_features_takes_all():
    """An empty list of features means all of the view's."""
    assert [o.name for o in resolve([use("history")], VIEWS).outputs] == ["last_delay", "seats"]


def test_an_on_demand_view_brings_its_lookups_and_request_data():
    """What an on-demand feature reads is looked up though the caller did not name it."""
    query = resolve([use("gap")], VIEWS)
    assert [one.alias for one in query.lookups] == ["history", "there"]
    (compute,) = query.computes
    assert [(b.column, b.lookup, b.field) for b in compute.binds] == [
        ("history__last_delay", 0, "last_delay"),
        ("miles", None, "miles"),
        ("there__last_delay", 1, "last_delay"),
    ]
    assert query.request == (Column(name="miles", dtype="float64"),)
    assert query.entities == columns(plane="string", other="string")
    assert [(o.name, o.lookup, o.compute) for o in query.outputs] == [
        ("gap", None, 0),
        ("far", None, 0),
    ]


def test_an_on_demand_view_shares_the_lookup_the_caller_asks_for():
    """A lookup that both the caller and a computation need is made once."""
    query = resolve([use("history", features=["seats"]), use("pace")], VIEWS)
    (lookup,) = query.lookups
    assert [f.name for f in lookup.features] == ["seats", "last_delay"]


def test_two_on_demand_views_share_request_data():
    """A request field that two computations read is asked for once."""
    asked = resolve([use("pace"), use("gap", features=["far"])], VIEWS)
    assert asked.request == columns(miles="float64")
    assert len(asked.computes) == 2


def test_a_view_without_entities_needs_no_columns():
    """An entity-less view asks its caller for nothing."""
    query = resolve([use("city")], VIEWS)
    assert (query.entities, query.lookups[0].keys) == ((), ())


BAD_QUERIES = {
    "an unknown view": ([use("citi")], NotFound, "no view is called 'citi'; did you mean 'city'?"),
    "an unknown feature": (
        [use("history", features=["seat"])],
        NotFound,
        f"history:seat: the view {HISTORY.version} has no such feature; did you mean 'seats'?",
    ),
    "two outputs of one name": (
        [use("history"), use("history", "there", plane="other")],
        InvalidRequest,
        (
            "features: history:last_delay and there:last_delay would both be called 'last_delay'; "
            "pass full_feature_names=True"
        ),
    ),
    "an unknown join key": (
        [use("history", plan="other")],
        InvalidRequest,
        "history: join_key_map names 'plan', which is no join key of history; did you mean",
    ),
    "a join key of two dtypes": (
        [use("history"), use("flown")],
        InvalidRequest,
        (
            "plane: is string as join key of history and int64 as join key of flown; "
            "give the entities one value type, or map"
        ),
    ),
    "a join key that is request data": (
        [use("pace"), use("flown", plane="miles")],
        InvalidRequest,
        "miles: is int64 as join key and float64 as request data",
    ),
    "a map of an on-demand view": (
        [use("pace", plane="other")],
        InvalidRequest,
        "pace: pace is computed on demand and has no join keys; map the join keys of the views",
    ),
}


@pytest.mark.parametrize(("asked", "error", "message"), BAD_QUERIES.values(), ids=BAD_QUERIES)
def test_a_query_that_does_not_fit_is_refused(asked, error, message):
    """What is wrong with a query is said with names and the way out."""
    with pytest.raises(error, match=re.escape(message)):
        resolve(asked, VIEWS)


def test_the_same_feature_twice_is_refused_in_full_names_too():
    """Two outputs never share a column."""
    twice = [use("history", features=["seats"])] * 2
    with pytest.raises(InvalidRequest, match="ask for it once"):
        resolve(twice, VIEWS, full_feature_names=True)


def test_an_upstream_view_that_is_gone_is_named():
    """An on-demand view whose source is not among the views says which."""
    with pytest.raises(NotFound, match="no view is called 'history'"):
        resolve([use("pace")], Catalog(current={"pace": pace()}))
