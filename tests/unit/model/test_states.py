"""What has become of a version: a table of facts, and the states that follow."""

from dataclasses import replace

import polars as pl
import pytest

from featurestore.model.declare import project
from featurestore.model.documents import LiveView, Release, Table
from featurestore.model.facts import Facts, Move, Registered
from featurestore.model.lock import Lock, LockedView
from featurestore.model.states import live_in, states
from featurestore.model.time import BEGINNING, Interval
from tests.declared import pace, view

DAY = 86_400_000_000
ONE = view()
TWO = view(features={"late": pl.col("delay") > 1})
PACE = pace()
TABLE = Table(data_id=ONE.data_id, generation=0)
AGAIN = replace(TABLE, generation=1)
HELD = (Interval(start=BEGINNING, end=DAY),)
LOCK = Lock(
    project="shop",
    draft=False,
    outputs=(),
    lookups=(),
    views=(LockedView(name=ONE.name, id=ONE.id, kind="batch", data=f"{TABLE.id}/1"),),
    dialect="polars-2.1",
    polars="2.1.0",
    spine="",
    rows=1,
)
KEPT = Registered(id="1234567890abcdef", lock=LOCK, owner="ann", registered=0)


def release(number, *views):
    """Give a release of versions."""
    live = tuple(
        LiveView(view=v, table=None if v.kind == "on_demand" else replace(TABLE, data_id=v.data_id))
        for v in views
    )
    return Release(project="shop", number=number, views=live, services=(), created=0)


def told(of, *, tables=(TABLE,), covered=(TABLE,), verified=(), head=(ONE,), **changes):
    """Give what is said of a version when the facts are these."""
    arguments = {
        "now": 10 * DAY,
        "retention": 7 * DAY,
        "head": project(name="shop", views=head, services=()),
        "aliases": {},
        "moves": (),
        "releases": {},
        "locks": (),
        "tables": tables,
        "versions": {one.id: one for one in (ONE, TWO, PACE)},
        "written": {},
        "verified": frozenset((of.id, table.id, "prod") for table in verified),
    }
    intervals = {table.id: HELD for table in covered}
    found = states(Facts(**arguments | changes), of, covered=intervals)
    return {state.name: state.why for state in found}


def moved(*numbers, at=9 * DAY):
    """Give the moves of prod over releases; the last one is where it is."""
    return {
        "aliases": {"prod": numbers[-1]},
        "moves": tuple(
            Move(alias="prod", number=n, previous=None, action="promote", at=at) for n in numbers
        ),
    }


COMPLETE = f"table {TABLE.id}, complete to 1970-01-02 00:00:00 UTC"
DEMOTED = {**moved(1, 2), "releases": {1: release(1, ONE, PACE), 2: release(2, TWO)}}
CASES = {
    "applied only": (told(ONE, tables=()), {"declared": "applied now"}),
    "applied before": (told(ONE, tables=(), head=(TWO,)), {"declared": "not applied any more"}),
    "never applied anything": (told(ONE, tables=(), head=()), {"declared": "not applied any more"}),
    "a table without rows": (told(ONE, covered=()), {"declared": "applied now"}),
    "backfilled": (told(ONE), {"declared": "applied now", "backfilled": COMPLETE}),
    "verified": (
        told(ONE, verified=(TABLE,)),
        {"declared": "applied now", "backfilled": COMPLETE, "verified": f"table {TABLE.id}"},
    ),
    "computed again, the first verified": (
        told(ONE, tables=(AGAIN, TABLE), covered=(TABLE, AGAIN), verified=(TABLE,)),
        {
            "declared": "applied now",
            "backfilled": COMPLETE.replace(TABLE.id, AGAIN.id),
            "verified": f"table {TABLE.id}",
        },
    ),
    "live": (
        told(ONE, **moved(1), releases={1: release(1, ONE)}),
        {"declared": "applied now", "backfilled": COMPLETE, "live": "in prod"},
    ),
    "live and locked": (
        told(ONE, **moved(1), releases={1: release(1, ONE)}, locks=(KEPT,)),
        {"declared": "applied now", "backfilled": COMPLETE, "live": "in prod"},
    ),
    "demoted of late": (
        told(ONE, head=(TWO,), **DEMOTED),
        {
            "declared": "not applied any more",
            "backfilled": COMPLETE,
            "warm": "for release 1, demoted 1970-01-10 00:00:00 UTC",
        },
    ),
    "locked": (
        told(ONE, head=(TWO,), locks=(KEPT,)),
        {
            "declared": "not applied any more",
            "backfilled": COMPLETE,
            "warm": "for lock 1234567890ab of ann",
        },
    ),
    "let go of": (
        told(ONE, head=(TWO,), locks=(replace(KEPT, retired=DAY), replace(KEPT, expires=DAY))),
        {
            "declared": "not applied any more",
            "backfilled": COMPLETE,
            "cold": "nobody needs its data: it may be collected",
        },
    ),
    "locked, but collected": (
        told(ONE, tables=(), covered=(), head=(TWO,), locks=(KEPT,), written={TABLE.id: DAY}),
        {"declared": "not applied any more", "cold": "its data was collected"},
    ),
    "another's data was collected": (
        told(TWO, tables=(), covered=(), written={TABLE.id: DAY}),
        {"declared": "not applied any more"},
    ),
    "on demand, live": (
        told(PACE, head=(PACE,), **moved(1), releases={1: release(1, PACE)}),
        {"declared": "applied now", "live": "in prod"},
    ),
    "on demand, demoted": (
        told(PACE, head=(TWO,), **DEMOTED),
        {
            "declared": "not applied any more",
            "warm": "for release 1, demoted 1970-01-10 00:00:00 UTC",
        },
    ),
    "on demand, forgotten": (told(PACE), {"declared": "not applied any more"}),
}


@pytest.mark.parametrize(("found", "expected"), CASES.values(), ids=CASES)
def test_states_follow_from_facts(found, expected):
    """Each state is said with the fact it follows from, and in the order versions come by them."""
    assert list(found.items()) == list(expected.items())


def test_a_version_is_live_where_a_release_answers_from_it():
    """Aliases come by name; what a release merely keeps warm is not live in it."""
    warm = replace(release(2, TWO), warm=release(1, ONE).views)
    named = {"staging": release(1, ONE), "prod": release(1, ONE), "old": warm}
    assert live_in(ONE, named) == ("prod", "staging")
    assert live_in(TWO, named) == ("old",)
