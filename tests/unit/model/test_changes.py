"""The kinds of change and their reasons: a table of edits."""

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from featurestore.model.changes import compare
from featurestore.model.declare import project, service
from featurestore.model.documents import Expression, Info, Spelling
from tests.declared import SCHEMA, columns, pace, source, use, view

DELAY = pl.col("delay")
LATE = {"late": DELAY > 15}
FILTERED = {"filter": pl.col("seats") > 3}


def shop(*views, services=()):
    """Describe a project."""
    return project(name="shop", views=views, services=services)


def only(before, after):
    """Give the one change between two views or services of one name."""
    (change,) = compare(before, after)
    return change


def viewed(before, after):
    """Give the one change between two views, by the edits of each."""
    return only(shop(view(**before)), shop(view(**after)))


def read(**dtypes):
    """Describe the source with other columns."""
    return {"source": source(columns=columns(**SCHEMA | dtypes))}


EDITS = {
    "nothing": ({}, {}, "none", ()),
    "the description": (
        {},
        {"info": Info(description="new", owner="ops", tags=(("tier", "1"),))},
        "described",
        ("history.description: changed", "history.owner: changed", "history.tags: changed"),
    ),
    "the source's path": (
        {},
        {"source": source(path="s3://lake/landings.parquet")},
        "described",
        ("history.source: location or description changed",),
    ),
    "an unread column": ({}, read(gate="string"), "none", ()),
    "the ttl": (
        {"ttl": timedelta(days=7)},
        {"ttl": timedelta(minutes=90)},
        "policy",
        ("history.ttl: 7d → 90m",),
    ),
    "no ttl": ({"ttl": timedelta(days=7)}, {}, "policy", ("history.ttl: 7d → no bound",)),
    "the settle span": (
        {},
        {"settle": timedelta(days=1)},
        "policy",
        ("history.settle: 1h → 1d",),
    ),
    "a new feature": (
        {"features": LATE},
        {"features": LATE | {"d": DELAY}},
        "additive",
        ("history.d: new feature",),
    ),
    "a feature less": (
        {"features": LATE | {"d": DELAY}},
        {"features": LATE},
        "breaking",
        ("history.d: removed",),
    ),
    "a feature renamed": (
        {"features": LATE},
        {"features": {"later": DELAY > 15}},
        "breaking",
        ("history.later: new feature", "history.late: removed"),
    ),
    "a literal": (
        {"features": LATE},
        {"features": {"late": DELAY > 30}},
        "breaking",
        (("history.late: expression changed: [(delay) > 15] → [(delay) > 30]"),),
    ),
    "a feature's dtype": (
        {"features": {"d": DELAY}},
        {"features": {"d": DELAY}} | read(delay="float32"),
        "breaking",
        ("history.d: dtype changed: float64 → float32",),
    ),
    "a read column's dtype": (
        {"features": LATE},
        {"features": LATE} | read(delay="float32"),
        "breaking",
        ("history.late: reads delay: float32 (was delay: float64)",),
    ),
    "a filter": (
        {"features": LATE},
        {"features": LATE, "filter": pl.col("cancelled")},
        "breaking",
        ('history.filter: none → col("cancelled")',),
    ),
    "a filter's column": (
        FILTERED,
        FILTERED | read(seats="int64") | {"features": LATE},
        "breaking",
        (
            "history.late: new feature",
            "history.last_delay: removed",
            "history.seats: removed",
            "history.filter: reads seats: int64 (was seats: uint8)",
        ),
    ),
    "the known-at rule": (
        {"source": source(created_field="loaded")},
        {"source": source(created_field="loaded"), "known_at": "event"},
        "breaking",
        ("history.known_at: created → event",),
    ),
    "a known-at rule that says nothing": ({}, {"known_at": "event"}, "none", ()),
    "the delay": (
        {},
        {"delay": timedelta(seconds=1)},
        "breaking",
        ("history.delay: 0 → 1000000",),
    ),
    "an event id": ({}, {"event_id": "flight"}, "breaking", ("history.event_id: None → flight",)),
    "the join keys": (
        {"features": LATE},
        {"features": LATE, "join_keys": {"flight": None}},
        "breaking",
        ("history.join_keys: changed",),
    ),
    "the source": (
        {},
        {"source": source(name="arrivals", timestamp_field="loaded", created_field="at")},
        "breaking",
        (
            "history.source.name: landings → arrivals",
            "history.source.timestamp_field: at → loaded",
            "history.source.created_field: None → at",
        ),
    ),
    "the zone": (
        {},
        {"source": source(time_zone="Europe/Berlin")},
        "breaking",
        ("history.source.time_zone: None → Europe/Berlin",),
    ),
    "the zone's default spelled out": (
        {},
        {"source": source(time_zone="UTC")},
        "described",
        ("history.source: location or description changed",),
    ),
    "the mapping of a read column": (
        {"features": LATE},
        {"features": LATE, "source": source(field_mapping=(("dep", "delay"),))},
        "breaking",
        ("history.source.field_mapping: changed",),
    ),
}


@pytest.mark.parametrize(("before", "after", "kind", "reasons"), EDITS.values(), ids=EDITS.keys())
def test_an_edit_has_its_kind_and_its_reasons(before, after, kind, reasons):
    """Each edit of a view is told by kind and by what exactly moved."""
    change = viewed(before, after)
    assert (change.kind, change.reasons) == (kind, reasons)


@pytest.mark.parametrize(("before", "after", "kind", "reasons"), EDITS.values(), ids=EDITS.keys())
def test_a_new_version_has_a_kind_and_a_reason(before, after, kind, reasons):
    """A changed id is never told as no change, and never without a reason."""
    change = viewed(before, after)
    if change.before != change.after:
        assert change.kind not in ("none", "described")
        assert change.reasons


def test_what_is_new_and_what_is_gone():
    """The first plan adds all; a view that is gone breaks."""
    first = compare(None, shop(view()))
    assert [(c.kind, c.before, c.reasons) for c in first] == [
        ("additive", None, ("history: new view",))
    ]
    last = compare(shop(view()), shop())
    assert [(c.kind, c.after, c.reasons) for c in last] == [
        ("breaking", None, ("history: view removed",))
    ]


def test_the_same_project_changes_nothing():
    """Twice the same is no change at all."""
    model = service(name="m", projections=[use("history")], views={"history": view()})
    one = shop(view(), pace(), services=[model])
    assert {change.kind for change in compare(one, one)} == {"none"}


def foreign(document, *, dialect="polars-0.1", data=None):
    """Give a view as another Polars spelled it."""

    def spelled(expression):
        bytes_of = expression.spellings[0].data if data is None else data
        return Expression(spellings=(Spelling(dialect=dialect, data=bytes_of),))

    features = tuple(replace(f, expression=spelled(f.expression)) for f in document.features)
    return replace(document, features=features)


def test_another_dialect_of_the_same_expression_is_an_engine_change():
    """Equal ids in another dialect must be written again, or no server could read them."""
    change = only(shop(foreign(view())), shop(view()))
    assert change.kind == "engine"
    assert change.reasons == ("history: written by polars-0.1, now by polars-2.1",)


def test_an_expression_that_this_polars_cannot_read_is_planned_all_the_same():
    """After an upgrade old bytes that nobody can decode are shown by their dialect."""
    old = foreign(view(features=LATE), data=b"other")
    change = only(shop(old), shop(view(features={"late": DELAY > 30})))
    assert change.kind == "breaking"
    assert change.reasons == (
        ("history.late: expression changed: an expression of polars-0.1 → [(delay) > 30]"),
    )


def test_what_was_found_of_another_dialect_stands_among_the_reasons():
    """The evidence for equal meaning, or why there is none, follows the change it explains."""
    told = {"history": "polars-2.1 writes the same bytes"}
    (change,) = compare(shop(foreign(view())), shop(view()), evidence=told)
    assert change.reasons == (
        "history: written by polars-0.1, now by polars-2.1",
        "history: polars-2.1 writes the same bytes",
    )


def test_an_on_demand_view_follows_its_inputs_and_maps():
    """What an on-demand view reads, and of which entity, is a reason."""
    renamed = pace((view(), use("history", plane="other")))
    assert only(shop(pace()), shop(renamed)).reasons == ("pace.projections: changed",)
    upstream = pace((view(features={"last_delay": DELAY * 2}), use("history")))
    assert "pace.inputs: changed" in only(shop(pace()), shop(upstream)).reasons


VIEWS = {"history": view(), "city": view("city", join_keys={}, features={"traffic": DELAY})}


def served(*uses, **info):
    """Describe a project of one service."""
    made = service(name="model", projections=uses, views=VIEWS, info=Info(**info))
    return project(name="shop", views=[], services=[made])


BOTH = [use("history"), use("city")]
SERVICES = {
    "nothing": (BOTH, BOTH, "none", ()),
    "more": (BOTH[:1], BOTH, "additive", ("model: city:traffic added",)),
    "less": (BOTH, BOTH[1:], "breaking", ("model: history:last_delay removed",)),
    "another order": (
        BOTH,
        BOTH[::-1],
        "breaking",
        ("model: the order of its features changed",),
    ),
    "another entity": (
        BOTH,
        [use("history", plane="next"), use("city")],
        "breaking",
        ("model.history: another view or join_key_map",),
    ),
    "more, of another entity": (
        BOTH[:1],
        [use("history", plane="next"), use("city")],
        "breaking",
        ("model.history: another view or join_key_map", "model: city:traffic added"),
    ),
    "another view of the same alias": (
        [use("history", "h", ["seats"])],
        [use("city", "h", ["traffic"])],
        "breaking",
        ("model: h:seats removed",),
    ),
}


@pytest.mark.parametrize(("was", "now", "kind", "reasons"), SERVICES.values(), ids=SERVICES.keys())
def test_a_service_has_its_kind_and_its_reasons(was, now, kind, reasons):
    """A list that grows is additive; whatever else moves breaks its model."""
    change = only(served(*was), served(*now))
    assert change.kind == kind
    assert set(reasons) <= set(change.reasons)
    assert bool(change.reasons) == (kind != "none")


def test_a_described_service_keeps_its_id():
    """What people read of a service is no change of what it answers."""
    change = only(served(*BOTH), served(*BOTH, owner="ops"))
    assert (change.kind, change.before) == ("described", change.after)
