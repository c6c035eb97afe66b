"""Verify, promote, roll back, collect: which versions are live, and how long others stay."""

import sys
from contextlib import closing, nullcontext
from pathlib import Path

import typer

from featurestore.cli import terminal
from featurestore.cli.run.typed import aim
from featurestore.cli.text import versions as text
from featurestore.cli.values import versions as values
from featurestore.jobs import collect as collecting
from featurestore.jobs import promote as promoting
from featurestore.jobs import verify as verifying
from featurestore.jobs.publish import Published
from featurestore.jobs.workspace import Workspace
from featurestore.serving.client.client import FeatureClient

_PATIENCE = 10.0
"""Seconds a server may take to answer a verification."""


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
        if not live:
            aim(alias, workspace.releases.aliases())
        found = verifying.verify(workspace, alias, live=live, everything=everything, client=server)
    if json:
        terminal.as_json(values.verified(found))
    else:
        text.verified(found, live=live)
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
    if found.wrong:
        terminal.note(f"verification failed of {', '.join(found.wrong)}; it answers nevertheless")
    if json:
        terminal.as_json(values.published(alias, found))
    else:
        text.published(alias, found)


def collect(repo: Path, *, yes: bool, details: bool, json: bool) -> None:
    """Show what nobody needs, and remove it if that is wanted."""
    with closing(Workspace.open(repo)) as workspace:
        found = collecting.collectible(workspace)
        if not json:
            text.collectible(found, details=details)
        wanted = yes or (not json and _asked(found))
        if wanted:
            with terminal.busy("removing what nobody needs"):
                looked = found
                found = collecting.collect(workspace, looked)
            gone = {one.table for one in found.tables}
            stayed = [one.table.id for one in looked.tables if one.table not in gone]
            if stayed:
                terminal.note(f"somebody needs by now, and stays: {', '.join(stayed)}")
    if json:
        terminal.as_json(values.collection(found, removed=wanted))
    else:
        text.collected(found, removed=wanted)


def _asked(found: collecting.Collection) -> bool:
    """Ask a person, if one is there and there is something to remove."""
    there = sys.stdin.isatty() and terminal.out.is_terminal
    return bool(there and (found.tables or found.releases)) and typer.confirm("\nRemove it?")
