"""The commands of `featurestore`."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from featurestore import errors
from featurestore.cli import render
from featurestore.jobs import apply as applying
from featurestore.jobs import materialize as materializing
from featurestore.jobs import promote as promoting
from featurestore.jobs import rebuild as rebuilding
from featurestore.jobs.workspace import Workspace
from featurestore.model import expressions
from featurestore.model.documents import View
from featurestore.model.names import suggest
from featurestore.model.schema import parse_dtype
from featurestore.model.time import micros, show, watermark
from featurestore.model.time import moment as from_micros
from featurestore.serving.client import FeatureClient
from featurestore.storage.launcher import EmbeddedServer

EXIT_CODES: tuple[tuple[type[errors.FeatureStoreError], int], ...] = (
    (errors.NotMaterialized, 4),
    (errors.Conflict, 5),
    (errors.Unavailable, 6),
    (errors.SourceError, 7),
    (errors.CorruptData, 7),
    (errors.FeatureStoreError, 1),
)
DEFAULT_ADDRESS = "127.0.0.1:6571"

app = typer.Typer(
    name="featurestore",
    help="A feature store where training and serving read the same number.",
    epilog=(
        "Exit codes: 0 done; 1 refused; 2 usage, or `plan` found changes; 4 not materialized; "
        "5 somebody else was first, run it again; 6 unreachable, try later; 7 bad source or data."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
online = typer.Typer(help="The embedded online server of a repo.", no_args_is_help=True)
app.add_typer(online, name="online")

Repo = Annotated[
    Path,
    typer.Option("--repo", "-r", envvar="FEATURESTORE_REPO", help="The feature repo's folder."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a scheduler.")]
Views = Annotated[
    list[str] | None, typer.Option("--view", "-v", help="Only this view; may be repeated.")
]
Alias = Annotated[str, typer.Option(help="The alias to move or follow.")]
HERE = Path()


def main() -> None:
    """Run the command line; an error of the store ends it with its exit code."""
    try:
        app()
    except errors.FeatureStoreError as problem:
        render.error(problem)
        sys.exit(next(code for kind, code in EXIT_CODES if isinstance(problem, kind)))


@contextmanager
def _workspace(repo: Path) -> Iterator[Workspace]:
    workspace = Workspace.open(repo)
    try:
        yield workspace
    finally:
        workspace.close()


@app.command()
def plan(repo: Repo = HERE, json: Json = False) -> None:
    """Show what `apply` would change, and why; exit 2 if anything would."""
    with _workspace(repo) as workspace:
        found, _ = applying.plan(workspace)
    if json:
        render.as_json(render.plan_json(found))
    else:
        render.plan(found)
    if found.changed:
        raise typer.Exit(2)


@app.command()
def apply(repo: Repo = HERE, json: Json = False) -> None:
    """Register the repo's definitions; computes nothing."""
    with _workspace(repo) as workspace:
        found = applying.apply(workspace)
    if json:
        render.as_json(render.plan_json(found))
    else:
        render.plan(found)


@app.command()
def materialize(
    start: Annotated[str, typer.Argument(help="First moment, ISO 8601; naive means UTC.")],
    end: Annotated[str, typer.Argument(help="Last moment, included.")],
    repo: Repo = HERE,
    view: Views = None,
    json: Json = False,
) -> None:
    """Compute the rows known in [START, END], offline and into Redis."""
    first, last = _moment(start, "START"), _moment(end, "END")
    _run(
        repo,
        json,
        lambda workspace, report: materializing.materialize(
            workspace, first, last, views=view or (), report=report
        ),
    )


@app.command("materialize-incremental")
def materialize_incremental(
    end: Annotated[str | None, typer.Argument(help="Last moment, included; default now.")] = None,
    repo: Repo = HERE,
    view: Views = None,
    json: Json = False,
) -> None:
    """Compute what became known since each view's watermark."""
    last = micros(datetime.now(UTC)) if end is None else _moment(end, "END")
    _run(
        repo,
        json,
        lambda workspace, report: materializing.materialize_incremental(
            workspace, last, views=view or (), report=report
        ),
    )


def _run(
    repo: Path,
    json: bool,
    job: Callable[[Workspace, materializing.Report], tuple[materializing.Outcome, ...]],
) -> None:
    with _workspace(repo) as workspace, _progress(workspace) as report:
        found = job(workspace, report)
    if json:
        render.as_json([render.outcome_json(o) for o in found])
    else:
        render.outcomes(found)


@contextmanager
def _progress(workspace: Workspace) -> Iterator[materializing.Report]:
    views = [v for v in workspace.project().views if v.kind == "batch"]
    bar = Progress(
        TextColumn("{task.description:<44}"),
        BarColumn(bar_width=16),
        TextColumn("{task.completed}/{task.total} views"),
        TimeElapsedColumn(),
        console=render.err,
        transient=True,
        disable=not render.err.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=len(views))

        def report(name: str, stage: str, rows: int) -> None:
            if stage == "done":
                bar.advance(task)
            else:
                text = f"{name}: {stage}" + (f" {rows:,} rows" if rows else "")
                bar.update(task, description=text)

        yield report


def _moment(text: str, name: str) -> int:
    try:
        return micros(datetime.fromisoformat(text))
    except ValueError as error:
        raise errors.InvalidRequest(
            f"{name}: {text!r} is no ISO 8601 moment; write 2013-09-01 or 2013-09-01T12:00:00Z"
        ) from error


@app.command()
def promote(repo: Repo = HERE, alias: Alias = "prod", json: Json = False) -> None:
    """Make what is materialized the release that an alias names."""
    with _workspace(repo) as workspace:
        release, fresh = promoting.promote(workspace, alias)
    if json:
        render.as_json({"alias": alias, "release": release.number, "new": fresh})
    else:
        verb = "now names" if fresh else "already names"
        render.out.print(f"{alias} {verb} release {release.number}.")
        render.table(
            ["view", "table", "complete up to"],
            [
                (v.view.version, v.table.id if v.table else "-", show(v.watermark))
                for v in release.views
                if v.table
            ],
        )


@app.command("list")
def list_(repo: Repo = HERE, json: Json = False) -> None:
    """List the applied views and services."""
    with _workspace(repo) as workspace:
        project = workspace.project()
        marks = {v.name: _mark(workspace, v) for v in project.views if v.kind == "batch"}
    if json:
        render.as_json(
            {
                "project": project.name,
                "views": [
                    {"name": v.name, "version": v.id, "complete_up_to": marks.get(v.name)}
                    for v in project.views
                ],
                "services": [{"name": s.name, "id": s.id} for s in project.services],
            }
        )
    else:
        render.project(project, marks)


def _mark(workspace: Workspace, view: View) -> str:
    table = workspace.table(view)
    return show(watermark(workspace.ledger.covered(table.id)) if table else None)


@app.command()
def describe(
    name: Annotated[str, typer.Argument(help="A view or service.")],
    repo: Repo = HERE,
) -> None:
    """Describe one applied view or service."""
    with _workspace(repo) as workspace:
        project = workspace.project()
        views = {v.name: v for v in project.views}
        services = {s.name: s for s in project.services}
        if name in views:
            found = views[name]
            render.view(found, _texts(found), _facts(workspace, found))
        elif name in services:
            render.service(services[name], views)
        else:
            known = suggest(name, [*views, *services])
            raise errors.NotFound(f"{name}: no applied view or service has this name{known}")


def _texts(view: View) -> dict[str, str]:
    return {
        f.name: expressions.text(expressions.decode(f.expression, path=f"{view.name}.{f.name}"))
        for f in view.features
    }


def _facts(workspace: Workspace, view: View) -> dict[str, str]:
    facts = {"version": view.id}
    if view.kind == "batch" and view.source is not None:
        facts |= {
            "keys": ", ".join(f"{k.name} ({k.dtype})" for k in view.join_keys) or "none",
            "source": f"{view.source.name} ({view.source.path})",
            "event time": view.source.timestamp_field,
            "known at": view.known_at if view.source.created_field else "event",
            "ttl": render.span(view.ttl),
            "complete up to": _mark(workspace, view),
        }
    else:
        facts |= {
            "uses": ", ".join(p.alias for p in view.projections) or "-",
            "request data": ", ".join(f"{c.name} ({c.dtype})" for c in view.request) or "-",
        }
    return facts


@app.command()
def serve(
    repo: Repo = HERE,
    alias: Alias = "prod",
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to bind; 0 picks a free one.")] = 6571,
) -> None:
    """Serve lookups over gRPC until told to stop."""
    with _workspace(repo) as workspace:
        url, project = workspace.redis_url(), workspace.config.project
    environ = {**os.environ, "FEATURESTORE_REDIS_URL": url, "POLARS_MAX_THREADS": "1"}
    arguments = ["--project", project, "--alias", alias, "--host", host, "--port", str(port)]
    sys.stdout.flush()
    os.execve(  # noqa: S606 - the server is a fresh process without this one's imports
        sys.executable, [sys.executable, "-m", "featurestore.serving", *arguments], environ
    )


@app.command("get-online")
def get_online(
    pairs: Annotated[list[str], typer.Argument(help="COLUMN=VALUE: entities and request data.")],
    service: Annotated[str, typer.Option("--service", "-s", help="The feature service.")],
    address: Annotated[str, typer.Option(help="The server's host:port.")] = DEFAULT_ADDRESS,
    as_of: Annotated[str | None, typer.Option(help="Moment to answer for; default now.")] = None,
    json: Json = False,
) -> None:
    """Look one entity up on a running server and show each value with its status."""
    moment = None if as_of is None else _moment(as_of, "--as-of")
    with FeatureClient(address, timeout=5.0) as client:
        asked = client.describe(service)
        dtypes = {field.name: field.dtype for field in (*asked.entities, *asked.request_data)}
        answer = client.get_online_features(
            service,
            entities=_row(pairs, dtypes),
            full_feature_names=True,
            as_of=None if moment is None else from_micros(moment),
        )
    if json:
        render.as_json(render.answer_json(answer))
    else:
        render.answer(answer)


def _row(pairs: list[str], dtypes: Mapping[str, str]) -> pl.DataFrame:
    """Give one row from COLUMN=VALUE words, each value read in its declared dtype."""
    row = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise errors.InvalidRequest(f"{pair!r}: is not COLUMN=VALUE")
        if name not in dtypes:
            raise errors.NotFound(
                f"{name}: the service asks for no such column{suggest(name, dtypes)}"
            )
        try:
            row[name] = _value(name, text, dtypes[name])
        except pl.exceptions.PolarsError as error:
            raise errors.InvalidRequest(f"{name}: {text!r} is no {dtypes[name]}") from error
    return pl.DataFrame(row)


def _value(name: str, text: str, dtype: str) -> pl.Series:
    words = pl.Series(name, [text])
    match dtype:
        case "datetime":
            return pl.Series(name, [from_micros(_moment(text, name))])
        case "date":
            return words.str.to_date("%Y-%m-%d")
        case "bool":
            return words.str.to_lowercase().replace_strict({"true": True, "false": False})
    return words.cast(parse_dtype(dtype))


@app.command("rebuild-online")
def rebuild_online(repo: Repo = HERE, json: Json = False) -> None:
    """Bring back what Redis lost, from the offline tables and the registry."""
    with _workspace(repo) as workspace:
        found = rebuilding.rebuild_online(workspace)
    if json:
        render.as_json({"rows": found.rows, "aliases": found.aliases})
        return
    render.table(["view", ("rows", "right")], [(v, f"{n:,}") for v, n in found.rows.items()])
    for name, number in found.aliases.items():
        render.out.print(f"{name} names release {number}.")


@online.command("status")
def online_status(repo: Repo = HERE) -> None:
    """Say whether the embedded server runs, and where."""
    with _workspace(repo) as workspace:
        found = EmbeddedServer(workspace.config.embedded).status()
    if found is None:
        render.out.print("not running")
    else:
        render.out.print(f"Valkey {found.version} on 127.0.0.1:{found.port}, process {found.pid}")


@online.command("stop")
def online_stop(repo: Repo = HERE) -> None:
    """Stop the embedded server; its data stays on disk."""
    with _workspace(repo) as workspace:
        stopped = EmbeddedServer(workspace.config.embedded).stop()
    render.out.print("stopped" if stopped else "was not running")
