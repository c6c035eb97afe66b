"""Promote: write the release of what is materialized and move an alias to it."""

import secrets
from dataclasses import replace
from itertools import pairwise

from featurestore.errors import NotMaterialized
from featurestore.jobs.materialize import leased
from featurestore.jobs.online import follow_alias, load_online
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import LiveView, Release, View, dump
from featurestore.model.time import show, watermark
from featurestore.storage.keys import check_name


def promote(workspace: Workspace, alias: str = "prod") -> tuple[Release, bool]:
    """Make the applied, materialized project what an alias names; all views move at once.

    A view whose ttl grew is loaded from offline first: Redis may have let go of rows that count
    again. Then SQL is written, in one transaction; the copy in Redis follows, and a promote that
    died between the two is completed by running it again. Gives the release and whether it is new.

    Raises:
        InvalidRequest: the alias has other characters than it may; nothing was written.
        NotMaterialized: a view has no rows offline or none in Redis, or a gap; all are named.
        Conflict: somebody else moved the alias, or a run is writing to a table that must be loaded;
            SQL is as it was.
    """
    check_name(alias, "alias")
    releases = workspace.releases
    project = workspace.project()
    expected = releases.aliases().get(alias)
    release = Release(
        project=project.name,
        number=releases.next_release(),
        views=_live(workspace, project.views),
        services=project.services,
        created=workspace.clock(),
    )
    current = None if expected is None else releases.release(expected)
    fresh = current is None or _content(current) != _content(release)
    if fresh:
        _load_what_expired(workspace, release, expected)
        releases.publish(
            release,
            alias,
            expected=expected,
            action="promote",
            now=workspace.clock(),
            who=workspace.who,
        )
    elif current is not None:
        release = current
    follow_alias(workspace, alias)
    return release, fresh


def _load_what_expired(workspace: Workspace, release: Release, current: int | None) -> None:
    """Load the tables again that a version with a shorter ttl filled, unless one is served."""
    registry = workspace.registry
    live_now = workspace.releases.release(current).views if current is not None else ()
    served = {live.view.id for live in live_now}
    for live in release.views:
        if live.table is None or live.view.id in served:
            continue
        filled_by = {run.version for run in workspace.ledger.runs(live.table.id)}
        versions = (v for v in registry.versions(live.view.name) if v.id in filled_by)
        if any(_shorter(version.ttl, live.view.ttl) for version in versions):
            why = f"promote {live.view.name}"
            with leased(workspace, live.table, secrets.token_hex(16), why=why):
                load_online(workspace, live.view, live.table)


def _shorter(ttl: int | None, than: int | None) -> bool:
    """Compare two ttls; None is longer than any."""
    return ttl is not None and (than is None or ttl < than)


def _content(release: Release) -> str:
    """Give what a release answers: all but its number and the moments it was made at."""
    views = tuple(replace(live, watermark=None) for live in release.views)
    return dump(replace(release, number=0, created=0, views=views))


def _live(workspace: Workspace, views: tuple[View, ...]) -> tuple[LiveView, ...]:
    live, missing, gaps = [], [], []
    for view in views:
        if view.kind == "on_demand":
            live.append(LiveView(view=view))
            continue
        table = workspace.table(view)
        covered = workspace.ledger.covered(table.id) if table else ()
        if table is None or not covered or not workspace.online().is_marked(table.id):
            missing.append(view.version)
            continue
        gaps += [
            f"{view.version} from {show(one.end)} to {show(two.start)}"
            for one, two in pairwise(covered)
        ]
        live.append(LiveView(view=view, table=table, watermark=watermark(covered)))
    if missing:
        raise NotMaterialized(
            f"promote: not materialized are {', '.join(missing)}; run "
            "`featurestore materialize START END` first; nothing was written"
        )
    if gaps:
        raise NotMaterialized(
            f"promote: there are gaps in {', '.join(gaps)}; run "
            "`featurestore materialize START END` over them first; nothing was written"
        )
    return tuple(live)
