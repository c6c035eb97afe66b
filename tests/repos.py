"""A small feature repo for tests: written to a folder, applied without importing feast."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from featurestore import FeatureStore
from featurestore.jobs.facts import serving_table
from featurestore.jobs.online import stored_rows
from featurestore.jobs.promote import promote
from featurestore.jobs.tables import place_of
from featurestore.jobs.verify import verify
from featurestore.jobs.workspace import Workspace
from featurestore.model.declare import batch_view, on_demand_view, project, service
from featurestore.model.documents import Projection, Source
from featurestore.model.schema import Column
from featurestore.model.time import micros, normalize_schema
from featurestore.serving.client.client import FeatureClient
from featurestore.serving.message.limits import Limits
from featurestore.serving.process.server import serve
from featurestore.storage.redis import OnlineStore
from tests.servers import client_of

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)
T0 = datetime(2024, 3, 1, tzinfo=UTC)
NOW = T0 + timedelta(days=400)
SCHEMA = {
    "plane": pl.String(),
    "at": pl.Datetime("us", "UTC"),
    "loaded": pl.Datetime("us", "UTC"),
    "delay": pl.Float64(),
    "seats": pl.UInt8(),
}
YAML = "project: {project}\nprovider: local\nregistry: data/registry.db\n"


def at(hours=0.0):
    """Give the moment some hours after the tests' first."""
    return T0 + timedelta(hours=hours)


def landings(*rows):
    """Build source rows of (plane, hours, loaded hours or None, delay, seats)."""
    return pl.DataFrame(
        [
            (plane, at(hours), None if loaded is None else at(loaded), delay, seats)
            for plane, hours, loaded, delay, seats in rows
        ],
        schema=SCHEMA,
        orient="row",
    )


def write(repo: Path, frame, *, name="shop"):
    """Write a repo's configuration and its source file."""
    repo.mkdir(parents=True, exist_ok=True)
    (repo / "feature_store.yaml").write_text(YAML.format(project=name))
    (repo / "data").mkdir(exist_ok=True)
    frame.write_parquet(repo / "data" / "landings.parquet")
    return repo


def source(**changes):
    """Describe the repo's source."""
    arguments = {
        "name": "landings",
        "path": "data/landings.parquet",
        "format": "parquet",
        "timestamp_field": "at",
        "created_field": "loaded",
        "columns": normalize_schema(SCHEMA),
    }
    return Source(**arguments | changes)


def history(**changes):
    """Describe the repo's view."""
    arguments = {
        "name": "history",
        "join_keys": {"plane": "string"},
        "source": source(),
        "features": {
            "last_delay": pl.col("delay"),
            "was_late": pl.col("delay") > 15,
            "seats": pl.col("seats"),
        },
        "ttl": 7 * DAY,
    }
    return batch_view(**arguments | changes)


def pace(view):
    """Describe an on-demand view over the repo's view and request data."""
    return on_demand_view(
        name="pace",
        sources=[(view, Projection(view=view.name, alias=view.name))],
        request=[Column(name="miles", dtype="float64")],
        features={"per_mile": pl.col("last_delay") / pl.col("miles")},
    )


def shop(*views, name="shop"):
    """Describe the whole repo: its views and a service over all of them."""
    views = views or (history(),)
    named = {view.name: view for view in views}
    uses = [Projection(view=view.name, alias=view.name) for view in views]
    made = service(name="model", projections=uses, views=named)
    return project(name=name, views=views, services=[made])


def opened(repo, url, *, now=NOW):
    """Open the repo's workspace on a Redis URL, at a moment."""
    environ = {"FEATURESTORE_REDIS_URL": url}
    return Workspace.open(repo, environ=environ, clock=lambda: micros(now))


def applied(repo, url, *views, now=NOW):
    """Open the repo's workspace with its views applied, whatever was applied before."""
    workspace = opened(repo, url, now=now)
    head = workspace.registry.head()
    workspace.registry.apply(
        shop(*views, name=workspace.config.project),
        expected=head.revision if head else None,
        now=workspace.clock(),
        who="test",
    )
    return workspace


def in_buckets(workspace, view, buckets, period=None):
    """Make a view's next table in so many buckets, and by periods, whatever its size."""
    table = workspace.ledger.next_table(view.data_id)
    made = replace(table, buckets=buckets, period=period)
    return workspace.ledger.add_table(made, now=workspace.clock())


def released(workspace, alias="prod"):
    """Verify and promote what is applied, as CI does; gives the release."""
    found = verify(workspace, alias)
    assert found.differences.is_empty(), found.differences
    return promote(workspace, alias).release


def notebook(workspace, *, now=NOW):
    """Open the repo as a notebook does."""
    environ = {"FEATURESTORE_REDIS_URL": workspace.redis_url()}
    return FeatureStore(workspace.config.root, environ=environ, clock=lambda: micros(now))


def offline_rows(workspace, view):
    """Give the rows of a view's table as training reads them, in no order."""
    place = place_of(workspace, serving_table(workspace, view))
    return stored_rows(workspace, view, place.table, version=place.version)


def dump(workspace):
    """Give all of the project's keys and values in Redis."""
    client = client_of(workspace.redis_url())
    mine = f"/{workspace.config.project}/".encode()
    return {key: client.get(key) for key in client.scan_iter() if mine in key}


@contextmanager
def served(workspace, *, now=NOW, alias="prod") -> Iterator[FeatureClient]:
    """Serve the project over a real socket; its server only knows Redis, as a process would."""
    project = workspace.config.project
    online = OnlineStore.connect(workspace.redis_url(), project=project)
    server = serve(
        online, project=project, alias=alias, clock=lambda: micros(now), limits=Limits(poll=0.05)
    )
    try:
        with FeatureClient(server.address, timeout=10) as client:
            yield client
    finally:
        server.stop(0)
        online.close()
