"""A plan: what applying a repo changes, what that touches, and the steps to an alias.

Pure: the facts come in, and the same steps are printed and carried out. A plan's id names what it
was made from, so that whoever carries it out can tell whether anything moved since.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from featurestore.model.changes import Broken, Change, compare
from featurestore.model.documents import Project
from featurestore.model.facts import Facts
from featurestore.model.fingerprint import digest
from featurestore.model.lock import Lock
from featurestore.model.needs import features_of
from featurestore.model.steps import Coverage, Register, Respell, Step, steps


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Plan:
    """What changes from an applied revision (None: nothing applied yet), and the steps to an alias.

    `id` is `alias:revision.release.digest`, each number `-` where there is none.
    """

    id: str
    alias: str
    revision: int | None
    changes: tuple[Change, ...]
    steps: tuple[Step, ...]

    def __repr__(self) -> str:
        lines = [
            f"  {c.kind} {c.what} {c.after or c.before}: {'; '.join(c.reasons)}"
            for c in self.changed
        ]
        return "\n".join(
            (f"<Plan {self.id}: {len(lines)} of {len(self.changes)} to change>", *lines)
        )

    @property
    def changed(self) -> tuple[Change, ...]:
        """The changes that are more than none."""
        return tuple(c for c in self.changes if c.kind != "none")

    @property
    def broken(self) -> tuple[Broken, ...]:
        """The registered locks that a change breaks."""
        return tuple(lock for change in self.changed for lock in change.locks)


def plan(
    facts: Facts,
    coverage: Coverage,
    project: Project,
    *,
    revision: int | None,
    alias: str = "prod",
    evidence: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """Plan the way from what is applied (at `revision`) to a project, and an alias to it.

    `evidence` says by view how another Polars' expressions were found to mean the same, or not.
    """
    changes = compare(facts.head, project, evidence=evidence)
    return Plan(
        id=plan_id(alias, revision, facts.promoted(alias), project),
        alias=alias,
        revision=revision,
        changes=tuple(_touching(facts, project, change) for change in changes),
        steps=steps(facts, coverage, project, changes, alias),
    )


def plan_id(alias: str, revision: int | None, release: int | None, project: Project) -> str:
    """Give the id of a plan from a revision and what an alias was promoted to, to a project."""
    what = digest(
        "plan",
        tuple(view.id for view in project.views),
        tuple(service.id for service in project.services),
    )
    at = ("-" if number is None else str(number) for number in (revision, release))
    return f"{alias}:{'.'.join((*at, what[:8]))}"


def stale(plan_id: str, now_id: str) -> str | None:
    """Say what moved between the ids of two plans, or None if nothing did."""
    planned, alias = plan_id.rpartition(":")[0], now_id.rpartition(":")[0]
    was, now = (one.rpartition(":")[2].split(".") for one in (plan_id, now_id))
    if not planned or len(was) != len(now):
        return f"{plan_id!r} is no plan's id; take the one that `featurestore plan` prints"
    if planned != alias:
        return f"{plan_id} is a plan for the alias {planned}, not for {alias}"
    revision, release, what = (
        pair if pair[0] != pair[1] else None for pair in zip(was, now, strict=True)
    )
    if release is not None:
        return f"{alias} moved from {_named('release', release[0])} to {release[1]}"
    if revision is not None:
        return f"somebody applied: {_named('revision', revision[0])} became {revision[1]}"
    if what is not None:
        return "the repo's definitions are not those that were planned"
    return None


def same_definitions(plan_id: str, now_id: str) -> bool:
    """Say whether two plans lead an alias to the same definitions, wherever from."""
    was, now = ((one.rpartition(":")[0], one.rpartition(".")[2]) for one in (plan_id, now_id))
    return was == now


def registered(plan: Plan, project: Project, revision: int) -> Plan:
    """Give what is left of a plan once its project is applied as a revision."""
    release = plan.id.rsplit(".", 2)[1]
    return replace(
        plan,
        id=plan_id(plan.alias, revision, None if release == "-" else int(release), project),
        revision=revision,
        steps=tuple(step for step in plan.steps if not isinstance(step, Register | Respell)),
    )


def _named(what: str, number: str) -> str:
    return f"no {what}" if number == "-" else f"{what} {number}"


def _touching(facts: Facts, project: Project, change: Change) -> Change:
    if change.kind == "none":
        return change
    aliases = [
        alias
        for alias, number in sorted(facts.aliases.items())
        for one in (
            (live.view for live in facts.releases[number].views)
            if change.what == "view"
            else facts.releases[number].services
        )
        if one.name == change.name and f"{one.name}@{one.id[:12]}" != change.after
    ]
    if change.what == "service":
        return replace(change, aliases=tuple(aliases))
    return replace(
        change,
        services=_services(facts, project, change.name),
        aliases=tuple(aliases),
        locks=tuple(_broken(facts, project, change.name)),
    )


def _services(facts: Facts, project: Project, name: str) -> tuple[str, ...]:
    """Give the services, of now and of then, that use a view, also through on-demand views."""
    found: set[str] = set()
    for one in (facts.head, project):
        views = one.views if one else ()
        through = {v.name for v in views if name in {use.view for use in v.projections}} | {name}
        services = one.services if one else ()
        found |= {s.name for s in services if through & {use.view for use in s.projections}}
    return tuple(sorted(found))


def _broken(facts: Facts, project: Project, name: str) -> Iterator[Broken]:
    """Give the locks that what is applied answers with a view, and the project does not."""
    held, kept = _features(facts.head, name), _features(project, name)
    for registered in facts.locks:
        asked = _asked(facts, registered.lock, name) if registered.holds(facts.now) else ()
        gone = {held[one] for ids in asked if ids <= set(held) for one in ids - set(kept)}
        if gone:
            paths = tuple(f"{name}.{feature}" for feature in sorted(gone))
            yield Broken(lock=registered.id, owner=registered.owner, features=paths)


def _features(project: Project | None, name: str) -> dict[str, str]:
    views = project.views if project else ()
    return {f.id: f.name for view in views if view.name == name for f in view.features}


def _asked(facts: Facts, lock: Lock, name: str) -> Iterator[frozenset[str]]:
    """Give the feature ids that a lock asks of each of its versions of a view."""
    stored = features_of(lock, facts.versions)
    for version in (one.id for one in lock.views if one.name == name):
        answered = (one.feature_id for one in lock.outputs if one.version == version)
        yield stored.get(version, frozenset()) | frozenset(answered)
