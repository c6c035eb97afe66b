"""Publish: write a release and move an alias to it, in SQL first and then in Redis.

Promoting, rolling back and warming are this one step. A publish that died between SQL and Redis is
completed by the next, and by `rebuild_online`.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from featurestore.errors import CorruptData, FeatureStoreError, NotMaterialized
from featurestore.jobs.copies import follow_alias, refuse_foreign
from featurestore.jobs.facts import facts
from featurestore.jobs.leases import arranging, leased
from featurestore.jobs.online import lifetime, load_online, needed
from featurestore.jobs.push import take_in
from featurestore.jobs.replay import replay
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import LiveView, Release, Service, Table, View
from featurestore.model.facts import Action, Facts, Registered
from featurestore.model.lock import LockedView
from featurestore.model.needs import Need, answered_by, warm
from featurestore.model.reads import takes_pushes
from featurestore.model.time import watermark


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The release that an alias names now; `fresh` is False if the one before answered the same.

    `wrong` are versions in it whose last verification failed.
    """

    release: Release
    fresh: bool
    wrong: tuple[str, ...] = ()


def publish(
    workspace: Workspace,
    alias: str,
    *,
    expected: int | None,
    views: Sequence[LiveView],
    services: tuple[Service, ...],
    action: Action,
    restores: int | None = None,
) -> Published:
    """Make views and services what an alias names; all move at once.

    Beside the views the release carries what locks and recent releases may be answered from; where
    nothing but that changes the alias is warmed, whatever the action, so that a rollback goes back
    past it. What Redis lost of the views or for a lock, or may have let go of because a ttl grew,
    is loaded from offline first; damage stops no warming, which leaves what is live as it is.
    `expected` is the release that the caller decided by.

    Raises:
        Conflict: somebody else moved the alias or is arranging releases, a run is writing to a
            table that must be loaded, or another registry's releases are in Redis; SQL is as it
            was.
        NotMaterialized: a registered lock would not be answered any more; SQL is as it was.
        CorruptData: a table of the views must be loaded and cannot be read; SQL is as it was.
        Unavailable: Redis cannot be reached; run it again.
    """
    releases = workspace.releases
    refuse_foreign(workspace, alias, releases.next_release())
    _load(workspace, views, action)
    with arranging(workspace, f"{action} {alias}") as turn:
        current = None if expected is None else releases.release(expected)
        fresh = current is None or not answers(current, views, services)
        known = facts(workspace)
        warmed = _warm(workspace, known, views, current, fresh=fresh)
        if current is not None and not fresh:
            action, restores = "warm", current.restores
        else:
            _refuse_unanswered(known, views, warmed, action)
        release = Release(
            project=workspace.config.project,
            number=releases.next_release(),
            views=tuple(views),
            services=services,
            created=workspace.clock(),
            warm=warmed,
            restores=restores,
        )
        refuse_foreign(workspace, alias, release.number)
        if current is None or _said(current) != _said(release):
            releases.publish(
                release,
                alias,
                expected=expected,
                action=action,
                now=workspace.clock(),
                who=workspace.who,
                commit=workspace.commit,
                turn=turn,
            )
        else:
            release = current
    follow_alias(workspace, alias)
    if fresh:
        _catch_up(workspace, views)
    return Published(release=release, fresh=fresh)


def _catch_up(workspace: Workspace, views: Sequence[LiveView]) -> None:
    """Let tables that answer from now on have what was pushed while others did.

    What cannot be done now the next materialization does: the alias has moved.
    """
    pushed = [one for one in views if one.table is not None and takes_pushes(one.view)]
    with suppress(FeatureStoreError):
        if pushed:
            take_in(workspace, [])
        for one in pushed:
            if one.table is not None:
                replay(workspace, one.view, one.table)


def refresh(workspace: Workspace, alias: str) -> Published:
    """Give an alias a release of the same views with what it should carry beside them now.

    Raises:
        Conflict, Unavailable: as `publish` does.
    """
    releases = workspace.releases
    number = releases.aliases()[alias]
    current = releases.release(number)
    return publish(
        workspace,
        alias,
        expected=number,
        views=current.views,
        services=current.services,
        action="warm",
        restores=current.restores,
    )


def answers(release: Release, views: Sequence[LiveView], services: Sequence[Service]) -> bool:
    """Say whether a release answers from the same tables, versions and services.

    Other descriptions, or spellings for another Polars, answer nothing else.
    """
    was, now = ({(one.view.id, one.table) for one in found} for found in (release.views, views))
    before, after = ({one.id for one in found} for found in (release.services, services))
    return was == now and before == after


def marked(workspace: Workspace, one: LiveView) -> LiveView:
    """Give a view of a release with the watermark that its table has now."""
    if one.table is None:
        return one
    return replace(one, watermark=watermark(workspace.ledger.covered(one.table.id)))


def _load(workspace: Workspace, views: Sequence[LiveView], action: Action) -> None:
    """Make sure that Redis holds what an alias and the registered locks are answered from.

    What a lock misses in the end is told by `_refuse_unanswered`.
    """
    known = facts(workspace)
    need = needed(known)
    broken = (CorruptData, NotMaterialized)
    for one in views:
        with suppress(*(broken if action == "warm" else ())):
            lasting(workspace, one, need)
    for _, locked, found in _locked(known, views):
        if found and found.table and (found.view.id, found.table.id) in known.passed:
            with suppress(*broken):
                ready = replace(found, view=replace(found.view, ttl=locked.ttl))
                lasting(workspace, ready, need)


def _locked(
    known: Facts, views: Sequence[LiveView]
) -> Iterator[tuple[Registered, LockedView, LiveView | None]]:
    """Give what each version of each registered lock is answered from beside these views."""
    for registered in known.locks:
        if registered.holds(known.now):
            for locked, one in answered_by(known, registered.lock, views):
                yield registered, locked, one


def unanswered(
    known: Facts, views: Sequence[LiveView], warmed: Sequence[LiveView]
) -> tuple[str, ...]:
    """Name the registered locks that have nothing to be answered from in a release."""
    there = {one.table.id for one in (*views, *warmed) if one.table is not None}
    return tuple(
        f"lock {registered.id[:12]} of {registered.owner} (its {locked.name}@{locked.id[:12]})"
        for registered, locked, one in _locked(known, views)
        if one is None or one.table is None or one.table.id not in there
    )


def _refuse_unanswered(
    known: Facts, views: Sequence[LiveView], warmed: Sequence[LiveView], action: Action
) -> None:
    """Refuse to move an alias to where a registered lock is not answered.

    Before anything is promoted none is, and registering one cannot warm it.
    """
    lost = unanswered(known, views, warmed) if known.aliases else ()
    if lost:
        raise NotMaterialized(
            f"{action}: would leave unanswered {', '.join(lost)}: no table with its features is "
            "verified and in Redis; warm it with `featurestore lock register FILE`, or let go of "
            "it with `featurestore lock retire ID`; nothing was written"
        )


def _warm(
    workspace: Workspace,
    known: Facts,
    views: Sequence[LiveView],
    current: Release | None,
    *,
    fresh: bool,
) -> tuple[LiveView, ...]:
    """Give what can be answered from beside the live views: verified, and there in Redis.

    What the alias answered before it still does, whatever a verification has found meanwhile: to
    stop answering is for people to decide. While its views stay, also what Redis lost stays: a
    rebuild brings it back.
    """
    online = workspace.online()
    before = {one.table for one in (*current.views, *current.warm)} if current else set()

    def ready(view: View, table: Table) -> bool:
        known_good = table in before or (view.id, table.id) in known.passed
        return known_good and ((table in before and not fresh) or online.is_marked(table.id))

    return tuple(
        marked(workspace, one)
        for one in warm(known, views)
        if one.table is None or ready(one.view, one.table)
    )


def lasting(workspace: Workspace, one: LiveView, need: Mapping[str, Need] | None = None) -> bool:
    """Make sure that Redis holds a table's rows, and for as long as its ttl needs them.

    Gives whether they had to be loaded. `need` is who needs which table, gathered already.

    Raises:
        Conflict: a run is writing to a table that must be loaded.
        CorruptData, NotMaterialized: its offline table cannot be read.
    """
    if one.table is None:
        return False
    need = needed(facts(workspace)) if need is None else need
    if workspace.online().keeps(one.table.id, lifetime(one.view, one.table, need)):
        return False
    load_again(workspace, one, need)
    return True


def load_again(workspace: Workspace, one: LiveView, need: Mapping[str, Need]) -> int:
    """Load a table's newest rows from offline, to live as long as they are needed now.

    Raises:
        Conflict: a run is writing to the table.
        CorruptData, NotMaterialized: its offline table cannot be read.
    """
    if one.table is None:
        return 0
    why = f"load {one.view.version}"
    with leased(workspace, one.table, secrets.token_hex(16), why=why) as hold:
        return load_online(workspace, one.view, one.table, need, hold)


def _said(release: Release) -> tuple[Sequence[LiveView] | Sequence[Service], ...]:
    """Give all that a release says but its number and moments."""
    views, warmed = (
        tuple(replace(one, watermark=None) for one in found)
        for found in (release.views, release.warm)
    )
    return views, warmed, release.services
