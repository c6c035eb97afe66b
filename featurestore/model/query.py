"""What a call asks for, resolved once: the same query drives a training join and a lookup.

A query lists the stored lookups (each use of a view, once), the on-demand views computed from them
and from request data, and the outputs in the caller's order.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from featurestore.errors import InvalidRequest, NotFound
from featurestore.model.catalog import Catalog
from featurestore.model.documents import Feature, Input, Projection, View
from featurestore.model.names import suggest
from featurestore.model.schema import Column


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """One use of a stored view: `keys` pairs each join key with the caller's column for it.

    `version` is the id to report: the view's own, or that of a lock which the view satisfies.
    """

    view: View
    version: str
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
    """One on-demand view to evaluate, with the features asked for and the columns they read.

    `version` is the id to report: the view's own, or that of a lock which the view satisfies.
    """

    view: View
    version: str
    alias: str
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


def references(names: Sequence[str], catalog: Catalog) -> tuple[Projection, ...]:
    """Turn `view:feature` and `view@version:feature` references into projections, in order.

    A pinned use is called as it is written: `view@version`, any digest prefix of 4 hex digits.

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
        view, colon, feature = name.partition(":")
        if not (colon and view.partition("@")[0] and feature):
            alone = "" if colon else f"; a service is asked for alone, as features={name!r}"
            raise InvalidRequest(f"features: {name!r} is not of the form 'view:feature'{alone}")
        catalog.named(view)
        projections.append(Projection(view=view, alias=view, features=(feature,)))
    return tuple(projections)


def resolve(
    projections: Sequence[Projection], catalog: Catalog, *, full_feature_names: bool = False
) -> Query:
    """Resolve projections (features in order; an empty list means all) against the views.

    Output names are feature names, or `alias__feature` with `full_feature_names`. An on-demand view
    reads the version of its upstream that holds the features it was declared with.

    Raises:
        NotFound: a view or feature is not known.
        InvalidRequest: two outputs share a name, or one caller's column needs two dtypes.
    """
    building = Building(lambda use, one: _upstream(use.view, one, catalog))
    for projection in projections:
        view = catalog.named(projection.view)
        names = projection.features or tuple(f.name for f in view.features)
        use = Use(
            view=view,
            version=view.id,
            alias=projection.alias,
            join_key_map=projection.join_key_map,
        )
        for name in names:
            full = f"{projection.alias}__{name}" if full_feature_names else name
            building.output(full, use, feature_of(view, name))
    _refuse_collisions(building.outputs, full_feature_names=full_feature_names)
    return building.query()


def feature_of(view: View, name: str) -> Feature:
    """Give the feature of a view by name.

    Raises:
        NotFound: the view has no such feature.
    """
    found = view.feature(name)
    if found is None:
        known = suggest(name, (f.name for f in view.features))
        raise NotFound(f"{view.name}:{name}: the view {view.version} has no such feature{known}")
    return found


def projection_of(view: View, one: Input) -> Projection:
    """Give the projection that an input of an on-demand view comes from."""
    return next(p for p in view.projections if p.alias == one.projection)


def _upstream(view: View, one: Input, catalog: Catalog) -> "Use":
    projection = projection_of(view, one)
    through = (i for i in view.inputs if i.projection == projection.alias)
    upstream = catalog.holding(projection.view, {i.feature_id for i in through if i.feature_id})
    if upstream is None:
        there = catalog.named(projection.view)
        raise NotFound(
            f"{view.name}: {view.version} reads features of {projection.view} that are not here; "
            f"the view is at {there.version}"
        )
    is_current = catalog.current.get(projection.view) is upstream
    return Use(
        view=upstream,
        version=upstream.id,
        alias=projection.alias if is_current else f"{projection.alias}@{upstream.id[:12]}",
        join_key_map=projection.join_key_map,
    )


def _refuse_collisions(outputs: Sequence[Output], *, full_feature_names: bool) -> None:
    origin: dict[str, Output] = {}
    for output in outputs:
        first = origin.setdefault(output.name, output)
        if first is not output:
            same = (first.alias, first.feature) == (output.alias, output.feature)
            once = same or full_feature_names
            way_out = "ask for it once" if once else "pass full_feature_names=True"
            raise InvalidRequest(
                f"features: {first.alias}:{first.feature.name} and "
                f"{output.alias}:{output.feature.name} would both be called "
                f"{output.name!r}; {way_out}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A use of a view under an alias, reported as a version."""

    view: View
    version: str
    alias: str
    join_key_map: tuple[tuple[str, str], ...] = ()


Upstream = Callable[[Use, Input], Use]
"""Gives the use of a stored view that an input of an on-demand one comes from."""


class Building:
    """Collects outputs with the lookups and computes behind them, each once, in order."""

    def __init__(self, upstream: Upstream) -> None:
        self.outputs: list[Output] = []
        self._upstream = upstream
        self._lookups: dict[tuple[str, str, tuple[tuple[Column, str], ...]], int] = {}
        self._looked_up: list[tuple[Use, dict[str, Feature]]] = []
        self._computes: dict[tuple[str, str], int] = {}
        self._computed: list[tuple[Use, dict[str, Feature], dict[str, Bind]]] = []

    def output(self, name: str, use: Use, feature: Feature) -> None:
        """Add an output: a feature of a stored or an on-demand view."""
        on_demand = use.view.kind == "on_demand"
        self.outputs.append(
            Output(
                name=name,
                alias=use.alias,
                feature=feature,
                lookup=None if on_demand else self._lookup(use, feature),
                compute=self._compute(use, feature) if on_demand else None,
            )
        )

    def _lookup(self, use: Use, feature: Feature) -> int:
        number = self._lookups.setdefault(
            (use.version, use.alias, _keys(use)), len(self._looked_up)
        )
        if number == len(self._looked_up):
            self._looked_up.append((use, {}))
        self._looked_up[number][1][feature.name] = feature
        return number

    def _compute(self, use: Use, feature: Feature) -> int:
        _refuse_map(use)
        number = self._computes.setdefault((use.version, use.alias), len(self._computed))
        if number == len(self._computed):
            self._computed.append((use, {}, {}))
        _, wanted, binds = self._computed[number]
        wanted[feature.name] = feature
        read = {column.name for column in feature.reads} - set(binds)
        binds.update({i.column: self._bind(use, i) for i in use.view.inputs if i.column in read})
        return number

    def _bind(self, reader: Use, one: Input) -> Bind:
        number = None
        if one.projection is not None:
            use = self._upstream(reader, one)
            number = self._lookup(use, feature_of(use.view, one.feature))
        return Bind(column=one.column, dtype=one.dtype, lookup=number, field=one.feature)

    def query(self) -> Query:
        """Give what was collected.

        Raises:
            InvalidRequest: one caller's column needs two dtypes.
        """
        lookups = tuple(
            Lookup(
                view=use.view,
                version=use.version,
                alias=use.alias,
                keys=_keys(use),
                features=tuple(wanted.values()),
            )
            for use, wanted in self._looked_up
        )
        computes = tuple(
            Compute(
                view=use.view,
                version=use.version,
                alias=use.alias,
                binds=tuple(binds[one.column] for one in use.view.inputs if one.column in binds),
                features=tuple(wanted.values()),
            )
            for use, wanted, binds in self._computed
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
            outputs=tuple(self.outputs),
            entities=entities,
            request=request,
        )


def _refuse_map(use: Use) -> None:
    if use.join_key_map:
        raise InvalidRequest(
            f"{use.alias}: {use.view.name} is computed on demand and has no join keys; "
            "map the join keys of the views among its sources"
        )


def _keys(use: Use) -> tuple[tuple[Column, str], ...]:
    view, renamed = use.view, dict(use.join_key_map)
    unknown = set(renamed) - {key.name for key in view.join_keys}
    if unknown:
        raise InvalidRequest(
            f"{use.alias}: join_key_map names {min(unknown)!r}, which is no join key "
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
