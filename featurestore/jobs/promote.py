"""Promote: write the release of what is materialized and move an alias to it."""

from dataclasses import replace

from featurestore.errors import NotMaterialized
from featurestore.jobs.online import follow_alias, load_online
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import LiveView, Release, View, dump
from featurestore.model.time import watermark


def promote(workspace: Workspace, alias: str = "prod") -> tuple[Release, bool]:
    """Make the applied, materialized project what an alias names; all views move at once.

    SQL is written first, in one transaction; the copy in Redis follows, and a promote that died
    between the two is completed by running it again. Gives the release and whether it is new.

    Raises:
        NotMaterialized: a view has no rows offline, or none in Redis; all such views are named.
        Conflict: somebody else moved the alias; nothing was written.
    """
    registry = workspace.registry
    project = workspace.project()
    expected = registry.aliases().get(alias)
    release = Release(
        project=project.name,
        number=registry.next_release(),
        views=_live(workspace, project.views),
        services=project.services,
        created=workspace.clock(),
    )
    current = None if expected is None else registry.release(expected)
    fresh = current is None or _content(current) != _content(release)
    if fresh:
        _reload_longer(workspace, current, release)
        registry.promote(
            release, alias, expected=expected, now=workspace.clock(), who=workspace.who
        )
    elif current is not None:
        release = current
    follow_alias(workspace, alias)
    return release, fresh


def _reload_longer(workspace: Workspace, current: Release | None, release: Release) -> None:
    """Load tables again whose ttl grows: their rows would expire before the new ttl says so."""
    before = {live.view.data_id: live.view.ttl for live in current.views} if current else {}
    for live in release.views:
        was = before.get(live.view.data_id)
        if live.table and was is not None and (live.view.ttl is None or live.view.ttl > was):
            load_online(workspace, live.view, live.table)


def _content(release: Release) -> str:
    """Give what a release answers: all but its number and the moments it was made at."""
    views = tuple(replace(live, watermark=None) for live in release.views)
    return dump(replace(release, number=0, created=0, views=views))


def _live(workspace: Workspace, views: tuple[View, ...]) -> tuple[LiveView, ...]:
    live, missing = [], []
    for view in views:
        if view.kind == "on_demand":
            live.append(LiveView(view=view))
            continue
        table = workspace.table(view)
        done = watermark(workspace.ledger.covered(table.id)) if table else None
        if table is None or done is None or not workspace.online().is_marked(table.id):
            missing.append(view.version)
            continue
        live.append(LiveView(view=view, table=table, watermark=done))
    if missing:
        raise NotMaterialized(
            f"promote: not materialized are {', '.join(missing)}; run "
            "`featurestore materialize START END` first; nothing was written"
        )
    return tuple(live)
