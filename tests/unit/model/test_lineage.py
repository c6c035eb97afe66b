"""Lineage: which things are made of which, over tables of facts."""

from dataclasses import replace

import polars as pl
import pytest

from featurestore.model.declare import on_demand_view, project, service
from featurestore.model.documents import LiveView, Release, Table
from featurestore.model.facts import Facts, Registered
from featurestore.model.lineage import lineage
from featurestore.model.lock import Lock, LockedView
from tests.declared import columns, pace, source, use, view

OLD = view()
NEW = view(features={"last_delay": pl.col("delay") * 2, "seats": pl.col("seats")})
OTHER = view("flown", source=source(name="flights", path="data/flights.parquet"))
OLD_PACE, NEW_PACE = pace((OLD, use("history"))), pace((NEW, use("history")))
ASKED = on_demand_view(
    name="asked",
    sources=[],
    request=columns(miles="float64"),
    features={"far": pl.col("miles") > 3},
)


def serving(*views, name="model"):
    """Give a service over views."""
    return service(
        name=name, projections=map(use, views), views={OLD.name: OLD, **{v.name: v for v in views}}
    )


def lock(name, *views):
    """Give a registered lock of a service's training set."""
    made = Lock(
        project="shop",
        draft=False,
        service=name,
        outputs=(),
        lookups=(),
        views=tuple(LockedView(name=v.name, id=v.id, kind=v.kind) for v in views),
        dialect="polars-2.1",
        polars="2.1.0",
        spine="",
        rows=1,
    )
    return Registered(id=made.id, lock=made, owner="ann", registered=0)


def release(views, services):
    """Give a release of versions and services."""
    live = tuple(
        LiveView(
            view=v,
            table=None if v.kind == "on_demand" else Table(data_id=v.data_id, generation=0),
        )
        for v in views
    )
    return Release(project="shop", number=1, views=live, services=tuple(services), created=0)


def facts(head=(), services=(), *, live=None, locks=(), stored=(), known=()):
    """Give the facts of a project; `live` is what prod names."""
    versions = (
        (*head, *(one.view for one in live.views if live), *known) if live else (*head, *known)
    )
    return Facts(
        now=5,
        retention=5,
        head=project(name="shop", views=head, services=services) if head else None,
        aliases={"prod": 1} if live else {},
        moves=(),
        releases={1: live} if live else {},
        locks=locks,
        tables=tuple(Table(data_id=v.data_id, generation=0) for v in stored),
        versions={v.id: v for v in versions},
        written={},
    )


def drawn(found):
    """Give a lineage as it is drawn: lines of (depth, kind, name, note)."""

    def lines(path):
        *above, node = path
        note = f" ({node.note})" if node.note else ""
        yield f"{'  ' * len(above)}{node.kind} {node.name}{note}"
        for one in found.below(node, above):
            yield from lines((*path, one))

    return [line for root in found.roots() for line in lines((root,))]


LOCK = lock("model", OLD, OLD_PACE)
BOTH = facts(
    (NEW, NEW_PACE, OTHER),
    [serving(NEW, NEW_PACE)],
    live=release((OLD, OLD_PACE), [serving(OLD, OLD_PACE)]),
    locks=(LOCK,),
)
CASES = {
    "nothing": (facts(), []),
    "applied, with a service of it all": (
        facts((OLD, OLD_PACE), [serving(OLD, OLD_PACE)]),
        [
            "source landings (data/landings.parquet)",
            "  view history",
            f"    version {OLD.version} (applied)",
            f"      version {OLD_PACE.version} (applied)",
            "        service model (applied)",
        ],
    ),
    "one applied, another live and locked": (
        BOTH,
        [
            "source flights (data/flights.parquet)",
            "  view flown",
            f"    version {OTHER.version} (applied)",
            "source landings (data/landings.parquet)",
            "  view history",
            f"    version {NEW.version} (applied)",
            f"      version {NEW_PACE.version} (applied)",
            "        service model (applied)",
            f"    version {OLD.version} (live in prod)",
            f"      version {OLD_PACE.version} (live in prod)",
            "        service model (live in prod)",
            f"          lock {LOCK.id[:12]} (of ann)",
        ],
    ),
    "a service that computes only, from stored and from request data": (
        facts((OLD, OLD_PACE, ASKED), [serving(OLD_PACE), serving(ASKED, name="far")]),
        [
            "source landings (data/landings.parquet)",
            "  view history",
            f"    version {OLD.version} (applied)",
            f"      version {OLD_PACE.version} (applied)",
            "        service model (applied)",
            "view asked",
            f"  version {ASKED.version} (applied)",
            "    service far (applied)",
        ],
    ),
    "a lock of no service, on what is only stored": (
        facts(locks=(lock(None, OLD),), stored=(OLD,), known=(OLD, NEW)),
        [
            "source landings (data/landings.parquet)",
            "  view history",
            f"    version {OLD.version} (stored)",
            f"      lock {lock(None, OLD).id[:12]} (of ann)",
        ],
    ),
    "a retired lock, and what nobody uses": (
        facts(locks=(replace(LOCK, retired=1),), known=(OLD, OLD_PACE)),
        [],
    ),
}


@pytest.mark.parametrize(("known", "expected"), CASES.values(), ids=CASES)
def test_everything_is_drawn_below_what_it_is_made_of(known, expected):
    """A service stands below the versions that it reads there, a lock below what it was made of."""
    assert drawn(lineage(known)) == expected


def test_equal_uses_of_a_service_are_one():
    """A service that reads the same versions where it is applied and where it is live is one."""
    asked = [serving(OLD)]
    known = facts((OLD,), asked, live=release((OLD,), asked))
    (found,) = [node for node in lineage(known).nodes if node.kind == "service"]
    assert found.note == "applied, live in prod"


AROUND = {
    "a source": ("flights", {"flights", "flown", OTHER.version}),
    "a view": ("flown", {"flights", "flown", OTHER.version}),
    "a version": (
        f"{OLD.name}@{OLD.id[:6]}",
        {"landings", "history", OLD.version, OLD_PACE.version, "model", LOCK.id[:12]},
    ),
    "a lock": (
        LOCK.id[:5],
        {"landings", "history", "pace", OLD.version, OLD_PACE.version, "model", LOCK.id[:12]},
    ),
    "too few digits": (f"{OLD.name}@{OLD.id[:3]}", set()),
    "too few of a lock": (LOCK.id[:3], set()),
    "nothing of the name": ("modl", set()),
}


@pytest.mark.parametrize(("name", "expected"), AROUND.values(), ids=AROUND)
def test_a_name_keeps_what_it_is_made_of_and_what_is_made_of_it(name, expected):
    """Neither siblings nor what is made of them are around it; edges stay among what is kept."""
    found = lineage(BOTH).around(name)
    assert {node.name for node in found.nodes} == expected
    ids = {node.id for node in found.nodes}
    assert all(ids.issuperset(edge) for edge in found.edges)


def test_edges_name_nodes_and_lead_one_way():
    """Every edge's ends are nodes, and following edges never comes back."""
    found = lineage(BOTH)
    order = {kind: n for n, kind in enumerate(("source", "view", "version", "service", "lock"))}
    kinds = {node.id: order[node.kind] for node in found.nodes}
    assert len(kinds) == len(found.nodes)
    assert all(kinds[before] <= kinds[after] for before, after in found.edges)
    assert all(before != after for before, after in found.edges)
