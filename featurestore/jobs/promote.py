"""Promote: write the release of what is materialized and move an alias to it."""

from dataclasses import replace
from math import inf

from featurestore.errors import NotMaterialized
from featurestore.jobs.online import load_online
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import LiveView, Release, View, dump
from featurestore.model.time import watermark
from featurestore.storage.keys import check_name


def promote(workspace: Workspace, alias: str = "prod") -> tuple[Release, bool]:
    """Make the applied, materialized project what an alias names; all views move at once.

    SQL is written first, in one transaction; the copy in Redis follows, and a promote that died
    between the two is completed by running it again. Gives the release and whether it is new.

    Raises:
        InvalidRequest: the alias has other characters than it may; nothing was written.
        NotMaterialized: a view has no rows offline, or none in Redis; all such views are named.
        Conflict: somebody else moved the alias; nothing was written.
    """
    check_name(alias, "alias")
    registry, online = workspace.registry, workspace.online()
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
    online.put_release(release.number, dump(release))
    follow(workspace, alias)
    return release, fresh


def follow(workspace: Workspace, alias: str) -> None:
    """Make Redis say what SQL says an alias names, whoever else does so at the same time.

    Redis is read before SQL, and moves only if it still says the same: a slow promote that was
    overtaken can thus not take the alias back.
    """
    registry, online = workspace.registry, workspace.online()
    moved = False
    while not moved:
        there, number = online.alias(alias), registry.aliases()[alias]
        online.put_release(number, dump(registry.release(number)))
        moved = there == number or online.move_alias(alias, there, number)


def _reload_longer(workspace: Workspace, current: Release | None, release: Release) -> None:
    """Load tables again whose ttl grows: their rows would expire before the new ttl says so."""
    before = {live.view.data_id: _bound(live.view) for live in current.views} if current else {}
    for live in release.views:
        bound = _bound(live.view)
        if live.table is None or before.get(live.view.data_id, -1.0) >= bound:
            continue
        runs = {run.version for run in workspace.ledger.runs(live.table.id)}
        written = [v for v in workspace.registry.versions(live.view.name) if v.id in runs]
        if any(_bound(version) < bound for version in written):
            load_online(workspace, live.view, live.table)


def _bound(view: View) -> float:
    """Give a view's ttl, endless if it has none."""
    return inf if view.ttl is None else float(view.ttl)


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
