"""Feast with its defaults: the file offline store, the local engine, and its Redis online store."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
import polars as pl
from child import answer, main, timed
from columns import END, KEY, MOMENT, READINGS, SPINE, START, TTL, names
from dataset import latest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.repo_config import RegistryConfig, RepoConfig
from feast.types import Float32

DAY = timedelta(days=1)
ASKED = 1000


def applied(
    folder: str, repo: str, features: int, *, url: str | None = None, ttl: timedelta = timedelta(0)
) -> tuple[FeatureStore, FeatureService]:
    """Give an applied store over the source file; without a Redis URL it has no online store."""
    Path(repo).mkdir(parents=True)
    config = RepoConfig(
        project="bench",
        provider="local",
        registry=RegistryConfig(path=f"{repo}/registry.db"),
        online_store=None if url is None else redis_config(url),
        entity_key_serialization_version=3,
    )
    entity = Entity(name=KEY, join_keys=[KEY], value_type=ValueType.INT64)
    view = FeatureView(
        name="readings",
        entities=[entity],
        ttl=ttl,
        schema=[Field(name=name, dtype=Float32) for name in names(features)],
        source=FileSource(
            name="readings_file", path=f"{folder}/{READINGS}", timestamp_field=MOMENT
        ),
    )
    service = FeatureService(name="model", features=[view])
    store = FeatureStore(config=config)
    store.apply([entity, view, service])
    return store, service


def redis_config(url: str) -> dict[str, str]:
    """Give the configuration of Feast's Redis online store at a URL."""
    parts = urlsplit(url)
    secret = "" if parts.password is None else f",password={json.dumps(parts.password)}"
    return {"type": "redis", "connection_string": f"{parts.hostname}:{parts.port}{secret}"}


def training(
    *, repo: str, folder: str, features: int, keep: str | None = None
) -> Mapping[str, float]:
    """Build the training set from the file; pandas in and out, the only kind it takes."""
    store, service = applied(folder, repo, features, ttl=TTL)
    spine = pd.read_parquet(Path(folder) / SPINE)
    made, measured = timed(lambda: store.get_historical_features(spine, service).to_df())
    answer(pl.from_pandas(made), keep)
    return measured


def materialize(
    *, repo: str, folder: str, url: str, features: int, keep: str | None = None
) -> Mapping[str, float]:
    """Materialize each key's newest row into Redis; look rows up to show they are there."""
    store, service = applied(folder, repo, features, url=url)
    _, measured = timed(lambda: store.materialize(START - DAY, END + DAY))
    if keep is not None:
        asked = latest(pl.read_parquet(Path(folder) / READINGS)).select(KEY).head(ASKED)
        found = store.get_online_features(service, [{KEY: key} for key in asked[KEY]]).to_dict()
        schema = {KEY: pl.Int64} | dict.fromkeys(names(features), pl.Float32)
        answer(pl.DataFrame({name: found[name] for name in schema}, schema=schema), keep)
    return measured


if __name__ == "__main__":
    raise SystemExit(main(training, materialize))
