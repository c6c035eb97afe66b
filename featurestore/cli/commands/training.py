"""Training sets, written by jobs."""

from pathlib import Path
from typing import Annotated

import typer

from featurestore.cli import run
from featurestore.cli.commands.options import HERE, TRAINING, Json, Repo

app = typer.Typer()


@app.command(
    "get-historical",
    rich_help_panel=TRAINING,
    epilog=(
        "Example: featurestore get-historical --entity-file flights.parquet "
        "--service lateness_v1 --out training.parquet"
    ),
)
def get_historical(
    repo: Repo = HERE,
    entity_file: Annotated[
        Path | None,
        typer.Option(
            "--entity-file", "-e", metavar="FILE", help="Parquet: keys and event_timestamp by row."
        ),
    ] = None,
    service: Annotated[
        str | None, typer.Option("--service", "-s", metavar="NAME", help="The feature service.")
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(
            "--feature", "-f", metavar="VIEW:FEATURE", help="Instead of a service; repeat it."
        ),
    ] = None,
    lock: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Instead of a service: a training set's lock."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Where to write the rows, as Parquet."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="MOMENT", help="Without entities: take those seen from here on,"),
    ] = None,
    end: Annotated[
        str | None, typer.Option(metavar="MOMENT", help="up to here, as of here. Default now.")
    ] = None,
    full_feature_names: Annotated[
        bool, typer.Option("--full-feature-names", help="Call outputs view__feature.")
    ] = False,
    allow_stale: Annotated[
        bool, typer.Option("--allow-stale", help="Accept moments after a table's watermark.")
    ] = False,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="What the join may hold, as 2GiB. Default half."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Buckets at one time. Default: one a core.")
    ] = None,
    ray: Annotated[
        bool, typer.Option("--ray", help="Join on the Ray cluster that RAY_ADDRESS names.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what would be read, and read nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Join features to entity rows, each as of its own moment, and write them as Parquet.

    The lock is in the file's metadata, and beside it as FILE.lock.json: register it for a model.
    """
    if [service is None, not features, lock is None].count(False) != 1:
        raise typer.BadParameter("give exactly one of --service, --feature and --lock")
    if (out is None) == (not explain):
        raise typer.BadParameter("give exactly one of --out and --explain")
    run.training.get_historical(
        repo,
        entity_file,
        service or features,
        lock=lock,
        out=out,
        span=(start, end),
        full_feature_names=full_feature_names,
        allow_stale=allow_stale,
        machine=run.training.Machine(memory=memory, workers=workers, ray=ray),
        json=json,
    )
