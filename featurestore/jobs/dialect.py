"""A Polars upgrade: which definitions still mean what they meant, and how that is known.

The loader writes expressions in the running Polars' dialect. Where what is applied has no bytes of
it, the two are told to be the same by equal bytes, by what the running Polars writes for the old
ones, or by the rows that both give; else the definition is a new version.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from featurestore.engine.rows import windowed
from featurestore.errors import FeatureStoreError
from featurestore.jobs.compute import feature_rows
from featurestore.jobs.online import stored_rows
from featurestore.jobs.proof.difference import Differences, differences
from featurestore.jobs.sample import ROWS, newest
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import Expression, Feature, Project, Spelling, View
from featurestore.model.expressions import DIALECT, decode, reread
from featurestore.model.facts import Facts
from featurestore.model.identity import identified
from featurestore.model.needs import relocated
from featurestore.model.tree import constants

FILTER = ""
"""What the filter is called among a view's expressions: no feature has an empty name."""

Pairs = dict[str, tuple[Expression, Expression]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalence:
    """A version with the bytes of one more dialect, and why they mean the same."""

    view: View
    dialect: str
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """A project under the ids of what means the same already.

    `evidence` says by view what was found of another dialect's expressions.
    """

    project: Project
    evidence: Mapping[str, str]
    equivalences: tuple[Equivalence, ...]


def reconciled(workspace: Workspace, facts: Facts, project: Project) -> Reconciled:
    """Give what the loader read under the ids of what is applied, where it means the same.

    The equivalences are of all versions that are applied, live, or kept by a registered lock.
    """
    before = {view.name: view for view in (facts.head.views if facts.head else ())}
    evidence: dict[str, str] = {}
    ids: dict[str, str] = {}
    views = {}
    for view in sorted(project.views, key=lambda one: one.kind):
        moved = _repointed(view, ids)
        old = before.get(view.name)
        found = moved if old is None else _reconciled(workspace, old, moved, evidence)
        views[view.name] = found
        ids |= {was.id: now.id for was, now in zip(view.features, found.features, strict=True)}
    same = replace(project, views=tuple(views[view.name] for view in project.views))
    equal = _equivalences(workspace, facts, same, evidence)
    return Reconciled(
        project=same,
        evidence=evidence,
        equivalences=tuple(sorted(equal, key=lambda one: (one.view.name, one.view.id))),
    )


def _repointed(view: View, ids: Mapping[str, str]) -> View:
    """Let an on-demand view read the features that its inputs' ids became."""
    if view.kind == "batch":
        return view
    inputs = tuple(
        replace(one, feature_id=ids.get(one.feature_id, one.feature_id)) if one.feature_id else one
        for one in view.inputs
    )
    return view if inputs == view.inputs else identified(replace(view, inputs=inputs))


def _reconciled(workspace: Workspace, old: View, new: View, evidence: dict[str, str]) -> View:
    """Put the old spellings before those of expressions that mean the same."""
    pairs = _pairs(old, new)
    written = {name: now for name, (was, now) in pairs.items() if _known(was) == _here(now)}
    foreign = {name: pair for name, pair in pairs.items() if _known(pair[0]) is None}
    if not foreign:
        return _respelled(old, new, written)
    alike = {name: now for name, (was, now) in foreign.items() if _alike(was, now, new.name)}
    rest = foreign.keys() - alike.keys()
    equal, told = _recomputed(workspace, old, new, written | alike, rest)
    if not rest:
        told = _found(foreign.values())
    evidence[new.name] = told
    return _respelled(old, new, {**written, **alike, **{name: foreign[name][1] for name in equal}})


def _pairs(old: View, new: View) -> Pairs:
    """Pair the expressions of two versions by name."""
    pairs = {
        feature.name: (was.expression, feature.expression)
        for feature in new.features
        if (was := old.feature(feature.name)) is not None
    }
    if old.filter is not None and new.filter is not None:
        pairs[FILTER] = (old.filter, new.filter)
    return pairs


def _known(expression: Expression) -> bytes | None:
    return next((one.data for one in expression.spellings if one.dialect == DIALECT), None)


def _here(expression: Expression) -> bytes:
    return expression.spellings[0].data


def _alike(was: Expression, now: Expression, path: str) -> bool:
    return _here(was) == _here(now) or _rewritten(was, path) == _here(now)


def _rewritten(expression: Expression, path: str) -> bytes | None:
    expr = reread(expression, path=path)
    return None if expr is None else expr.meta.serialize()


def _found(pairs: Iterable[tuple[Expression, Expression]]) -> str:
    if all(_here(was) == _here(now) for was, now in pairs):
        return f"{DIALECT} writes the same bytes"
    return f"{DIALECT} reads the old bytes as the same expressions"


def _respelled(old: View, new: View, same: Mapping[str, Expression]) -> View:
    """Give the new version with the old one's spellings of what is the same, and its id anew."""
    if not same:
        return new
    was = {feature.name: feature.expression for feature in old.features}
    features = tuple(
        replace(one, expression=_both(was[one.name], one.expression)) if one.name in same else one
        for one in new.features
    )
    kept = new.filter
    if FILTER in same and old.filter is not None and new.filter is not None:
        kept = _both(old.filter, new.filter)
    return identified(replace(new, features=features, filter=kept))


def _both(was: Expression, now: Expression) -> Expression:
    if _known(was) is not None:
        return was
    return Expression(spellings=(*was.spellings, *now.spellings))


def _recomputed(
    workspace: Workspace,
    old: View,
    new: View,
    same: Mapping[str, Expression],
    rest: Iterable[str],
) -> tuple[set[str], str]:
    """Give which of the rest give the rows that are stored, bit for bit, and say what was found."""
    pairs = _pairs(old, new)
    trial = _respelled(old, new, {**same, **{name: pairs[name][1] for name in rest}})
    kept = {feature.name: feature.id for feature in old.features}
    ids = {feature.name: feature.id for feature in trial.features}
    names = [
        name
        for name in rest
        if (name == FILTER or ids[name] == kept[name]) and _may_be(*pairs[name], new.name)
    ]
    if old.kind != "batch" or trial.frame_id != old.frame_id or not names:
        return set(), f"its expressions are not those of {old.version} to {DIALECT}"
    found = _against_stored(workspace, old, new, [name for name in names if name != FILTER])
    if found is None:
        return set(), f"{old.version} has no rows to compare with"
    if isinstance(found, str):
        return set(), found
    moved = [one.feature for one in found.features if one.changed]
    if found.gone or found.came or not found.rows:
        return set(), f"{found.gone + found.came} rows are not those that {old.version} stored"
    if moved:
        told = f"{', '.join(moved)} differ in rows that {old.version} stored"
    else:
        told = f"{DIALECT} computes the {found.rows:,} newest rows of {old.version} bit for bit"
    return set(names) - set(moved), told


def _may_be(was: Expression, now: Expression, path: str) -> bool:
    """Say whether two expressions could be the same, written otherwise.

    Rows alone cannot say so: few of them tell a threshold of a million from none at all.
    """
    old = reread(was, path=path)
    return old is None or constants(old) == constants(decode(now, path=path))


def _against_stored(
    workspace: Workspace, old: View, new: View, features: Sequence[str]
) -> Differences | str | None:
    """Compare the newest rows of a version's table with what another one computes.

    None if there are no rows; a text if they cannot be compared.
    """
    table = workspace.table(old)
    interval = newest(workspace, old, table, ROWS) if table else None
    if table is None or interval is None:
        return None
    try:
        stored = windowed(old, stored_rows(workspace, old, table, version=None, known=interval))
        computed = windowed(new, feature_rows(new, workspace.config.sources, interval))
    except FeatureStoreError as error:
        return f"its rows cannot be compared: {error}"
    return differences(old, new, stored, computed, features)


def _equivalences(
    workspace: Workspace, facts: Facts, project: Project, evidence: Mapping[str, str]
) -> Iterator[Equivalence]:
    """Give the versions somebody needs with the running dialect's bytes, where they lack them."""
    proven = {view.id: view for view in project.views}
    bytes_of = {
        _here(one): found
        for view in project.views
        for one in _all_of(view)
        if (found := _known(one)) is not None
    }
    needed = _needed(facts)
    for version in facts.versions.values():
        if version.id not in needed or all(_known(one) is not None for one in _all_of(version)):
            continue
        if version.id in proven and version.name in evidence:
            told = evidence[version.name]
            yield Equivalence(view=proven[version.id], dialect=DIALECT, evidence=told)
            continue
        spelled = _carried(version, bytes_of)
        if spelled is not None:
            why = _holds(workspace, version, spelled, project)
            if why is not None:
                yield Equivalence(view=spelled, dialect=DIALECT, evidence=why)


def _needed(facts: Facts) -> set[str]:
    """Give the ids of versions that are applied, in a recent release, or in a registered lock."""
    return {
        *(view.id for view in (facts.head.views if facts.head else ())),
        *(one.view.id for r in facts.releases.values() for one in (*r.views, *r.warm)),
        *(one.id for held in facts.locks if held.holds(facts.now) for one in held.lock.views),
    }


def _all_of(view: View) -> Iterator[Expression]:
    yield from (feature.expression for feature in view.features)
    if view.filter is not None:
        yield view.filter


def _carried(version: View, bytes_of: Mapping[bytes, bytes]) -> View | None:
    """Write all expressions of an older version in the running dialect, if it can be read."""

    def carried(one: Expression) -> Expression | None:
        if _known(one) is not None:
            return one
        data = bytes_of.get(_here(one)) or _rewritten(one, version.name)
        if data is None:
            return None
        return Expression(spellings=(*one.spellings, Spelling(dialect=DIALECT, data=data)))

    features: list[Feature] = []
    for feature in version.features:
        found = carried(feature.expression)
        if found is None:
            return None
        features.append(replace(feature, expression=found))
    kept = None if version.filter is None else carried(version.filter)
    if (kept is None) != (version.filter is None):
        return None
    return replace(version, features=tuple(features), filter=kept)


def _holds(workspace: Workspace, version: View, spelled: View, project: Project) -> str | None:
    """Say why an older version means the same in the running dialect; None if it may not."""
    told = f"{DIALECT} reads its bytes"
    if version.kind != "batch":
        return told
    for one in project.views:
        spelled = relocated(spelled, one)
    names = [feature.name for feature in version.features]
    found = _against_stored(workspace, version, spelled, names)
    if found is None:
        return told
    if isinstance(found, str):
        return None
    return f"{told} and computes its {found.rows:,} newest rows bit for bit" if found.none else None
