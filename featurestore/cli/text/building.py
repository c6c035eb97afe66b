"""What plans, their samples and computations look like on a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

from rich.markup import escape
from rich.table import Table

from featurestore.cli.terminal import grouped, out, table
from featurestore.cli.text.words import between, minute, span, stamp
from featurestore.jobs.compact import Compacted
from featurestore.jobs.due import Due
from featurestore.jobs.proof.difference import Difference, Example, Spread
from featurestore.jobs.run import Outcome
from featurestore.jobs.sample import Sample
from featurestore.model.changes import Change
from featurestore.model.cost import Cost
from featurestore.model.plan import Plan
from featurestore.model.steps import (
    Backfill,
    Promote,
    Register,
    Reload,
    Respell,
    Step,
    Verify,
)
from featurestore.model.time import BEGINNING, Interval, show
from featurestore.model.words import count, size

_COLORS: Mapping[str, str] = {
    "additive": "green",
    "breaking": "red",
    "policy": "yellow",
    "described": "cyan",
    "engine": "magenta",
}


def plan(found: Plan, *, applied: bool = False) -> None:
    """Print what changes and why, what it touches, and the steps to the alias."""
    same = len(found.changes) - len(found.changed)
    rest = f", {same} as they were" if same else ""
    if not found.changed:
        out.print(f"Nothing to change: {len(found.changes)} views and services are as applied.")
    else:
        out.print(changes(found.changed))
    steps = [line for step in found.steps for line in _step(step)]
    if steps:
        out.print(f"\nTo bring {escape(found.alias)} there:")
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        for verb, told in steps:
            grid.add_row(f"  {verb}", escape(told))
        out.print(grid)
    if found.broken:
        locks = count(len({one.lock for one in found.broken}), "registered lock")
        out.print(f"\n[bold red]Breaking[/] for {locks}.")
    if applied and found.changed:
        out.print(f"\nApplied: {len(found.changed)} changed{rest}. Plan {found.id}.")
    elif found.changed:
        out.print(
            f"\n{len(found.changed)} to change{rest}; `featurestore apply` registers them."
            f"\nPlan {found.id}."
        )
    elif steps:
        out.print(f"\nPlan {found.id}.")


def changes(changed: Sequence[Change]) -> Table:
    """Draw what changes, each with its reasons and what it touches."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        grid.add_column(overflow="fold")
    for change in changed:
        color = _COLORS.get(change.kind, "white")
        grid.add_row(f"[bold {color}]{change.kind}[/]", change.what, escape(_arrow(change)))
        for reason in change.reasons if change.before and change.after else ():
            grid.add_row("", "", f"[dim]{escape(reason)}[/]")
        for line in _touches(change):
            grid.add_row("", "", line)
    return grid


def _arrow(change: Change) -> str:
    if change.before is None or change.before == change.after:
        return change.after or change.name
    if change.after is None:
        return f"{change.before} → (removed)"
    return f"{change.before} → {change.after.rsplit('@', 1)[1]}"


def _touches(change: Change) -> Iterator[str]:
    parts = []
    if change.services and change.before is not None:
        parts.append(f"services {', '.join(change.services)}")
    if change.aliases:
        parts.append(f"live in {', '.join(change.aliases)}")
    if parts:
        yield escape(f"touches {'; '.join(parts)}")
    for lock in change.locks:
        reads = ", ".join(lock.features)
        yield f"[red]breaks lock {lock.lock[:12]}[/] of {escape(lock.owner)}: {escape(reads)}"


def _step(step: Step) -> Iterator[tuple[str, str]]:
    match step:
        case Register():
            pass
        case Respell():
            yield "spell", f"{_version(step.view, step.version)} in {step.dialect}: {step.evidence}"
        case Backfill():
            place = f" in table {step.table}" if step.table else ""
            yield "backfill", f"{_version(step.view, step.version)}{place}"
            yield "", f"{', '.join(map(_interval, step.intervals))}: {_cost(step.cost)}"
        case Reload():
            yield "reload", f"{_version(step.view, step.version)} into Redis: its ttl grew"
        case Verify():
            yield "verify", count(len(step.versions), "version")
        case Promote():
            before = "a new alias" if step.release is None else f"from release {step.release}"
            yield "promote", f"{step.alias}, {before}"
            yield from (("", line) for line in _moves(step))


def _moves(step: Promote) -> Iterator[str]:
    came = [move.view for move in step.moves if move.before is None]
    gone = [move.view for move in step.moves if move.after is None]
    for move in step.moves:
        if move.before is not None and move.after is not None:
            then = move.after[:12] if move.after != move.before else "the same, of other bytes"
            yield f"{_version(move.view, move.before)} → {then}"
    if came:
        yield f"new: {', '.join(came)}"
    if gone:
        yield f"gone: {', '.join(gone)}"
    if step.services:
        yield f"services: {', '.join(step.services)}"


def _interval(one: Interval) -> str:
    return f"up to {minute(one.end)}" if one.start <= BEGINNING else between(one)


def _version(view: str, version: str) -> str:
    return f"{view}@{version[:12]}"


def _cost(cost: Cost) -> str:
    if cost.rows is None or cost.bytes is None or cost.redis is None:
        return "cost unknown"
    return f"about {cost.rows:,} rows, {size(cost.bytes)}, {size(cost.redis)} in Redis"


def samples(found: Sequence[Sample]) -> None:
    """Print how values differ on real rows, a table per view."""
    for one in found:
        out.print(f"\n[bold]{escape(one.after)}[/] against {escape(one.before or 'nothing')}")
        if one.found is None or one.interval is None:
            out.print(f"  not sampled: {escape(one.why_not or '')}")
            continue
        known = f"{show(one.interval.start + 1)} to {show(one.interval.end)}"
        out.print(f"  {one.found.rows:,} rows known from {known}")
        if one.found.gone or one.found.came:
            out.print(f"  {one.found.gone:,} rows go away, {one.found.came:,} come in")
        out.print()
        table(
            ["feature", "changed", "null", "from", "to"],
            [_difference(d, one.found.rows) for d in one.found.features],
            right=("changed",),
            whole=("feature", "changed"),
        )
        for feature in one.found.features:
            for example in feature.examples:
                out.print(f"  {escape(_example(feature.feature, example))}")


def _difference(one: Difference, rows: int) -> Sequence[str]:
    if one.before is None:
        return one.feature, "new", f"{one.after.nulls:.1%}", "", _range(one.after)
    changed = "-"
    if one.changed is None:
        changed = "dtype"
    elif rows:
        changed = f"{one.changed / rows:.1%}"
    return (
        one.feature,
        changed,
        f"{one.before.nulls:.1%} → {one.after.nulls:.1%}",
        _range(one.before),
        _range(one.after),
    )


def _example(feature: str, one: Example) -> str:
    entity = ", ".join(map(str, one.entity)) or "-"
    return f"{feature} of {entity} at {show(one.event)}: {_value(one.before)} → {_value(one.after)}"


def _range(one: Spread) -> str:
    if one.low is None or one.high is None:
        return ""
    return f"{_value(one.low)} … {_value(one.high)}"


def _value(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "null" if value is None else str(value)


def compacted(found: Sequence[Compacted]) -> None:
    """Print how many files tables had and have."""
    if not found:
        out.print("Nothing to compact: no table holds anything yet.")
        return
    table(
        ["view", "table", "files before", "after", "old ones removed"],
        [
            (
                one.view.version,
                one.table.id,
                f"{one.before:,}",
                f"{one.after:,}",
                f"{one.removed:,}",
            )
            for one in found
        ],
        right=("files before", "after", "old ones removed"),
        whole=("view",),
    )


def outcomes(found: Sequence[Outcome]) -> None:
    """Print what a materialization did."""
    if not found:
        out.print("Nothing to materialize: every watermark is past the end.")
        return
    table(
        ["view", "rows", "to redis", "up to (UTC)", ""],
        [
            (
                o.version,
                f"{o.rows:,}",
                f"{o.served:,}",
                (minute if o.why == "source changed" else stamp)(o.interval.end),
                _done(o),
            )
            for o in found
        ],
        right=("rows", "to redis"),
        whole=("view", "rows", "up to (UTC)", ""),
    )


def _done(one: Outcome) -> str:
    if not one.changed:
        return "unchanged"
    return one.why if one.why == "source changed" else ""


def due(found: Sequence[Due]) -> None:
    """Print what a materialization would do: each table with its runs."""
    if not found:
        out.print("Nothing to materialize: every watermark is past the end.")
        return
    rows = [
        (
            f"{one.view.version}, {f'table {one.table.id}' if one.table else 'a new table'}",
            (between(one.interval), f"{one.rows or 0:,}", _why(one)),
        )
        for one in found
    ]
    table(["known (UTC)", "rows", "why"], grouped(rows), right=("rows",), whole=("rows", "why"))
    out.print("\nA dry run: nothing was written.")


def _why(one: Due) -> str:
    settle = one.view.settle if one.why == "new" else 0
    return f"new, settle {span(settle)}" if settle else one.why


def backfilled(found: Sequence[Outcome], alias: str) -> None:
    """Print what a backfill computed: each table with its intervals."""
    if not found:
        out.print(f"Nothing to backfill: the applied versions hold all that {escape(alias)} needs.")
        return
    rows = [
        (
            f"{o.version}, table {o.table}",
            (
                f"{stamp(o.interval.start)} to {stamp(o.interval.end)}",
                f"{o.rows:,}",
                f"{o.served:,}",
                "" if o.changed else "unchanged",
            ),
        )
        for o in found
    ]
    table(
        ["known in (UTC)", "rows", "to redis", ""],
        grouped(rows),
        right=("rows", "to redis"),
        whole=("rows", "to redis", "known in (UTC)"),
    )
    for version, group in groupby(found, key=attrgetter("version")):
        before = next(group).before
        if before is not None:
            out.print(
                f"\n[bold red]Empty[/]: {escape(version)} has 0 rows now, the one before had "
                f"{before:,}; look at its source before anything is promoted."
            )
