"""Serve, look up, push, rebuild, and the embedded Redis-protocol server."""

import os
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import polars as pl

from featurestore.cli import terminal
from featurestore.cli.run.typed import moment, row
from featurestore.cli.text import serving as text
from featurestore.cli.values import serving as values
from featurestore.errors import InvalidRequest
from featurestore.jobs import push as pushing
from featurestore.jobs import rebuild as rebuilding
from featurestore.jobs.config import read_config
from featurestore.jobs.workspace import Workspace
from featurestore.model.declare.windows import span
from featurestore.serving.client import FeatureClient
from featurestore.serving.pushed import where
from featurestore.storage.launcher import EmbeddedServer

_PATIENCE = 5.0
"""Seconds a person's look-up may take; a service's own calls are in more of a hurry."""


def serve(repo: Path, *, alias: str, host: str, port: int) -> None:
    """Become the server: a fresh process without this one's imports."""
    config = read_config(repo, os.environ)
    url = config.redis_url or EmbeddedServer(config.embedded).ensure()
    # gRPC's C core reports a taken port on its own; we say it once, in our words.
    environ = {"GRPC_VERBOSITY": "NONE", **os.environ}
    environ |= {"FEATURESTORE_REDIS_URL": url, "POLARS_MAX_THREADS": "1"}
    arguments = ["--project", config.project, "--alias", alias, "--host", host, "--port", str(port)]
    sys.stdout.flush()
    os.execve(  # noqa: S606 - our own module, under this interpreter
        sys.executable, [sys.executable, "-m", "featurestore.serving", *arguments], environ
    )


def get_online(
    service: str | None,
    lock: Path | None,
    pairs: Sequence[str],
    *,
    address: str,
    as_of: str | None,
    json: bool,
) -> None:
    """Look one entity up on a running server: the features of a service, or those of a lock."""
    when = None if as_of is None else moment(as_of, "--as-of")
    full = lock is None
    with FeatureClient(address, lock=lock, timeout=_PATIENCE) as client:
        asked = client.describe(service, full_feature_names=full)
        dtypes = {field.name: field.dtype for field in (*asked.entities, *asked.request_data)}
        answer = client.get_online_features(
            service, entities=row(pairs, dtypes), full_feature_names=full, as_of=when
        )
    if json:
        terminal.as_json(values.looked_up(answer))
    else:
        text.looked_up(service or f"lock {asked.service_id[:12]}", answer)


def push(repo: Path, source: str, file: Path, *, to: str, max_skew: str, json: bool) -> bool:
    """Push a file's rows to a source; says if every row was taken."""
    skew, place = span(max_skew, "--max-skew"), where(to)
    try:
        rows = pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InvalidRequest(f"{file}: cannot be read as Parquet ({error})") from error
    with closing(Workspace.open(repo)) as workspace, terminal.busy(f"pushing to {source}"):
        found = pushing.push(workspace, source, rows, to=place, max_skew=skew)
    if json:
        terminal.as_json(values.pushed(found))
    else:
        text.pushed(found)
    return not found.refused_rows


def rebuild_online(repo: Path, *, json: bool) -> None:
    """Bring back what Redis lost."""
    with (
        closing(Workspace.open(repo)) as workspace,
        terminal.busy("loading Redis from the offline tables"),
    ):
        found = rebuilding.rebuild_online(workspace)
    if json:
        terminal.as_json({"rows": found.rows, "aliases": found.aliases})
    else:
        text.rebuilt(found)


def status(repo: Path, *, json: bool) -> None:
    """Say whether the embedded server runs, and where."""
    found = _embedded(repo).status()
    if json:
        terminal.as_json(
            {"running": False}
            if found is None
            else {
                "running": True,
                "address": f"127.0.0.1:{found.port}",
                "pid": found.pid,
                "version": found.version,
            }
        )
    elif found is None:
        terminal.out.print("not running")
    else:
        terminal.out.print(f"Valkey {found.version} on 127.0.0.1:{found.port}, process {found.pid}")


def stop(repo: Path, *, json: bool) -> None:
    """Stop the embedded server; its data stays on disk."""
    stopped = _embedded(repo).stop()
    if json:
        terminal.as_json({"stopped": stopped})
    else:
        terminal.out.print("stopped" if stopped else "was not running")


def _embedded(repo: Path) -> EmbeddedServer:
    return EmbeddedServer(read_config(repo, os.environ).embedded)
