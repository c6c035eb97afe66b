"""Services and whole projects."""

import re
from collections.abc import Mapping, Sequence

from featurestore.errors import InvalidDefinition, InvalidRequest, NotFound
from featurestore.model import expressions
from featurestore.model.catalog import Catalog
from featurestore.model.declare.rules import check_name
from featurestore.model.documents import Info, Project, Projection, Service, Source, View
from featurestore.model.identity import service_id
from featurestore.model.names import suggest
from featurestore.model.query import resolve

_PROJECT = re.compile(r"[A-Za-z0-9_-]+")


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
    check_name(name)
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
        resolve(filled, Catalog(current=views), full_feature_names=True)
    except (NotFound, InvalidRequest) as error:
        raise InvalidDefinition(f"{name}: {error}") from error
    return Service(id=service_id(name, filled), name=name, projections=tuple(filled), info=info)


def _told(source: Source) -> tuple[object, ...]:
    """Give what two views must tell alike of a source they both name."""
    mapping = sorted(source.field_mapping)
    return source.path, source.format, source.timestamp_field, source.created_field, mapping


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
            if _told(first) != _told(view.source):
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
