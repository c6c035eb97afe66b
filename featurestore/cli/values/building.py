"""What plans and computations answer, as plain values."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from featurestore.cli.values.plain import interval, when
from featurestore.jobs.compact import Compacted
from featurestore.jobs.due import Due
from featurestore.jobs.run import Outcome
from featurestore.jobs.sample import Sample
from featurestore.model.plan import Plan
from featurestore.model.steps import Backfill, Step


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
        given["intervals"] = [interval(one) for one in step.intervals]
    return given


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
    return given | {"interval": interval(one.interval), **counts, "features": features}


def due(one: Due) -> dict[str, Any]:
    """Give a run that is due as plain values; `table` null: it makes a new one."""
    return {
        "view": one.view.name,
        "version": one.view.version,
        "table": one.table.id if one.table else None,
        **interval(one.interval),
        "why": one.why,
        "rows": one.rows,
    }


def compacted(found: Compacted) -> dict[str, Any]:
    """Give what a compaction did to a table."""
    return {
        "version": found.view.version,
        "table": found.table.id,
        "files_before": found.before,
        "files_after": found.after,
        "removed": found.removed,
    }


def outcome(outcome: Outcome) -> dict[str, Any]:
    """Give an outcome as plain values: known after `start` (null: ever) up to and with `end`."""
    values = asdict(outcome)
    interval = values.pop("interval")
    return {**values, "start": when(interval["start"]), "end": when(interval["end"])}
