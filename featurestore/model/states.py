"""What has become of a version: its states, derived from facts.

A version is declared when it is registered, backfilled when a table holds its rows, verified when
a verification of that table stands, live when an alias answers from it, warm when it is kept
beside what is live, and cold when nothing keeps its data, or its data is gone. None of it is
stored.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from featurestore.model.documents import Release, Table, View
from featurestore.model.facts import Facts
from featurestore.model.needs import demoted, needs
from featurestore.model.time import Interval, second, show, watermark

Name = Literal["declared", "backfilled", "verified", "live", "warm", "cold"]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One state of a version, and the facts that it follows from, in words."""

    name: Name
    why: str


def states(
    facts: Facts,
    view: View,
    *,
    covered: Mapping[str, tuple[Interval, ...]],
) -> tuple[State, ...]:
    """Give a version's states, in the order in which a version comes by them.

    `covered` are the known-at intervals that each table holds, by table id.
    """
    found = [State(name="declared", why=_declared(facts, view))]
    held = [t for t in tables_of(facts, view) if covered.get(t.id)]
    if held:
        newest = held[-1].id
        mark = watermark(covered[newest])
        found.append(State(name="backfilled", why=f"table {newest}, complete to {show(mark)}"))
    proven = [table.id for table in held if facts.holds(view, table)]
    if proven:
        found.append(State(name="verified", why=f"table {proven[-1]}"))
    live = live_in(view, {alias: facts.releases[n] for alias, n in facts.aliases.items()})
    warm = tuple(_warm(facts, view))
    if live:
        found.append(State(name="live", why=f"in {', '.join(live)}"))
    elif warm and (view.kind == "on_demand" or held):
        found.append(State(name="warm", why=f"for {', '.join(warm)}"))
    else:
        found += [State(name="cold", why=why) for why in _cold(facts, view)]
    return tuple(found)


def live_in(view: View, named: Mapping[str, Release]) -> tuple[str, ...]:
    """Give the aliases whose release answers from a version."""
    return tuple(alias for alias, release in sorted(named.items()) if _in(view, release))


def tables_of(facts: Facts, view: View) -> tuple[Table, ...]:
    """Give the tables with a version's data that were not collected, by generation."""
    mine = (table for table in facts.tables if table.data_id == view.data_id)
    return tuple(sorted(mine, key=lambda table: table.generation))


def _declared(facts: Facts, view: View) -> str:
    applied = facts.head is not None and any(one.id == view.id for one in facts.head.views)
    return "applied now" if applied else "not applied any more"


def _in(view: View, release: Release) -> bool:
    return any(one.view.id == view.id for one in release.views)


def _warm(facts: Facts, view: View) -> Iterator[str]:
    """Give what a version is kept for beside what is live."""
    left = demoted(facts.moves, facts.aliases)
    for number, release in sorted(facts.releases.items()):
        at = left.get(number)
        if at is not None and _in(view, release):
            yield f"release {number}, demoted {second(at)}"
    for registered in facts.locks:
        if registered.holds(facts.now) and any(o.id == view.id for o in registered.lock.views):
            yield f"lock {registered.id[:12]} of {registered.owner}"


def _cold(facts: Facts, view: View) -> Iterator[str]:
    """Say that a stored version's data is gone, or kept by nobody."""
    if view.kind == "on_demand":
        return
    there = tables_of(facts, view)
    needed = {need.table.id for need in needs(facts)}
    if there and not any(table.id in needed for table in there):
        yield "nobody needs its data: it may be collected"
    elif not there and any(_is_table_of(table_id, view) for table_id in facts.written):
        yield "its data was collected"


def _is_table_of(table_id: str, view: View) -> bool:
    return table_id.startswith(Table(data_id=view.data_id, generation=0).id[:-1])
