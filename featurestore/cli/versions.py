"""The commands of versions: each calls one job and renders what it found or did."""

import sys
from contextlib import closing, nullcontext
from pathlib import Path

import typer

from featurestore.cli import terminal, versions_render, versions_values
from featurestore.cli.typed import moment
from featurestore.errors import NotFound
from featurestore.jobs import collect as collecting
from featurestore.jobs import locks as locking
from featurestore.jobs import promote as promoting
from featurestore.jobs import verify as verifying
from featurestore.jobs import versions as showing
from featurestore.jobs.facts import facts
from featurestore.jobs.publish import Published
from featurestore.jobs.workspace import Workspace
from featurestore.model import lineage as drawing
from featurestore.model.names import suggest
from featurestore.model.time import micros
from featurestore.serving.client import FeatureClient
from featurestore.serving.locks import read_lock

_PATIENCE = 10.0
"""Seconds a server may take to answer a verification."""

_LINES = 20
"""Lines of the audit that a person is shown unless more are asked for."""


def verify(
    repo: Path, alias: str, *, everything: bool, live: bool, address: str | None, json: bool
) -> bool:
    """Compare what is served with what training reads; say whether all is equal."""
    client = nullcontext() if address is None else FeatureClient(address, timeout=_PATIENCE)
    with (
        closing(Workspace.open(repo)) as workspace,
        client as server,
        terminal.busy("comparing what is served with what training reads"),
    ):
        found = verifying.verify(workspace, alias, live=live, everything=everything, client=server)
    if json:
        terminal.as_json(versions_values.verified(found))
    else:
        versions_render.verified(found, live=live)
    return found.differences.is_empty()


def promote(repo: Path, alias: str, *, plan_id: str | None, json: bool) -> None:
    """Make what is applied the release that an alias names."""
    with closing(Workspace.open(repo)) as workspace:
        found = promoting.promote(workspace, alias, plan_id=plan_id)
    _published(alias, found, json=json)


def rollback(repo: Path, alias: str, *, to: int | None, json: bool) -> None:
    """Give an alias back what it named before."""
    with closing(Workspace.open(repo)) as workspace:
        found = promoting.rollback(workspace, alias, to=to)
    _published(alias, found, json=json)


def _published(alias: str, found: Published, *, json: bool) -> None:
    if json:
        terminal.as_json(versions_values.published(alias, found))
    else:
        versions_render.published(alias, found)


def collect(repo: Path, *, yes: bool, details: bool, json: bool) -> None:
    """Show what nobody needs, and remove it if that is wanted."""
    with closing(Workspace.open(repo)) as workspace:
        found = collecting.collectible(workspace)
        if not json:
            versions_render.collectible(found, details=details)
        wanted = yes or (not json and _asked(found))
        if wanted:
            with terminal.busy("removing what nobody needs"):
                found = collecting.collect(workspace, found)
    if json:
        terminal.as_json(versions_values.collection(found, removed=wanted))
    else:
        versions_render.collected(found, removed=wanted)


def _asked(found: collecting.Collection) -> bool:
    """Ask a person, if one is there and there is something to remove."""
    there = sys.stdin.isatty() and terminal.out.is_terminal
    return bool(there and (found.tables or found.releases)) and typer.confirm("\nRemove it?")


def register(repo: Path, file: Path, *, owner: str, expires: str | None, json: bool) -> None:
    """Register a lock."""
    until = None if expires is None else micros(moment(expires, "--expires"))
    lock = read_lock(file)
    with (
        closing(Workspace.open(repo)) as workspace,
        terminal.busy("making every alias able to answer the lock"),
    ):
        found = locking.register(workspace, lock, owner=owner, expires=until)
    if json:
        terminal.as_json(versions_values.kept(found))
    else:
        versions_render.kept(found)


def locks(repo: Path, *, everything: bool, json: bool) -> None:
    """List the registered locks."""
    with closing(Workspace.open(repo)) as workspace:
        found, now = workspace.releases.locks(), workspace.clock()
    listed = [one for one in found if everything or one.holds(now)]
    if json:
        terminal.as_json([versions_values.registered(one, now) for one in listed])
    else:
        versions_render.locks(listed, now, hidden=len(found) - len(listed))


def retire(repo: Path, lock_id: str, *, json: bool) -> None:
    """Let go of a lock."""
    with closing(Workspace.open(repo)) as workspace:
        found = locking.retire(workspace, lock_id)
    if json:
        terminal.as_json({"id": found.id, "owner": found.owner})
    else:
        versions_render.retired(found)


def show(repo: Path, name: str, *, json: bool) -> None:
    """Show one version."""
    with closing(Workspace.open(repo)) as workspace:
        found, now = showing.show(workspace, name), workspace.clock()
    if json:
        terminal.as_json(versions_values.shown(found, now))
    else:
        versions_render.shown(found, now)


def diff(repo: Path, before: str, after: str, *, json: bool) -> None:
    """Compare two versions or two releases."""
    with closing(Workspace.open(repo)) as workspace:
        found = showing.diff(workspace, before, after)
    if json:
        terminal.as_json(versions_values.compared(found))
    else:
        versions_render.compared(found)


def lineage(repo: Path, name: str | None, *, json: bool) -> None:
    """Draw what is made of what."""
    with closing(Workspace.open(repo)) as workspace:
        whole = drawing.lineage(facts(workspace))
    found = whole if name is None else whole.around(name)
    if name is not None and not found.nodes:
        known = suggest(name, (node.name for node in whole.nodes))
        raise NotFound(f"{name}: no source, view, version, service or lock is called so{known}")
    if json:
        terminal.as_json(versions_values.lineage(found))
    else:
        versions_render.lineage(found)


def log(repo: Path, *, limit: int | None, json: bool) -> None:
    """Tell who did what."""
    with closing(Workspace.open(repo)) as workspace:
        found = workspace.registry.audit()[::-1]
    if json:
        terminal.as_json([versions_values.entry(one) for one in found[:limit]])
    else:
        versions_render.log(found, limit or _LINES)
