"""Plan, apply, materialize, backfill: from definitions to tables."""

from typing import Annotated

import typer

from featurestore.cli import run
from featurestore.cli.commands.options import HERE, VERSIONS, DryRun, Json, Repo, Towards, Views

app = typer.Typer()


@app.command()
def plan(
    repo: Repo = HERE,
    alias: Towards = "prod",
    sample: Annotated[
        bool, typer.Option("--sample", help="Compare old and new values on the newest rows.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what `apply` would change, why, and the steps from there to an alias.

    Exit 0 if the definitions are as applied, 2 if they change, 3 if they break a registered lock.
    """
    found = run.building.plan(repo, alias=alias, sample=sample, json=json)
    if found.changed:
        raise typer.Exit(3 if found.broken else 2)


@app.command()
def apply(
    repo: Repo = HERE,
    plan: Annotated[
        str | None, typer.Option("--plan", metavar="ID", help="Only what this plan showed.")
    ] = None,
    alias: Towards = "prod",
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="Replace what was applied from a commit you do not have."),
    ] = False,
    json: Json = False,
) -> None:
    """Register the repo's definitions; computes nothing."""
    run.building.apply(repo, plan=plan, alias=alias, anyway=anyway, json=json)


@app.command(epilog="Example: featurestore materialize 2013-01-01 2013-11-01T18:00")
def materialize(
    start: Annotated[
        str, typer.Argument(metavar="START", help="First moment, ISO 8601; naive means UTC.")
    ],
    end: Annotated[str, typer.Argument(metavar="END", help="Last moment, included.")],
    repo: Repo = HERE,
    view: Views = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Compute the rows known in [START, END], offline and into Redis."""
    run.building.materialize(repo, start, end, views=view or (), dry_run=dry_run, json=json)


@app.command("materialize-incremental")
def materialize_incremental(
    end: Annotated[
        str | None,
        typer.Argument(metavar="END", help="Last moment, included, ISO 8601; default now."),
    ] = None,
    repo: Repo = HERE,
    view: Views = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Compute what became known since each view was last complete, and what its source changed."""
    run.building.materialize_incremental(repo, end, views=view or (), dry_run=dry_run, json=json)


@app.command()
def compact(
    repo: Repo = HERE,
    view: Views = None,
    vacuum: Annotated[
        bool,
        typer.Option(
            "--vacuum",
            help="Remove files that only old versions need: no registered lock's, and none younger "
            "than the retention.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Rewrite the many small files of runs as few; no answer changes."""
    run.building.compact(repo, views=view or (), vacuum=vacuum, json=json)


@app.command(rich_help_panel=VERSIONS)
def backfill(
    repo: Repo = HERE,
    alias: Annotated[
        str, typer.Option("--alias", "-a", metavar="NAME", help="The alias to get ready for.")
    ] = "prod",
    view: Views = None,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Compute the named views anew, beside a load under suspicion."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Compute what is applied, beside what is live and over the same time."""
    run.building.backfill(repo, alias, views=view or (), again=again, json=json)
