"""What a lock asks for: its very outputs, from whichever version here holds its features."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from featurestore.errors import InvalidRequest, NotMaterialized
from featurestore.model.catalog import Catalog
from featurestore.model.documents import Feature, Input, View
from featurestore.model.lock import Lock, LockedOutput, LockedView
from featurestore.model.query import Building, Query, Use, projection_of

_LONGEST = 2**63 - 1


def admit(lock: Lock, *, project: str) -> Lock:
    """Give a lock back if it can be answered in a project.

    Raises:
        InvalidRequest: it is a draft, or another project's.
    """
    if lock.draft:
        raise InvalidRequest(
            "lock.draft: its views were never registered, so nothing keeps them; apply them, and "
            "build the training set by their names"
        )
    if lock.project != project:
        raise InvalidRequest(
            f"lock.project: is {lock.project!r}, but this is {project!r}; use the store or server "
            "of the project that it was made in"
        )
    return lock


def unlike(one: LockedView, view: View) -> str | None:
    """Give the field in which a lock tells a version otherwise than it is, or None.

    All of them are part of the version's id, so nothing but an edit sets them apart.
    """
    told = (one.name, one.kind, one.ttl, one.known_at, one.delay)
    found = (view.name, view.kind, view.ttl, view.known_at, view.delay)
    named = zip(("name", "kind", "ttl", "known_at", "delay"), told, found, strict=True)
    return next((field for field, was, now in named if was != now), None)


def locked(lock: Lock, catalog: Catalog) -> Query:
    """Resolve a lock: its outputs by its names, in its order, under its ttl and version ids.

    The current version of a view answers where it holds the features, else the locked one, else any
    other that does: equal feature ids are equal features.

    Raises:
        InvalidRequest: the lock contradicts itself; the message names where.
        NotMaterialized: no version here holds what a locked one gave.
    """
    homes = _homes(lock, catalog)
    building = Building(lambda use, one: _upstream(lock, homes, use, one))
    seen = set()
    for number, output in enumerate(lock.outputs):
        path = f"lock.outputs[{number}]"
        if output.name in seen:
            raise InvalidRequest(f"{path}.name: {output.name!r} is an earlier output's too")
        seen.add(output.name)
        home = homes[output.version]
        use = Use(
            view=home.view,
            version=output.version,
            alias=output.alias,
            join_key_map=output.join_key_map,
        )
        building.output(output.name, use, _feature(output, home, path))
    return building.query()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Home:
    """A locked version with the view that answers for it, under the lock's ttl."""

    locked: LockedView
    view: View
    features: Mapping[str, Feature]


def _homes(lock: Lock, catalog: Catalog) -> dict[str, _Home]:
    """Find the view that answers for each version of a lock."""
    asked = _asked(lock)
    homes: dict[str, _Home] = {}
    for number, one in enumerate(lock.views):
        path = f"lock.views[{number}]"
        if one.ttl is not None and not 0 < one.ttl <= _LONGEST:
            raise InvalidRequest(f"{path}.ttl: {one.ttl} microseconds is no ttl")
        view = catalog.holding(one.name, asked[one.id], own=one.id)
        if view is None:
            names = ", ".join(sorted(asked[one.id].values()))
            raise NotMaterialized(
                f"{one.name}@{one.id[:12]}: no version that answers here has its features "
                f"({names}); run `featurestore lock register FILE` with this lock"
            )
        if view.kind != one.kind:
            raise InvalidRequest(f"{path}.kind: is {one.kind}, but {view.version} is {view.kind}")
        homes[one.id] = _Home(
            locked=one,
            view=replace(view, ttl=one.ttl),
            features={feature.id: feature for feature in view.features},
        )
    return homes


def _asked(lock: Lock) -> dict[str, dict[str, str]]:
    """Give, for each version of a lock, the features it is read for: their ids and what to call."""
    if not lock.outputs:
        raise InvalidRequest("lock.outputs: is empty; a lock names what is answered")
    names = {view.id: view.name for view in lock.views}
    asked: dict[str, dict[str, str]] = {version: {} for version in names}
    for number, lookup in enumerate(lock.lookups):
        if lookup.features and lookup.version not in asked:
            raise InvalidRequest(f"lock.lookups[{number}].version: is none of lock.views")
        if lookup.features:
            asked[lookup.version].update({one: one[:12] for one in lookup.features})
    for number, output in enumerate(lock.outputs):
        path = f"lock.outputs[{number}]"
        if output.version not in asked:
            raise InvalidRequest(f"{path}.version: is none of lock.views")
        if output.view != names[output.version]:
            raise InvalidRequest(
                f"{path}.view: is {output.view!r}, but its version is one of "
                f"{names[output.version]!r}"
            )
        asked[output.version][output.feature_id] = output.feature
    return asked


def _feature(output: LockedOutput, home: _Home, path: str) -> Feature:
    feature = home.features[output.feature_id]
    said, found = (output.feature, output.dtype), (feature.name, feature.dtype)
    if said != found:
        raise InvalidRequest(
            f"{path}.feature_id: is that of {home.view.name}.{feature.name} ({feature.dtype}), not "
            f"of {output.feature} ({output.dtype})"
        )
    return feature


def _upstream(lock: Lock, homes: Mapping[str, _Home], reader: Use, one: Input) -> Use:
    """Give the locked look-up that a locked on-demand version read an input from."""
    renamed = dict(projection_of(reader.view, one).join_key_map)
    for lookup in lock.lookups:
        if reader.version in lookup.readers and one.feature_id in lookup.features:
            view = homes[lookup.version].view
            plain = {key.name: key.name for key in view.join_keys}
            if plain | dict(lookup.join_key_map) == plain | renamed:
                return Use(
                    view=view,
                    version=lookup.version,
                    alias=lookup.alias,
                    join_key_map=lookup.join_key_map,
                )
    raise InvalidRequest(
        f"lock.lookups: none gives {reader.view.version} its input {one.column!r}; the lock was "
        "changed, or made by another version of the store: build the training set again"
    )
