"""What a call asks for, resolved once: the same query drives a training join and a lookup.

A query lists the stored lookups (each use of a view, once), the on-demand views computed from them
and from request data, and the outputs in the caller's order.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from featurestore.errors import InvalidRequest, NotFound
from featurestore.model.documents import Feature, Input, Projection, View
from featurestore.model.names import suggest
from featurestore.model.schema import Column


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """One use of a stored view: `keys` pairs each join key with the caller's column for it."""

    view: View
    alias: str
    keys: tuple[tuple[Column, str], ...]
    features: tuple[Feature, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A column an on-demand feature reads, from lookup number `lookup` or (None) request data."""

    column: str
    dtype: str
    lookup: int | None
    field: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """One on-demand view to evaluate, with the features asked for."""

    view: View
    binds: tuple[Bind, ...]
    features: tuple[Feature, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One answered column; exactly one of `lookup` and `compute` is its origin's number."""

    name: str
    alias: str
    feature: Feature
    lookup: int | None = None
    compute: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """All that one call needs; `entities` and `request` are the columns its caller must bring."""

    lookups: tuple[Lookup, ...]
    computes: tuple[Compute, ...]
    outputs: tuple[Output, ...]
    entities: tuple[Column, ...]
    request: tuple[Column, ...]


def references(names: Sequence[str], views: Mapping[str, View]) -> tuple[Projection, ...]:
    """Turn `view:feature` and `view@version:feature` references into projections, in order.

    Raises:
        InvalidRequest: a reference has another form, or none is given.
        NotFound: the view or version is not known.
    """
    if not names:
        raise InvalidRequest(
            "features: none asked for; name a service or `view:feature` references"
        )
    projections = []
    for name in names:
        pinned, colon, feature = name.partition(":")
        view, _, version = pinned.partition("@")
        if not (colon and view and feature):
            raise InvalidRequest(f"features: {name!r} is not of the form 'view:feature'")
        if view not in views:
            raise NotFound(f"features: no view is called {view!r}{suggest(view, views)}")
        if version and not views[view].id.startswith(version):
            raise NotFound(f"features: {pinned} is not here; the view is at {views[view].version}")
        projections.append(Projection(view=view, alias=view, features=(feature,)))
    return tuple(projections)


def resolve(
    projections: Sequence[Projection],
    views: Mapping[str, View],
    *,
    full_feature_names: bool = False,
) -> Query:
    """Resolve projections (features in order; an empty list means all) against the views.

    Output names are feature names, or `alias__feature` with `full_feature_names`.

    Raises:
        NotFound: a view or feature is not known.
        InvalidRequest: two outputs share a name, or one caller's column needs two dtypes.
    """
    building = _Building(views)
    outputs: list[Output] = []
    for projection in projections:
        view = building.view(projection.view)
        names = projection.features or tuple(f.name for f in view.features)
        features = [_feature(view, name) for name in names]
        if view.kind == "on_demand":
            _refuse_map(projection)
            origin = {"compute": building.compute(view, features)}
        else:
            origin = {"lookup": building.lookup(projection, view, features)}
        outputs += [
            Output(
                name=f"{projection.alias}__{f.name}" if full_feature_names else f.name,
                alias=projection.alias,
                feature=f,
                **origin,
            )
            for f in features
        ]
    _refuse_collisions(outputs, full_feature_names=full_feature_names)
    return building.query(tuple(outputs))


def _feature(view: View, name: str) -> Feature:
    found = view.feature(name)
    if found is None:
        known = suggest(name, (f.name for f in view.features))
        raise NotFound(f"{view.name}:{name}: the view {view.version} has no such feature{known}")
    return found


def _refuse_map(projection: Projection) -> None:
    if projection.join_key_map:
        raise InvalidRequest(
            f"{projection.alias}: {projection.view} is computed on demand and has no join keys; "
            "map the join keys of the views among its sources"
        )


def _refuse_collisions(outputs: Sequence[Output], *, full_feature_names: bool) -> None:
    origin: dict[str, Output] = {}
    for output in outputs:
        first = origin.setdefault(output.name, output)
        if first is not output:
            way_out = "ask for it once" if full_feature_names else "pass full_feature_names=True"
            raise InvalidRequest(
                f"features: {first.alias}:{first.feature.name} and "
                f"{output.alias}:{output.feature.name} would both be called "
                f"{output.name!r}; {way_out}"
            )


class _Building:
    """Collects lookups and computes, each once, while projections are resolved."""

    def __init__(self, views: Mapping[str, View]) -> None:
        self._views = views
        self._lookups: dict[tuple[str, str, tuple[tuple[str, str], ...]], int] = {}
        self._projections: list[tuple[Projection, View]] = []
        self._wanted: list[dict[str, Feature]] = []
        self._computes: dict[str, int] = {}
        self._computed: list[tuple[View, tuple[Bind, ...], dict[str, Feature]]] = []

    def view(self, name: str) -> View:
        if name not in self._views:
            raise NotFound(f"features: no view is called {name!r}{suggest(name, self._views)}")
        return self._views[name]

    def lookup(self, projection: Projection, view: View, features: Sequence[Feature]) -> int:
        key = (view.name, projection.alias, projection.join_key_map)
        if key not in self._lookups:
            self._lookups[key] = len(self._projections)
            self._projections.append((projection, view))
            self._wanted.append({})
        number = self._lookups[key]
        self._wanted[number].update({f.name: f for f in features})
        return number

    def compute(self, view: View, features: Sequence[Feature]) -> int:
        if view.name not in self._computes:
            by_alias = {p.alias: p for p in view.projections}
            binds = tuple(self._bind(one, by_alias) for one in view.inputs)
            self._computes[view.name] = len(self._computed)
            self._computed.append((view, binds, {}))
        number = self._computes[view.name]
        self._computed[number][2].update({f.name: f for f in features})
        return number

    def _bind(self, one: Input, by_alias: Mapping[str, Projection]) -> Bind:
        number = None
        if one.projection is not None:
            projection = by_alias[one.projection]
            upstream = self.view(projection.view)
            number = self.lookup(projection, upstream, [_feature(upstream, one.feature)])
        return Bind(column=one.column, dtype=one.dtype, lookup=number, field=one.feature)

    def query(self, outputs: tuple[Output, ...]) -> Query:
        lookups = tuple(
            Lookup(
                view=view,
                alias=projection.alias,
                keys=_keys(projection, view),
                features=tuple(wanted.values()),
            )
            for (projection, view), wanted in zip(self._projections, self._wanted, strict=True)
        )
        computes = tuple(
            Compute(view=view, binds=binds, features=tuple(wanted.values()))
            for view, binds, wanted in self._computed
        )
        entities = _one_dtype_each(
            (Column(name=caller, dtype=key.dtype), f"join key of {lookup.alias}")
            for lookup in lookups
            for key, caller in lookup.keys
        )
        request = _one_dtype_each(
            (Column(name=bind.field, dtype=bind.dtype), f"request data of {compute.view.name}")
            for compute in computes
            for bind in compute.binds
            if bind.lookup is None
        )
        _one_dtype_each(
            [*((c, "join key") for c in entities), *((c, "request data") for c in request)]
        )
        return Query(
            lookups=lookups,
            computes=computes,
            outputs=outputs,
            entities=entities,
            request=request,
        )


def _keys(projection: Projection, view: View) -> tuple[tuple[Column, str], ...]:
    renamed = dict(projection.join_key_map)
    unknown = set(renamed) - {key.name for key in view.join_keys}
    if unknown:
        raise InvalidRequest(
            f"{projection.alias}: join_key_map names {min(unknown)!r}, which is no join key "
            f"of {view.name}{suggest(min(unknown), (k.name for k in view.join_keys))}"
        )
    return tuple((key, renamed.get(key.name, key.name)) for key in view.join_keys)


def _one_dtype_each(columns: Iterable[tuple[Column, str]]) -> tuple[Column, ...]:
    seen: dict[str, tuple[Column, str]] = {}
    for column, role in columns:
        first, first_role = seen.setdefault(column.name, (column, role))
        if first.dtype != column.dtype:
            raise InvalidRequest(
                f"{column.name}: is {first.dtype} as {first_role} and {column.dtype} as {role}; "
                "give the entities one value type, or map the join key to another column"
            )
    return tuple(column for column, _ in seen.values())
