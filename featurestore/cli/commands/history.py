"""List, describe, show, diff, lineage, runs, log: what there is, and was."""

from typing import Annotated

import typer

from featurestore.cli import run
from featurestore.cli.commands.options import HERE, HISTORY, Json, Limit, Repo, Views

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
def runs(
    repo: Repo = HERE,
    view: Views = None,
    table: Annotated[
        str | None, typer.Option(metavar="TABLE", help="Only this table: the start of its id.")
    ] = None,
    limit: Limit = None,
    json: Json = False,
) -> None:
    """Tell what was materialized when, and from which state of its source, newest first."""
    run.history.runs(repo, views=view or (), table=table, limit=limit, json=json)


@app.command(rich_help_panel=HISTORY)
def log(
    repo: Repo = HERE,
    limit: Limit = None,
    json: Json = False,
) -> None:
    """Tell who did what, when and from which commit, newest first."""
    run.history.log(repo, limit=limit, json=json)
