"""Views computed at request time: every rule their declaration must keep."""

from collections.abc import Mapping, Sequence

import polars as pl

from featurestore.errors import InvalidDefinition, InvalidExpression
from featurestore.model import expressions
from featurestore.model.declare.rules import check_name, check_outputs, output_dtype
from featurestore.model.documents import Feature, Info, Input, Projection, View
from featurestore.model.identity import identified
from featurestore.model.names import suggest
from featurestore.model.schema import Column


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
    check_name(name)
    if not features:
        raise InvalidDefinition(f"{name}.features: a view needs at least one feature")
    _check_sources(name, sources)
    _check_request(name, request)
    check_outputs(name, features, taken=[field.name for field in request])
    candidates = _candidates(sources, request)
    used: dict[str, Input] = {}
    made = tuple(
        _on_demand_feature(name, feature, expr, candidates, used)
        for feature, expr in features.items()
    )
    view = View(
        id="",
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
    return identified(view)


def _check_sources(view: str, sources: Sequence[tuple[View, Projection]]) -> None:
    aliases = [projection.alias for _, projection in sources]
    for upstream, projection in sources:
        path = f"{view}.sources.{projection.alias}"
        if upstream.kind == "on_demand":
            raise InvalidDefinition(
                f"{path}: an on-demand view cannot feed another; repeat the expression"
            )
        if aliases.count(projection.alias) > 1:
            raise InvalidDefinition(
                f"{path}: two sources have this name; give one another with with_name(…)"
            )
        for feature in projection.features:
            if upstream.feature(feature) is None:
                known = suggest(feature, (f.name for f in upstream.features))
                raise InvalidDefinition(f"{path}: {upstream.name} has no '{feature}'{known}")
        keys = [key.name for key in upstream.join_keys]
        for key, _ in projection.join_key_map:
            if key not in keys:
                raise InvalidDefinition(
                    f"{path}: join_key_map names '{key}', which is no join key of "
                    f"{upstream.name}{suggest(key, keys)}"
                )


def _check_request(view: str, request: Sequence[Column]) -> None:
    names = [field.name for field in request]
    for name in names:
        if names.count(name) > 1:
            raise InvalidDefinition(f"{view}.request.{name}: two request fields have this name")


def _candidates(
    sources: Sequence[tuple[View, Projection]], request: Sequence[Column]
) -> dict[str, list[Input]]:
    candidates: dict[str, list[Input]] = {}
    for upstream, projection in sources:
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
    dtype = output_dtype(expr, reads, path)
    return Feature(id="", name=feature, dtype=dtype, expression=encoded, reads=reads)
