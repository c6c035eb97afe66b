"""The feature view that carries Polars expressions, on top of Feast's."""

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar
from zoneinfo import available_timezones

import feast
import polars as pl
from feast.base_feature_view import BaseFeatureView
from feast.data_source import DataSource, PushSource

from featurestore.definitions.dtypes import to_feast
from featurestore.definitions.windows import Window
from featurestore.engine.transform import Program, program, select, transform
from featurestore.errors import InvalidDefinition, SourceError
from featurestore.model import expressions
from featurestore.model.declare import Aggregate, KnownAt, check_outputs, window_dtype
from featurestore.model.documents import Feature, Source
from featurestore.model.schema import Column, dtype_name
from featurestore.model.time import normal_dtype, normalize_schema, to_moment
from featurestore.storage.remote import is_remote
from featurestore.storage.sources import scan

NO_BOUND = timedelta(0)

Copied = TypeVar("Copied", bound=BaseFeatureView)


class FeatureView(feast.FeatureView):  # type: ignore[misc]
    """A view whose features are Polars expressions over the columns of its source.

    Args:
        name: The view's name.
        source: A `FileSource` (Parquet or Delta), or a `PushSource` over one.
        features: Name and expression of each feature: one row in, one row out; or a function of the
            rows that a `Window` covers.
        entities: Whose features these are; none for a view with one value per moment.
        ttl: How old a row may be and still count, edge included; zero or None: no bound.
        filter: Rows for which this expression is not true do not exist for the view.
        known_at: `created`: a row is known at the later of its event time plus `delay` and its
            created time; `event`: the created column only says when a bulk load ran.
        delay: How long after its event time a row becomes known.
        time_zone: The zone of naive source times; UTC if not given.
        settle: How far before its watermark an incremental run reads again.
        event_id: The column of strings or integers that, with the key, tells one event from
            another: windows count its newest row only. Without it every row is an event, and rows
            cannot be pushed to windows.
        columns: The source's columns and dtypes, for when its file is not there to read.
        online: Feast's switch; the store always keeps both sides.
        offline: Feast's switch; the store always keeps both sides.
        description: What people read.
        tags: What people read.
        owner: What people read.
        org: What people read.

    Raises:
        InvalidDefinition: an argument is not of its kind; what needs the source's schema is
            checked when the repo is loaded.
    """

    def __init__(
        self,
        *,
        name: str,
        source: DataSource,
        features: Mapping[str, pl.Expr | Aggregate],
        entities: Sequence[feast.Entity] | None = None,
        ttl: timedelta | None = NO_BOUND,
        filter: pl.Expr | None = None,  # noqa: A002 - the word users write
        known_at: KnownAt = "created",
        delay: timedelta = NO_BOUND,
        time_zone: str | None = None,
        settle: timedelta = timedelta(hours=1),
        event_id: str | None = None,
        columns: Mapping[str, pl.DataType | type[pl.DataType]] | None = None,
        online: bool = True,
        offline: bool = False,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        owner: str = "",
        org: str = "",
    ) -> None:
        windows = {n: one for n, one in _named(features).items() if isinstance(one, Aggregate)}
        rest = {n: one for n, one in _named(features).items() if n not in windows}
        self.expressions = checked_expressions(name, rest, but=windows)
        for feature, made in windows.items():
            made.check(f"{name}.features.{feature}")
        check_outputs(name, features, taken=[entity.join_key for entity in entities or ()])
        self.windows = windows
        self.written = dict(features)
        self.entity_objects = tuple(entities or ())
        self.filter = filter
        self.known_at = known_at
        self.delay = delay
        self.time_zone = time_zone
        self.settle = settle
        self.event_id = event_id
        self.columns = None if columns is None else _instances(name, columns)
        _check_spans(name, ttl=ttl, delay=delay, settle=settle)
        if event_id is not None and not (isinstance(event_id, str) and event_id):
            raise InvalidDefinition(
                f"{name}.event_id: give the name of a source column, not {event_id!r}"
            )
        if filter is not None and not isinstance(filter, pl.Expr):
            raise InvalidDefinition(f"{name}.filter: give a Polars expression, not {filter!r}")
        if time_zone is not None and time_zone not in available_timezones():
            raise InvalidDefinition(
                f"{name}.time_zone: '{time_zone}' is no time zone; give a name such as "
                "'America/New_York'"
            )
        self.dtypes = _dtypes(features, _schema_here(source, self.columns))
        super().__init__(
            name=name,
            source=source,
            schema=[
                feast.Field(name=feature, dtype=to_feast(dtype))
                for feature, dtype in self.dtypes.items()
            ],
            entities=list(self.entity_objects),
            ttl=ttl,
            online=online,
            offline=offline,
            description=description,
            tags=dict(tags or {}),
            owner=owner,
            org=org,
        )

    def __copy__(self) -> Self:
        """Copy with a projection of its own, as `view[[…]]`, `with_name` and others need."""
        return copied(self)

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, FeatureView) and _spellings(self) != _spellings(other):
            return False
        return bool(super().__eq__(other))

    @classmethod
    def from_proto(cls, feature_view_proto: Any, skip_udf: bool = False) -> feast.FeatureView:
        """Give what Feast's registry holds: a plain view; the expressions live in the repo."""
        return feast.FeatureView.from_proto(feature_view_proto, skip_udf)

    def transform(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Compute the features of source rows: the way to test a view in plain pytest.

        `frame` holds source columns, named as in expressions; the answer holds the join keys that
        it has, then every feature but windows, for each row that the filter keeps, in order.

        Raises:
            InvalidDefinition: an expression is refused, or reads a column the frame lacks.
        """
        rows = _normalized(frame, self.time_zone)
        if self.filter is not None:
            expressions.check(self.filter, path=f"{self.name}.filter")
            rows = select(rows, self.filter)
        keys = [e.join_key for e in self.entity_objects if e.join_key in rows.columns]
        return transform(rows, compiled(self.name, self.expressions, rows), keep=keys)


def _named(features: Mapping[str, pl.Expr | Aggregate]) -> Mapping[str, Any]:
    return features if isinstance(features, Mapping) else {}


def checked_expressions(
    name: str, features: Mapping[str, pl.Expr], *, but: Collection[str] = ()
) -> Mapping[str, pl.Expr]:
    """Give the features back if each is a named Polars expression; some may be something else.

    Raises:
        InvalidDefinition: something is no expression, or there is none.
    """
    if not features and not but:
        raise InvalidDefinition(f"{name}.features: give at least one name and Polars expression")
    for feature in (*features, *but):
        if not isinstance(feature, str):
            raise InvalidDefinition(f"{name}.features: {feature!r} is no name; give a string")
    for feature, expr in features.items():
        if isinstance(expr, Window):
            raise InvalidDefinition(
                f"{name}.features.{feature}: says which rows, and not what of them; write such as "
                f"Window({expr.length!r}).mean(pl.col('{feature}'))"
            )
        if not isinstance(expr, pl.Expr):
            raise InvalidDefinition(
                f"{name}.features.{feature}: a feature is a Polars expression such as "
                f"pl.col('{feature}'), not {type(expr).__name__}"
            )
    return dict(features)


def compiled(name: str, features: Mapping[str, pl.Expr], frame: pl.DataFrame) -> Program:
    """Give the program that computes expressions over frames of this schema."""
    return program(
        [
            _feature(feature, expr, frame, f"{name}.features.{feature}")
            for feature, expr in features.items()
        ],
        path=f"{name}.features",
    )


def _feature(name: str, expr: pl.Expr, frame: pl.DataFrame, path: str) -> Feature:
    """Give a document without identity: enough to run it, not to register it."""
    return Feature(
        id="",
        name=name,
        expression=expressions.encode(expr, path=path),
        dtype=dtype_name(expressions.output_dtype(expr, frame.schema, path=path)),
        reads=tuple(
            Column(name=column, dtype=dtype_name(frame.schema[column]))
            for column in expressions.reads(expr)
        ),
    )


def copied(view: Copied) -> Copied:
    """Give a copy that keeps all attributes of ours, with lists and a projection of its own."""
    twin: Copied = view.__class__.__new__(view.__class__)
    twin.__dict__.update(view.__dict__)
    twin.features = list(view.features)
    twin.entity_columns = list(view.entity_columns)
    twin.projection = copy(view.projection)
    return twin


def _spellings(view: FeatureView) -> tuple[object, ...]:
    written = {name: expr.meta.serialize() for name, expr in view.expressions.items()}
    windows = {
        name: (one.function, one.length, one.every, one.input().meta.serialize())
        for name, one in view.windows.items()
    }
    predicate = None if view.filter is None else view.filter.meta.serialize()
    rules = (view.known_at, view.delay, view.time_zone, view.settle, view.event_id, view.columns)
    return (written, windows, predicate, *rules)


def _check_spans(name: str, **spans: timedelta | None) -> None:
    for field, span in spans.items():
        if span is not None and not isinstance(span, timedelta):
            raise InvalidDefinition(f"{name}.{field}: give a timedelta, not {span!r}")


def _instances(
    name: str, columns: Mapping[str, pl.DataType | type[pl.DataType]]
) -> Mapping[str, pl.DataType]:
    for column, dtype in columns.items():
        bare = isinstance(dtype, type) and issubclass(dtype, pl.DataType)
        if not bare and not isinstance(dtype, pl.DataType):
            raise InvalidDefinition(
                f"{name}.columns.{column}: give a Polars dtype such as pl.Int64, not {dtype!r}"
            )
    return {
        column: dtype() if isinstance(dtype, type) else dtype for column, dtype in columns.items()
    }


def _schema_here(
    source: DataSource, columns: Mapping[str, pl.DataType] | None
) -> Mapping[str, pl.DataType] | None:
    """Give the schema if it can be known now; the file may be written, or found, only later.

    A remote file is not asked: constructing a view must not wait for a network.
    """
    batch = source.batch_source if isinstance(source, PushSource) else source
    if not isinstance(batch, feast.FileSource):
        return None
    if columns is None and is_remote(batch.path):
        return None
    if columns is None:
        kind = type(batch.file_format).__name__
        try:
            source = Source(
                name=batch.name,
                path=batch.path,
                format="delta" if kind == "DeltaFormat" else "parquet",
                timestamp_field=batch.timestamp_field,
            )
            columns = scan(source, Path.cwd(), f"{batch.name}.path").collect_schema()
        except SourceError:
            return None
    mapped = normalize_schema(columns, tuple(batch.field_mapping.items()))
    return {column.name: column.polars for column in mapped}


def _dtypes(
    features: Mapping[str, pl.Expr | Aggregate], schema: Mapping[str, pl.DataType] | None
) -> dict[str, str | None]:
    """Give each feature's dtype name, windows among them; None where only loading can tell."""
    return {
        name: (
            window_dtype(made.function, _dtype(name, made.input(), schema))
            if isinstance(made, Aggregate)
            else _dtype(name, made, schema)
        )
        for name, made in features.items()
    }


def feature_dtypes(
    features: Mapping[str, pl.Expr], schema: Mapping[str, pl.DataType] | None
) -> dict[str, str | None]:
    """Give each feature's dtype name; None where only loading the repo can tell."""
    return {name: _dtype(name, expr, schema) for name, expr in features.items()}


def _dtype(name: str, expr: pl.Expr, schema: Mapping[str, pl.DataType] | None) -> str | None:
    if schema is None:
        return None
    try:
        return dtype_name(expressions.output_dtype(expr, schema, path=name))
    except (InvalidDefinition, ValueError):
        return None


def _normalized(frame: pl.DataFrame, time_zone: str | None) -> pl.DataFrame:
    return frame.with_columns(
        to_moment(pl.col(name), dtype, time_zone)
        if isinstance(dtype, pl.Datetime)
        else pl.col(name).cast(normal_dtype(dtype))
        for name, dtype in frame.schema.items()
        if normal_dtype(dtype) != dtype
    )
