"""The steps from what is applied and live to what a project says, in the order they are done.

Only those that are needed: a change of ttl alone shares its table, so nothing is computed for it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from featurestore.model.changes import Change
from featurestore.model.cost import Cost
from featurestore.model.documents import LiveView, Project, Table, View
from featurestore.model.facts import Facts
from featurestore.model.time import BEGINNING, Interval, gaps, union, watermark

Coverage = Mapping[str, tuple[Interval, ...]]
"""The known-at intervals that each table, by id, holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """Write a document down and make it what is applied; `version` None: the name goes away."""

    what: Literal["view", "service"]
    name: str
    version: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Respell:
    """Record what a version's expressions are in another Polars dialect, and how that is known."""

    view: str
    version: str
    dialect: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """Compute the intervals that a version's table (None: a new one) still lacks."""

    view: str
    version: str
    table: str | None
    intervals: tuple[Interval, ...]
    cost: Cost = Cost()  # noqa: RUF009 - frozen


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """Load Redis from offline again: the version's ttl outlasts what Redis was told to keep."""

    view: str
    version: str
    table: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verify:
    """Prove that versions answer online as in training; full ids, in the order of their names."""

    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A view of an alias, from one version to another, by full id; None: it is not there.

    Equal versions mean that the data move, or that another Polars' expressions are added.
    """

    view: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote:
    """Move an alias on from a release (None: it does not exist); `services` change their lists."""

    alias: str
    release: int | None
    moves: tuple[Moved, ...]
    services: tuple[str, ...] = ()


Step = Register | Respell | Backfill | Reload | Verify | Promote


def steps(
    facts: Facts, coverage: Coverage, project: Project, changes: tuple[Change, ...], alias: str
) -> tuple[Step, ...]:
    """Give the steps that make a project what is applied, and then what an alias names."""
    return (*_registers(changes, project), *_towards(facts, coverage, project, alias))


def current(facts: Facts, view: str, alias: str) -> LiveView | None:
    """Give the version and table that tell what a view's next table will cost, or None.

    It is what the alias answers the view from, else what the applied version was written to.
    """
    live = _live(facts, alias).get(view)
    if live is not None and live.table is not None:
        return live
    for one in facts.head.views if facts.head else ():
        table = facts.newest(one.data_id) if one.name == view and one.data_id else None
        if table is not None:
            return LiveView(view=one, table=table)
    return None


def _registers(changes: tuple[Change, ...], project: Project) -> Iterator[Register]:
    ids = {("view", view.name): view.id for view in project.views}
    ids |= {("service", service.name): service.id for service in project.services}
    for change in changes:
        if change.kind != "none":
            version = ids.get((change.what, change.name))
            yield Register(what=change.what, name=change.name, version=version)


def _towards(facts: Facts, coverage: Coverage, project: Project, alias: str) -> Iterator[Step]:
    live = _live(facts, alias)
    stored = [view for view in project.views if view.kind == "batch"]
    tables = {view.name: facts.newest(view.data_id) for view in stored}
    lacks = {v.name: lacking(facts, coverage, v, tables[v.name], alias) for v in stored}
    for view in stored:
        table, intervals = tables[view.name], lacks[view.name]
        if intervals:
            place = table.id if table else None
            yield Backfill(view=view.name, version=view.id, table=place, intervals=intervals)
    for view in stored:
        table = tables[view.name]
        if table is not None and _outlasts(facts, view, table):
            yield Reload(view=view.name, version=view.id, table=table.id)
    moves = tuple(_moves(project, tables, live))
    yield from _verify(facts, project, moves, tables, lacks, alias)
    services = _relisted(facts, project, alias)
    if moves or services or alias not in facts.aliases:
        yield Promote(alias=alias, release=facts.aliases.get(alias), moves=moves, services=services)


def _live(facts: Facts, alias: str) -> dict[str, LiveView]:
    number = facts.aliases.get(alias)
    return {} if number is None else {one.view.name: one for one in facts.releases[number].views}


def lacking(
    facts: Facts, coverage: Coverage, view: View, table: Table | None, alias: str
) -> tuple[Interval, ...]:
    """Give what a version's table (None: a new one) must hold to be live, and does not hold yet.

    That is what its view's live table covers, and no holes between. A view that is new to the alias
    must reach the newest moment that a live one is complete to. Where nothing is live, what it
    holds will do, and a new table starts with all up to now.
    """
    live = _live(facts, alias)
    one, covered = live.get(view.name), coverage.get(table.id, ()) if table else ()
    if one is not None and one.table is not None:
        wanted = coverage.get(one.table.id, ())
    else:
        marks = (watermark(coverage.get(o.table.id, ())) for o in live.values() if o.table)
        newest = max((mark for mark in marks if mark is not None), default=None)
        end = newest or watermark(covered) or facts.now
        wanted = (Interval(start=covered[0].start if covered else BEGINNING, end=end),)
    whole = union((*wanted, *covered))
    hull = (Interval(start=whole[0].start, end=whole[-1].end),) if whole else ()
    return tuple(gap for interval in hull for gap in gaps(interval, covered))


def _outlasts(facts: Facts, view: View, table: Table) -> bool:
    """Say whether Redis may have let go of rows that count by a version's ttl.

    It was told to keep them for the longest ttl live on the table, or by whoever filled it.
    """
    live = [one for number in facts.aliases.values() for one in facts.releases[number].views]
    if any(one.table == table and not _longer(view.ttl, one.view.ttl) for one in live):
        return False
    sharing = (v for v in facts.versions.values() if v.data_id == view.data_id)
    return any(_longer(view.ttl, version.ttl) for version in sharing)


def _longer(ttl: int | None, than: int | None) -> bool:
    """Compare two ttls; None is longer than any."""
    return than is not None and (ttl is None or ttl > than)


def _moves(
    project: Project, tables: Mapping[str, Table | None], live: Mapping[str, LiveView]
) -> Iterator[Moved]:
    views = {view.name: view for view in project.views}
    for name in sorted({*views, *live}):
        view, one = views.get(name), live.get(name)
        if view is None or one is None:
            yield Moved(
                view=name,
                before=one.view.id if one else None,
                after=view.id if view else None,
            )
        elif (
            view.id != one.view.id
            or tables.get(name) != one.table
            or not _dialects(view) <= _dialects(one.view)
        ):
            yield Moved(view=name, before=one.view.id, after=view.id)


def _dialects(view: View) -> set[str]:
    return {spelling.dialect for one in view.features for spelling in one.expression.spellings}


def _verify(
    facts: Facts,
    project: Project,
    moves: tuple[Moved, ...],
    tables: Mapping[str, Table | None],
    lacks: Mapping[str, tuple[Interval, ...]],
    alias: str,
) -> Iterator[Verify]:
    """Ask for proof of what promotion would refuse without: what is unproven, or will change."""
    changing = {move.after for move in moves if lacks.get(move.view)}
    unproven = [
        view.id
        for view in sorted(project.views, key=lambda view: view.name)
        if view.id in changing or not facts.proven(view, tables.get(view.name), alias)
    ]
    if unproven:
        yield Verify(versions=tuple(unproven))


def _relisted(facts: Facts, project: Project, alias: str) -> tuple[str, ...]:
    """Give the services that an alias answers otherwise than a project says."""
    number = facts.aliases.get(alias)
    live = facts.releases[number].services if number is not None else ()
    was = {service.name: service.id for service in live}
    now = {service.name: service.id for service in project.services}
    return tuple(name for name in sorted(was | now) if was.get(name) != now.get(name))
