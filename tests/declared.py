"""Documents that tests of the model build on."""

import polars as pl

from featurestore.model.declare import batch_view, on_demand_view, project, service
from featurestore.model.documents import LiveView, Projection, Release, Source, Table
from featurestore.model.schema import Column


def columns(**dtypes):
    """Give columns of these dtypes."""
    return tuple(Column(name=name, dtype=dtype) for name, dtype in dtypes.items())


SCHEMA = {
    "plane": "string",
    "at": "datetime",
    "loaded": "datetime",
    "delay": "float64",
    "seats": "uint8",
    "flight": "int64",
    "cancelled": "bool",
}


def source(**changes):
    """Describe a source of landings."""
    arguments = {
        "name": "landings",
        "path": "data/landings.parquet",
        "format": "parquet",
        "timestamp_field": "at",
        "columns": columns(**SCHEMA),
    }
    return Source(**arguments | changes)


def view(name="history", **changes):
    """Describe a view of landings."""
    arguments = {
        "name": name,
        "join_keys": {"plane": "string"},
        "source": source(),
        "features": {"last_delay": pl.col("delay"), "seats": pl.col("seats")},
    }
    return batch_view(**arguments | changes)


def use(of, alias=None, features=(), **join_key_map):
    """Describe a use of a view."""
    return Projection(
        view=of.name if hasattr(of, "name") else of,
        alias=alias or (of.name if hasattr(of, "name") else of),
        join_key_map=tuple(join_key_map.items()),
        features=tuple(features),
    )


def pace(*sources, **changes):
    """Describe an on-demand view; without sources, over `view()`."""
    arguments = {
        "name": "pace",
        "sources": sources or [(view(), use("history"))],
        "request": columns(miles="float64"),
        "features": {"per_mile": pl.col("last_delay") / pl.col("miles")},
    }
    return on_demand_view(**arguments | changes)


def shop(*views, name="shop"):
    """Describe a project with a service over its first view."""
    named = {v.name: v for v in views}
    model = service(name="model", projections=[use(views[0])], views=named)
    return project(name=name, views=views, services=[model])


def release(number, *views, **changes):
    """Describe a release of views of the project `shop`, each with a table."""
    lives = tuple(
        LiveView(view=v, table=Table(data_id=v.data_id, generation=0), watermark=5)
        for v in views or (view(),)
    )
    arguments = {"views": lives, "services": (), "created": number} | changes
    return Release(project="shop", number=number, **arguments)
