"""The feature store's side of windows: views over the events, written for training and serving."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import polars as pl
from asked import Asked, read
from child import main, timed
from columns import KEY, MOMENT, START
from events import EVENTS, ID, SOURCE, plain
from ours import environ, register

from featurestore import FeatureStore
from featurestore.model.declare import Aggregate, batch_view, service
from featurestore.model.documents import Projection, Service, Source, View
from featurestore.model.time import normalize_schema

MOVING, PLAIN = "windowed", "plain"


def prepare(
    *, repo: str, folder: str, url: str, days: int, services: Mapping[str, Sequence[Sequence[str]]]
) -> Mapping[str, float]:
    """Materialize a view of all features asked for, with a service for each list of them."""
    asked = {name: read(given) for name, given in services.items()}
    view = moving(folder, (one for of in asked.values() for one in of))
    made = [_service(name, view, [one.name for one in of]) for name, of in asked.items()]
    register(repo, url, [view], made)
    with FeatureStore(repo, environ=environ(url)) as store:
        outcomes, measured = timed(lambda: store.materialize(START, START + timedelta(days=days)))
    return measured | {"rows offline": float(sum(one.rows for one in outcomes))}


def serve(
    *,
    repo: str,
    folder: str,
    url: str,
    days: int,
    asked: Sequence[Sequence[str]],
    plain_too: bool = True,
) -> Mapping[str, object]:
    """Make a view of windows live, and maybe one of as many plain features; a service of each.

    Gives the ids of their tables.
    """
    windowed = moving(folder, read(asked), event_id=ID)
    beside = batch_view(
        name=PLAIN, join_keys={KEY: "int64"}, source=windowed.source, features=plain(len(asked))
    )
    views = [windowed, beside] if plain_too else [windowed]
    register(repo, url, views, [_service(view.name, view) for view in views])
    with FeatureStore(repo, environ=environ(url)) as store:
        outcomes = store.materialize(START, START + timedelta(days=days))
        store.verify()
        store.promote()
    return {one.view: one.table for one in outcomes}


def moving(folder: str, asked: Iterable[Asked], *, event_id: str | None = None) -> View:
    """Describe a view of windowed features over the events, each named once."""
    return batch_view(
        name=MOVING,
        join_keys={KEY: "int64"},
        source=_source(folder, pushed=event_id is not None),
        features={one.name: _aggregate(one) for one in asked},
        event_id=event_id,
    )


def _aggregate(one: Asked) -> Aggregate:
    return Aggregate(
        function=one.function,
        of=pl.col(one.column) if one.column else None,
        filter=None,
        length=timedelta(days=one.days),
        every=timedelta(microseconds=one.every),
    )


def _source(folder: str, *, pushed: bool) -> Source:
    file = Path(folder).resolve() / EVENTS
    return Source(
        name=SOURCE,
        pushed=pushed,
        path=str(file),
        format="parquet",
        timestamp_field=MOMENT,
        columns=normalize_schema(pl.read_parquet_schema(file)),
    )


def _service(name: str, view: View, features: Sequence[str] = ()) -> Service:
    use = Projection(view=view.name, alias=view.name, features=tuple(features))
    return service(name=name, projections=[use], views={view.name: view})


if __name__ == "__main__":
    raise SystemExit(main(prepare, serve))
