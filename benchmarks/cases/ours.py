"""The feature store's side of writing, and of a notebook's draft.

The views are declared without feast, which no measured step needs.
"""

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import polars as pl
import redis
from child import answer, main, timed
from columns import END, KEY, MOMENT, READINGS, SERVICE, SPINE, START, TTL, VIEW, names, views
from dataset import latest

from featurestore import FeatureStore
from featurestore.jobs.materialize import materialize as run_materialize
from featurestore.jobs.tables import DraftTables
from featurestore.jobs.workspace import Workspace
from featurestore.model.catalog import Catalog
from featurestore.model.declare import batch_view, project, service
from featurestore.model.documents import Projection, Service, Source, View
from featurestore.model.query import resolve
from featurestore.model.time import micros, normalize_schema
from featurestore.storage.pushed import Roots
from featurestore.training import training_set

PROJECT = "bench"
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
    made = {name: view(folder, name, of, ttl) for name, of in views(features, count).items()}
    uses = [Projection(view=name, alias=name) for name in made]
    register(repo, url, list(made.values()), [service(name=SERVICE, projections=uses, views=made)])


def register(repo: str, url: str, made: Sequence[View], services: Sequence[Service]) -> None:
    """Write a repo's configuration and register what it would define."""
    root = Path(repo)
    root.mkdir(parents=True)
    (root / "feature_store.yaml").write_text(CONFIG, encoding="utf-8")
    workspace = Workspace.open(root, environ=environ(url))
    workspace.registry.apply(
        project(name=PROJECT, views=made, services=services),
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
    with FeatureStore(repo, environ=environ(url)) as store:
        outcomes, measured = timed(lambda: store.materialize(START, END))
    return measured | {"rows offline": float(sum(one.rows for one in outcomes))}


def materialize(
    *, repo: str, folder: str, url: str, features: int, keep: str | None = None
) -> Mapping[str, float]:
    """Materialize the whole source into Delta and Redis; look rows up to show they are there.

    `serving s` is the part of the seconds that Redis took.
    """
    apply(repo, folder, url, features)
    workspace, stages = Workspace.open(Path(repo), environ=environ(url)), _Stages()
    outcomes, measured = timed(
        lambda: run_materialize(workspace, micros(START), micros(END), report=stages)
    )
    workspace.close()
    with FeatureStore(repo, environ=environ(url)) as store:
        store.verify()
        store.promote()
        if keep is not None:
            asked = latest(pl.read_parquet(Path(folder) / READINGS)).select(KEY).head(ASKED)
            found = store.get_online_features(SERVICE, entities=asked)
            answer(asked.hstack(found.to_polars().select(names(features))), keep)
    return measured | {
        "serving s": stages.seconds["serving"],
        "rows offline": float(sum(one.rows for one in outcomes)),
        "rows in Redis": float(_rows_of(url, outcomes[0].table)),
    }


def _rows_of(url: str, table: str) -> int:
    """Count the rows of a table in Redis; a mark and the release are there beside them."""
    mine = f"*}}fs1/{PROJECT}/{table}/*"
    with redis.Redis.from_url(url, protocol=2, socket_timeout=300.0) as client:
        return sum(1 for _ in client.scan_iter(mine, count=10_000))


class _Stages:
    """The seconds of each stage that a run reports, by name."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._stage, self._since = "", time.perf_counter()

    def __call__(self, _view: str, stage: str, _rows: int) -> None:
        now = time.perf_counter()
        self.seconds[self._stage] += now - self._since
        self._stage, self._since = stage, now


def draft(*, repo: str, folder: str, features: int, keep: str | None = None) -> Mapping[str, float]:
    """Build the training set from the source itself, as a notebook's unapplied view does."""
    spine = pl.read_parquet(Path(folder) / SPINE)
    used = view(folder, VIEW, names(features), TTL)
    query = resolve([Projection(view=VIEW, alias=VIEW)], Catalog(current={VIEW: used}))

    def work() -> pl.DataFrame:
        tables = DraftTables(Roots(repo=Path(repo)))
        return training_set(spine, query, tables, project=PROJECT, draft=True).to_polars()

    made, measured = timed(work)
    answer(made, keep)
    return measured


def environ(url: str) -> Mapping[str, str]:
    """Give the environment of a store whose Redis is at a URL."""
    return {**os.environ, "FEATURESTORE_REDIS_URL": url}


if __name__ == "__main__":
    raise SystemExit(main(prepare, materialize, draft))
