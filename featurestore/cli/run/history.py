"""List, describe, show, diff, lineage, runs, log: what there is, and was."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from featurestore.cli import terminal
from featurestore.cli.text import history as text
from featurestore.cli.values import history as values
from featurestore.errors import NotFound
from featurestore.jobs import versions as showing
from featurestore.jobs.facts import facts
from featurestore.jobs.workspace import Workspace
from featurestore.model import lineage as drawing
from featurestore.model.documents import View
from featurestore.model.names import suggest
from featurestore.model.states import live_in
from featurestore.model.time import watermark

_LINES = 20
"""Lines of the audit, or runs, that a person is shown unless more are asked for."""


def list_(repo: Path, *, json: bool) -> None:
    """List the applied views and services."""
    with closing(Workspace.open(repo)) as workspace:
        project = workspace.project()
        marks = {v.name: _mark(workspace, v) for v in project.views if v.kind == "batch"}
        named = workspace.releases.aliases()
        releases = {alias: workspace.releases.release(n) for alias, n in named.items()}
    live = {view.name: live_in(view, releases) for view in project.views}
    if json:
        terminal.as_json(values.project(project, marks, live))
    else:
        text.project(project, marks, live)


def _mark(workspace: Workspace, view: View) -> int | None:
    table = workspace.table(view)
    return watermark(workspace.ledger.covered(table.id)) if table else None


def describe(repo: Path, name: str, *, json: bool) -> None:
    """Describe one applied view or service."""
    with closing(Workspace.open(repo)) as workspace:
        project = workspace.project()
        views = {v.name: v for v in project.views}
        services = {s.name: s for s in project.services}
        mark = _mark(workspace, views[name]) if name in views else None
    if name in views and json:
        terminal.as_json(values.view(views[name], mark))
    elif name in views:
        text.view(views[name], mark)
    elif name in services and json:
        terminal.as_json(values.service(services[name], views))
    elif name in services:
        text.service(services[name], views)
    else:
        known = suggest(name, [*views, *services])
        raise NotFound(f"{name}: no applied view or service has this name{known}")


def show(repo: Path, name: str, *, json: bool) -> None:
    """Show one version."""
    with closing(Workspace.open(repo)) as workspace:
        found, now = showing.show(workspace, name), workspace.clock()
    if json:
        terminal.as_json(values.shown(found, now))
    else:
        text.shown(found, now)


def diff(repo: Path, before: str, after: str, *, json: bool) -> None:
    """Compare two versions or two releases."""
    with closing(Workspace.open(repo)) as workspace:
        found = showing.diff(workspace, before, after)
    if json:
        terminal.as_json(values.compared(found))
    else:
        text.compared(found)


def lineage(repo: Path, name: str | None, *, json: bool) -> None:
    """Draw what is made of what."""
    with closing(Workspace.open(repo)) as workspace:
        whole = drawing.lineage(facts(workspace))
    found = whole if name is None else whole.around(name)
    if name is not None and not found.nodes:
        known = suggest(name, (node.name for node in whole.nodes))
        raise NotFound(f"{name}: no source, view, version, service or lock is called so{known}")
    if json:
        terminal.as_json(values.lineage(found))
    else:
        text.lineage(found)


def runs(
    repo: Path, *, views: Sequence[str], table: str | None, limit: int | None, json: bool
) -> None:
    """Tell what was materialized."""
    with closing(Workspace.open(repo)) as workspace:
        every = workspace.ledger.runs()[::-1]
        names = {view.name for view in workspace.project().views} | {one.view for one in every}
    for name in views:
        if name not in names:
            raise NotFound(f"{name}: no view has this name{suggest(name, names)}")
    found = [
        one
        for one in every
        if (not views or one.view in views) and one.table_id.startswith(table or "")
    ]
    if table is not None and not found:
        raise NotFound(f"{table}: no run wrote to a table whose id starts so")
    if json:
        terminal.as_json([values.run(one) for one in found[:limit]])
    else:
        text.runs(found, limit or _LINES)


def log(repo: Path, *, limit: int | None, json: bool) -> None:
    """Tell who did what."""
    with closing(Workspace.open(repo)) as workspace:
        found = workspace.registry.audit()[::-1]
    if json:
        terminal.as_json([values.entry(one) for one in found[:limit]])
    else:
        text.log(found, limit or _LINES)
