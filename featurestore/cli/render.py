"""How answers look in a terminal of 80 columns, and as JSON for schedulers."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from featurestore.jobs.materialize import Outcome
from featurestore.model.documents import Project, Service, View
from featurestore.model.plan import Change, Plan
from featurestore.model.time import show
from featurestore.serving.response import OnlineResponse

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_COLORS: Mapping[str, str] = {
    "additive": "green",
    "breaking": "red",
    "policy": "yellow",
    "described": "cyan",
    "engine": "magenta",
}


def as_json(value: object) -> None:
    """Print one JSON document on stdout."""
    print(json.dumps(value, indent=2, default=str))  # noqa: T201 - stdout is the interface


def table(columns: Sequence[str | tuple[str, str]], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; a column given as a pair carries its justification."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        name, justify = column if isinstance(column, tuple) else (column, "left")
        grid.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        grid.add_row(*(escape(str(cell)) for cell in row))
    out.print(grid)


def error(problem: Exception) -> None:
    """Print an error for a person: one line that stands out, then its text."""
    err.print(f"[bold red]error[/]: {escape(str(problem))}", soft_wrap=True)


def plan(found: Plan) -> None:
    """Print what would change and why."""
    if not found.changed:
        out.print(f"Nothing to change: {len(found.changes)} views and services are as applied.")
        return
    for change in found.changed:
        color = _COLORS.get(change.kind, "white")
        arrow = _arrow(change)
        out.print(f"[bold {color}]{change.kind:<10}[/] {change.what:<8} {escape(arrow)}")
        for reason in change.reasons if change.before is not None else ():
            out.print(f"{'':<20}{escape(reason)}", soft_wrap=True)
    same = len(found.changes) - len(found.changed)
    rest = f"; {same} stay as they are" if same else ""
    out.print(f"\n{len(found.changed)} to change{rest}.")


def _arrow(change: Change) -> str:
    if change.before is None or change.before == change.after:
        return change.after or change.name
    if change.after is None:
        return f"{change.before} → (removed)"
    return f"{change.before} → {change.after.rsplit('@', 1)[1]}"


def plan_json(found: Plan) -> dict[str, Any]:
    """Give a plan as plain values."""
    return {"revision": found.revision, "changes": [asdict(c) for c in found.changes]}


def outcomes(found: Sequence[Outcome]) -> None:
    """Print what a materialization did."""
    if not found:
        out.print("Nothing to materialize: every watermark is at or past the end.")
        return
    table(
        ["view", ("rows", "right"), ("to redis", "right"), "complete up to", ""],
        [
            (
                o.version,
                f"{o.rows:,}",
                f"{o.served:,}",
                show(o.interval.end),
                "" if o.changed else "unchanged",
            )
            for o in found
        ],
    )


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """Give an outcome as plain values; times are ISO 8601, an open start is null."""
    plain = asdict(outcome)
    interval = plain.pop("interval")
    start = show(interval["start"])
    return {
        **plain,
        "start": None if start == "the beginning" else start,
        "end": show(interval["end"]),
    }


def project(found: Project, watermarks: Mapping[str, str]) -> None:
    """Print the views and services that are applied."""
    table(
        ["view", "keys", ("features", "right"), "ttl", "complete up to"],
        [
            (
                v.version,
                ", ".join(k.name for k in v.join_keys) or "-",
                len(v.features),
                span(v.ttl) if v.kind == "batch" else "-",
                watermarks.get(v.name, "on demand"),
            )
            for v in found.views
        ],
    )
    table(
        ["service", ("features", "right"), "uses"],
        [
            (
                s.name,
                sum(len(p.features) for p in s.projections),
                ", ".join(p.alias for p in s.projections),
            )
            for s in found.services
        ],
    )


def span(us: int | None) -> str:
    """Write a duration of microseconds for people."""
    if us is None:
        return "no bound"
    for unit, size in (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000)):
        if us and us % size == 0:
            return f"{us // size}{unit}"
    return f"{us / 1e6:g}s"


def view(found: View, texts: Mapping[str, str], facts: Mapping[str, str]) -> None:
    """Print one view: what it is, then each feature with its expression."""
    out.print(f"[bold]{escape(found.version)}[/]  {escape(found.info.description)}".rstrip())
    for name, fact in facts.items():
        out.print(f"  {name:<14} {escape(fact)}", soft_wrap=True)
    table(
        ["feature", "dtype", "expression"],
        [(f.name, f.dtype, texts[f.name]) for f in found.features],
    )


def service(found: Service, views: Mapping[str, View]) -> None:
    """Print one service: its features in order, with the version that gives each."""
    out.print(f"[bold]{escape(found.name)}[/]  {escape(found.info.description)}".rstrip())
    rows = []
    for p in found.projections:
        mapped = ", ".join(f"{key}={column}" for key, column in p.join_key_map)
        for name in p.features:
            feature = views[p.view].feature(name)
            dtype = feature.dtype if feature else ""
            rows.append((f"{p.alias}:{name}", dtype, views[p.view].version, mapped))
    table(["feature", "dtype", "version", "keys"], rows)


def answer(found: OnlineResponse) -> None:
    """Print a looked-up row: each feature with its value, status and event time."""
    times, states = found.event_times, found.statuses
    out.print(f"release {found.release}, as of {found.as_of:%Y-%m-%d %H:%M:%S} UTC")
    table(
        ["feature", ("value", "right"), "status", "event time (UTC)"],
        [
            (column.name, cell(column[0]), states[column.name][0], cell(times[column.name][0], ""))
            for column in found.columns
        ],
    )


def answer_json(found: OnlineResponse) -> dict[str, Any]:
    """Give an answer as plain values: lists by name, one item per row."""
    return {
        "release": found.release,
        "as_of": found.as_of,
        "versions": found.versions,
        "features": found.to_dict(),
        "statuses": found.statuses,
        "event_times": found.event_times,
    }


def cell(value: object, missing: str = "null") -> str:
    """Write one value for a table."""
    if value is None:
        return missing
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value).removesuffix("+00:00")
