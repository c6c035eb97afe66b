"""Views over a source: every rule their declaration must keep."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Literal, get_args

import polars as pl

from featurestore.errors import InvalidDefinition, InvalidExpression
from featurestore.model import expressions
from featurestore.model.declare.rules import (
    PRIVATE,
    check_name,
    check_outputs,
    is_column_name,
    output_dtype,
    polars,
)
from featurestore.model.declare.windows import Aggregate, check_input
from featurestore.model.documents import Expression, Feature, Info, Source, View, Window
from featurestore.model.identity import identified
from featurestore.model.names import suggest
from featurestore.model.schema import INTEGERS, KEYS, Column
from featurestore.model.time import RESERVED
from featurestore.model.windows import output_of

_LONGEST = timedelta(days=3_650_000)
KnownAt = Literal["created", "event"]


def batch_view(
    *,
    name: str,
    join_keys: Mapping[str, str | None],
    source: Source,
    features: Mapping[str, pl.Expr | Aggregate] | None = None,
    columns: Sequence[str] | None = None,
    filter: pl.Expr | None = None,  # noqa: A002 - the word users write
    ttl: timedelta | None = None,
    known_at: KnownAt = "created",
    delay: timedelta = timedelta(0),
    settle: timedelta = timedelta(hours=1),
    event_id: str | None = None,
    info: Info = Info(),  # noqa: B008 - frozen
) -> View:
    """Give the document of a view over a source.

    `join_keys` maps each join key to its declared dtype name (None: the source column's). A feature
    is an expression of a row, or a function of the rows that a window covers. Without `features`
    the view is a plain one: its features are `columns`, or every source column that is neither a
    key nor a time. A ttl of None, zero or over ten thousand years means no bound.

    Raises:
        InvalidDefinition: any part does not fit; the message names it by its dotted path.
    """
    check_name(name)
    schema = {c.name: c.dtype for c in source.columns}
    _check_source(name, source, schema)
    _check_zone(name, source.time_zone)
    if event_id is not None:
        _check_event_id(name, event_id, schema, source)
    keys = tuple(
        Column(name=key, dtype=_key_dtype(name, key, dtype, schema, source))
        for key, dtype in sorted(join_keys.items())
    )
    if known_at not in get_args(KnownAt):
        raise InvalidDefinition(f"{name}.known_at: {known_at!r} is neither 'created' nor 'event'")
    exprs = _plain(name, keys, source, schema, columns) if features is None else features
    if not exprs:
        raise InvalidDefinition(f"{name}.features: a view needs at least one feature")
    check_outputs(name, exprs, taken=[key.name for key in keys])
    predicate, predicate_reads = _filter(name, filter, source)
    made = tuple(_batch_feature(name, feature, expr, source) for feature, expr in exprs.items())
    view = View(
        id="",
        data_id="",
        frame_id="",
        name=name,
        kind="batch",
        join_keys=keys,
        features=made,
        source=source,
        filter=predicate,
        filter_reads=predicate_reads,
        known_at=known_at,
        delay=_duration(f"{name}.delay", delay),
        settle=_duration(f"{name}.settle", settle),
        event_id=event_id,
        ttl=_ttl(name, ttl),
        info=info,
    )
    return identified(view)


def _check_zone(view: str, zone: str | None) -> None:
    try:
        pl.Series([0], dtype=pl.Datetime("us")).dt.replace_time_zone(zone)
    except pl.exceptions.ComputeError as error:
        raise InvalidDefinition(
            f"{view}.time_zone: {zone!r} is no time zone; write a name such as 'Europe/Berlin'"
        ) from error


def _check_source(view: str, source: Source, schema: Mapping[str, str]) -> None:
    names = [c.name for c in source.columns]
    for column in names:
        if names.count(column) > 1:
            raise InvalidDefinition(
                f"{view}.source.field_mapping: source '{source.name}' would have two columns "
                f"called '{column}'; map one to another name"
            )
    path = f"{view}.source.timestamp_field"
    if not source.timestamp_field:
        raise InvalidDefinition(
            f"{path}: the source '{source.name}' names none; set FileSource(timestamp_field=…)"
        )
    for field, where in (
        (source.timestamp_field, path),
        (source.created_field, f"{view}.source.created_timestamp_column"),
    ):
        if field is None:
            continue
        _need(field, schema, source, where)
        if schema[field] not in ("datetime", "date"):
            raise InvalidDefinition(
                f"{where}: column '{field}' is {schema[field]}, not a datetime; convert it upstream"
            )


def _check_event_id(view: str, column: str, schema: Mapping[str, str], source: Source) -> None:
    path = f"{view}.event_id"
    _need(column, schema, source, path)
    if schema[column] != "string" and schema[column] not in INTEGERS:
        raise InvalidDefinition(
            f"{path}: column '{column}' is {schema[column]}, and an event's id is a string or an "
            "integer; name another column, or cast it upstream"
        )


def _need(column: str, schema: Mapping[str, str], source: Source, path: str) -> None:
    if column not in schema:
        raise InvalidDefinition(
            f"{path}: column '{column}' is not in source '{source.name}'{suggest(column, schema)}"
        )


def _key_dtype(
    view: str, key: str, declared: str | None, schema: Mapping[str, str], source: Source
) -> str:
    path = f"{view}.entities.{key}"
    if key.lower() in RESERVED or key.startswith(PRIVATE):
        raise InvalidDefinition(
            f"{path}: the store keeps a column of its own under this name; rename the join key, "
            "and the source's column with field_mapping"
        )
    if not is_column_name(key):
        raise InvalidDefinition(
            f"{view}.entities: {key!r} cannot be the name of one column; rename the join key, and "
            "the source's column with field_mapping"
        )
    _need(key, schema, source, path)
    found = schema[key]
    dtype = declared or found
    if dtype not in KEYS:
        raise InvalidDefinition(
            f"{path}: a join key cannot be {dtype}; cast it upstream to a string or an integer"
        )
    fits = found == dtype or (
        dtype in INTEGERS and (found in INTEGERS or found in ("float64", "float32"))
    )
    if not fits:
        raise InvalidDefinition(
            f"{path}: the entity says {dtype} but column '{key}' of source '{source.name}' is "
            f"{found}; change the entity's value_type or cast the column upstream"
        )
    return dtype


def _plain(
    view: str,
    keys: Sequence[Column],
    source: Source,
    schema: Mapping[str, str],
    columns: Sequence[str] | None,
) -> Mapping[str, pl.Expr | Aggregate]:
    apart = {k.name for k in keys} | {source.timestamp_field, source.created_field}
    names = columns if columns is not None else [c for c in schema if c not in apart]
    for column in names:
        _need(column, schema, source, f"{view}.schema.{column}")
    return {column: pl.col(column) for column in names}


def _reads(expr: pl.Expr, schema: Sequence[Column], source: str, path: str) -> tuple[Column, ...]:
    known = {c.name: c for c in schema}
    names = expressions.reads(expr)
    for column in names:
        if column.startswith(PRIVATE):
            raise InvalidExpression(
                f"{path}: column '{column}' starts with '{PRIVATE}' as the store's own do; "
                "rename it with the source's field_mapping"
            )
        if column not in known:
            raise InvalidExpression(
                f"{path}: column '{column}' is not in {source}{suggest(column, known)}"
            )
    return tuple(known[column] for column in names)


def _filter(
    view: str, predicate: pl.Expr | None, source: Source
) -> tuple[Expression | None, tuple[Column, ...]]:
    if predicate is None:
        return None, ()
    return _predicate(predicate, source, f"{view}.filter")


def _predicate(
    predicate: pl.Expr, source: Source, path: str
) -> tuple[Expression, tuple[Column, ...]]:
    encoded = expressions.encode(predicate, path=path)
    reads = _reads(predicate, source.columns, f"source '{source.name}'", path)
    dtype = expressions.output_dtype(predicate, polars(source.columns), path=path)
    if dtype != pl.Boolean():
        raise InvalidExpression(f"{path}: gives {dtype}, not Boolean; write a comparison")
    return encoded, reads


def _batch_feature(view: str, feature: str, made: pl.Expr | Aggregate, source: Source) -> Feature:
    path = f"{view}.features.{feature}"
    if isinstance(made, Aggregate):
        return _window_feature(feature, made, source, path)
    return _row_feature(feature, made, source, path)


def _row_feature(feature: str, expr: pl.Expr, source: Source, path: str) -> Feature:
    encoded = expressions.encode(expr, path=path)
    reads = _reads(expr, source.columns, f"source '{source.name}'", path)
    dtype = output_dtype(expr, source.columns, path)
    return Feature(id="", name=feature, dtype=dtype, expression=encoded, reads=reads)


def _window_feature(feature: str, made: Aggregate, source: Source, path: str) -> Feature:
    """Give the document of a window feature; what it says of its filter is that of a view's."""
    made.check(path)
    length, every = made.spans(path)
    if made.filter is not None:
        _predicate(made.filter, source, f"{path}.filter")
    if made.of is not None:
        expressions.check(made.of, path=path)
    row = _row_feature(feature, made.input(), source, path)
    check_input(made.function, row.dtype, path)
    window = Window(function=made.function, length=length, every=every, dtype=row.dtype)
    return replace(row, dtype=output_of(made.function, row.dtype), window=window)


def _duration(path: str, span: timedelta) -> int:
    if span < timedelta(0):
        raise InvalidDefinition(f"{path}: {span} is negative; give a span of zero or more")
    if span > _LONGEST:
        raise InvalidDefinition(
            f"{path}: {span} is longer than ten thousand years; give a span that data can reach"
        )
    return span // timedelta(microseconds=1)


def _ttl(view: str, ttl: timedelta | None) -> int | None:
    if ttl is None or ttl > _LONGEST:
        return None
    return _duration(f"{view}.ttl", ttl) or None
