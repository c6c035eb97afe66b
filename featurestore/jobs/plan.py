"""Plan: what applying the repo changes, and the steps from there to an alias; writes nothing."""

from contextlib import closing
from dataclasses import dataclass, replace

import polars as pl

from featurestore.definitions.loader import load
from featurestore.errors import CorruptData, InvalidDefinition, NotMaterialized, Unavailable
from featurestore.jobs.dialect import Equivalence, reconciled
from featurestore.jobs.facts import coverage, facts
from featurestore.jobs.sample import Sample, sample
from featurestore.jobs.workspace import Workspace
from featurestore.model.cost import Cost, Measured, estimate
from featurestore.model.documents import LiveView, Project, View
from featurestore.model.facts import Facts
from featurestore.model.plan import Plan
from featurestore.model.plan import plan as planned
from featurestore.model.steps import Backfill, Respell, Step, current
from featurestore.storage.keys import canonical_keys, check_alias
from featurestore.storage.launcher import EmbeddedServer
from featurestore.storage.redis import OnlineStore
from featurestore.storage.rows import layout_of

_ASKED = 20
"""Rows that Redis is asked the memory of."""
_VARIABLE = 16
"""Bytes taken for a string or list that nobody has seen yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan with what it was made of: what the repo defines, under the ids it keeps.

    `equivalences` are the versions that another Polars' bytes are recorded of when it is applied.
    """

    plan: Plan
    project: Project
    head: Project | None
    equivalences: tuple[Equivalence, ...]


def plan(workspace: Workspace, alias: str = "prod", *, costs: bool = True) -> Planned:
    """Say what applying the repo would change and what must be done to promote it.

    Raises:
        InvalidDefinition: the repo's definitions cannot be accepted.
        InvalidRequest: the alias has other characters than it may.
    """
    check_alias(alias)
    project = load(workspace.config.root)
    if project.name != workspace.config.project:
        raise InvalidDefinition(
            f"feature_store.yaml: the project is {workspace.config.project!r} here and "
            f"{project.name!r} to its own loader; set the variables it uses in the environment"
        )
    return towards(workspace, project, alias, costs=costs)


def towards(
    workspace: Workspace, project: Project, alias: str = "prod", *, costs: bool = True
) -> Planned:
    """Say the same of a project that was read already."""
    head = workspace.registry.head()
    known = facts(workspace)
    found = reconciled(workspace, known, project)
    made = planned(
        known,
        coverage(workspace),
        found.project,
        revision=head.revision if head else None,
        alias=alias,
        evidence=found.evidence,
    )
    told = tuple(
        Respell(
            view=one.view.name,
            version=one.view.id,
            dialect=one.dialect,
            evidence=one.evidence,
        )
        for one in found.equivalences
    )
    made = replace(made, steps=(*told, *made.steps))
    if costs:
        views = {view.name: view for view in found.project.views}
        steps = tuple(_priced(workspace, known, alias, views, step) for step in made.steps)
        made = replace(made, steps=steps)
    return Planned(
        plan=made, project=found.project, head=known.head, equivalences=found.equivalences
    )


def samples(workspace: Workspace, found: Planned) -> tuple[Sample, ...]:
    """Compare old and new values of every view whose features the plan changes."""
    before = {view.name: view for view in (found.head.views if found.head else ())}
    ids = {feature.id for view in before.values() for feature in view.features}
    return tuple(
        sample(workspace, before.get(view.name), view)
        for view in found.project.views
        if any(feature.id not in ids for feature in view.features)
    )


def _priced(
    workspace: Workspace, known: Facts, alias: str, views: dict[str, View], step: Step
) -> Step:
    if not isinstance(step, Backfill):
        return step
    try:
        return replace(step, cost=_cost(workspace, known, alias, views[step.view]))
    except (CorruptData, NotMaterialized):
        # An estimate from a table that cannot be read is none; what it is computed from can be.
        return replace(step, cost=Cost())


def _cost(workspace: Workspace, known: Facts, alias: str, view: View) -> Cost:
    """Estimate a backfill from the view's current table; nothing is known if there is no other."""
    one, begun = current(known, view.name, alias), known.newest(view.data_id)
    if one is None or one.table is None or one.table == begun:
        return Cost()
    rows, size = workspace.offline.size(one.view, one.table)
    held = workspace.offline.size(view, begun)[0] if begun else 0
    names = [key.name for key in one.view.join_keys]
    keys = workspace.offline.columns(one.view, one.table, names).unique() if names else None
    return estimate(
        Measured(
            rows=rows,
            bytes=size,
            keys=min(rows, 1) if keys is None else keys.height,
            held=held,
            packed=_packed(one.view),
            becomes=_packed(view),
            used=_used(workspace, one, None if keys is None else keys.head(_ASKED)),
        )
    )


def _packed(view: View) -> int:
    layout = layout_of(view)
    return layout.dtype.itemsize + _VARIABLE * len(layout.variable)


def _used(workspace: Workspace, one: LiveView, keys: pl.DataFrame | None) -> float | None:
    """Give the bytes that Redis holds for a row of a table, on average; None if it cannot say.

    A server that does not run is not started for an estimate.
    """
    if one.table is None:
        return None
    canonical = [b"\x00"] if keys is None else canonical_keys(keys, one.view.join_keys)
    embedded = EmbeddedServer(workspace.config.embedded)
    try:
        if workspace.config.redis_url is None and embedded.status() is None:
            return None
        url, project = workspace.redis_url(), workspace.config.project
        with closing(OnlineStore.connect(url, project=project)) as online:
            used = online.memory(one.table.id, [key for key in canonical if key is not None])
    except Unavailable:
        return None
    return sum(used) / len(used) if used else None
