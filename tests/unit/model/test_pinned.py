"""A lock resolved: its outputs, from whichever version holds them, or a refusal that says where."""

import re
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from featurestore.errors import InvalidRequest, NotMaterialized
from featurestore.model.catalog import Catalog
from featurestore.model.pinned import admit, locked
from featurestore.model.query import references, resolve
from tests.declared import columns, pace, use, view
from tests.locks import lock_of

WEEK = 7 * 86_400_000_000
DELAY, SEATS = {"last_delay": pl.col("delay")}, {"seats": pl.col("seats")}
V1 = view(features=DELAY | SEATS)
ADDED = view(features=DELAY | SEATS | {"late": pl.col("delay") > 15})
CHANGED = view(features={"last_delay": pl.col("delay") * 2} | SEATS)
PACE = pace((V1, use("history")))
ASKED = ["pace:per_mile", "history:seats"]


def catalog(*current, others=()):
    """Give a catalog of current and other versions."""
    return Catalog(current={one.name: one for one in current}, others=tuple(others))


QUERY = resolve(references(ASKED, catalog(V1, PACE)), catalog(V1, PACE))
LOCK = lock_of(QUERY)


def test_a_lock_asks_what_was_asked():
    """Over the versions it was made of, the very same query comes back."""
    assert locked(LOCK, catalog(V1, PACE)) == QUERY
    assert locked(LOCK, catalog(others=(ADDED, CHANGED, V1, PACE))) == QUERY


def test_an_additive_version_satisfies_a_lock_under_its_names_and_ttl():
    """The live version that has the features answers; the lock's version and ttl are kept."""
    ttl = replace(LOCK, views=(replace(LOCK.views[0], ttl=WEEK), *LOCK.views[1:]))
    query = locked(ttl, catalog(ADDED, pace((ADDED, use("history"))), others=(V1, PACE)))
    (lookup,) = query.lookups
    assert (lookup.view.id, lookup.view.ttl, lookup.version) == (ADDED.id, WEEK, V1.id)
    assert query.computes[0].version == PACE.id
    assert [one.feature for one in query.outputs] == [one.feature for one in QUERY.outputs]


def test_an_additive_on_demand_view_asks_nothing_new_of_old_locks():
    """Request data and look-ups of features the lock does not ask for are left out."""
    more = pace(
        (V1, use("history")),
        request=columns(miles="float64", wind="float64"),
        features={
            "per_mile": pl.col("last_delay") / pl.col("miles"),
            "windy": pl.col("wind") > pl.col("seats"),
        },
    )
    query = locked(LOCK, catalog(V1, more))
    assert query.computes[0].view == more
    assert (query.request, query.entities) == (QUERY.request, QUERY.entities)


def test_a_changed_live_version_gives_way_to_the_locked_one():
    """Where the features' ids are gone from the live version, another that has them answers."""
    new = pace((CHANGED, use("history")))
    query = locked(LOCK, catalog(CHANGED, new, others=(V1, PACE)))
    assert [one.view.id for one in query.lookups] == [V1.id]
    assert [one.view.id for one in query.computes] == [PACE.id]


def test_nothing_answers_in_the_place_of_lost_features():
    """Without a version that has them, the message names version, features and way out."""
    told = f"{V1.version}: no version that answers here has its features (seats"
    lock = lock_of(resolve(references(["history:seats"], catalog(V1)), catalog(V1)))
    bare = view(features=DELAY)
    with pytest.raises(NotMaterialized, match=re.escape(told)) as caught:
        locked(lock, catalog(bare))
    assert "featurestore lock register" in str(caught.value)
    with pytest.raises(NotMaterialized, match=re.escape(PACE.version)):
        locked(LOCK, catalog(V1))


def test_versions_of_one_view_stay_apart():
    """Two versions with two ttls are two look-ups, though one version holds both's features."""
    short = view(features=DELAY | SEATS, ttl=timedelta(days=1))
    both = catalog(ADDED, others=(short, CHANGED))
    asked = [f"history@{short.id[:6]}:seats", "history:seats", f"history@{CHANGED.id}:last_delay"]
    query = resolve(references(asked, both), both, full_feature_names=True)
    again = locked(lock_of(query), both)
    assert [one.version for one in again.lookups] == [short.id, ADDED.id, CHANGED.id]
    assert [one.view.ttl for one in again.lookups] == [short.ttl, None, None]
    assert [one.name for one in again.outputs] == [one.replace(":", "__") for one in asked]
    assert again.lookups[0].view.id == ADDED.id


def test_a_pinned_on_demand_view_reads_the_upstream_it_was_declared_with():
    """It finds its inputs by feature id, and says under which version it read them."""
    new = pace((CHANGED, use("history")))
    both = catalog(CHANGED, new, others=(V1, PACE))
    asked = [f"pace@{PACE.id[:8]}:per_mile", "pace:per_mile", "history:last_delay"]
    query = resolve(references(asked, both), both, full_feature_names=True)
    assert [(one.alias, one.view.id) for one in query.lookups] == [
        (f"history@{V1.id[:12]}", V1.id),
        ("history", CHANGED.id),
    ]
    assert [one.binds[0].lookup for one in query.computes] == [0, 1]
    assert locked(lock_of(query), both) == query


def changed(part, number=0, **changes):
    """Give the lock with one of its parts changed."""
    parts = list(getattr(LOCK, part))
    parts[number] = replace(parts[number], **changes)
    return replace(LOCK, **{part: tuple(parts)})


CONTRADICTIONS = {
    "no outputs": (replace(LOCK, outputs=()), "lock.outputs: is empty"),
    "an unknown version": (
        changed("outputs", 1, version="0" * 64),
        "lock.outputs[1].version: is none of lock.views",
    ),
    "another view": (changed("outputs", 1, view="pace"), "lock.outputs[1].view: is 'pace'"),
    "a name twice": (
        changed("outputs", 1, name="per_mile"),
        "lock.outputs[1].name: 'per_mile' is an earlier output's too",
    ),
    "another feature's id": (
        changed("outputs", 1, feature_id=V1.feature("last_delay").id),
        "lock.outputs[1].feature_id: is that of history.last_delay (float64), not of seats",
    ),
    "another dtype": (changed("outputs", 1, dtype="int64"), "lock.outputs[1].feature_id: is that"),
    "another kind": (changed("views", kind="on_demand"), "lock.views[0].kind: is on_demand, but"),
    "a ttl of nothing": (changed("views", ttl=0), "lock.views[0].ttl: 0 microseconds is no ttl"),
    "a ttl of ever": (changed("views", ttl=2**63), "lock.views[0].ttl: "),
    "an unknown look-up": (
        changed("lookups", version="0"),
        "lock.lookups[0].version: is none of lock.views",
    ),
    "no look-up": (replace(LOCK, lookups=()), "lock.lookups: none gives pace@"),
    "other readers": (changed("lookups", readers=()), "its input 'last_delay'"),
    "an unknown join key": (
        changed("outputs", 1, join_key_map=(("plan", "x"),)),
        "join_key_map names 'plan'",
    ),
    "a join key of on-demand": (changed("outputs", join_key_map=(("a", "b"),)), "on demand"),
}


@pytest.mark.parametrize(("lock", "told"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_lock_that_contradicts_itself_is_refused_with_its_path(lock, told):
    """Nothing is guessed: the message says which part does not fit."""
    with pytest.raises(InvalidRequest, match=re.escape(told)):
        locked(lock, catalog(V1, PACE))


def test_drafts_and_strangers_are_not_admitted():
    """A draft keeps nothing alive; another project's ids mean nothing here."""
    assert admit(LOCK, project="shop") is LOCK
    with pytest.raises(InvalidRequest, match=r"lock\.draft: its views were never registered"):
        admit(replace(LOCK, draft=True), project="shop")
    with pytest.raises(InvalidRequest, match=r"lock\.project: is 'shop', but this is 'prod'"):
        admit(LOCK, project="prod")
