"""Feast and the store read the same repo: Feast's own command line on ours, and ours on Feast's."""

import os
import shutil
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

import featurestore
from featurestore.definitions import load
from featurestore.errors import Unsupported
from featurestore.integrations.feast import DeltaOfflineStore, PackedRedisOnlineStore
from featurestore.jobs.workspace import Workspace

PLAIN = """\
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.data_format import DeltaFormat
from feast.types import Float32, Int64, String

driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
hourly = FileSource(
    name="hourly",
    path="data/stats.parquet",
    timestamp_field="event_timestamp",
    created_timestamp_column="created",
)
daily = FileSource(
    path="data/stats", file_format=DeltaFormat(), timestamp_field="event_timestamp"
)
stats = FeatureView(
    name="driver_hourly_stats",
    entities=[driver],
    ttl=timedelta(days=1),
    schema=[Field(name="conv_rate", dtype=Float32), Field(name="trips", dtype=Int64)],
    online=True,
    source=hourly,
    tags={"team": "driver_performance"},
)
inferred = FeatureView(name="inferred", entities=[driver], source=daily)
push = PushSource(name="stats_push_source", batch_source=hourly)
fresh = FeatureView(
    name="driver_hourly_stats_fresh",
    entities=[driver],
    schema=[Field(name="conv_rate", dtype=Float32)],
    source=push,
)
everything = FeatureService(
    name="driver_activity_v1", features=[stats[["conv_rate"]], inferred, fresh]
)
"""

OURS = """\
from datetime import timedelta

import polars as pl
from feast import Entity, FeatureService, Field, FileSource, RequestSource, ValueType
from feast.types import Float64
from featurestore.definitions import FeatureView, OnDemandFeatureView

driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
hourly = FileSource(
    name="hourly", path="data/stats.parquet", timestamp_field="event_timestamp"
)
stats = FeatureView(
    name="stats",
    entities=[driver],
    source=hourly,
    ttl=timedelta(days=1),
    filter=pl.col("trips") > 0,
    features={"rate": pl.col("conv_rate") * 100, "busy": pl.col("trips") > 10},
)
ride = RequestSource(name="ride", schema=[Field(name="miles", dtype=Float64)])
pay = OnDemandFeatureView(
    name="pay", sources=[stats, ride], features={"per_mile": pl.col("rate") / pl.col("miles")}
)
service = FeatureService(
    name="service",
    features=[
        stats[["rate"]],
        stats.with_name("other").with_join_key_map({"driver_id": "other_id"}),
        pay,
    ],
)
"""

YAML = """\
project: drivers
provider: local
registry: data/registry.db
entity_key_serialization_version: 3
offline_store:
  type: featurestore.integrations.feast.DeltaOfflineStore
  path: .featurestore/offline
online_store:
  type: featurestore.integrations.feast.PackedRedisOnlineStore
"""


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repo's configuration and data, without definitions."""
    moment = datetime(2024, 3, 1, tzinfo=UTC)
    stats = pl.DataFrame(
        {
            "driver_id": [1, 2],
            "event_timestamp": [moment, moment],
            "created": [moment, moment],
            "conv_rate": pl.Series([0.5, 0.25], dtype=pl.Float32),
            "trips": pl.Series([3, 30], dtype=pl.Int32),
        }
    )
    (tmp_path / "data").mkdir()
    stats.write_parquet(tmp_path / "data" / "stats.parquet")
    stats.drop("created").write_delta(tmp_path / "data" / "stats")
    (tmp_path / "feature_store.yaml").write_text(YAML)
    return tmp_path


COMMANDS = """\
import sys
from feast.cli.cli import cli
for command in sys.argv[1:]:
    cli(command.split(), standalone_mode=False)
"""


def feast(repo: Path, *commands: str) -> str:
    """Run Feast's command line in the repo, as its users do; give what it prints."""
    package = Path(featurestore.__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COMMANDS, *commands],
        cwd=repo,
        env=os.environ | {"PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_feast_repo_of_files_loads_unchanged(repo: Path) -> None:
    """Parquet, Delta and push sources, plain views and services need no edit."""
    (repo / "example_repo.py").write_text(PLAIN)
    project = load(repo)
    stats, fresh, inferred = project.views
    assert [(f.name, f.dtype) for f in stats.features] == [
        ("conv_rate", "float32"),
        ("trips", "int32"),
    ]
    assert (stats.ttl, stats.source.created_field) == (86_400_000_000, "created")
    assert stats.info.tags == (("team", "driver_performance"),)
    assert [f.name for f in inferred.features] == ["conv_rate", "trips"]
    assert (inferred.source.name, inferred.source.format) == ("data/stats", "delta")
    assert (fresh.source.name, fresh.source.pushed) == ("stats_push_source", True)
    (service,) = project.services
    assert [(p.alias, p.features) for p in service.projections] == [
        ("driver_hourly_stats", ("conv_rate",)),
        ("inferred", ("conv_rate", "trips")),
        ("driver_hourly_stats_fresh", ("conv_rate",)),
    ]


def test_feast_applies_and_lists_a_repo_of_ours(repo: Path) -> None:
    """With our plug-ins in its configuration Feast registers our views, also changed ones."""
    file = repo / "drivers.py"
    file.write_text(OURS)
    feast(repo, "apply")
    file.write_text(OURS.replace("* 100", "* 1000").replace("/ pl.col", "* pl.col"))
    told = feast(repo, "apply", "feature-views list", "on-demand-feature-views describe pay")
    assert "FeatureView" in told
    assert "OnDemandFeatureView" in told
    assert "from featurestore.definitions.on_demand import evaluate" in told


def test_the_example_repo_is_a_feast_repo(tmp_path: Path) -> None:
    """Feast applies the example as it stands, and both registries live in one database."""
    example = Path(featurestore.__file__).resolve().parent.parent / "feature_repo"
    ours = shutil.ignore_patterns(".featurestore", "registry.db*", "__pycache__")
    repo = shutil.copytree(example, tmp_path / "repo", ignore=ours)
    told = feast(repo, "apply", "feature-services list")
    assert "late_arrival_v1" in told
    with closing(Workspace.open(repo, environ={})) as workspace:
        assert workspace.registry.head() is None
        assert (repo / "data" / "registry.db").is_file()


def test_feast_moves_no_data_of_ours() -> None:
    """A call of Feast's that would move data names the call to make instead."""
    with pytest.raises(Unsupported, match=r"FeatureStore\(…\)\.get_historical_features"):
        DeltaOfflineStore.get_historical_features()
    with pytest.raises(Unsupported, match="featurestore materialize"):
        DeltaOfflineStore.pull_latest_from_table_or_query()
    with pytest.raises(Unsupported, match="featurestore materialize"):
        PackedRedisOnlineStore().online_write_batch(None, None, [], None)
    with pytest.raises(Unsupported, match=r"FeatureClient\(…\)\.get_online_features"):
        PackedRedisOnlineStore().online_read(None, None, [])
