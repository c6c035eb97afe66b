"""Publish: write a release and move an alias to it, in SQL first and then in Redis.

Promoting, rolling back and warming are this one step. A publish that died between SQL and Redis is
completed by the next, and by `rebuild_online`.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

from featurestore.jobs.facts import facts
from featurestore.jobs.leases import arranging, leased
from featurestore.jobs.online import follow_alias, lifetime, load_online
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import LiveView, Release, Service
from featurestore.model.needs import Action, warm
from featurestore.model.time import watermark


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The release that an alias names now; `fresh` is False if the one before answered the same."""

    release: Release
    fresh: bool


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
    past it. A table whose ttl grew is loaded from offline first: Redis may have let go of rows that
    count again. `expected` is the release that the caller decided by.

    Raises:
        Conflict: somebody else moved the alias or is arranging releases, or a run is writing to a
            table that must be loaded; SQL is as it was.
        Unavailable: Redis cannot be reached; run it again.
    """
    for one in views:
        lasting(workspace, one)
    releases = workspace.releases
    with arranging(workspace, f"{action} {alias}") as turn:
        current = None if expected is None else releases.release(expected)
        fresh = current is None or not answers(current, views, services)
        if current is not None and not fresh:
            action, restores = "warm", current.restores
        release = Release(
            project=workspace.config.project,
            number=releases.next_release(),
            views=tuple(views),
            services=services,
            created=workspace.clock(),
            warm=_warm(workspace, views),
            restores=restores,
        )
        if fresh or current is None or _timeless(current.warm) != _timeless(release.warm):
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
    return Published(release=release, fresh=fresh)


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
    """Say whether a release answers from these very tables for these very services."""
    return _timeless(release.views) == _timeless(views) and release.services == tuple(services)


def marked(workspace: Workspace, one: LiveView) -> LiveView:
    """Give a view of a release with the watermark that its table has now."""
    if one.table is None:
        return one
    return replace(one, watermark=watermark(workspace.ledger.covered(one.table.id)))


def _warm(workspace: Workspace, views: Sequence[LiveView]) -> tuple[LiveView, ...]:
    """Give what can be answered from beside the live views: verified, and there in Redis."""
    known, online = facts(workspace), workspace.online()
    return tuple(
        marked(workspace, one)
        for one in warm(known, views)
        if one.table is None
        or ((one.view.id, one.table.id) in known.passed and online.is_marked(one.table.id))
    )


def lasting(workspace: Workspace, one: LiveView) -> bool:
    """Make sure that Redis holds a table's rows, and for as long as its ttl needs them.

    Gives whether they had to be loaded.

    Raises:
        Conflict: a run is writing to a table that must be loaded.
    """
    if one.table is None:
        return False
    needed = lifetime(workspace, one.view, one.table)
    if workspace.online().keeps(one.table.id, needed):
        return False
    load_again(workspace, one)
    return True


def load_again(workspace: Workspace, one: LiveView) -> int:
    """Load a table's newest rows from offline, to live as long as they are needed now.

    Raises:
        Conflict: a run is writing to the table.
    """
    if one.table is None:
        return 0
    with leased(workspace, one.table, secrets.token_hex(16), why=f"load {one.view.version}"):
        return load_online(workspace, one.view, one.table)


def _timeless(views: Sequence[LiveView]) -> tuple[LiveView, ...]:
    return tuple(replace(one, watermark=None) for one in views)
