"""Versions as people ask for them: one of them with all that is known of it, or two compared.

Nothing here writes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from featurestore.errors import InvalidRequest, NotFound
from featurestore.jobs.facts import coverage, facts, sized
from featurestore.jobs.workspace import Workspace
from featurestore.model.changes import Change, compare
from featurestore.model.documents import Project, Release, Service, Table, View
from featurestore.model.expressions import DIALECT
from featurestore.model.facts import Facts, Registered
from featurestore.model.names import suggest
from featurestore.model.needs import needs
from featurestore.model.states import State, states, tables_of
from featurestore.model.time import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A table of a version: its size offline, what it covers, and why it stays.

    The size of a table that cannot be read is None.
    """

    table: Table
    rows: int | None
    bytes: int | None
    covered: tuple[Interval, ...]
    verified: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A version with its states, its tables by generation, and who names it.

    `registered` is when (UTC microseconds); `releases` are numbers with the aliases that name them
    now, newest first; `warm` those that carry it beside their live views.
    """

    view: View
    registered: int
    states: tuple[State, ...]
    tables: tuple[Stored, ...]
    releases: Mapping[int, tuple[str, ...]]
    warm: tuple[int, ...]
    locks: tuple[Registered, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Two versions of a view, or two releases: what changes from one to the other, and why.

    `tables` are versions that both releases have, in tables of another generation: (version, table
    before, table after).
    """

    before: str
    after: str
    changes: tuple[Change, ...]
    tables: tuple[tuple[str, str, str], ...] = ()


def version(workspace: Workspace, name: str) -> View:
    """Give a registered version by `view@digest`, or the applied one by the view's name.

    Raises:
        NotFound: there is none.
        InvalidRequest: the digest is none, or could be several.
    """
    view, at, digest = name.partition("@")
    return workspace.registry.version(view, digest) if at else workspace.view(view)


def show(workspace: Workspace, name: str) -> Shown:
    """Give one version with all that is known of it.

    Raises:
        NotFound, InvalidRequest: as `version` does.
    """
    view, known, covered = version(workspace, name), facts(workspace), coverage(workspace)
    there = tables_of(known, view)
    kept = {need.table.id: need.reasons for need in needs(known)}
    stored = []
    for table in there:
        rows, size = sized(workspace, view, table)
        stored.append(
            Stored(
                table=table,
                rows=rows,
                bytes=size,
                covered=covered[table.id],
                verified=known.holds(view, table),
                reasons=kept.get(table.id, ()),
            )
        )
    numbers = sorted({*workspace.releases.releases(), *known.releases}, reverse=True)
    releases = [workspace.releases.release(number) for number in numbers]
    return Shown(
        view=view,
        registered=workspace.registry.registered(view),
        states=states(known, view, covered=covered),
        tables=tuple(stored),
        releases={
            one.number: _aliases(known, one.number)
            for one in releases
            if any(live.view.id == view.id for live in one.views)
        },
        warm=tuple(
            one.number for one in releases if any(held.view.id == view.id for held in one.warm)
        ),
        locks=tuple(o for o in known.locks if any(v.id == view.id for v in o.lock.views)),
    )


def _aliases(known: Facts, number: int) -> tuple[str, ...]:
    return tuple(sorted(alias for alias, named in known.aliases.items() if named == number))


def diff(workspace: Workspace, before: str, after: str) -> Compared:
    """Compare two versions of a view, or two releases, down to the feature.

    Each is `view@digest`, a view's name for its applied version, a release's number or an alias.

    Raises:
        NotFound: there is none of that name.
        InvalidRequest: they are a release and a version, or versions of two views.
    """
    one, two = (_named(workspace, name) for name in (before, after))
    if isinstance(one, Release) and isinstance(two, Release):
        return Compared(
            before=f"release {one.number}",
            after=f"release {two.number}",
            changes=_changes(_project(one), _project(two)),
            tables=_moved(one, two),
        )
    if isinstance(one, Release) or isinstance(two, Release):
        raise InvalidRequest(
            f"diff: of {before} and {after} one is a release and the other a version; name two "
            "releases or aliases, or two versions of a view"
        )
    if one.name != two.name:
        raise InvalidRequest(
            f"diff: {one.version} and {two.version} are versions of two views; name two of one"
        )
    return Compared(
        before=one.version, after=two.version, changes=_changes(_alone(one), _alone(two))
    )


_DIGITS = 9
"""Of a release's number, at most: it is an integer of 32 bits in SQL."""


def _named(workspace: Workspace, name: str) -> View | Release:
    aliases = workspace.releases.aliases()
    if name.isascii() and name.isdecimal() and len(name) <= _DIGITS:
        return workspace.releases.release(int(name))
    if name in aliases:
        return workspace.releases.release(aliases[name])
    head = workspace.registry.head()
    views = {view.name for view in head.project.views} if head else set()
    if "@" not in name and name not in views:
        raise NotFound(
            f"{name}: no view, alias or release has this name{suggest(name, views | {*aliases})}"
        )
    return version(workspace, name)


def _changes(before: Project, after: Project) -> tuple[Change, ...]:
    return compare(before, after)


def _project(release: Release) -> Project:
    views = tuple(one.view for one in release.views)
    return _of(release.project, views, release.services)


def _alone(view: View) -> Project:
    return _of(view.name, (view,), ())


def _of(name: str, views: tuple[View, ...], services: tuple[Service, ...]) -> Project:
    return Project(name=name, views=views, services=services, dialect=DIALECT)


def _moved(before: Release, after: Release) -> tuple[tuple[str, str, str], ...]:
    """Give the versions that answer from another generation of their table."""
    was = {one.view.id: one.table for one in before.views if one.table}
    return tuple(
        (one.view.version, was[one.view.id].id, one.table.id)
        for one in after.views
        if one.table and one.view.id in was and was[one.view.id] != one.table
    )
