"""Feast's side of serving: the same rows in its Redis layout, its requests, and its answers read.

Its servers are its own commands, `feast serve` and `feast listen`.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
from child import answer, main
from columns import END, MOMENT, START
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.protos.feast.serving.ServingService_pb2 import (
    GetOnlineFeaturesRequest,
    GetOnlineFeaturesResponse,
)
from feast.types import Bool, Float32, Float64, Int64, String
from feast_peer import redis_config
from works import Kind, kinds

DTYPES = {
    pl.Float32(): Float32, pl.Float64(): Float64, pl.Int64(): Int64, pl.String(): String,
    pl.Boolean(): Bool,
}  # fmt: skip
DAY = timedelta(days=1)


def prepare(
    *, repo: str, folder: str, url: str, views: int, asked: Sequence[Mapping[str, Any]]
) -> Mapping[str, float]:
    """Write a repo and materialize each key's newest rows of every kind; write what is asked.

    Each of `asked` has a service, its key's name, a number of entities, which are the first ones,
    and the files of its requests by form.
    """
    Path(repo).mkdir(parents=True)
    config = {
        "project": "bench",
        "provider": "local",
        "registry": f"{repo}/registry.db",
        "online_store": redis_config(url),
        "entity_key_serialization_version": 3,
    }
    # YAML takes JSON.
    (Path(repo) / "feature_store.yaml").write_text(json.dumps(config), encoding="utf-8")
    store = FeatureStore(repo)
    for kind in kinds(views):
        entity = Entity(name=kind.key, join_keys=[kind.key], value_type=ValueType.INT64)
        made = _views(kind, Path(folder).resolve(), entity)
        store.apply([entity, *made, FeatureService(name=kind.name, features=made)])
    store.materialize(START - DAY, END + DAY)
    for one in asked:
        _ask(one["service"], one["key"], list(range(one["entities"])), one["files"])
    return {}


def _views(kind: Kind, folder: Path, entity: Entity) -> list[FeatureView]:
    file = kind.file(folder)
    schema = pl.read_parquet_schema(file)
    source = FileSource(name=f"{kind.name}_file", path=str(file), timestamp_field=MOMENT)
    return [
        FeatureView(
            name=name,
            entities=[entity],
            ttl=timedelta(0),
            schema=[Field(name=one, dtype=DTYPES[schema[one]]) for one in features],
            source=source,
        )
        for name, features in kind.by_view().items()
    ]


def _ask(service: str, key: str, keys: Sequence[int], files: Mapping[str, str]) -> None:
    body = {"feature_service": service, "entities": {key: keys}}
    Path(files["http"]).write_text(json.dumps(body), encoding="utf-8")
    message = GetOnlineFeaturesRequest(feature_service=service)
    for one in keys:
        message.entities[key].val.add(int64_val=one)
    Path(files["grpc"]).write_bytes(message.SerializeToString())


def read(*, replies: Sequence[Mapping[str, str]]) -> Mapping[str, float]:
    """Turn replies, each of a form, into frames of what they answer, kept as Parquet."""
    for one in replies:
        raw = Path(one["reply"]).read_bytes()
        answer(pl.DataFrame(_READ[one["form"]](raw)), one["keep"])
    return {}


def _of_json(raw: bytes) -> dict[str, list[Any]]:
    body = json.loads(raw)
    given = [one["values"] for one in body["results"]]
    return dict(zip(body["metadata"]["feature_names"], given, strict=True))


def _of_message(raw: bytes) -> dict[str, list[Any]]:
    message = GetOnlineFeaturesResponse.FromString(raw)
    given = [[_value(value) for value in one.values] for one in message.results]
    return dict(zip(message.metadata.feature_names.val, given, strict=True))


def _value(value: Any) -> Any:
    kind = value.WhichOneof("val")
    return None if kind is None or kind == "null_val" else getattr(value, kind)


_READ = {"http": _of_json, "grpc": _of_message}


if __name__ == "__main__":
    raise SystemExit(main(prepare, read))
