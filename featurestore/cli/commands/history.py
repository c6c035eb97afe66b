"""List, describe, show, diff, lineage, log: what there is, and was."""

from typing import Annotated

import typer

from featurestore.cli import run
from featurestore.cli.commands.options import HERE, HISTORY, Json, Repo

app = typer.Typer()


@app.command("list", rich_help_panel=HISTORY)
def list_(repo: Repo = HERE, json: Json = False) -> None:
    """List the applied views and services."""
    run.history.list_(repo, json=json)


@app.command(rich_help_panel=HISTORY)
def describe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A view or service.")],
    repo: Repo = HERE,
    json: Json = False,
) -> None:
    """Describe one applied view or service."""
    run.history.describe(repo, name, json=json)


@app.command(rich_help_panel=HISTORY)
def show(
    name: Annotated[
        str, typer.Argument(metavar="VIEW[@VERSION]", help="A version; default the applied one.")
    ],
    repo: Repo = HERE,
    json: Json = False,
) -> None:
    """Show a version: its features, its states and why, its tables, who names it."""
    run.history.show(repo, name, json=json)


@app.command(
    rich_help_panel=HISTORY,
    epilog="Examples: featurestore diff 3 prod; featurestore diff plane_history@7f3a plane_history",
)
def diff(
    before: Annotated[
        str, typer.Argument(metavar="A", help="A version (VIEW@VERSION), release number or alias.")
    ],
    after: Annotated[str, typer.Argument(metavar="B", help="Another of the same.")],
    repo: Repo = HERE,
    json: Json = False,
) -> None:
    """Compare two versions of a view, or two releases, down to the feature."""
    run.history.diff(repo, before, after, json=json)


@app.command(rich_help_panel=HISTORY)
def lineage(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="Only around this source, view, version, service or lock."
        ),
    ] = None,
    repo: Repo = HERE,
    json: Json = False,
) -> None:
    """Draw what is made of what: source, view, version, service, lock."""
    run.history.lineage(repo, name, json=json)


@app.command(rich_help_panel=HISTORY)
def log(
    repo: Repo = HERE,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="So many; default 20, with --json all."),
    ] = None,
    json: Json = False,
) -> None:
    """Tell who did what, when and from which commit, newest first."""
    run.history.log(repo, limit=limit, json=json)
