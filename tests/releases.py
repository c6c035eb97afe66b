"""Views, rows and releases for serving tests, made as the project makes them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from featurestore.model.declare import batch_view
from featurestore.model.documents import (
    LiveView,
    Projection,
    Release,
    Service,
    Source,
    Table,
    View,
    dump,
)
from featurestore.model.schema import Column
from featurestore.model.time import micros
from featurestore.storage.keys import canonical_keys
from featurestore.storage.redis import OnlineStore
from featurestore.storage.rows import layout_of

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)


def at(**delta: float) -> int:
    """Give the UTC microseconds of noon plus a delta."""
    return micros(NOON + timedelta(**delta))


def stored_view(
    name: str,
    keys: Mapping[str, str],
    features: Mapping[str, str],
    *,
    created: bool = False,
    **settings: Any,
) -> View:
    """Give a view whose features are columns of a source, by stable dtype names."""
    columns = {**keys, "happened": "datetime", **({"made": "datetime"} if created else {})}
    columns |= features
    source = Source(
        name=f"{name}_source",
        path=f"{name}.parquet",
        format="parquet",
        timestamp_field="happened",
        created_field="made" if created else None,
        columns=tuple(Column(name=n, dtype=d) for n, d in columns.items()),
    )
    return batch_view(name=name, join_keys=keys, source=source, columns=list(features), **settings)


def load_rows(
    store: OnlineStore,
    view: View,
    frame: pl.DataFrame,
    events: Sequence[int],
    created: Sequence[int | None] | None = None,
    *,
    table: Table | None = None,
) -> None:
    """Put rows of a view (key and feature columns, event times in µs) and mark its table."""
    place = (table or table_of(view)).id
    layout = layout_of(view)
    schema = {key.name: key.polars for key in view.join_keys}
    schema |= {column.name: column.polars for column in layout.columns}
    exact = frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    rows = layout.encode(
        exact,
        pl.Series(events, dtype=pl.Int64),
        None if created is None else pl.Series(created, dtype=pl.Int64),
        0,
    )
    canonical = canonical_keys(exact, view.join_keys) or [b"\x00"]
    store.put(place, [key for key in canonical if key is not None], rows)
    store.mark(place)


def table_of(view: View, generation: int = 0) -> Table:
    """Give a table of a view."""
    return Table(data_id=view.data_id, generation=generation)


def release_of(
    store: OnlineStore,
    views: Sequence[View],
    services: Sequence[Service] = (),
    *,
    number: int = 1,
    generation: int = 0,
) -> Release:
    """Give a release with a table for each stored view."""
    return Release(
        project=store.project,
        number=number,
        views=tuple(
            LiveView(
                view=view,
                table=None if view.kind == "on_demand" else table_of(view, generation),
                watermark=at(),
            )
            for view in views
        ),
        services=tuple(services),
        created=at(),
    )


def publish(store: OnlineStore, release: Release, *, alias: str = "prod") -> None:
    """Copy a release to Redis and move the alias to it."""
    store.put_release(release.number, dump(release))
    assert store.move_alias(alias, store.alias(alias), release.number)


def use(view: View, *features: str, alias: str | None = None, **mapped: str) -> Projection:
    """Give a use of a view; keyword arguments map its join keys to the caller's columns."""
    return Projection(
        view=view.name,
        alias=alias or view.name,
        join_key_map=tuple(sorted(mapped.items())),
        features=features,
    )


def without_dialect(view: View) -> View:
    """Give a view whose expressions are written for a Polars that does not run here."""
    features = tuple(
        replace(
            feature,
            expression=replace(
                feature.expression,
                spellings=tuple(
                    replace(one, dialect="polars-0.0") for one in feature.expression.spellings
                ),
            ),
        )
        for feature in view.features
    )
    return replace(view, features=features)
