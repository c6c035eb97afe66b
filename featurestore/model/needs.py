"""Which tables somebody needs, and why: a pure reading of releases, locks and runs.

One function says what is kept fresh, what is kept in Redis and what may be collected, so that
materialization, promotion, rebuilding and collection can never disagree. States are derived here
from facts; none is stored.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from featurestore.model.documents import LiveView, Project, Release, Table, View
from featurestore.model.lock import Lock, LockedView
from featurestore.model.time import show

Action = Literal["promote", "rollback", "warm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One step of an alias: the release it names from `at` on (UTC microseconds).

    `previous` is the release that a rollback from there goes back to, None if there is none.
    """

    alias: str
    number: int
    previous: int | None
    action: Action
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A registered lock: it keeps its data alive until it expires or is retired."""

    id: str
    lock: Lock
    owner: str
    registered: int
    expires: int | None = None
    retired: int | None = None

    def holds(self, now: int) -> bool:
        """Say whether it still keeps its data alive at a moment."""
        return self.retired is None and (self.expires is None or self.expires > now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a project at a moment.

    `releases` holds at least every release that an alias names or was moved away from within the
    retention. `tables` are those that were not collected. `versions` are the registered views by
    id. `written` is when each table, by id, was last worked on; `verified` are the ids of tables
    that passed a verification or were live. `retention` is in microseconds.
    """

    now: int
    retention: int
    head: Project | None
    aliases: Mapping[str, int]
    moves: Sequence[Move]
    releases: Mapping[int, Release]
    locks: Sequence[Registered]
    tables: Sequence[Table]
    versions: Mapping[str, View]
    written: Mapping[str, int]
    verified: frozenset[str] = frozenset()

    def newest(self, data_id: str) -> Table | None:
        """Give the newest generation of a data id's table, or None."""
        found = [table for table in self.tables if table.data_id == data_id]
        return max(found, key=lambda table: table.generation, default=None)

    def sound(self, data_id: str) -> Table | None:
        """Give the newest verified generation of a data id's table, else the newest."""
        found = [t for t in self.tables if t.data_id == data_id and t.id in self.verified]
        return max(found, key=lambda table: table.generation, default=self.newest(data_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One table that is needed: by which versions and for which reasons.

    `fresh` tables are materialized, `online` ones kept in Redis, `live` ones answer an alias.
    """

    table: Table
    views: tuple[View, ...]
    reasons: tuple[str, ...]
    live: bool = False
    fresh: bool = False
    online: bool = False

    @property
    def view(self) -> View:
        """The version to compute the table with; all that share it give the same rows."""
        return self.views[0]

    @property
    def ttl(self) -> int | None:
        """The longest ttl that needs the table's rows, microseconds; None for no bound."""
        bounds = [view.ttl for view in self.views]
        known = [bound for bound in bounds if bound is not None]
        return max(known) if known and len(known) == len(bounds) else None


def demoted(facts: Facts) -> dict[int, int | None]:
    """Give the releases that aliases named, with when the last alias left them (None: not yet)."""
    left: dict[int, int | None] = {}
    now_at: dict[str, int] = {}
    for move in facts.moves:
        before = now_at.get(move.alias)
        if before is not None and before != move.number:
            left[before] = move.at
        now_at[move.alias] = move.number
        left.setdefault(move.number, move.at)
    return left | dict.fromkeys(facts.aliases.values())


def recent(facts: Facts) -> tuple[int, ...]:
    """Give the releases that an alias names, or was moved away from within the retention."""
    since = facts.now - facts.retention
    kept = (number for number, at in demoted(facts).items() if at is None or at > since)
    return tuple(sorted(number for number in kept if number in facts.releases))


def needs(facts: Facts) -> tuple[Need, ...]:
    """Give every table that somebody needs, by view name and table id."""
    found: dict[str, Need] = {}
    for need in (*_live(facts), *_recent(facts), *_applied(facts), *_locked(facts)):
        found[need.table.id] = _merged(found.get(need.table.id), need)
    live = {need.table.data_id: need.table for need in found.values() if need.live}
    held = [_held(need, live) for need in found.values()]
    held += [need for need in _written(facts) if need.table.id not in found]
    return tuple(sorted(held, key=lambda need: (need.view.name, need.table.id)))


def unneeded(facts: Facts) -> tuple[Table, ...]:
    """Give the tables that nobody needs: what may be collected."""
    kept = {need.table.id for need in needs(facts)}
    return tuple(table for table in facts.tables if table.id not in kept)


def warm(facts: Facts, live: Sequence[LiveView]) -> tuple[LiveView, ...]:
    """Give what a release of these live views carries beside them, by version and table.

    That is every other version of recent releases, and what registered locks are answered from
    where the live views do not hold their features. On-demand versions come without a table.
    """
    gone = {table.id for number in recent(facts) for table in _tables(facts.releases[number])}
    gone -= {table.id for table in facts.tables}
    others = [one for number in recent(facts) for one in facts.releases[number].views]
    for registered in _holding(facts):
        others += [
            LiveView(view=view, table=table)
            for view, table in _serving(facts, registered.lock, live)
        ]
        asked = (facts.versions.get(one.id) for one in registered.lock.views)
        others += [LiveView(view=v) for v in asked if v is not None and v.kind == "on_demand"]
    have = {(one.view.id, one.table) for one in live}
    named = {
        (one.view.id, one.table): one
        for one in others
        if (one.view.id, one.table) not in have and (not one.table or one.table.id not in gone)
    }
    order = sorted(
        named, key=lambda key: (named[key].view.name, key[0], key[1].id if key[1] else "")
    )
    return tuple(replace(named[key], watermark=None) for key in order)


def features_of(lock: Lock, versions: Mapping[str, View]) -> dict[str, frozenset[str]]:
    """Give, for each stored version a lock names, the feature ids that the lock reads of it.

    An on-demand feature reads those of its view's inputs.
    """
    asked: dict[str, set[str]] = {one.id: set() for one in lock.views if one.kind == "batch"}
    home = {
        feature.id: version
        for version in asked
        if version in versions
        for feature in versions[version].features
    }
    for output in lock.outputs:
        if output.version in asked:
            asked[output.version].add(output.feature_id)
        elif output.version in versions:
            for one in versions[output.version].inputs:
                if one.feature_id in home:
                    asked[home[one.feature_id]].add(one.feature_id)
    for lookup in lock.lookups:
        if lookup.version in asked:
            asked[lookup.version].update(lookup.features)
    return {version: frozenset(ids) for version, ids in asked.items()}


def answers(live: Sequence[LiveView], lock: Lock, versions: Mapping[str, View]) -> bool:
    """Say whether views of a release hold every stored feature of a lock."""
    asked = features_of(lock, versions)
    return all(_holder(live, one, asked[one.id]) is not None for one in _stored(lock))


def _stored(lock: Lock) -> Iterator[LockedView]:
    return (one for one in lock.views if one.kind == "batch")


def _holder(
    live: Sequence[LiveView], locked: LockedView, features: frozenset[str]
) -> LiveView | None:
    named = (one for one in live if one.view.name == locked.name and one.table is not None)
    return next((one for one in named if features <= _ids(one.view)), None)


def _ids(view: View) -> frozenset[str]:
    return frozenset(feature.id for feature in view.features)


def _tables(release: Release) -> Iterator[Table]:
    return (one.table for one in release.views if one.table is not None)


def _live(facts: Facts) -> Iterator[Need]:
    for alias, number in sorted(facts.aliases.items()):
        for one in facts.releases[number].views:
            if one.table is not None:
                yield _need(facts, one, f"live in {alias}", live=True, fresh=True, online=True)


def _recent(facts: Facts) -> Iterator[Need]:
    left = demoted(facts)
    for number in recent(facts):
        at = left[number]
        for one in facts.releases[number].views if at is not None else ():
            if one.table in facts.tables:
                why = f"release {number}, demoted {show(at)}"
                yield _need(facts, one, why, fresh=True, online=True)


def _applied(facts: Facts) -> Iterator[Need]:
    for view in facts.head.views if facts.head else ():
        table = facts.newest(view.data_id)
        if table is not None:
            one = LiveView(view=view, table=table)
            yield _need(facts, one, "applied", fresh=True, online=True)


def _holding(facts: Facts) -> Iterator[Registered]:
    return (one for one in facts.locks if one.holds(facts.now))


def _locked(facts: Facts) -> Iterator[Need]:
    """Keep the data a lock was trained on, and fresh what it must be answered from."""
    tables = {table.id: table for table in facts.tables}
    for registered in _holding(facts):
        why = f"lock {registered.id[:12]} of {registered.owner}"
        for locked in _stored(registered.lock):
            table, view = tables.get(_place(locked)), facts.versions.get(locked.id)
            if table is not None and view is not None:
                yield _need(facts, LiveView(view=view, table=table), why)
        for number in facts.aliases.values():
            live = facts.releases[number].views
            for view, table in _serving(facts, registered.lock, live):
                one = LiveView(view=view, table=table)
                yield _need(facts, one, why, fresh=True, online=True)


def _place(locked: LockedView) -> str:
    """Give the id of the table that a lock's data version names: `7f3a9c1e04b2aa10.0/12`."""
    return (locked.data or "").partition("/")[0]


def _serving(facts: Facts, lock: Lock, live: Sequence[LiveView]) -> Iterator[tuple[View, Table]]:
    """Give the versions and tables that answer a lock where the live views do not."""
    asked = features_of(lock, facts.versions)
    for locked in _stored(lock):
        if _holder(live, locked, asked[locked.id]) is not None:
            continue
        own = facts.versions.get(locked.id)
        others = (v for v in facts.versions.values() if v.name == locked.name and v != own)
        for view in (own, *others) if own else others:
            table = facts.sound(view.data_id)
            if table is not None and asked[locked.id] <= _ids(view):
                yield view, table
                break


def _written(facts: Facts) -> Iterator[Need]:
    """Keep what was worked on within the retention: somebody may be about to promote it."""
    for table in facts.tables:
        at = facts.written.get(table.id)
        if at is not None and at > facts.now - facts.retention:
            view = next((v for v in facts.versions.values() if v.data_id == table.data_id), None)
            if view is not None:
                yield Need(table=table, views=(view,), reasons=(f"written {show(at)}",))


def _need(
    facts: Facts,
    one: LiveView,
    reason: str,
    *,
    live: bool = False,
    fresh: bool = False,
    online: bool = False,
) -> Need:
    assert one.table is not None
    view = _current(facts, one.view)
    return Need(
        table=one.table, views=(view,), reasons=(reason,), live=live, fresh=fresh, online=online
    )


def _current(facts: Facts, view: View) -> View:
    """Give a version with its source where the head says that it lies now."""
    for one in facts.head.views if facts.head else ():
        if one.source and view.source and one.source.name == view.source.name:
            moved = replace(view.source, path=one.source.path, format=one.source.format)
            return replace(view, source=moved)
    return view


def _merged(before: Need | None, need: Need) -> Need:
    if before is None:
        return need
    views = {view.id: view for view in (*before.views, *need.views)}
    return Need(
        table=before.table,
        views=tuple(views.values()),
        reasons=tuple(dict.fromkeys((*before.reasons, *need.reasons))),
        live=before.live or need.live,
        fresh=before.fresh or need.fresh,
        online=before.online or need.online,
    )


def _held(need: Need, live: Mapping[str, Table]) -> Need:
    """Leave a table as it is while another generation of its data is live."""
    other = live.get(need.table.data_id, need.table)
    return replace(need, fresh=False) if not need.live and other != need.table else need
