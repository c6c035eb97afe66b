"""Verify, promote, roll back, collect: which versions are live, and how long others stay."""

from typing import Annotated

import typer

from featurestore.cli import run
from featurestore.cli.commands.options import HERE, VERSIONS, Alias, Json, Repo

NOT_EQUAL = 8
"""The exit code of a verification that found values which are not equal."""

app = typer.Typer()


@app.command(rich_help_panel=VERSIONS)
def verify(
    repo: Repo = HERE,
    alias: Annotated[
        str, typer.Option("--alias", "-a", metavar="NAME", help="The alias to verify for.")
    ] = "prod",
    everything: Annotated[
        bool, typer.Option("--all", help="All entities, not a sample of them.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live", help="What the alias serves now, not what comes next.")
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Ask a running server; implies --live."),
    ] = None,
    json: Json = False,
) -> None:
    """Prove that what is served is what training reads; exit 8 if any value differs.

    Only what passed can be promoted.
    """
    live = live or address is not None
    if not run.versions.verify(
        repo, alias, everything=everything, live=live, address=address, json=json
    ):
        raise typer.Exit(NOT_EQUAL)


@app.command(rich_help_panel=VERSIONS)
def promote(
    repo: Repo = HERE,
    alias: Alias = "prod",
    plan: Annotated[
        str | None,
        typer.Option("--plan", metavar="ID", help="Promote this plan, as `apply` named it, only."),
    ] = None,
    json: Json = False,
) -> None:
    """Make what is applied, computed and verified the release that an alias names."""
    run.versions.promote(repo, alias, plan_id=plan, json=json)


@app.command(rich_help_panel=VERSIONS)
def rollback(
    repo: Repo = HERE,
    alias: Alias = "prod",
    to: Annotated[
        int | None,
        typer.Option("--to", metavar="N", help="The release to go back to; default the last."),
    ] = None,
    json: Json = False,
) -> None:
    """Give an alias back the views that it named before; no data moves."""
    run.versions.rollback(repo, alias, to=to, json=json)


@app.command(rich_help_panel=VERSIONS)
def collect(
    repo: Repo = HERE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove it without asking.")] = False,
    details: Annotated[
        bool, typer.Option("--details", help="Show what stays as well, and why.")
    ] = False,
    json: Json = False,
) -> None:
    """Show, then remove the tables that no recent release, lock or running work needs.

    Asks before it removes anything; away from a terminal it removes only with --yes.
    """
    run.versions.collect(repo, yes=yes, details=details, json=json)
