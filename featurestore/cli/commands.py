"""The command line: the commands of `featurestore`, their arguments, help and exit codes."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from featurestore import cli, errors
from featurestore.cli import terminal, versioning
from featurestore.cli.options import DEFAULT_ADDRESS, HERE, Json, Repo, Views

EXIT_CODES: tuple[tuple[type[errors.FeatureStoreError], int], ...] = (
    (errors.NotMaterialized, 4),
    (errors.OnlineDataMissing, 4),
    (errors.Conflict, 5),
    (errors.Unavailable, 6),
    (errors.SourceError, 7),
    (errors.CorruptData, 7),
    (errors.FeatureStoreError, 1),
)

app = typer.Typer(
    name="featurestore",
    help="A feature store where training and serving read the same number.",
    epilog=(
        "Exit codes: 0 done; 1 refused; 2 usage, or `plan` found changes; 3 `plan` "
        "found a change that breaks a registered lock; 4 not materialized, or "
        "not in Redis; 5 somebody else was first, run it again; 6 unreachable, try later; 7 bad "
        "source or data; 8 `verify` found values that are not equal."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
online = typer.Typer(
    help="The Redis-protocol server a repo starts where none is configured.", no_args_is_help=True
)
app.add_typer(versioning.app)
app.add_typer(online, name="online", rich_help_panel="Serving")

Alias = Annotated[
    str, typer.Option("--alias", metavar="NAME", help="The alias that the steps lead to.")
]


def main() -> None:
    """Run the command line; an error of the store ends it with its exit code."""
    try:
        app(prog_name="featurestore")
    except errors.FeatureStoreError as problem:
        terminal.error(problem)
        sys.exit(next(code for kind, code in EXIT_CODES if isinstance(problem, kind)))


@app.command()
def plan(
    repo: Repo = HERE,
    alias: Alias = "prod",
    sample: Annotated[
        bool, typer.Option("--sample", help="Compare old and new values on the newest rows.")
    ] = False,
    json: Json = False,
) -> None:
    """Show what `apply` would change, why, and the steps from there to an alias.

    Exit 0 if the definitions are as applied, 2 if they change, 3 if they break a registered lock.
    """
    found = cli.repo.plan(repo, alias=alias, sample=sample, json=json)
    if found.changed:
        raise typer.Exit(3 if found.broken else 2)


@app.command()
def apply(
    repo: Repo = HERE,
    plan: Annotated[
        str | None, typer.Option("--plan", metavar="ID", help="Only what this plan showed.")
    ] = None,
    alias: Alias = "prod",
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="Replace what was applied from a commit you do not have."),
    ] = False,
    json: Json = False,
) -> None:
    """Register the repo's definitions; computes nothing."""
    cli.repo.apply(repo, plan=plan, alias=alias, anyway=anyway, json=json)


@app.command(epilog="Example: featurestore materialize 2013-01-01 2013-11-01T18:00")
def materialize(
    start: Annotated[
        str, typer.Argument(metavar="START", help="First moment, ISO 8601; naive means UTC.")
    ],
    end: Annotated[str, typer.Argument(metavar="END", help="Last moment, included.")],
    repo: Repo = HERE,
    view: Views = None,
    json: Json = False,
) -> None:
    """Compute the rows known in [START, END], offline and into Redis."""
    cli.repo.materialize(repo, start, end, views=view or (), json=json)


@app.command("materialize-incremental")
def materialize_incremental(
    end: Annotated[
        str | None,
        typer.Argument(metavar="[END]", help="Last moment, included, ISO 8601; default now."),
    ] = None,
    repo: Repo = HERE,
    view: Views = None,
    json: Json = False,
) -> None:
    """Compute what became known since each view was last complete."""
    cli.repo.materialize_incremental(repo, end, views=view or (), json=json)


@app.command(rich_help_panel="Serving")
def serve(
    repo: Repo = HERE,
    alias: Annotated[str, typer.Option(metavar="NAME", help="The alias to follow.")] = "prod",
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", help="Port to listen on; 0 picks a free one.")
    ] = 6571,
) -> None:
    """Serve lookups over gRPC until told to stop.

    Prints one JSON line, {"address": …}, on standard output when it listens; what it does goes to
    standard error. Ctrl-C or SIGTERM ends it after the running calls, with exit code 0.
    """
    cli.online.serve(repo, alias=alias, host=host, port=port)


@app.command(
    "get-online",
    rich_help_panel="Serving",
    epilog="Example: featurestore get-online tailnum=N14228 distance=1400 --service lateness_v1",
)
def get_online(
    pairs: Annotated[
        list[str] | None,
        typer.Argument(metavar="COLUMN=VALUE", help="Entities and request data."),
    ] = None,
    service: Annotated[
        str | None, typer.Option("--service", "-s", metavar="NAME", help="The feature service.")
    ] = None,
    lock: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A training set's lock, instead of a service."),
    ] = None,
    address: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where the server listens.")
    ] = DEFAULT_ADDRESS,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="MOMENT", help="Moment to answer for, ISO 8601; naive means UTC. Default now."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Look one entity up on a running server: each value with its status and event time."""
    if (service is None) == (lock is None):
        raise typer.BadParameter("give exactly one of --service and --lock")
    cli.online.get_online(service, lock, pairs or [], address=address, as_of=as_of, json=json)


@app.command("rebuild-online", rich_help_panel="Serving")
def rebuild_online(repo: Repo = HERE, json: Json = False) -> None:
    """Bring back what Redis lost, from the offline tables and the registry."""
    cli.repo.rebuild_online(repo, json=json)


@online.command("status")
def online_status(repo: Repo = HERE, json: Json = False) -> None:
    """Say whether the embedded server runs, and where."""
    cli.online.status(repo, json=json)


@online.command("stop")
def online_stop(repo: Repo = HERE, json: Json = False) -> None:
    """Stop the embedded server; its data stays on disk."""
    cli.online.stop(repo, json=json)
