"""What of Feast is not taken is named with a reason and a way out."""

from datetime import timedelta
from typing import Any

import feast
import pandas as pd
import pytest
from feast.credentials import ConnectionRef
from feast.data_format import JsonFormat
from feast.feature_logging import LoggingConfig
from feast.infra.offline_stores.file_source import FileLoggingDestination
from feast.permissions.permission import Permission
from feast.types import Bytes, Float64, Int64, String

from featurestore.definitions.refusals import refusal

PLANE = feast.Entity(name="plane", join_keys=["tailnum"], value_type=feast.ValueType.STRING)
FILE = feast.FileSource(name="landings", path="landings.parquet", timestamp_field="landed_at")
BIGQUERY = feast.BigQuerySource(name="warehouse", table="a.b", timestamp_field="landed_at")
REQUEST = feast.RequestSource(name="flight", schema=[feast.Field(name="miles", dtype=Float64)])


def kafka() -> feast.KafkaSource:
    return feast.KafkaSource(
        name="stream",
        timestamp_field="landed_at",
        message_format=JsonFormat(schema_json="a int"),
        kafka_bootstrap_servers="localhost:1",
        topic="t",
        batch_source=FILE,
        watermark_delay_threshold=timedelta(minutes=5),
    )


def plain(**changes: Any) -> feast.FeatureView:
    schema = [feast.Field(name="arr_delay", dtype=Float64)]
    given = {"name": "plane", "source": FILE, "entities": [PLANE], "schema": schema}
    return feast.FeatureView(**(given | changes))


def double(frame: pd.DataFrame) -> pd.DataFrame:
    return frame * 2


def on_demand() -> feast.OnDemandFeatureView:
    return feast.OnDemandFeatureView(
        name="pace",
        sources=[plain(), REQUEST],
        schema=[feast.Field(name="per_mile", dtype=Float64)],
        udf=double,
        udf_string="double",
    )


def batch(**changes: Any) -> feast.BatchFeatureView:
    with pytest.warns(RuntimeWarning, match="experimental"):
        return feast.BatchFeatureView(
            **({"name": "batch", "source": FILE, "entities": [PLANE], "mode": "pandas"} | changes)
        )


def service(**changes: Any) -> feast.FeatureService:
    return feast.FeatureService(**({"name": "lateness", "features": [plain()]} | changes))


LOGGED = LoggingConfig(destination=FileLoggingDestination(path="log"))

REFUSED = {
    "kafka": (kafka, "stream: KafkaSource is a stream", "PushSource(batch_source=FileSource"),
    "warehouse": (lambda: BIGQUERY, "warehouse: BigQuerySource is not read", "export its rows"),
    "endpoint": (
        lambda: feast.FileSource(name="s3", path="s3://b/f", s3_endpoint_override="http://minio"),
        "s3: s3_endpoint_override",
        "AWS_ENDPOINT_URL",
    ),
    "credentials": (
        lambda: feast.FileSource(
            name="f", path="f", connection_ref=ConnectionRef(provider="env", name="c")
        ),
        "f: connection_ref is not read",
        "in the environment",
    ),
    "push without batch": (
        lambda: feast.PushSource(name="push"),
        "push: the push source has no batch source",
        "batch_source=FileSource",
    ),
    "push over warehouse": (
        lambda: feast.PushSource(name="push", batch_source=BIGQUERY),
        "push: its batch source warehouse: BigQuerySource",
        "export its rows",
    ),
    "request of bytes": (
        lambda: feast.RequestSource(name="r", schema=[feast.Field(name="b", dtype=Bytes)]),
        "r: field 'b': Feast type Bytes is not kept",
        "use String",
    ),
    "entity of floats": (
        lambda: feast.Entity(name="e", value_type=feast.ValueType.DOUBLE),
        "e: a join key cannot be float64",
        "cast it upstream",
    ),
    "entity of uuids": (
        lambda: feast.Entity(name="e", value_type=feast.ValueType.UUID),
        "e: Feast type Uuid is not kept",
        "cast the column upstream",
    ),
    "on demand in Python": (on_demand, "pace: a Python transformation", "OnDemandFeatureView"),
    "batch view in Python": (
        lambda: batch(udf=double, udf_string="double"),
        "batch: a Python or SQL transformation",
        "definitions.FeatureView",
    ),
    "view over views": (
        lambda: plain(name="over", source=[plain()], sink_source=FILE),
        "over: a view over other views",
        "OnDemandFeatureView",
    ),
    "view over a stream": (
        lambda: plain(source=kafka()),
        "plane: its source stream: KafkaSource",
        "PushSource",
    ),
    "view of a warehouse": (
        lambda: plain(source=BIGQUERY),
        "plane: its source warehouse: BigQuerySource",
        "FileSource",
    ),
    "view of request data": (
        lambda: plain(source=REQUEST),
        "plane: its source flight: request data has no history",
        "OnDemandFeatureView",
    ),
    "view without source": (lambda: plain(source=None), "plane: the view has no source", "source="),
    "pinned view": (lambda: plain(version="v2"), "plane: version='v2'", "remove it"),
    "disabled view": (lambda: plain(enabled=False), "plane: the view is disabled", "remove it"),
    "pinned reference": (
        lambda: service(features=["plane@v2:arr_delay"]),
        "lateness: 'plane@v2:arr_delay' pins",
        "without it",
    ),
    "logging": (
        lambda: service(logging_config=LOGGED),
        "lateness: served vectors are not logged",
        "remove logging_config",
    ),
    "permission": (
        lambda: Permission(name="all"),
        "all: permissions are not enforced",
        "guard Redis",
    ),
}

TAKEN = {
    "entity": lambda: PLANE,
    "entity of unknown type": lambda: feast.Entity(name="e", value_type=feast.ValueType.UNKNOWN),
    "file": lambda: FILE,
    "push": lambda: feast.PushSource(name="push", batch_source=FILE),
    "request": lambda: REQUEST,
    "view": plain,
    "view of a push": lambda: plain(source=feast.PushSource(name="push", batch_source=FILE)),
    "batch view without a transformation": batch,
    "service": service,
    "service of references": lambda: service(features=["plane", "plane:arr_delay"]),
    "project": lambda: feast.Project(name="flights"),
    "field types": lambda: plain(
        schema=[feast.Field(name=k.name, dtype=k) for k in (Int64, String)]
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_object_we_do_not_take_is_named_with_reason_and_way_out(case: str) -> None:
    """The message begins with the object's name, says why, and what to do instead."""
    make, reason, way_out = REFUSED[case]
    said = refusal(make())
    assert said is not None
    assert said.startswith(reason)
    assert way_out in said


@pytest.mark.parametrize("case", TAKEN)
def test_what_a_feast_repo_of_files_holds_is_taken(case: str) -> None:
    """Nothing is refused that the store can honour."""
    assert refusal(TAKEN[case]()) is None
