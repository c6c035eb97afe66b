"""Identity by content: the one place that says what of a document makes its ids.

An id holds what changes a value and nothing else. A frame is the source's logical name, its time
and id columns with their rules, the filter and the join keys; a feature adds its name, dtype, the
columns it reads and its expression; a version is all features of a view with its ttl. Of an
expression the first spelling is identity; other spellings of it, and all that people read
(descriptions, owners, places of sources), are not covered.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from featurestore.model.documents import (
    Expression,
    Feature,
    Input,
    LiveView,
    Project,
    Projection,
    Release,
    Service,
    Source,
    View,
)
from featurestore.model.fingerprint import Part, digest
from featurestore.model.schema import Column


def identified(view: View) -> View:
    """Give a view with the ids of its frame, features, data and version that its content makes."""
    if view.kind == "on_demand":
        features = tuple(replace(f, id=_on_demand_id(view, f)) for f in view.features)
        ids = tuple(sorted(f.id for f in features))
        version = digest("version", view.name, "on_demand", None, ids)
        return replace(view, features=features, id=version, data_id="", frame_id="")
    assert view.source is not None
    in_file = {new: old for old, new in view.source.field_mapping}
    frame = _frame_id(view, view.source, in_file)
    features = tuple(replace(f, id=_feature_id(frame, f, in_file)) for f in view.features)
    ids = tuple(sorted(f.id for f in features))
    return replace(
        view,
        features=features,
        id=digest("version", view.name, "batch", view.ttl, ids),
        data_id=digest("data", view.name, frame, ids),
        frame_id=frame,
    )


def service_id(name: str, projections: Sequence[Projection]) -> str:
    """Give the id of a service: its name and its projections in order."""
    parts = tuple((p.view, p.alias, p.join_key_map, p.features) for p in projections)
    return digest("service", name, parts)


def tampered(document: View | Service | Project | Release) -> str | None:
    """Give the dotted path of the first id that does not fit its content, or None.

    A path begins with the version: `plane_history@7f3a9c1e04b2.features.was_late.id`.
    """
    match document:
        case Service():
            fits = document.id == service_id(document.name, document.projections)
            return None if fits else f"{document.name}@{document.id[:12]}.id"
        case View():
            return next(_misfits(document), None)
        case Project():
            parts: Iterable[View | Service] = (*document.views, *document.services)
            return next(filter(None, map(tampered, parts)), None)
        case Release():
            lives = (*document.views, *document.warm)
            parts = (*(live.view for live in lives), *document.services)
            found = (*map(tampered, parts), *map(_misplaced, lives))
            return next(filter(None, found), None)


def spelled(view: View, others: Iterable[View]) -> View:
    """Give a view with the spellings that other copies of it hold, one per dialect, own first."""
    for other in others:
        named = {feature.name: feature.expression for feature in other.features}
        features = tuple(
            replace(one, expression=_merged(one.expression, named.get(one.name)))
            for one in view.features
        )
        kept = None if view.filter is None else _merged(view.filter, other.filter)
        view = replace(view, features=features, filter=kept)
    return view


def _merged(mine: Expression, other: Expression | None) -> Expression:
    dialects = {one.dialect for one in mine.spellings}
    more = () if other is None else other.spellings
    return Expression(spellings=(*mine.spellings, *(s for s in more if s.dialect not in dialects)))


def _frame_id(view: View, source: Source, in_file: Mapping[str, str]) -> str:
    """Identify the rows of a view; columns are named as the file does.

    A mapping may give the file's time columns the names of others.
    """
    event, created, own = source.timestamp_field, source.created_field, view.event_id
    zone = source.time_zone or "UTC"
    return digest(
        "frame",
        ("source", source.name),
        ("time", in_file.get(event, event), created and in_file.get(created, created), zone),
        ("known_at", view.known_at if created else "event", view.delay),
        ("event_id", own and in_file.get(own, own)),
        (
            "filter",
            None if view.filter is None else view.filter.spellings[0].data,
            _columns(view.filter_reads, in_file),
        ),
        ("keys", _columns(view.join_keys, in_file)),
    )


def _feature_id(frame: str, feature: Feature, in_file: Mapping[str, str]) -> str:
    return digest(
        "feature",
        frame,
        feature.name,
        feature.dtype,
        _columns(feature.reads, in_file),
        feature.expression.spellings[0].data,
        *_window(feature),
    )


def _window(feature: Feature) -> tuple[Part, ...]:
    one = feature.window
    return () if one is None else (("window", one.function, one.length, one.every, one.dtype),)


def _on_demand_id(view: View, feature: Feature) -> str:
    maps = {projection.alias: projection.join_key_map for projection in view.projections}
    inputs = {one.column: one for one in view.inputs}
    origins: Part = tuple(_origin(inputs[read.name], maps) for read in feature.reads)
    data = feature.expression.spellings[0].data
    return digest("on_demand", feature.name, feature.dtype, origins, data)


def _origin(one: Input, maps: Mapping[str, tuple[tuple[str, str], ...]]) -> Part:
    return (one.column, one.dtype, one.feature_id, one.projection and maps[one.projection])


def _columns(columns: Sequence[Column], in_file: Mapping[str, str]) -> Part:
    return tuple((c.name, c.dtype, in_file.get(c.name, c.name)) for c in columns)


def _misfits(view: View) -> Iterator[str]:
    """Give the paths of what an id needs and is not there, then of the ids that do not fit."""
    lacking = [f"{view.version}.{path}" for path in _lacking(view)]
    yield from lacking
    if lacking:
        return
    right = identified(view)
    if view.frame_id != right.frame_id:
        yield f"{view.version}.frame_id"
    for mine, its in zip(view.features, right.features, strict=True):
        if mine.id != its.id:
            yield f"{view.version}.features.{mine.name}.id"
    for field in ("data_id", "id"):
        if getattr(view, field) != getattr(right, field):
            yield f"{view.version}.{field}"


def _lacking(view: View) -> Iterator[str]:
    if view.kind == "batch" and view.source is None:
        yield "source"
    if view.filter is not None and not view.filter.spellings:
        yield "filter"
    yield from (f"features.{f.name}" for f in view.features if not f.expression.spellings)
    if view.kind == "on_demand":
        aliases = {None, *(projection.alias for projection in view.projections)}
        known = {one.column for one in view.inputs if one.projection in aliases}
        for feature in view.features:
            yield from (f"inputs.{c.name}" for c in feature.reads if c.name not in known)


def _misplaced(live: LiveView) -> str | None:
    """Give the path of a table that holds the data of another version."""
    fits = live.table is None or live.table.data_id == live.view.data_id
    return None if fits else f"{live.view.version}.table"
