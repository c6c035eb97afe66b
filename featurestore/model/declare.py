"""From raw declarations to documents with identities: every rule a definition must keep.

Identity holds what changes a value and nothing else. A frame is the source's logical name, its time
and id columns with their rules, the filter and the join keys; a feature adds its name, dtype, the
columns it reads and its expression; a version is all features of a view with its ttl.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Literal, get_args

import polars as pl

from featurestore.errors import InvalidDefinition, InvalidExpression, InvalidRequest, NotFound
from featurestore.model import expressions
from featurestore.model.documents import (
    Expression,
    Feature,
    Info,
    Input,
    Project,
    Projection,
    Service,
    Source,
    View,
)
from featurestore.model.fingerprint import Part, digest
from featurestore.model.names import suggest
from featurestore.model.query import resolve
from featurestore.model.schema import KEYS, SCALARS, Column, dtype_name
from featurestore.model.time import RESERVED

KnownAt = Literal["created", "event"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_PROJECT = re.compile(r"[A-Za-z0-9_-]+")
_INTEGERS = frozenset(n for n in SCALARS if "int" in n)


def batch_view(
    *,
    name: str,
    join_keys: Mapping[str, str | None],
    source: Source,
    features: Mapping[str, pl.Expr] | None = None,
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

    `join_keys` maps each join key to its declared dtype name (None: the source column's). Without
    `features` the view is a plain one: its features are `columns`, or every source column that is
    neither a key nor a time. ttl None or zero means no bound.

    Raises:
        InvalidDefinition: any part does not fit; the message names it by its dotted path.
    """
    _check_name(name)
    schema = {c.name: c.dtype for c in source.columns}
    _check_source(name, source, schema)
    if event_id is not None:
        _need(event_id, schema, source, f"{name}.event_id")
    keys = tuple(
        Column(name=key, dtype=_key_dtype(name, key, dtype, schema, source))
        for key, dtype in sorted(join_keys.items())
    )
    if known_at not in get_args(KnownAt):
        raise InvalidDefinition(f"{name}.known_at: {known_at!r} is neither 'created' nor 'event'")
    exprs = _plain(name, keys, source, schema, columns) if features is None else features
    if not exprs:
        raise InvalidDefinition(f"{name}.features: a view needs at least one feature")
    predicate, predicate_reads = _filter(name, filter, schema, source)
    in_file = {new: old for old, new in source.field_mapping}
    frame_id = digest(
        "frame",
        ("source", source.name),
        ("time", source.timestamp_field, source.created_field, source.time_zone or "UTC"),
        ("known_at", known_at if source.created_field else "event", _micros(delay)),
        ("event_id", event_id),
        ("filter", predicate and predicate.spellings[0].data, _reads_part(predicate_reads, in_file)),
        ("keys", tuple((key.name, key.dtype) for key in keys)),
    )
    made = tuple(
        _batch_feature(name, feature, expr, keys, source, frame_id)
        for feature, expr in exprs.items()
    )
    bound = _ttl(name, ttl)
    ids = tuple(sorted(f.id for f in made))
    return View(
        id=digest("version", name, "batch", bound, ids),
        data_id=digest("data", name, frame_id, ids),
        frame_id=frame_id,
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
        ttl=bound,
        info=info,
    )


def on_demand_view(
    *,
    name: str,
    sources: Sequence[tuple[View, Projection]],
    request: Sequence[Column] = (),
    features: Mapping[str, pl.Expr],
    info: Info = Info(),  # noqa: B008 - frozen
) -> View:
    """Give the document of a view computed at request time from other features and request data.

    An expression names an input by its plain name where one source has it, or `alias__feature`.

    Raises:
        InvalidDefinition: any part does not fit; the message names it by its dotted path.
    """
    _check_name(name)
    if not features:
        raise InvalidDefinition(f"{name}.features: a view needs at least one feature")
    candidates = _candidates(name, sources, request)
    maps = {projection.alias: projection.join_key_map for _, projection in sources}
    used: dict[str, Input] = {}
    made = tuple(
        _on_demand_feature(name, feature, expr, candidates, maps, used)
        for feature, expr in features.items()
    )
    ids = tuple(sorted(f.id for f in made))
    return View(
        id=digest("version", name, "on_demand", None, ids),
        data_id="",
        frame_id="",
        name=name,
        kind="on_demand",
        features=made,
        projections=tuple(projection for _, projection in sources),
        request=tuple(request),
        inputs=tuple(used[column] for column in sorted(used)),
        info=info,
    )


def service(
    *,
    name: str,
    projections: Sequence[Projection],
    views: Mapping[str, View],
    info: Info = Info(),  # noqa: B008 - frozen
) -> Service:
    """Give the document of a service; a projection without features takes all of its view's.

    Raises:
        InvalidDefinition: a view or feature is not defined, or two uses of a view share an alias.
    """
    _check_name(name)
    filled = []
    for one in projections:
        if one.view not in views:
            raise InvalidDefinition(
                f"{name}: no view is called {one.view!r}{suggest(one.view, views)}"
            )
        names = one.features or tuple(f.name for f in views[one.view].features)
        filled.append(
            Projection(
                view=one.view,
                alias=one.alias,
                join_key_map=tuple(sorted(one.join_key_map)),
                features=names,
            )
        )
    aliases = [one.alias for one in filled]
    for alias in aliases:
        if aliases.count(alias) > 1:
            raise InvalidDefinition(
                f"{name}: two uses are called {alias!r}; give one another name with with_name(…)"
            )
    try:
        resolve(filled, views, full_feature_names=True)
    except (NotFound, InvalidRequest) as error:
        raise InvalidDefinition(f"{name}: {error}") from error
    parts = tuple((p.view, p.alias, p.join_key_map, p.features) for p in filled)
    return Service(id=digest("service", name, parts), name=name, projections=tuple(filled), info=info)


def project(*, name: str, views: Sequence[View], services: Sequence[Service]) -> Project:
    """Give the document of all that a repo defines.

    Raises:
        InvalidDefinition: two views or services share a name, two views tell one source
            differently, or the project's name has characters a key cannot carry.
    """
    if not _PROJECT.fullmatch(name):
        raise InvalidDefinition(
            f"project: {name!r} may hold letters, digits, '_' and '-' only; rename it in "
            "feature_store.yaml"
        )
    for kind, names in (
        ("view", [v.name for v in views]),
        ("service", [s.name for s in services]),
    ):
        for one in names:
            if names.count(one) > 1:
                raise InvalidDefinition(f"{one}: two {kind}s have this name; rename one")
    sources: dict[str, Source] = {}
    for view in views:
        if view.source is not None:
            first = sources.setdefault(view.source.name, view.source)
            if (first.path, first.format, first.timestamp_field, first.created_field) != (
                view.source.path,
                view.source.format,
                view.source.timestamp_field,
                view.source.created_field,
            ):
                raise InvalidDefinition(
                    f"{view.name}.source: another source is called {view.source.name!r} too; "
                    "a name is a source's identity: rename one"
                )
    return Project(
        name=name,
        views=tuple(sorted(views, key=lambda v: v.name)),
        services=tuple(sorted(services, key=lambda s: s.name)),
        dialect=expressions.DIALECT,
    )


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidDefinition(
            f"{name!r}: a name holds letters, digits, '_', '-' and '.', and starts with no sign"
        )


def _check_source(view: str, source: Source, schema: Mapping[str, str]) -> None:
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


def _need(column: str, schema: Mapping[str, str], source: Source, path: str) -> None:
    if column not in schema:
        raise InvalidDefinition(
            f"{path}: column '{column}' is not in source '{source.name}'{suggest(column, schema)}"
        )


def _key_dtype(
    view: str, key: str, declared: str | None, schema: Mapping[str, str], source: Source
) -> str:
    path = f"{view}.entities.{key}"
    _need(key, schema, source, path)
    found = schema[key]
    dtype = declared or found
    if dtype not in KEYS:
        raise InvalidDefinition(
            f"{path}: a join key cannot be {dtype}; cast it upstream to a string or an integer"
        )
    fits = found == dtype or (
        dtype in _INTEGERS and (found in _INTEGERS or found in ("float64", "float32"))
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
) -> dict[str, pl.Expr]:
    apart = {k.name for k in keys} | {source.timestamp_field, source.created_field}
    names = columns if columns is not None else [c for c in schema if c not in apart]
    for column in names:
        _need(column, schema, source, f"{view}.schema.{column}")
    return {column: pl.col(column) for column in names}


def _polars(schema: Sequence[Column]) -> dict[str, pl.DataType]:
    return {c.name: c.polars for c in schema}


def _reads(expr: pl.Expr, schema: Sequence[Column], source: str, path: str) -> tuple[Column, ...]:
    known = {c.name: c for c in schema}
    names = expressions.reads(expr)
    for column in names:
        if column not in known:
            raise InvalidExpression(
                f"{path}: column '{column}' is not in {source}{suggest(column, known)}"
            )
    return tuple(known[column] for column in names)


def _reads_part(reads: Sequence[Column], in_file: Mapping[str, str]) -> Part:
    return tuple((c.name, c.dtype, in_file.get(c.name, c.name)) for c in reads)


def _filter(
    view: str, predicate: pl.Expr | None, schema: Mapping[str, str], source: Source
) -> tuple[Expression | None, tuple[Column, ...]]:
    if predicate is None:
        return None, ()
    path = f"{view}.filter"
    encoded = expressions.encode(predicate, path=path)
    reads = _reads(predicate, source.columns, f"source '{source.name}'", path)
    dtype = expressions.output_dtype(predicate, _polars(source.columns), path=path)
    if dtype != pl.Boolean():
        raise InvalidExpression(f"{path}: gives {dtype}, not Boolean; write a comparison")
    return encoded, reads


def _dtype(expr: pl.Expr, schema: Sequence[Column], path: str) -> str:
    dtype = expressions.output_dtype(expr, _polars(schema), path=path)
    try:
        return dtype_name(dtype)
    except ValueError as error:
        raise InvalidExpression(f"{path}: {error}; add a cast(…)") from error


def _batch_feature(
    view: str,
    feature: str,
    expr: pl.Expr,
    keys: Sequence[Column],
    source: Source,
    frame_id: str,
) -> Feature:
    path = f"{view}.features.{feature}"
    if feature in RESERVED or feature in {key.name for key in keys}:
        raise InvalidDefinition(f"{path}: the name is taken by a key or time column; rename it")
    encoded = expressions.encode(expr, path=path)
    reads = _reads(expr, source.columns, f"source '{source.name}'", path)
    dtype = _dtype(expr, source.columns, path)
    in_file = {new: old for old, new in source.field_mapping}
    return Feature(
        id=digest(
            "feature",
            frame_id,
            feature,
            dtype,
            _reads_part(reads, in_file),
            encoded.spellings[0].data,
        ),
        name=feature,
        dtype=dtype,
        expression=encoded,
        reads=reads,
    )


def _candidates(
    view: str, sources: Sequence[tuple[View, Projection]], request: Sequence[Column]
) -> dict[str, list[Input]]:
    candidates: dict[str, list[Input]] = {}
    for upstream, projection in sources:
        if upstream.kind == "on_demand":
            raise InvalidDefinition(
                f"{view}.sources.{projection.alias}: an on-demand view cannot feed another; "
                "repeat the expression"
            )
        for feature in upstream.features:
            if projection.features and feature.name not in projection.features:
                continue
            for column in (feature.name, f"{projection.alias}__{feature.name}"):
                candidates.setdefault(column, []).append(
                    Input(
                        column=column,
                        dtype=feature.dtype,
                        projection=projection.alias,
                        feature=feature.name,
                        feature_id=feature.id,
                    )
                )
    for field in request:
        candidates.setdefault(field.name, []).append(
            Input(column=field.name, dtype=field.dtype, projection=None, feature=field.name)
        )
    return candidates


def _on_demand_feature(
    view: str,
    feature: str,
    expr: pl.Expr,
    candidates: Mapping[str, Sequence[Input]],
    maps: Mapping[str, tuple[tuple[str, str], ...]],
    used: dict[str, Input],
) -> Feature:
    path = f"{view}.features.{feature}"
    encoded = expressions.encode(expr, path=path)
    inputs = []
    for column in expressions.reads(expr):
        found = candidates.get(column, ())
        if not found:
            raise InvalidExpression(
                f"{path}: column '{column}' is no feature or request field of its sources"
                f"{suggest(column, candidates)}"
            )
        if len(found) > 1:
            ways = " or ".join(f"'{i.projection}__{i.feature}'" for i in found if i.projection)
            raise InvalidExpression(f"{path}: '{column}' is ambiguous; write {ways}")
        inputs.append(found[0])
    used.update({one.column: one for one in inputs})
    reads = tuple(Column(name=one.column, dtype=one.dtype) for one in inputs)
    dtype = _dtype(expr, reads, path)
    origins: Part = tuple(
        (one.column, one.dtype, one.feature_id, one.projection and maps[one.projection])
        for one in inputs
    )
    return Feature(
        id=digest("on_demand", feature, dtype, origins, encoded.spellings[0].data),
        name=feature,
        dtype=dtype,
        expression=encoded,
        reads=reads,
    )


def _micros(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def _duration(path: str, span: timedelta) -> int:
    if span < timedelta(0):
        raise InvalidDefinition(f"{path}: {span} is negative; give a span of zero or more")
    return _micros(span)


def _ttl(view: str, ttl: timedelta | None) -> int | None:
    if ttl is None:
        return None
    return _duration(f"{view}.ttl", ttl) or None
