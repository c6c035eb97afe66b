"""The feature store's side of a training set, from its materialized tables.

`local`, `stream` and `ray` name what computes it; `training` leaves that to the store. Imports what
the measured call needs, and nothing for writing or comparing: the memory is to be the store's.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from child import answer, main, timed
from columns import SERVICE, SPINE

import featurestore
from featurestore import FeatureStore


def training(
    *,
    repo: str,
    folder: str,
    url: str,
    service: str = SERVICE,
    pandas: bool = False,
    keep: str | None = None,
) -> Mapping[str, float]:
    """Build the training set from the materialized tables."""
    spine = pl.read_parquet(Path(folder) / SPINE)
    given = spine.to_pandas() if pandas else spine
    with FeatureStore(repo, environ=_environ(url)) as store:

        def work() -> Any:
            made = store.get_historical_features(given, service)
            return made.to_df() if pandas else made.to_polars()

        made, measured = timed(work)
    answer(pl.DataFrame(made), keep)
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


if __name__ == "__main__":
    raise SystemExit(main(training, local, ray, stream))
