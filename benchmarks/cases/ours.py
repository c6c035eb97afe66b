"""The feature store's side. The views are declared without feast, which no measured step needs.

`local`, `stream` and `ray` name what a training set is computed by; the others leave that to the
store.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
from child import answer, main, timed
from columns import END, KEY, MOMENT, READINGS, SPINE, START, TTL, VIEW, names, views
from dataset import latest

import featurestore
from featurestore import FeatureStore
from featurestore.jobs.materialize import materialize as run_materialize
from featurestore.jobs.tables import DraftTables
from featurestore.jobs.workspace import Workspace
from featurestore.model.catalog import Catalog
from featurestore.model.declare import batch_view, project, service
from featurestore.model.documents import Projection, Source, View
from featurestore.model.query import resolve
from featurestore.model.time import micros, normalize_schema
from featurestore.training import training_set

SERVICE, PROJECT = "model", "bench"
CONFIG = f"project: {PROJECT}\nprovider: local\nregistry: data/registry.db\n"
ASKED = 5000


def view(folder: str, name: str, features: list[str], ttl: timedelta | None) -> View:
    """Describe a view: each feature is its source column."""
    file = Path(folder).resolve() / f"{name}.parquet"
    source = Source(
        name=f"{name}_file",
        path=str(file),
        format="parquet",
        timestamp_field=MOMENT,
        columns=normalize_schema(pl.read_parquet_schema(file)),
    )
    exprs = {one: pl.col(one) for one in features}
    return batch_view(name=name, join_keys={KEY: "int64"}, source=source, features=exprs, ttl=ttl)


def apply(
    repo: str, folder: str, url: str, features: int, count: int = 1, ttl: timedelta | None = None
) -> None:
    """Write a repo's configuration and register its views, and a service of them all."""
    root = Path(repo)
    root.mkdir(parents=True)
    (root / "feature_store.yaml").write_text(CONFIG, encoding="utf-8")
    made = {name: view(folder, name, of, ttl) for name, of in views(features, count).items()}
    uses = [Projection(view=name, alias=name) for name in made]
    model = service(name=SERVICE, projections=uses, views=made)
    workspace = Workspace.open(root, environ=_environ(url))
    workspace.registry.apply(
        project(name=PROJECT, views=list(made.values()), services=[model]),
        expected=None,
        now=workspace.clock(),
        who="benchmark",
    )
    workspace.close()


def prepare(
    *, repo: str, folder: str, url: str, features: int, count: int = 1
) -> Mapping[str, float]:
    """Materialize every view's source, for training sets to be built from."""
    apply(repo, folder, url, features, count, TTL)
    with FeatureStore(repo, environ=_environ(url)) as store:
        outcomes, measured = timed(lambda: store.materialize(START, END))
    return measured | {"rows offline": float(sum(one.rows for one in outcomes))}


def materialize(
    *, repo: str, folder: str, url: str, features: int, keep: str | None = None
) -> Mapping[str, float]:
    """Materialize the whole source into Delta and Redis; look rows up to show they are there.

    `serving s` is the part of the seconds that Redis took.
    """
    apply(repo, folder, url, features)
    workspace, stages = Workspace.open(Path(repo), environ=_environ(url)), _Stages()
    outcomes, measured = timed(
        lambda: run_materialize(workspace, micros(START), micros(END), report=stages)
    )
    workspace.close()
    with FeatureStore(repo, environ=_environ(url)) as store:
        store.verify()
        store.promote()
        if keep is not None:
            asked = latest(pl.read_parquet(Path(folder) / READINGS)).select(KEY).head(ASKED)
            found = store.get_online_features(SERVICE, entities=asked)
            answer(asked.hstack(found.to_polars().select(names(features))), keep)
    return measured | {
        "serving s": stages.seconds["serving"],
        "rows offline": float(sum(one.rows for one in outcomes)),
        "rows in Redis": float(sum(one.served for one in outcomes)),
    }


class _Stages:
    """The seconds of each stage that a run reports, by name."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._stage, self._since = "", time.perf_counter()

    def __call__(self, _view: str, stage: str, _rows: int) -> None:
        now = time.perf_counter()
        self.seconds[self._stage] += now - self._since
        self._stage, self._since = stage, now


def training(
    *, repo: str, folder: str, url: str, pandas: bool = False, keep: str | None = None
) -> Mapping[str, float]:
    """Build the training set from the materialized tables."""
    spine = pl.read_parquet(Path(folder) / SPINE)
    given = spine.to_pandas() if pandas else spine
    with FeatureStore(repo, environ=_environ(url)) as store:

        def work() -> Any:
            made = store.get_historical_features(given, SERVICE)
            return made.to_df() if pandas else made.to_polars()

        made, measured = timed(work)
    answer(pl.DataFrame(made), keep)
    return measured


def draft(*, repo: str, folder: str, features: int, keep: str | None = None) -> Mapping[str, float]:
    """Build the training set from the source itself, as a notebook's unapplied view does."""
    spine = pl.read_parquet(Path(folder) / SPINE)
    used = view(folder, VIEW, names(features), TTL)
    query = resolve([Projection(view=VIEW, alias=VIEW)], Catalog(current={VIEW: used}))

    def work() -> pl.DataFrame:
        tables = DraftTables(Path(repo))
        return training_set(spine, query, tables, project=PROJECT, draft=True).to_polars()

    made, measured = timed(work)
    answer(made, keep)
    return measured


def local(
    *, repo: str, folder: str, url: str, workers: int, keep: str | None = None
) -> Mapping[str, float]:
    """Build the training set by so many local workers, twice in one process."""
    return _twice(featurestore.LocalExecutor(workers=workers), repo, folder, url, keep)


def ray(
    *, repo: str, folder: str, url: str, workers: int, keep: str | None = None
) -> Mapping[str, float]:
    """Build the training set by so many Ray workers, twice in one process."""
    return _twice(featurestore.RayExecutor(workers=workers), repo, folder, url, keep)


def stream(*, repo: str, folder: str, url: str, memory: int, keep: str) -> Mapping[str, float]:
    """Build the training set of a file into a file, within so many bytes."""
    with FeatureStore(repo, environ=_environ(url)) as store:
        executor = featurestore.LocalExecutor(memory=memory)

        def work() -> None:
            spine = Path(folder) / SPINE
            store.get_historical_features(spine, SERVICE, executor=executor).to_parquet(keep)

        _, measured = timed(work)
    return measured


def _twice(
    executor: Any, repo: str, folder: str, url: str, keep: str | None
) -> Mapping[str, float]:
    """Time a first training set, which may start workers, and one more."""
    spine = pl.read_parquet(Path(folder) / SPINE)
    with FeatureStore(repo, environ=_environ(url)) as store:

        def work() -> pl.DataFrame:
            return store.get_historical_features(spine, SERVICE, executor=executor).to_polars()

        _, first = timed(work)
        made, measured = timed(work)
    answer(made, keep)
    return measured | {"first s": first["seconds"]}


def _environ(url: str) -> Mapping[str, str]:
    return {**os.environ, "FEATURESTORE_REDIS_URL": url}


CASES: tuple[Callable[..., Mapping[str, float]], ...] = (
    prepare, materialize, training, draft, local, ray, stream,
)  # fmt: skip

if __name__ == "__main__":
    raise SystemExit(main(*CASES))
