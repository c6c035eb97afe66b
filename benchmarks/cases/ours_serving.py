"""The feature store's side of serving: every kind of rows live, with the services that ask them."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl
from child import main
from columns import END, MOMENT, START
from ours import environ, register
from works import SINGLE, WITH, Kind, kinds, on_demand

from featurestore import FeatureStore
from featurestore.model.declare import batch_view, on_demand_view, service
from featurestore.model.documents import Projection, Service, Source, View
from featurestore.model.time import normalize_schema


def serve(*, repo: str, folder: str, url: str, views: int) -> Mapping[str, str]:
    """Materialize every view and make it live; give the ids of the views' tables."""
    made = {
        view.name: view for kind in kinds(views) for view in _views(kind, Path(folder).resolve())
    }
    use = Projection(view=SINGLE.name, alias=SINGLE.name)
    made[WITH] = on_demand_view(name=WITH, sources=[(made[SINGLE.name], use)], features=on_demand())
    services = [_service(kind.name, list(kind.by_view()), made) for kind in kinds(views)]
    services.append(_service(WITH, [SINGLE.name, WITH], made))
    register(repo, url, list(made.values()), services)
    with FeatureStore(repo, environ=environ(url)) as store:
        outcomes = store.materialize(START, END)
        store.verify()
        store.promote()
    return {one.view: one.table for one in outcomes}


def _views(kind: Kind, folder: Path) -> list[View]:
    file = kind.file(folder)
    source = Source(
        name=f"{kind.name}_file",
        path=str(file),
        format="parquet",
        timestamp_field=MOMENT,
        columns=normalize_schema(pl.read_parquet_schema(file)),
    )
    keys = {kind.key: "int64"}
    return [
        batch_view(
            name=name,
            join_keys=keys,
            source=source,
            features={one: pl.col(one) for one in features},
        )
        for name, features in kind.by_view().items()
    ]


def _service(name: str, uses: list[str], views: Mapping[str, View]) -> Service:
    projections = [Projection(view=one, alias=one) for one in uses]
    return service(name=name, projections=projections, views=views)


if __name__ == "__main__":
    raise SystemExit(main(serve))
