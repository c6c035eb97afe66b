"""Which tables are needed: releases, demotions, locks and time, against plain sets."""

from dataclasses import replace

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from featurestore.model.declare import project
from featurestore.model.documents import LiveView, Release, Table
from featurestore.model.facts import Facts, Move, Registered
from featurestore.model.lock import Lock, LockedOutput, LockedView
from featurestore.model.needs import answered_by, demoted, needs, recent, unneeded, warm
from tests.declared import view

DAY = 86_400_000_000
KEPT = 7 * DAY
ONE = view()
TWO = view(
    features={"last_delay": pl.col("delay"), "late": pl.col("delay") > 1},
)


def table(of, generation=0):
    """Give a table of a version."""
    return Table(data_id=of.data_id, generation=generation)


def release(number, *views, generation=0):
    """Give a release of versions, each with its table."""
    live = tuple(LiveView(view=one, table=table(one, generation)) for one in views)
    return Release(project="shop", number=number, views=live, services=(), created=number)


def move(number, at, previous=None, action="promote"):
    """Give one step of prod."""
    return Move(alias="prod", number=number, previous=previous, action=action, at=at)


def lock_of(of, name, *, generation=0):
    """Give a lock on one feature of a version."""
    feature = of.feature(name)
    output = LockedOutput(
        name=name,
        view=of.name,
        alias=of.name,
        feature=name,
        feature_id=feature.id,
        version=of.id,
        dtype=feature.dtype,
    )
    data = f"{table(of, generation).id}/3"
    return Lock(
        project="shop",
        draft=False,
        outputs=(output,),
        lookups=(),
        views=(LockedView(name=of.name, id=of.id, kind="batch", ttl=of.ttl, data=data),),
        dialect="polars-2.1",
        polars="2.1.0",
        spine="",
        rows=1,
    )


def registered(lock, **changes):
    """Register a lock."""
    made = Registered(id=lock.id, lock=lock, owner="ann", registered=0)
    return replace(made, **changes)


def facts(*, now=100 * DAY, head=None, releases=(), moves=(), locks=(), tables=(), written=None):
    """Gather facts as the stores would, with a single alias."""
    named = {"prod": moves[-1].number} if moves else {}
    kept = recent(moves, named, now - KEPT)
    return Facts(
        now=now,
        retention=KEPT,
        head=None if head is None else project(name="shop", views=[head], services=[]),
        aliases=named,
        moves=moves,
        releases={one.number: one for one in releases if one.number in kept},
        locks=locks,
        tables=tables,
        versions={one.id: one for one in (ONE, TWO)},
        written=written or {},
    )


def test_a_release_is_demoted_when_the_last_alias_leaves_it():
    """Coming back makes it current again; leaving again counts from then."""
    there = move(1, 10), move(2, 20), move(1, 30, action="rollback"), move(2, 40)
    assert demoted(there[:2], {"prod": 2}) == {1: 20, 2: None}
    assert demoted(there[:3], {"prod": 1}) == {1: None, 2: 30}
    assert demoted(there, {"prod": 2}) == {1: 40, 2: None}
    assert recent(there, {"prod": 2}, 39) == (1, 2)
    assert recent(there, {"prod": 2}, 40) == (2,)


def test_what_an_alias_left_stays_warm_for_the_retention():
    """Then it may be collected, unless it is applied or locked."""
    releases = release(1, ONE), release(2, TWO)
    moves = (move(1, 0), move(2, 90 * DAY, previous=1))
    tables = (table(ONE), table(TWO))
    early = facts(now=96 * DAY, head=TWO, releases=releases, moves=moves, tables=tables)
    late = facts(now=98 * DAY, head=TWO, releases=releases, moves=moves, tables=tables)
    assert {n.table: (n.live, n.fresh, n.online) for n in needs(early)} == {
        table(ONE): (False, True, True),
        table(TWO): (True, True, True),
    }
    assert unneeded(late) == (table(ONE),)
    locked = replace(late, locks=(registered(lock_of(ONE, "last_delay")),))
    assert unneeded(locked) == ()
    assert unneeded(replace(locked, locks=(registered(lock_of(ONE, "last_delay"), retired=1),)))


def test_a_lock_expires():
    """From its expiry on it keeps nothing."""
    lock = lock_of(ONE, "last_delay")
    until = registered(lock, expires=5)
    assert until.holds(4)
    assert not until.holds(5)


def test_an_additive_version_answers_an_old_lock():
    """The live view that holds the locked feature ids answers; its own data stay for rebuilding."""
    both = view(
        features={
            "last_delay": pl.col("delay"),
            "late": pl.col("delay") > 1,
            "more": pl.col("delay") + 1,
        },
    )
    lock = lock_of(TWO, "late")
    known = facts(
        head=both,
        releases=(release(1, both),),
        moves=(move(1, 0),),
        tables=(table(TWO), table(both)),
        locks=(registered(lock),),
    )
    known = replace(known, versions={**known.versions, both.id: both})
    live = known.releases[1].views
    assert [one for _, one in answered_by(known, lock, live)] == [live[0]]
    kept = {n.table: n for n in needs(known)}
    assert (kept[table(TWO)].fresh, kept[table(TWO)].online) == (False, False)
    assert warm(known, live) == ()


def test_a_lock_that_is_not_answered_keeps_its_version_warm():
    """Its table is materialized and served beside the live one, with the lock's ttl."""
    lock = lock_of(ONE, "last_delay")
    changed = view(
        features={"last_delay": pl.col("delay") * 2},
    )
    known = facts(
        head=changed,
        releases=(release(1, changed),),
        moves=(move(1, 0),),
        tables=(table(ONE), table(changed)),
        locks=(registered(lock),),
    )
    known = replace(known, versions={**known.versions, changed.id: changed})
    kept = {n.table: n for n in needs(known)}
    assert (kept[table(ONE)].fresh, kept[table(ONE)].online) == (True, True)
    assert kept[table(ONE)].reasons == (f"lock {lock.id[:12]} of ann",)
    assert [one.table for one in warm(known, known.releases[1].views)] == [table(ONE)]


def test_another_generation_of_what_is_live_is_left_as_it_is():
    """Beside a suspect load the last good one stays in Redis, and is not written to."""
    again = release(2, ONE, generation=1)
    known = facts(
        head=ONE,
        releases=(release(1, ONE), again),
        moves=(move(1, 90 * DAY), move(2, 99 * DAY, previous=1)),
        tables=(table(ONE), table(ONE, 1)),
    )
    assert {n.table.generation: (n.live, n.fresh, n.online) for n in needs(known)} == {
        0: (False, False, True),
        1: (True, True, True),
    }
    assert [one.table for one in warm(known, again.views)] == [table(ONE)]


def test_what_was_just_written_is_kept_for_whoever_is_about_to_promote_it():
    """A table of a version that is no longer applied counts from its last run."""
    known = facts(head=TWO, tables=(table(ONE), table(TWO)), written={table(ONE).id: 95 * DAY})
    assert unneeded(known) == ()
    assert unneeded(replace(known, now=103 * DAY)) == (table(ONE),)


VERSIONS = [
    view(
        features={"last_delay": pl.col("delay") + number},
    )
    for number in range(4)
]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["apply", "promote", "lock", "retire", "expire"]),
        st.integers(0, 3),
        st.integers(0, 4),
    ),
    max_size=14,
)


@given(STEPS, st.integers(0, 10))
def test_needed_is_what_happened_says(steps, later):
    """After any steps, exactly what is applied, live, lately demoted or locked is needed."""
    now, head, live, releases, moves = 0, None, None, [], []
    left, locks = {}, {}
    for kind, which, days in steps:
        now += days * DAY
        if kind == "apply":
            head = which
        elif kind == "promote":
            if live is not None:
                left[live] = now
            number = len(releases) + 1
            releases.append(release(number, VERSIONS[which]))
            moves.append(move(number, now, previous=number - 1 or None))
            live = which
        elif kind == "lock":
            locks[which] = None
        elif kind == "expire":
            locks[which] = now + days * DAY
        else:
            locks.pop(which, None)
    now += later * DAY
    held = {n for n, until in locks.items() if until is None or until > now}
    expected = {n for n, at in left.items() if at > now - KEPT} | held | {head, live} - {None}
    known = facts(
        now=now,
        head=None if head is None else VERSIONS[head],
        releases=releases,
        moves=tuple(moves),
        locks=tuple(
            registered(lock_of(VERSIONS[n], "last_delay"), expires=until)
            for n, until in locks.items()
        ),
        tables=tuple(table(one) for one in VERSIONS),
    )
    known = replace(known, versions={one.id: one for one in VERSIONS})
    found = {VERSIONS.index(need.view) for need in needs(known)}
    assert found == expected - {None}
    gone = {one.data_id for one in unneeded(known)}
    assert gone == {one.data_id for n, one in enumerate(VERSIONS) if n not in expected}
