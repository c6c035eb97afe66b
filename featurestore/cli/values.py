"""Each command's answer as plain values, for JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from featurestore.jobs.materialize import Outcome
from featurestore.jobs.sample import Sample
from featurestore.model import expressions
from featurestore.model.catalog import Catalog
from featurestore.model.documents import Expression, Project, Service, View
from featurestore.model.plan import Plan
from featurestore.model.query import resolve
from featurestore.model.steps import Backfill, Step
from featurestore.model.time import BEGINNING, Interval, moment


def plan(found: Plan, samples: Sequence[Sample] | None = None) -> dict[str, Any]:
    """Give a plan as plain values: `steps` in the order they are carried out."""
    given = {
        "id": found.id,
        "alias": found.alias,
        "revision": found.revision,
        "changes": [asdict(change) for change in found.changes],
        "steps": [_step(step) for step in found.steps],
        "breaks_locks": sorted({one.lock for one in found.broken}),
    }
    return given if samples is None else given | {"samples": [_sample(one) for one in samples]}


def _step(step: Step) -> dict[str, Any]:
    given = {"step": type(step).__name__.lower(), **asdict(step)}
    if isinstance(step, Backfill):
        given["intervals"] = [_interval(one) for one in step.intervals]
    return given


def _interval(one: Interval) -> dict[str, Any]:
    """Give an interval: known after `start` (null: ever) up to and with `end`."""
    return {"start": when(one.start), "end": when(one.end)}


def _sample(one: Sample) -> dict[str, Any]:
    given: dict[str, Any] = {"view": one.view, "before": one.before, "after": one.after}
    if one.found is None or one.interval is None:
        return given | {"why_not": one.why_not}
    features = [
        asdict(feature)
        | {"examples": [asdict(e) | {"event": when(e.event)} for e in feature.examples]}
        for feature in one.found.features
    ]
    counts = {"rows": one.found.rows, "gone": one.found.gone, "came": one.found.came}
    return given | {"interval": _interval(one.interval), **counts, "features": features}


def outcome(outcome: Outcome) -> dict[str, Any]:
    """Give an outcome as plain values: known after `start` (null: ever) up to and with `end`."""
    values = asdict(outcome)
    interval = values.pop("interval")
    return {**values, "start": when(interval["start"]), "end": when(interval["end"])}


def project(
    found: Project, marks: Mapping[str, int | None], live: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Give the applied views and services as plain values."""
    return {
        "project": found.name,
        "views": [
            {
                "name": v.name,
                "version": v.id,
                "kind": v.kind,
                "features": [f.name for f in v.features],
                "complete_up_to": when(marks.get(v.name)),
                "live_in": live[v.name],
            }
            for v in found.views
        ],
        "services": [{"name": s.name, "id": s.id} for s in found.services],
    }


def view(found: View, mark: int | None) -> dict[str, Any]:
    """Give one view as plain values; `ttl` in seconds."""
    return {
        "name": found.name,
        "version": found.id,
        "kind": found.kind,
        "description": found.info.description,
        "keys": [asdict(key) for key in found.join_keys],
        "source": found.source.name if found.source else None,
        "path": found.source.path if found.source else None,
        "request_data": [asdict(column) for column in found.request],
        "ttl": None if found.ttl is None else found.ttl / 1e6,
        "complete_up_to": when(mark),
        "features": [
            {"name": f.name, "dtype": f.dtype, "expression": text}
            for f, text in zip(found.features, texts(found), strict=True)
        ],
    }


def service(found: Service, views: Mapping[str, View]) -> dict[str, Any]:
    """Give one service as plain values: what a request brings and what it answers, in order."""
    asked = resolve(found.projections, Catalog(current=views), full_feature_names=True)
    versions = {p.alias: views[p.view].version for p in found.projections}
    return {
        "name": found.name,
        "id": found.id,
        "description": found.info.description,
        "entities": [asdict(column) for column in asked.entities],
        "request_data": [asdict(column) for column in asked.request],
        "features": [
            {
                "name": f"{one.alias}:{one.feature.name}",
                "dtype": one.feature.dtype,
                "version": versions[one.alias],
            }
            for one in asked.outputs
        ],
    }


def texts(found: View) -> list[str]:
    """Give each feature's expression as people read it."""
    return [text(f.expression, f"{found.name}.{f.name}") for f in found.features]


def text(expression: Expression, path: str) -> str:
    """Give an expression as people read it, or the dialect of one that cannot be read here."""
    dialects = [spelling.dialect for spelling in expression.spellings]
    if expressions.DIALECT not in dialects:
        return f"an expression of {', '.join(dialects)}"
    return expressions.text(expressions.decode(expression, path=path))


def when(us: int | None) -> datetime | None:
    """Give a moment for JSON; None for never, and for a start at the beginning of time."""
    return None if us is None or us <= BEGINNING else moment(us)
