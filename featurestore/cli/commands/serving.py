"""Serve, look up, push, rebuild, and the embedded Redis-protocol server."""

from pathlib import Path
from typing import Annotated

import typer

from featurestore.cli import run
from featurestore.cli.commands.options import DEFAULT_ADDRESS, HERE, SERVING, Json, Repo

To = Annotated[str, typer.Option(metavar="WHERE", help="online_and_offline, online or offline.")]
MaxSkew = Annotated[
    str, typer.Option("--max-skew", metavar="SPAN", help="How far ahead an event may lie: 90s.")
]

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
        int,
        typer.Option(
            metavar="PORT", min=0, max=65_535, help="Port to listen on; 0 picks a free one."
        ),
    ] = 6571,
    workers: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=1_024, help="Processes on the port: one a core."),
    ] = 1,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Answer Prometheus there; a port alone: loopback."),
    ] = None,
    grace: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="What running calls get to end.")
    ] = 5.0,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The certificate chain, PEM.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key, PEM.")] = None,
    client_ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Demand client certificates of this authority, PEM."),
    ] = None,
    access: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Who may ask for what (TOML); others are refused."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond this machine without TLS.")
    ] = False,
    log_json: Annotated[bool, typer.Option("--log-json", help="Log JSON, an object a line.")] = (
        False
    ),
    slow: Annotated[
        float | None, typer.Option(metavar="MS", min=0, help="Log calls that take so long.")
    ] = None,
    max_rows: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Rows of a call; default 10000.")
    ] = None,
    max_features: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Features of a call; default 2000.")
    ] = None,
    max_keys: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Rows x views; default 250000.")
    ] = None,
    max_cells: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Values of all calls in hand; default 5000000."),
    ] = None,
    max_calls: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Calls in hand, a worker; default 256.")
    ] = None,
    cache_rows: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Rows a worker keeps; default none.")
    ] = None,
    cache_seconds: Annotated[
        float | None, typer.Option(metavar="S", min=0.001, help="For how long; default 0.1.")
    ] = None,
) -> None:
    """Serve lookups over gRPC until told to stop.

    Prints one JSON line, {"address": …}, on standard output when it listens (all workers do).

    What it does goes to standard error. Ctrl-C or SIGTERM ends it after the running calls: exit 0.
    A worker that dies is started again.
    """
    run.serving.serve(
        repo,
        workers=workers,
        metrics=metrics,
        options={
            "alias": alias,
            "host": host,
            "port": port,
            "grace": grace,
            "tls-cert": tls_cert,
            "tls-key": tls_key,
            "client-ca": client_ca,
            "access": access,
            "insecure": insecure,
            "log-json": log_json,
            "slow": slow,
            "max-rows": max_rows,
            "max-features": max_features,
            "max-keys": max_keys,
            "max-cells": max_cells,
            "max-calls": max_calls,
            "cache-rows": cache_rows,
            "cache-seconds": cache_seconds,
        },
    )


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
    to: To = "online_and_offline",
    max_skew: MaxSkew = "10m",
    json: Json = False,
) -> None:
    """Push rows to a source: into its log, and where lookups read; exit 1 if any was refused.

    Bad rows are refused one by one, and the others taken.
    """
    if not run.serving.push(repo, source, file, to=to, max_skew=max_skew, json=json):
        raise typer.Exit(1)


@app.command(
    rich_help_panel=SERVING,
    epilog="Example: featurestore ingest landings_now --stream landings --until-empty",
)
def ingest(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The PushSource's name.")],
    stream: Annotated[str, typer.Option(metavar="NAME", help="The stream's name.")],
    repo: Repo = HERE,
    kind: Annotated[
        str, typer.Option("--from", metavar="SYSTEM", help="What keeps it: redis-stream.")
    ] = "redis-stream",
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Redis with it; default FEATURESTORE_STREAM_URL, or the online one."
        ),
    ] = None,
    group: Annotated[
        str, typer.Option(metavar="NAME", help="The consumer group, made if need be.")
    ] = "featurestore",
    consumer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="This consumer's name; default HOST-1, if it is free."),
    ] = None,
    to: To = "online_and_offline",
    max_skew: MaxSkew = "10m",
    batch: Annotated[
        int, typer.Option(metavar="N", min=1, max=1_000_000, help="Entries pushed at a time.")
    ] = 1_000,
    wait: Annotated[
        str, typer.Option(metavar="SPAN", help="How long a batch may wait for more.")
    ] = "100ms",
    take_over: Annotated[
        str,
        typer.Option(metavar="SPAN", help="After how long others' entries count as left behind."),
    ] = "1m",
    patience: Annotated[
        str,
        typer.Option(metavar="SPAN", help="How long to retry what is unreachable: then exit 6."),
    ] = "5m",
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="End when the stream has nothing more.")
    ] = False,
    batches: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="End after so many batches.")
    ] = None,
    materialize: Annotated[
        str | None,
        typer.Option(metavar="SPAN", help="Materialize what is new, too, this often."),
    ] = None,
    metrics_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep lag and counts here, for Prometheus (.prom)."),
    ] = None,
    json: Json = False,
) -> None:
    """Push a stream's events to a source, in micro-batches, until told to stop.

    Each counts once, whatever is killed meanwhile. Prints a line for each batch.

    What is refused goes to the stream NAME:refused, with the reason.

    Ctrl-C or SIGTERM ends it after the batch in hand: exit 0.
    """
    if kind != "redis-stream":
        raise typer.BadParameter(f"{kind!r} is not known; write redis-stream", param_hint="--from")
    stream_of = run.serving.Stream(
        url=url, name=stream, group=group, consumer=consumer, take_over=take_over
    )
    run.serving.ingest(
        repo,
        source,
        stream_of,
        to=to,
        max_skew=max_skew,
        pace=run.serving.paced(
            batch=batch,
            wait=wait,
            until_empty=until_empty,
            batches=batches,
            patience=patience,
            materialize=materialize,
        ),
        metrics=metrics_file,
        json=json,
    )


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
