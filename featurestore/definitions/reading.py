"""From one Feast object to one document: what a view, source or service says, read here."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import feast
from feast.base_feature_view import BaseFeatureView
from feast.data_format import DeltaFormat
from feast.data_source import PushSource
from feast.feature_view import DUMMY_ENTITY_NAME
from feast.feature_view_projection import FeatureViewProjection

from featurestore.definitions.dtypes import family, from_feast, from_value
from featurestore.definitions.on_demand import OnDemandFeatureView
from featurestore.definitions.views import FeatureView
from featurestore.definitions.windows import aggregates
from featurestore.errors import InvalidDefinition, SourceError
from featurestore.model import declare, expressions
from featurestore.model.documents import Info, Projection, Service, Source, View
from featurestore.model.names import suggest
from featurestore.model.schema import SCALARS, Column
from featurestore.model.time import normal_dtype, normalize_schema
from featurestore.storage.sources import locate, scan

_INTERNAL = re.compile(r"^__|__$")
"""Columns that Feast never infers as features."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where relative paths start, and the entities known by name."""

    root: Path
    entities: Mapping[str, feast.Entity] = field(default_factory=dict)


def batch_view(view: feast.FeatureView, scope: Scope) -> View:
    """Give the document of a view over a source: ours, or a plain one of Feast's.

    Raises:
        InvalidDefinition: it does not fit its source, or breaks a rule of definitions.
        SourceError: the source is not there.
    """
    source, refused = _with_columns(view, scope.root)
    keys = _join_keys(view, scope)
    for key in keys:
        _refuse(f"{view.name}.entities.{key}", [key], refused)
    if isinstance(view, FeatureView):
        for feature, expr in view.expressions.items():
            _refuse(f"{view.name}.features.{feature}", expressions.reads(expr), refused)
        for feature, made in view.windows.items():
            _refuse(f"{view.name}.features.{feature}", expressions.reads(made.input()), refused)
        return declare.batch_view(
            name=view.name,
            join_keys=keys,
            source=source,
            features=view.written,
            filter=view.filter,
            ttl=view.ttl,
            known_at=view.known_at,
            delay=view.delay,
            settle=view.settle,
            event_id=view.event_id,
            info=_info(view),
        )
    if getattr(view, "aggregations", None):
        return _aggregated(view, source, keys)
    columns = _plain_columns(view, source, keys, refused)
    _refuse(f"{view.name}.schema", columns, refused)
    _check_fields(view, source)
    return declare.batch_view(
        name=view.name,
        join_keys=keys,
        source=source,
        columns=columns,
        ttl=view.ttl,
        info=_info(view),
    )


def _aggregated(view: feast.FeatureView, source: Source, keys: Mapping[str, str | None]) -> View:
    """Give the document of a Feast view whose features are its aggregations."""
    made = aggregates(view.name, view.aggregations)
    for one in view.features:
        if one.name not in made:
            raise InvalidDefinition(
                f"{view.name}.schema.{one.name}: no aggregation gives it"
                f"{suggest(one.name, made)}; a view of rows and windows is "
                "featurestore.definitions.FeatureView"
            )
    return declare.batch_view(
        name=view.name, join_keys=keys, source=source, features=made, info=_info(view)
    )


def on_demand_view(view: OnDemandFeatureView, views: Mapping[str, View]) -> View:
    """Give the document of an on-demand view over views that are documents already.

    Raises:
        InvalidDefinition: a source is not known, or a rule of definitions is broken.
    """
    sources = []
    for use in inputs(view):
        if use.view not in views:
            raise InvalidDefinition(
                f"{view.name}.sources: no view is called '{use.view}'{suggest(use.view, views)}"
            )
        sources.append((views[use.view], use))
    return declare.on_demand_view(
        name=view.name,
        sources=sources,
        request=[
            Column(name=one.name, dtype=from_feast(one.dtype))
            for source in view.inputs
            if isinstance(source, feast.RequestSource)
            for one in source.schema
        ],
        features=view.expressions,
        info=_info(view),
    )


def service(thing: feast.FeatureService, views: Mapping[str, View]) -> Service:
    """Give the document of a service over views that are documents already.

    Raises:
        InvalidDefinition: a view or feature is not known, or two uses share an alias.
    """
    return declare.service(
        name=thing.name, projections=projections(thing), views=views, info=_info(thing)
    )


def uses(thing: Any) -> list[Any]:
    """Give what a service lists, in its order; a view lists itself."""
    return list(thing._features) if isinstance(thing, feast.FeatureService) else [thing]  # noqa: SLF001


def inputs(view: OnDemandFeatureView) -> tuple[Projection, ...]:
    """Give the uses of views that an on-demand view reads, in order."""
    return tuple(
        _projection(one) for one in view.inputs if not isinstance(one, feast.RequestSource)
    )


def projections(thing: Any) -> tuple[Projection, ...]:
    """Give the uses of views that a view or service object stands for, in its order.

    Uses of one view under one alias and join-key map are joined into one, at the first's place.
    """
    joined: dict[Projection, list[str]] = {}
    for use in uses(thing):
        one = _projection(use)
        names = joined.setdefault(replace(one, features=()), [])
        names.extend(feature for feature in one.features if feature not in names)
    return tuple(replace(one, features=tuple(names)) for one, names in joined.items())


def is_use(view: BaseFeatureView) -> bool:
    """Say whether a view object is a selection or renaming of a view, not its definition."""
    projection = view.projection
    selected = [f.name for f in projection.features] != [f.name for f in view.features]
    changed = projection.name_alias or projection.join_key_map or projection.desired_features
    return bool(selected or changed)


def source_of(view: feast.FeatureView) -> Source:
    """Give the document of a view's source, its columns not read yet."""
    batch = view.batch_source
    pushed = isinstance(view.stream_source, PushSource)
    named = view.stream_source if pushed else batch
    renamed = dict(batch.field_mapping)
    event, created = batch.timestamp_field, batch.created_timestamp_column
    return Source(
        name=named.name,
        path=batch.path,
        format="delta" if isinstance(batch.file_format, DeltaFormat) else "parquet",
        timestamp_field=renamed.get(event, event),
        created_field=renamed.get(created, created) or None,
        field_mapping=tuple(sorted(renamed.items())),
        time_zone=getattr(view, "time_zone", None),
        pushed=pushed,
        info=_info(named),
    )


def _projection(use: Any) -> Projection:
    if isinstance(use, str):
        view, _, feature = use.partition(":")
        return Projection(view=view, alias=view, features=(feature,) if feature else ())
    given: FeatureViewProjection = getattr(use, "projection", use)
    return Projection(
        view=given.name,
        alias=given.name_to_use(),
        join_key_map=tuple(sorted(given.join_key_map.items())),
        features=tuple(given.desired_features or [f.name for f in given.features]),
    )


def _with_columns(view: feast.FeatureView, root: Path) -> tuple[Source, dict[str, str]]:
    """Give the source with its columns, and the dtypes of the columns the store cannot keep."""
    source = source_of(view)
    schema = getattr(view, "columns", None)
    if schema is None:
        schema = scan(source, root, f"{source.name}.path").collect_schema()
    else:
        _check_declared(view.name, schema, source, root)
    renamed = dict(source.field_mapping)
    columns = normalize_schema(schema, source.field_mapping)
    kept = {column.name for column in columns}
    refused = {
        renamed.get(name, name): str(dtype)
        for name, dtype in schema.items()
        if renamed.get(name, name) not in kept
    }
    return replace(source, columns=columns), refused


def _check_declared(view: str, schema: Mapping[str, Any], source: Source, root: Path) -> None:
    """Hold the declared columns against the file, if it is there already."""
    locate(source.path, root)
    try:
        found = scan(source, root, f"{source.name}.path").collect_schema()
    except SourceError:
        return
    for name, dtype in schema.items():
        if name not in found:
            raise InvalidDefinition(
                f"{view}.columns.{name}: the column is not in source '{source.name}'"
                f"{suggest(name, found)}"
            )
        if normal_dtype(found[name]) != normal_dtype(dtype):
            raise InvalidDefinition(
                f"{view}.columns.{name}: declared as {dtype}, but source '{source.name}' has "
                f"{found[name]}; correct one of them"
            )


def _refuse(path: str, columns: Sequence[str], refused: Mapping[str, str]) -> None:
    for column in columns:
        if column in refused:
            raise InvalidDefinition(
                f"{path}: column '{column}' holds {refused[column]}; supported are "
                f"{', '.join(SCALARS)}, and lists and arrays of numbers; cast it upstream"
            )


def _join_keys(view: feast.FeatureView, scope: Scope) -> dict[str, str | None]:
    """Give each join key's declared dtype name, None where the source decides."""
    declared = {column.name: from_feast(column.dtype) for column in view.entity_columns}
    if isinstance(view, FeatureView):
        entities = list(view.entity_objects)
    else:
        names = [name for name in view.entities if name != DUMMY_ENTITY_NAME]
        unknown = [name for name in names if name not in scope.entities]
        if unknown and len(declared) == len(names):
            return dict(declared)
        if unknown:
            raise InvalidDefinition(
                f"{view.name}.entities: entity '{unknown[0]}' is not known; define it at the top "
                "of a module, or use featurestore.definitions.FeatureView, which keeps it"
            )
        entities = [scope.entities[name] for name in names]
    return {
        entity.join_key: from_value(entity.value_type) or declared.get(entity.join_key)
        for entity in entities
    }


def _plain_columns(
    view: feast.FeatureView,
    source: Source,
    keys: Mapping[str, str | None],
    refused: Mapping[str, str],
) -> tuple[str, ...]:
    """Give a plain view's features: the fields it lists, else what Feast would infer."""
    if view.features:
        return tuple(one.name for one in view.features)
    apart = {*keys, source.timestamp_field, source.created_field}
    names = [*(column.name for column in source.columns), *refused]
    return tuple(n for n in names if n not in apart and not _INTERNAL.search(n))


def _check_fields(view: feast.FeatureView, source: Source) -> None:
    """Hold the types a plain view declares against its source: widths may differ, kinds may not."""
    found = {column.name: column.dtype for column in source.columns}
    for one in view.features:
        path = f"{view.name}.schema.{one.name}"
        try:
            declared = from_feast(one.dtype)
        except ValueError as error:
            raise InvalidDefinition(f"{path}: {error}") from error
        if one.name in found and family(declared) != family(found[one.name]):
            raise InvalidDefinition(
                f"{path}: declared as {one.dtype}, but source '{source.name}' has "
                f"{found[one.name]}; declare what the source holds, or cast it upstream"
            )


def _info(thing: Any) -> Info:
    return Info(
        description=thing.description,
        owner=thing.owner,
        tags=tuple(sorted(thing.tags.items())),
    )
