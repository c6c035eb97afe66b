"""The feature store's side. The view is declared without feast, which no measured step needs."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from child import answer, main, timed
from dataset import END, KEY, MOMENT, READINGS, SPINE, START, latest, names

from featurestore import FeatureStore
from featurestore.jobs.tables import DraftTables
from featurestore.jobs.workspace import Workspace
from featurestore.model.catalog import Catalog
from featurestore.model.declare import batch_view, project, service
from featurestore.model.documents import Projection, Source, View
from featurestore.model.query import resolve
from featurestore.model.time import normalize_schema
from featurestore.training import training_set

VIEW, SERVICE, PROJECT = "readings", "model", "bench"
USE = Projection(view=VIEW, alias=VIEW)
CONFIG = f"project: {PROJECT}\nprovider: local\nregistry: data/registry.db\n"
ASKED = 5000


def view(folder: str, features: int) -> View:
    """Describe the view: each feature is its source column."""
    file = Path(folder).resolve() / READINGS
    source = Source(
        name="readings_file",
        path=str(file),
        format="parquet",
        timestamp_field=MOMENT,
        columns=normalize_schema(pl.read_parquet_schema(file)),
    )
    exprs = {name: pl.col(name) for name in names(features)}
    return batch_view(name=VIEW, join_keys={KEY: "int64"}, source=source, features=exprs)


def apply(repo: str, folder: str, url: str, features: int) -> FeatureStore:
    """Write a repo's configuration, register its view and service, and open it."""
    root = Path(repo)
    root.mkdir(parents=True)
    (root / "feature_store.yaml").write_text(CONFIG, encoding="utf-8")
    environ = {**os.environ, "FEATURESTORE_REDIS_URL": url}
    readings = view(folder, features)
    model = service(name=SERVICE, projections=[USE], views={VIEW: readings})
    workspace = Workspace.open(root, environ=environ)
    workspace.registry.apply(
        project(name=PROJECT, views=[readings], services=[model]),
        expected=None,
        now=workspace.clock(),
        who="benchmark",
    )
    workspace.close()
    return FeatureStore(root, environ=environ)


def materialize(
    *, repo: str, folder: str, url: str, features: int, keep: str | None = None
) -> Mapping[str, float]:
    """Materialize the whole source into Delta and Redis; look rows up to show they are there."""
    with apply(repo, folder, url, features) as store:
        outcomes, measured = timed(lambda: store.materialize(START, END))
        store.verify()
        store.promote()
        if keep is not None:
            asked = latest(pl.read_parquet(Path(folder) / READINGS)).select(KEY).head(ASKED)
            found = store.get_online_features(SERVICE, entities=asked)
            answer(asked.hstack(found.to_polars().select(names(features))), keep)
    return measured | {
        "rows offline": float(sum(one.rows for one in outcomes)),
        "rows in Redis": float(sum(one.served for one in outcomes)),
    }


def training(
    *, repo: str, folder: str, url: str, pandas: bool, keep: str | None = None
) -> Mapping[str, float]:
    """Build the training set from the materialized table."""
    spine = pl.read_parquet(Path(folder) / SPINE)
    given = spine.to_pandas() if pandas else spine
    with FeatureStore(repo, environ={**os.environ, "FEATURESTORE_REDIS_URL": url}) as store:

        def work() -> Any:
            made = store.get_historical_features(given, SERVICE)
            return made.to_df() if pandas else made.to_polars()

        made, measured = timed(work)
    answer(pl.DataFrame(made), keep)
    return measured


def draft(*, repo: str, folder: str, features: int, keep: str | None = None) -> Mapping[str, float]:
    """Build the training set from the source itself, as a notebook's unapplied view does."""
    spine = pl.read_parquet(Path(folder) / SPINE)
    query = resolve([USE], Catalog(current={VIEW: view(folder, features)}))

    def work() -> pl.DataFrame:
        tables = DraftTables(Path(repo))
        return training_set(spine, query, tables, project=PROJECT, draft=True).to_polars()

    made, measured = timed(work)
    answer(made, keep)
    return measured


if __name__ == "__main__":
    raise SystemExit(main(materialize, training, draft))
