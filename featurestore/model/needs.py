"""Which tables somebody needs, and why: a pure reading of releases, locks and runs.

One function says what is kept fresh, what is kept in Redis and what may be collected, so that
materialization, promotion, rebuilding and collection can never disagree. States are derived here
from facts; none is stored.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from featurestore.model.documents import LiveView, Release, Table, View
from featurestore.model.facts import Facts, Move, Registered
from featurestore.model.lock import Lock, LockedView
from featurestore.model.time import second


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One table that is needed: by which versions and for which reasons.

    `view` is a version to compute the table with; all that share the table give the same rows.
    `ttls` are those that its rows are read with. `fresh` tables are materialized, `online` ones
    kept in Redis, `live` ones answer an alias.
    """

    table: Table
    view: View
    ttls: tuple[int | None, ...]
    reasons: tuple[str, ...]
    live: bool = False
    fresh: bool = False
    online: bool = False

    @property
    def ttl(self) -> int | None:
        """The longest ttl that needs the table's rows, microseconds; None for no bound."""
        known = [ttl for ttl in self.ttls if ttl is not None]
        return max(known) if known and len(known) == len(self.ttls) else None


def demoted(moves: Sequence[Move], aliases: Mapping[str, int]) -> dict[int, int | None]:
    """Give the releases that aliases named, with when the last alias left them (None: not yet)."""
    left: dict[int, int | None] = {}
    now_at: dict[str, int] = {}
    for move in moves:
        before = now_at.get(move.alias)
        if before is not None and before != move.number:
            left[before] = move.at
        now_at[move.alias] = move.number
        left.setdefault(move.number, move.at)
    return left | dict.fromkeys(aliases.values())


def recent(moves: Sequence[Move], aliases: Mapping[str, int], since: int) -> tuple[int, ...]:
    """Give the releases that an alias names, or was moved away from after a moment."""
    left = demoted(moves, aliases)
    return tuple(sorted(number for number, at in left.items() if at is None or at > since))


def rejected(moves: Sequence[Move], releases: Mapping[int, Release]) -> frozenset[Table]:
    """Give the tables that an alias left, by a rollback, for another generation of their data.

    One that an alias names again later is rejected no more.
    """
    found: set[Table] = set()
    at: dict[str, int] = {}
    for move in moves:
        now = {one.table for one in releases[move.number].views if one.table}
        before = releases[at[move.alias]].views if move.alias in at else ()
        if move.action == "rollback":
            data = {table.data_id for table in now}
            found |= {one.table for one in before if one.table and one.table.data_id in data}
        found -= now
        at[move.alias] = move.number
    return frozenset(found)


def relocated(view: View, to: View) -> View:
    """Give a version that reads its source where another version says that it lies now."""
    if view.source is None or to.source is None or view.source.name != to.source.name:
        return view
    return replace(view, source=replace(view.source, path=to.source.path, format=to.source.format))


def where_it_lies(facts: Facts, view: View) -> View:
    """Give a version with its source where the applied definitions say that it lies now."""
    for one in facts.head.views if facts.head else ():
        if one.source and view.source and one.source.name == view.source.name:
            return relocated(view, one)
    return view


def needs(facts: Facts) -> tuple[Need, ...]:
    """Give every table that somebody needs, by view name and table id."""
    found: dict[str, Need] = {}
    for need in (*_applied(facts), *_live(facts), *_recent(facts), *_locked(facts)):
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
    there = {table.id for table in facts.tables}
    others = [one for release in facts.releases.values() for one in release.views]
    for registered in _holding(facts):
        others += [one for _, one in answered_by(facts, registered.lock, live) if one]
        asked = (facts.versions.get(one.id) for one in registered.lock.views)
        others += [LiveView(view=v) for v in asked if v is not None and v.kind == "on_demand"]
    have = {(one.view.id, one.table) for one in live}
    tables = [one.table for one in (*live, *others) if one.table]
    good = {table.data_id for table in tables if table not in facts.rejected}
    named = {
        (one.view.id, one.table): one
        for one in others
        if (one.view.id, one.table) not in have
        and (one.table is None or one.table.id in there)
        and (one.table not in facts.rejected or one.table.data_id not in good)
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


def answered_by(
    facts: Facts, lock: Lock, live: Sequence[LiveView]
) -> tuple[tuple[LockedView, LiveView | None], ...]:
    """Give what answers each stored version of a lock: a live view, else one beside them, or None.

    A view answers a version if it holds every feature that the lock reads of it.
    """
    asked = features_of(lock, facts.versions)
    return tuple(
        (
            locked,
            _holder(live, locked, asked[locked.id]) or _beside(facts, locked, asked[locked.id]),
        )
        for locked in _stored(lock)
    )


def _stored(lock: Lock) -> Iterator[LockedView]:
    return (one for one in lock.views if one.kind == "batch")


def _holder(
    live: Sequence[LiveView], locked: LockedView, features: frozenset[str]
) -> LiveView | None:
    named = (one for one in live if one.view.name == locked.name and one.table is not None)
    return next((one for one in named if features <= _ids(one.view)), None)


def _ids(view: View) -> frozenset[str]:
    return frozenset(feature.id for feature in view.features)


def _live(facts: Facts) -> Iterator[Need]:
    for alias, number in sorted(facts.aliases.items()):
        for one in facts.releases[number].views:
            if one.table is not None:
                yield _need(facts, one, f"live in {alias}", live=True, fresh=True, online=True)


def _recent(facts: Facts) -> Iterator[Need]:
    left = demoted(facts.moves, facts.aliases)
    for number, release in sorted(facts.releases.items()):
        at = left.get(number)
        for one in release.views if at is not None else ():
            if one.table in facts.tables:
                why = f"release {number}, demoted {second(at)}"
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
            table = tables.get(_place(locked))
            view = _of(facts, table, locked) if table is not None else None
            if table is not None and view is not None:
                yield _need(facts, LiveView(view=view, table=table), why)
        for number in facts.aliases.values():
            live = facts.releases[number].views
            for locked, one in answered_by(facts, registered.lock, live):
                if one is not None:
                    need = _need(facts, one, why, fresh=True, online=True)
                    yield replace(need, ttls=(locked.ttl,))


def _of(facts: Facts, table: Table, locked: LockedView) -> View | None:
    """Give the version that a table is of: a lock may have been read from another one's."""
    own = facts.versions.get(locked.id)
    if own is not None and own.data_id == table.data_id:
        return own
    return next((v for v in facts.versions.values() if v.data_id == table.data_id), None)


def _place(locked: LockedView) -> str:
    """Give the id of the table that a lock's data version names: `7f3a9c1e04b2aa10.0/12`."""
    return (locked.data or "").partition("/")[0]


def _beside(facts: Facts, locked: LockedView, features: frozenset[str]) -> LiveView | None:
    """Give the version with a table that holds a lock's features: verified, then its own, first."""
    own = facts.versions.get(locked.id)
    others = [v for v in facts.versions.values() if v.name == locked.name and v != own]
    found = []
    for view in ([own] if own else []) + others:
        table = facts.sound(view.data_id)
        if table is not None and features <= _ids(view):
            found.append(LiveView(view=view, table=table))
    passed = (one for one in found if one.table and (one.view.id, one.table.id) in facts.passed)
    return next(passed, found[0] if found else None)


def _written(facts: Facts) -> Iterator[Need]:
    """Keep what was worked on within the retention: somebody may be about to promote it."""
    for table in facts.tables:
        at = facts.written.get(table.id)
        if at is not None and at > facts.now - facts.retention:
            view = next((v for v in facts.versions.values() if v.data_id == table.data_id), None)
            if view is not None:
                yield Need(
                    table=table, view=view, ttls=(view.ttl,), reasons=(f"written {second(at)}",)
                )


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
    return Need(
        table=one.table,
        view=where_it_lies(facts, one.view),
        ttls=(one.view.ttl,),
        reasons=(reason,),
        live=live,
        fresh=fresh,
        online=online,
    )


def _merged(before: Need | None, need: Need) -> Need:
    if before is None:
        return need
    return replace(
        before,
        ttls=tuple(dict.fromkeys((*before.ttls, *need.ttls))),
        reasons=tuple(dict.fromkeys((*before.reasons, *need.reasons))),
        live=before.live or need.live,
        fresh=before.fresh or need.fresh,
        online=before.online or need.online,
    )


def _held(need: Need, live: Mapping[str, Table]) -> Need:
    """Leave a table as it is while another generation of its data is live."""
    other = live.get(need.table.data_id, need.table)
    return replace(need, fresh=False) if not need.live and other != need.table else need
