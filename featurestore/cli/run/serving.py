"""Serve, look up, push, rebuild, and the embedded Redis-protocol server."""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from featurestore.cli import terminal
from featurestore.cli.run.typed import moment, row
from featurestore.cli.text import serving as text
from featurestore.cli.values import serving as values
from featurestore.errors import InvalidRequest, Unavailable
from featurestore.jobs import ingest as ingesting
from featurestore.jobs import push as pushing
from featurestore.jobs import rebuild as rebuilding
from featurestore.jobs.config import HOME, read_config
from featurestore.jobs.ingest import Pace, Progress
from featurestore.jobs.workspace import Workspace
from featurestore.model.declare.windows import span
from featurestore.model.fingerprint import digest
from featurestore.serving.client.client import FeatureClient
from featurestore.serving.message.pushed import where
from featurestore.storage.launcher import EmbeddedServer
from featurestore.storage.seat import seat
from featurestore.storage.stream import REFUSED, RedisStream

_PATIENCE = 5.0
"""Seconds a person's look-up may take; a service's own calls are in more of a hurry."""

_LONGEST_WAIT = 60.0
"""Seconds that a batch may wait at most: so long it takes to stop."""


def serve(repo: Path, *, workers: int, metrics: str | None, options: Mapping[str, object]) -> None:
    """Become the server, or what watches its workers: a process without this one's imports.

    Of the options those that are None or False are left out.
    """
    config = read_config(repo, os.environ)
    url = config.redis_url or EmbeddedServer(config.embedded).ensure()
    # gRPC's C core reports a taken port on its own; we say it once, in our words.
    environ = {"GRPC_VERBOSITY": "NONE", **os.environ}
    environ |= {"FEATURESTORE_REDIS_URL": url, "POLARS_MAX_THREADS": "1"}
    module, given = "featurestore.serving", {"project": config.project, **options}
    if workers > 1 or metrics is not None:
        module = f"{module}.process.workers"
        given |= {"workers": workers, "metrics": metrics}
    arguments = [
        f"--{name}" if value is True else f"--{name}={value}"
        for name, value in given.items()
        if value is not None and value is not False
    ]
    if sys.stdout is not None:  # None: it came closed
        sys.stdout.flush()
    os.execve(  # noqa: S606 - our own module, under this interpreter
        sys.executable, [sys.executable, "-m", module, *arguments], environ
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A stream as it was named; what is None has its default."""

    url: str | None
    name: str
    group: str
    consumer: str | None
    take_over: str


def paced(*, wait: str, patience: str, materialize: str | None, **rest: Any) -> Pace:
    """Give a pace, its spans read.

    Raises:
        InvalidDefinition: one is no span of time.
        InvalidRequest: a batch would wait too long.
    """
    waits = span(wait, "--wait") / 1e6
    if waits > _LONGEST_WAIT:
        raise InvalidRequest(
            f"--wait: {wait} is longer than {_LONGEST_WAIT:g}s; give a shorter one"
        )
    return Pace(
        wait=waits,
        patience=span(patience, "--patience") / 1e6,
        materialize=None if materialize is None else span(materialize, "--materialize"),
        **rest,
    )


def ingest(
    repo: Path,
    source: str,
    stream: Stream,
    *,
    to: str,
    max_skew: str,
    pace: Pace,
    metrics: Path | None,
    json: bool,
) -> None:
    """Push a stream's events to a source until a signal comes, or as the pace says."""
    skew, place, idle = (
        span(max_skew, "--max-skew"),
        where(to),
        span(stream.take_over, "--take-over"),
    )
    labels = {"source": source, "stream": stream.name, "group": stream.group}

    def report(done: Progress) -> None:
        if done.entries and json:
            terminal.as_json_line(values.ingested(done))
        elif done.entries:
            text.ingested(done)
        if metrics is not None:
            try:
                terminal.to_file(metrics, values.metrics(done, labels))
            except Unavailable as error:
                terminal.note(str(error))

    if metrics is not None and not metrics.absolute().parent.is_dir():
        raise InvalidRequest(f"--metrics-file: {metrics.parent} is no folder; make it first")

    with (
        closing(Workspace.open(repo)) as workspace,
        _named(workspace, stream) as consumer,
        stopping() as stop,
        closing(
            RedisStream.connect(
                stream.url or workspace.stream_url(),
                stream=stream.name,
                group=stream.group,
                consumer=consumer,
                idle=idle / 1e6,
                wait=pace.wait,
            )
        ) as events,
    ):
        done = ingesting.ingest(
            workspace,
            source,
            events,
            to=place,
            max_skew=skew,
            pace=pace,
            stop=stop,
            report=report,
            tell=terminal.note,
        )
    if not json:
        text.drained(source, stream.name + REFUSED, done)


@contextmanager
def _named(workspace: Workspace, stream: Stream) -> Iterator[str]:
    """Give the consumer's name: one that is given, or one that it will have again."""
    if stream.consumer is not None:
        yield stream.consumer
        return
    place = digest("ingest", stream.name, stream.group)[:16]
    with seat(workspace.config.root / HOME / "ingest" / place) as name:
        yield name


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """Give what the first SIGTERM or SIGINT sets; a second one ends the process as ever."""
    stop = threading.Event()
    before: dict[signal.Signals, Any] = {}

    def asked(*_: object) -> None:
        stop.set()
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, asked)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
