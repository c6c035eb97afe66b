"""What a plan touches and which steps it has: tables of facts, without any store."""

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from featurestore.model.declare import project, service
from featurestore.model.documents import LiveView, Release, Spelling, Table
from featurestore.model.facts import Facts, Move
from featurestore.model.plan import plan, plan_id, registered, same_definitions, stale
from featurestore.model.steps import (
    Backfill,
    Moved,
    Promote,
    Register,
    Reload,
    Verify,
    current,
)
from featurestore.model.time import BEGINNING, Interval
from tests.declared import pace, use, view
from tests.locks import locked

DELAY = pl.col("delay")
DAY = timedelta(days=1)
NOW = 1_000
V1 = view(ttl=7 * DAY)
MORE = view(
    ttl=7 * DAY, features={"last_delay": DELAY, "seats": pl.col("seats"), "late": DELAY > 15}
)
OTHER = view(ttl=7 * DAY, features={"last_delay": DELAY * 2, "seats": pl.col("seats")})
LONGER, SHORTER = view(ttl=8 * DAY), view(ttl=6 * DAY)
CITY = view("city", join_keys={}, features={"traffic": DELAY})


def shop(*views, uses=()):
    """Describe a project with one service, over the uses or all views."""
    named = {one.name: one for one in views}
    made = service(name="model", projections=[use(name) for name in uses or named], views=named)
    return project(name="shop", views=views, services=[made])


def table(of, generation=0):
    """Give a table of a view."""
    return Table(data_id=of.data_id, generation=generation)


def release(number, found):
    """Publish a project with the first table of each stored view."""
    return Release(
        project="shop",
        number=number,
        views=tuple(
            LiveView(view=one, table=table(one) if one.kind == "batch" else None)
            for one in found.views
        ),
        services=found.services,
        created=0,
    )


PROMOTED = Move(alias="prod", number=3, previous=None, action="promote", at=0)


def facts(head=None, live=None, *, tables=(), verified=(), locks=(), versions=()):
    """Give the facts of a head and of what is live in prod as release 3."""
    known = [*(head.views if head else ()), *(live.views if live else ()), *versions]
    there = live.views if live else ()
    lived = [table(one) for one in there if one.kind == "batch"]
    proven = [(one.id, table(one).id if one.kind == "batch" else "", "prod") for one in there]
    return Facts(
        now=NOW,
        retention=0,
        head=head,
        aliases={"prod": 3} if live else {},
        moves=(Move(alias="prod", number=3, previous=None, action="promote", at=0),)
        if live
        else (),
        releases={3: release(3, live)} if live else {},
        locks=locks,
        tables=tuple(dict.fromkeys((*lived, *tables))),
        versions={one.id: one for one in known},
        written={},
        verified=frozenset((*proven, *verified)),
    )


def spans(*pairs):
    """Give intervals of (start, end)."""
    return tuple(Interval(start=start, end=end) for start, end in pairs)


LIVE = {table(V1).id: spans((BEGINNING, 500))}


def steps(found, project, coverage=LIVE):
    """Give a plan's steps after registering."""
    made = plan(found, coverage, project, revision=1)
    return [step for step in made.steps if not isinstance(step, Register)]


def backfill(of, *pairs, into=None):
    """Give a backfill of a version."""
    place = into.id if into else None
    return Backfill(view=of.name, version=of.id, table=place, intervals=spans(*pairs))


def promote(*moves, services=(), release=3):
    """Give a promotion of prod by (before, after) pairs."""
    moved = tuple(
        Moved(view=(after or before).name, before=before and before.id, after=after and after.id)
        for before, after in moves
    )
    return Promote(alias="prod", release=release, moves=moved, services=tuple(services))


def verify(*versions):
    """Give a verification of versions."""
    return Verify(versions=tuple(one.id for one in versions))


ONE = shop(V1)


def test_what_is_live_as_the_repo_says_needs_no_step():
    """The same project, applied and live, changes nothing and needs nothing."""
    made = plan(facts(ONE, ONE), LIVE, ONE, revision=1)
    assert (made.changed, made.steps, made.broken) == ((), (), ())


def test_a_first_plan_registers_computes_up_to_now_and_makes_the_alias():
    """Without an alias everything is new, and computed up to now."""
    made = plan(facts(), {}, ONE, revision=None)
    assert made.steps == (
        Register(what="view", name="history", version=V1.id),
        Register(what="service", name="model", version=ONE.services[0].id),
        backfill(V1, (BEGINNING, NOW)),
        verify(V1),
        promote((None, V1), services=["model"], release=None),
    )


def test_a_breaking_change_is_computed_over_what_the_live_table_covers():
    """A new table gets every interval of the live one, holes filled, and then moves."""
    covered = {table(V1).id: spans((0, 200), (300, 500))}
    assert steps(facts(ONE, ONE), shop(OTHER), covered) == [
        backfill(OTHER, (0, 500)),
        verify(OTHER),
        promote((V1, OTHER)),
    ]


def test_a_backfill_goes_on_where_it_stood():
    """Only what the new table still lacks is computed; one that lacks nothing is not named."""
    found = facts(shop(OTHER), ONE, tables=[table(OTHER)])
    begun = LIVE | {table(OTHER).id: spans((BEGINNING, 100), (200, 300))}
    assert steps(found, shop(OTHER), begun)[0] == backfill(
        OTHER, (100, 200), (300, 500), into=table(OTHER)
    )
    whole = LIVE | {table(OTHER).id: spans((BEGINNING, 600))}
    assert steps(found, shop(OTHER), whole) == [verify(OTHER), promote((V1, OTHER))]
    proven = replace(found, verified=found.verified | {(OTHER.id, table(OTHER).id, "prod")})
    assert steps(proven, shop(OTHER), whole) == [promote((V1, OTHER))]


def test_a_view_new_to_the_alias_is_computed_up_to_the_newest_live_watermark():
    """It then stands where the others stand."""
    both = shop(V1, CITY)
    assert steps(facts(ONE, ONE), both) == [
        backfill(CITY, (BEGINNING, 500)),
        verify(CITY),
        promote((None, CITY), services=["model"]),
    ]


def test_a_view_that_is_gone_moves_the_alias_and_computes_nothing():
    """What the repo no longer defines leaves the alias."""
    both = shop(V1, CITY, uses=["history"])
    coverage = LIVE | {table(CITY).id: spans((BEGINNING, 500))}
    only = shop(V1)
    assert steps(facts(both, both), only, coverage) == [promote((CITY, None))]


@pytest.mark.parametrize(("new", "reloaded"), [(LONGER, True), (SHORTER, False)])
def test_a_ttl_change_shares_its_table_and_only_a_longer_one_reloads(new, reloaded):
    """Nothing is computed for a policy; Redis may have let go of what a longer ttl still needs."""
    load = [Reload(view="history", version=new.id, table=table(V1).id)] if reloaded else []
    assert steps(facts(ONE, ONE), shop(new)) == [*load, verify(new), promote((V1, new))]


def test_a_ttl_that_another_alias_has_already_needs_no_reload():
    """Rows are kept for the longest ttl that is live on their table."""
    found = facts(ONE, ONE)
    staged = release(4, shop(LONGER))
    found = replace(
        found, aliases={"prod": 3, "staging": 4}, releases={**found.releases, 4: staged}
    )
    assert steps(found, shop(LONGER)) == [verify(LONGER), promote((V1, LONGER))]


def test_another_spelling_of_the_same_version_moves_the_alias():
    """Servers read the bytes out of the release: new ones reach them by the next one."""

    def spelled(feature):
        more = Spelling(dialect="polars-9.9", data=b"")
        expression = feature.expression
        return replace(
            feature, expression=replace(expression, spellings=(*expression.spellings, more))
        )

    both = replace(V1, features=tuple(map(spelled, V1.features)))
    made = plan(facts(ONE, ONE), LIVE, shop(both), revision=1)
    assert [change.kind for change in made.changed] == ["engine"]
    assert made.steps[-1] == promote((V1, V1))


def test_a_change_names_its_services_and_the_aliases_of_other_versions():
    """Services count that use a view themselves or through an on-demand view."""
    through = [V1, CITY, pace((V1, use("history")))]
    named = {one.name: one for one in through}
    made = {
        "direct": ["history"],
        "through": ["pace"],
        "apart": ["city"],
    }
    services = [
        service(name=name, projections=[use(one) for one in uses], views=named)
        for name, uses in made.items()
    ]
    before = project(name="shop", views=through, services=services)
    after = project(
        name="shop", views=[OTHER, CITY, pace((OTHER, use("history")))], services=services
    )
    found = plan(facts(before, before), LIVE, after, revision=1)
    touched = {one.name: (one.kind, one.services, one.aliases) for one in found.changed}
    assert touched == {
        "history": ("breaking", ("direct", "through"), ("prod",)),
        "pace": ("breaking", ("through",), ("prod",)),
    }


BREAKS = {
    "a feature it reads": (locked(V1, "last_delay"), OTHER, ["history.last_delay"]),
    "a feature it does not read": (locked(V1, "seats"), OTHER, []),
    "more features": (locked(V1, "last_delay"), MORE, []),
    "another ttl": (locked(V1, "last_delay"), LONGER, []),
    "a retired lock": (locked(V1, "last_delay", retired=5), OTHER, []),
    "an expired lock": (locked(V1, "last_delay", expires=NOW), OTHER, []),
    "a lock that is answered elsewhere already": (locked(LONGER, "last_delay"), LONGER, []),
    "no view": (locked(V1, "seats"), CITY, ["history.seats"]),
}


@pytest.mark.parametrize(("lock", "after", "features"), BREAKS.values(), ids=BREAKS.keys())
def test_a_change_breaks_the_registered_locks_whose_features_go(lock, after, features):
    """Additive changes and policies break none; a lock that let go is nobody's concern."""
    found = facts(ONE, ONE, locks=[lock], versions=[LONGER])
    broken = plan(found, LIVE, shop(after), revision=1).broken
    assert [path for one in broken for path in one.features] == features
    assert {(one.lock, one.owner) for one in broken} <= {(lock.id, "alice")}


def test_a_change_of_an_on_demand_view_breaks_the_locks_that_read_it():
    """What is computed at request time is answered by id as well."""
    before = shop(V1, pace((V1, use("history"))))
    after = shop(V1, pace((V1, use("history")), features={"per_mile": pl.col("miles") * 2}))
    lock = locked(before.views[1], "per_mile")
    (broken,) = plan(facts(before, before, locks=[lock]), LIVE, after, revision=1).broken
    assert broken.features == ("pace.per_mile",)


def test_a_cost_is_told_by_the_live_table_else_by_the_applied_one():
    """Where neither was ever written nothing is known."""
    assert current(facts(ONE, ONE), "history", "prod").table == table(V1)
    applied = facts(shop(OTHER), tables=[table(OTHER)])
    assert current(applied, "history", "prod").view == OTHER
    assert current(facts(ONE), "history", "prod") is None
    assert current(facts(), "history", "prod") is None


def test_a_plan_is_named_by_what_it_was_made_from():
    """Alias, revision, release and definitions; equal ones give equal ids."""
    made = plan(facts(ONE, ONE), LIVE, shop(OTHER), revision=7)
    assert made.id == plan_id("prod", 7, 3, shop(OTHER))
    assert made.id.startswith("prod:7.3.")
    assert plan(facts(), {}, ONE, revision=None).id == plan_id("prod", None, None, ONE)
    done = registered(made, shop(OTHER), 8)
    assert done.id == plan_id("prod", 8, 3, shop(OTHER))
    assert not any(isinstance(step, Register) for step in done.steps)
    assert same_definitions(made.id, done.id)
    assert not same_definitions(made.id, plan_id("prod", 7, 3, ONE))
    assert not same_definitions(made.id, plan_id("staging", 7, 3, shop(OTHER)))
    dotted = plan(facts(ONE, ONE), LIVE, shop(OTHER), revision=7, alias="prod.eu")
    assert registered(dotted, shop(OTHER), 8).id == plan_id("prod.eu", 8, None, shop(OTHER))


MOVES = {
    "nothing": ("prod:3.4.abcdef01", None),
    "the alias": ("prod:3.5.abcdef01", "prod moved from release 4 to 5"),
    "the registry": ("prod:4.4.abcdef01", "somebody applied: revision 3 became 4"),
    "the repo": ("prod:3.4.00000000", "the repo's definitions are not those that were planned"),
    "another alias": (
        "eu.1:3.4.abcdef01",
        "prod:3.4.abcdef01 is a plan for the alias prod, not for eu.1",
    ),
}


@pytest.mark.parametrize(("now", "told"), MOVES.values(), ids=MOVES.keys())
def test_a_stale_plan_says_what_moved(now, told):
    """Whoever carries a plan out is told what happened since it was made."""
    assert stale("prod:3.4.abcdef01", now) == told


def test_an_id_that_is_none_and_an_alias_that_came_are_told():
    """A wrong word is no plan; a first release is a move too."""
    for wrong in ("newest", "3.4.abcdef01", "prod:3.4", ":3.4.abcdef01", ""):
        assert "is no plan's id" in stale(wrong, "prod:3.4.abcdef01")
    told = stale("staging:3.-.abcdef01", "staging:3.1.abcdef01")
    assert told == "staging moved from no release to 1"
