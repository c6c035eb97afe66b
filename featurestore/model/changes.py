"""What applying a project would change, and why: a pure comparison of two projects."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from featurestore.model.documents import Expression, Feature, Info, Project, Service, Source, View
from featurestore.model.schema import Column
from featurestore.model.shown import expression_text, formula
from featurestore.model.windows import described
from featurestore.model.words import span

Kind = Literal["none", "described", "policy", "additive", "breaking", "engine"]
_ORDER: tuple[Kind, ...] = ("none", "described", "engine", "policy", "additive", "breaking")
_RULES = ("known_at", "delay", "event_id", "join_keys", "inputs", "projections")
_SOURCE_RULES = ("name", "timestamp_field", "created_field", "time_zone", "field_mapping")


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A registered lock whose features a project no longer holds, by id, owner and dotted path."""

    lock: str
    owner: str
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One view or service: the change's kind, its reasons with dotted paths, the versions.

    It touches `services` that use the view, and `aliases` of which another version is live;
    `locks` are the registered ones that it breaks.
    """

    name: str
    what: Literal["view", "service"]
    kind: Kind
    before: str | None
    after: str | None
    reasons: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    locks: tuple[Broken, ...] = ()


def compare(
    before: Project | None, after: Project, *, evidence: Mapping[str, str] = MappingProxyType({})
) -> tuple[Change, ...]:
    """Compare what is applied with what the repo says now: views, then services, by name.

    `evidence` says by view how another Polars' expressions were found to mean the same, or not.
    """
    return (
        *_pairs("view", before.views if before else (), after.views, evidence),
        *_pairs("service", before.services if before else (), after.services, {}),
    )


def _pairs(
    what: Literal["view", "service"],
    before: tuple[View, ...] | tuple[Service, ...],
    after: tuple[View, ...] | tuple[Service, ...],
    evidence: Mapping[str, str],
) -> Iterator[Change]:
    old = {one.name: one for one in before}
    new = {one.name: one for one in after}
    for name in sorted(old | new):
        change = _change(what, name, old.get(name), new.get(name))
        told = (f"{name}: {evidence[name]}",) if name in evidence else ()
        yield replace(change, reasons=(*change.reasons, *told))


def _change(
    what: Literal["view", "service"],
    name: str,
    old: View | Service | None,
    new: View | Service | None,
) -> Change:
    kind: Kind = "additive" if old is None else "breaking"
    reasons: tuple[str, ...] = (
        f"{name}: new {what}" if old is None else f"{name}: {what} removed",
    )
    if isinstance(old, View) and isinstance(new, View):
        kind, reasons = _view(old, new)
    elif isinstance(old, Service) and isinstance(new, Service):
        kind, reasons = _service(old, new)
    return Change(
        name=name,
        what=what,
        kind=kind,
        before=None if old is None else _version(old),
        after=None if new is None else _version(new),
        reasons=reasons,
    )


def _version(document: View | Service) -> str:
    return f"{document.name}@{document.id[:12]}"


def _view(old: View, new: View) -> tuple[Kind, tuple[str, ...]]:
    findings = [*_features(old, new), *_frame(old, new), *_policy(old, new), *_engine(old, new)]
    if old.id == new.id and not findings:
        return _described(old.name, old.info, new.info, old.source, new.source)
    kind: Kind = max((k for k, _ in findings), key=_ORDER.index, default="breaking")
    return kind, tuple(reason for _, reason in findings)


def _features(old: View, new: View) -> Iterator[tuple[Kind, str]]:
    for feature in new.features:
        path = f"{new.name}.{feature.name}"
        was = old.feature(feature.name)
        if was is None:
            yield "additive", f"{path}: new feature"
        elif was.id != feature.id:
            reason = _feature(was, feature)
            if reason is not None:
                yield "breaking", f"{path}: {reason}"
    for feature in old.features:
        if new.feature(feature.name) is None:
            yield "breaking", f"{new.name}.{feature.name}: removed"


def _feature(was: Feature, now: Feature) -> str | None:
    if was.window != now.window:
        return f"window changed: {described(was)} → {described(now)}"
    if was.dtype != now.dtype:
        return f"dtype changed: {was.dtype} → {now.dtype}"
    if was.expression.spellings[0].data != now.expression.spellings[0].data:
        return f"expression changed: {_moved(formula(was, 'plan'), formula(now, 'plan'))}"
    if was.reads != now.reads:
        return f"reads {_columns(now.reads)} (was {_columns(was.reads)})"
    return None


def _columns(reads: tuple[Column, ...]) -> str:
    return ", ".join(f"{c.name}: {c.dtype}" for c in reads)


def _moved(was: str, now: str) -> str:
    """Show both; Polars prints some functions without their arguments."""
    return f"{now}, in an argument that is not printed" if was == now else f"{was} → {now}"


def _frame(old: View, new: View) -> Iterator[tuple[Kind, str]]:
    if old.kind != new.kind:
        yield "breaking", f"{new.name}: was {old.kind}, is {new.kind}"
    if old.id == new.id:
        return
    reason = _filter(old, new)
    if reason is not None:
        yield "breaking", f"{new.name}.filter: {reason}"
    moved = old.frame_id != new.frame_id or old.kind == "on_demand"
    for field in _RULES if moved else ():
        yield from _differs(f"{new.name}.{field}", getattr(old, field), getattr(new, field))
    if old.source and new.source:
        for field in _SOURCE_RULES if moved else ("field_mapping",):
            was, now = getattr(old.source, field), getattr(new.source, field)
            yield from _differs(f"{new.name}.source.{field}", was, now)


def _filter(old: View, new: View) -> str | None:
    if _bytes(old.filter) != _bytes(new.filter):
        both = (old.filter, new.filter)
        return _moved(*("none" if one is None else expression_text(one, "plan") for one in both))
    if old.filter_reads != new.filter_reads:
        return f"reads {_columns(new.filter_reads)} (was {_columns(old.filter_reads)})"
    return None


def _differs(path: str, was: object, now: object) -> Iterator[tuple[Kind, str]]:
    if was != now:
        plain = isinstance(was, str | int | None) and isinstance(now, str | int | None)
        yield "breaking", f"{path}: {was} → {now}" if plain else f"{path}: changed"


def _bytes(expression: Expression | None) -> bytes:
    return b"" if expression is None else expression.spellings[0].data


def _engine(old: View, new: View) -> Iterator[tuple[Kind, str]]:
    """Say that expressions which are the same were written by another Polars too."""
    kept = {feature.id: feature.expression for feature in old.features}
    pairs = [(kept[f.id], f.expression) for f in new.features if f.id in kept]
    if old.filter and new.filter and _bytes(old.filter) == _bytes(new.filter):
        pairs.append((old.filter, new.filter))
    gained = {dialect for was, now in pairs for dialect in _dialects(now) - _dialects(was)}
    if gained:
        before = {dialect for was, _ in pairs for dialect in _dialects(was)}
        was, now = (", ".join(sorted(names)) for names in (before, gained))
        yield "engine", f"{new.name}: written by {was}, now by {now}"


def _dialects(expression: Expression) -> set[str]:
    return {spelling.dialect for spelling in expression.spellings}


def _policy(old: View, new: View) -> Iterator[tuple[Kind, str]]:
    if old.ttl != new.ttl:
        yield "policy", f"{new.name}.ttl: {_span(old.ttl)} → {_span(new.ttl)}"
    if old.settle != new.settle:
        yield "policy", f"{new.name}.settle: {_span(old.settle)} → {_span(new.settle)}"


def _span(us: int | None) -> str:
    return "no bound" if us is None else span(us)


def _described(
    name: str, old: Info, new: Info, was: Source | None = None, now: Source | None = None
) -> tuple[Kind, tuple[str, ...]]:
    reasons = [
        f"{name}.{field}: changed"
        for field in ("description", "owner", "tags")
        if getattr(old, field) != getattr(new, field)
    ]
    if was and now and replace(was, columns=now.columns) != now:
        reasons.append(f"{name}.source: location or description changed")
    return ("described", tuple(reasons)) if reasons else ("none", ())


def _service(old: Service, new: Service) -> tuple[Kind, tuple[str, ...]]:
    if old.id == new.id:
        return _described(old.name, old.info, new.info)
    was = [(p.alias, f) for p in old.projections for f in p.features]
    now = [(p.alias, f) for p in new.projections for f in p.features]
    added = [f"{new.name}: {alias}:{f} added" for alias, f in now if (alias, f) not in was]
    gone = [f"{new.name}: {alias}:{f} removed" for alias, f in was if (alias, f) not in now]
    uses = {p.alias: (p.view, p.join_key_map) for p in old.projections}
    moved = [
        f"{new.name}.{p.alias}: another view or join_key_map"
        for p in new.projections
        if uses.get(p.alias, (p.view, p.join_key_map)) != (p.view, p.join_key_map)
    ]
    if gone or moved:
        return "breaking", (*gone, *moved, *added)
    if [one for one in now if one in was] != was:
        return "breaking", (f"{new.name}: the order of its features changed", *added)
    return "additive", tuple(added)
