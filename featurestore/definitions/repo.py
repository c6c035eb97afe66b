"""A whole repo, or a notebook's objects, put together as documents.

Everything that cannot be taken is collected and raised together, before anything is written.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import feast
from feast.base_feature_view import BaseFeatureView

from featurestore.definitions import reading
from featurestore.definitions.on_demand import OnDemandFeatureView
from featurestore.definitions.reading import Scope
from featurestore.definitions.refusals import refusal
from featurestore.errors import FeatureStoreError, InvalidDefinition
from featurestore.model import declare
from featurestore.model.documents import Info, Project, Service, Source, View


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problems:
    found: list[FeatureStoreError] = field(default_factory=list)

    def add(self, message: str) -> None:
        self.found.append(InvalidDefinition(message))

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Note an error of the store instead of letting it end the reading."""
        try:
            yield
        except FeatureStoreError as error:
            self.found.append(error)

    def raise_all(self) -> None:
        """Raise one error as it is, several as a list."""
        apart = {str(error): error for error in self.found}
        if len(apart) == 1:
            raise next(iter(apart.values()))
        if apart:
            lines = "\n".join(f"- {line}" for line in sorted(apart))
            raise InvalidDefinition(f"{len(apart)} definitions cannot be taken:\n{lines}")


def read_project(name: str, things: Sequence[object], root: Path) -> Project:
    """Give the document of all that a repo's modules define.

    Raises:
        FeatureStoreError: something cannot be taken; all of it is named.
    """
    problems = _Problems()
    taken = []
    for thing in things:
        if (reason := refusal(thing)) is None:
            taken.append(thing)
        else:
            problems.add(reason)
    _check_names(name, things, problems)
    scope = Scope(root=root, entities={e.name: e for e in taken if isinstance(e, feast.Entity)})
    defined = _definitions(thing for thing in taken if isinstance(thing, BaseFeatureView))
    views = _views(defined, scope, problems)
    failed = {t.name for t in things if isinstance(t, BaseFeatureView)} - set(views)
    services = _services(taken, views, failed, problems)
    problems.raise_all()
    return declare.project(name=name, views=tuple(views.values()), services=services)


def document(thing: object, root: Path) -> tuple[View, ...]:
    """Give the views behind a view or service object, in process, as a notebook needs them.

    An on-demand view comes after the views it reads. Relative source paths start at `root`.

    Raises:
        FeatureStoreError: something cannot be taken; all of it is named.
    """
    problems = _Problems()
    behind: dict[int | str, BaseFeatureView] = {}
    for use in reading.uses(thing):
        for one in (*getattr(use, "inputs", ()), use):
            if isinstance(one, feast.RequestSource):
                continue
            if not isinstance(one, BaseFeatureView):
                raise InvalidDefinition(
                    f"{one!r}: without a repo to look it up in, give the view object itself"
                )
            behind.setdefault(_origin(one) if hasattr(one, "expressions") else one.name, one)
    for view in behind.values():
        if (reason := refusal(view)) is not None:
            problems.add(reason)
    problems.raise_all()
    views = _views(list(behind.values()), Scope(root=root), problems)
    problems.raise_all()
    return tuple(views.values())


def _views(
    defined: Sequence[BaseFeatureView], scope: Scope, problems: _Problems
) -> dict[str, View]:
    views: dict[str, View] = {}
    names = [view.name for view in defined]
    for view in defined:
        if names.count(view.name) > 1:
            problems.add(f"{view.name}: two views have this name; rename one")
    batch = [view for view in defined if isinstance(view, feast.FeatureView)]
    _check_sources(batch, problems)
    for view in batch:
        with problems.collected():
            views[view.name] = reading.batch_view(view, scope)
    failed = set(names) - set(views)
    for view in defined:
        if isinstance(view, OnDemandFeatureView) and not failed & _inputs(view):
            with problems.collected():
                views[view.name] = reading.on_demand_view(view, views)
    return views


def _inputs(view: OnDemandFeatureView) -> set[str]:
    return {use.view for use in reading.inputs(view)}


def _services(
    taken: Iterable[object], views: Mapping[str, View], failed: set[str], problems: _Problems
) -> list[Service]:
    """Give the services whose views were read; a service of a failed view adds no second error."""
    services = []
    for thing in taken:
        if isinstance(thing, feast.FeatureService):
            named = {use.view for use in reading.projections(thing)}
            if not named & failed:
                with problems.collected():
                    services.append(reading.service(thing, views))
    return services


def _definitions(views: Iterable[BaseFeatureView]) -> list[BaseFeatureView]:
    """Leave out the uses (`view[[…]]`, `with_name`) of views that are defined beside them."""
    found = list({_origin(view): view for view in reversed(list(views))}.values())[::-1]
    named = {view.name for view in found if not reading.is_use(view)}
    return [view for view in found if not (reading.is_use(view) and view.name in named)]


def _origin(view: BaseFeatureView) -> int:
    """Give one number for a view of ours and all its copies, which share their expressions."""
    return id(getattr(view, "expressions", view))


def _check_names(project: str, things: Iterable[object], problems: _Problems) -> None:
    entities: dict[str, feast.Entity] = {}
    for thing in things:
        if isinstance(thing, feast.Entity) and entities.setdefault(thing.name, thing) != thing:
            problems.add(f"{thing.name}: two entities have this name; rename one")
        if isinstance(thing, feast.Project) and thing.name != project:
            problems.add(
                f"{thing.name}: the Project object and feature_store.yaml ('{project}') name "
                "different projects; make them agree"
            )


def _check_sources(views: Iterable[feast.FeatureView], problems: _Problems) -> None:
    sources: dict[str, Source] = {}
    for view in views:
        source = replace(reading.source_of(view), time_zone=None, info=Info())
        if sources.setdefault(source.name, source) != source:
            problems.add(
                f"{view.name}.source: another source is called '{source.name}' too; a name is a "
                "source's identity: rename one"
            )
