"""Serve, look up, push, rebuild, and the embedded Redis-protocol server."""

from pathlib import Path
from typing import Annotated

import typer

from featurestore.cli import run
from featurestore.cli.commands.options import DEFAULT_ADDRESS, HERE, SERVING, Json, Repo

app = typer.Typer()
online = typer.Typer(
    help="The Redis-protocol server a repo starts where none is configured.", no_args_is_help=True
)
app.add_typer(online, name="online", rich_help_panel=SERVING)


@app.command(rich_help_panel=SERVING)
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

    Prints one JSON line, {"address": …}, on standard output when it listens.

    What it does goes to standard error. Ctrl-C or SIGTERM ends it after the running calls: exit 0.
    """
    run.serving.serve(repo, alias=alias, host=host, port=port)


@app.command(
    "get-online",
    rich_help_panel=SERVING,
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
    run.serving.get_online(service, lock, pairs or [], address=address, as_of=as_of, json=json)


@app.command(
    rich_help_panel=SERVING,
    epilog="Example: featurestore push landings_now new.parquet --to online",
)
def push(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The PushSource's name.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The rows, as Parquet.")],
    repo: Repo = HERE,
    to: Annotated[
        str, typer.Option(metavar="WHERE", help="online_and_offline, online or offline.")
    ] = "online_and_offline",
    max_skew: Annotated[
        str,
        typer.Option("--max-skew", metavar="SPAN", help="How far ahead an event may lie: 90s."),
    ] = "10m",
    json: Json = False,
) -> None:
    """Push rows to a source: into its log, and where lookups read; exit 1 if any was refused.

    Bad rows are refused one by one, and the others taken.
    """
    if not run.serving.push(repo, source, file, to=to, max_skew=max_skew, json=json):
        raise typer.Exit(1)


@app.command("rebuild-online", rich_help_panel=SERVING)
def rebuild_online(repo: Repo = HERE, json: Json = False) -> None:
    """Bring back what Redis lost, from the offline tables and the registry."""
    run.serving.rebuild_online(repo, json=json)


@online.command("status")
def online_status(repo: Repo = HERE, json: Json = False) -> None:
    """Say whether the embedded server runs, and where."""
    run.serving.status(repo, json=json)


@online.command("stop")
def online_stop(repo: Repo = HERE, json: Json = False) -> None:
    """Stop the embedded server; its data stays on disk."""
    run.serving.stop(repo, json=json)
