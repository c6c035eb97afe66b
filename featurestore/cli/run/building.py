"""Plan, apply, materialize, backfill: from definitions to tables."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from featurestore.cli import terminal
from featurestore.cli.run.typed import aim, moment
from featurestore.cli.text import building as text
from featurestore.cli.values import building as values
from featurestore.jobs import apply as applying
from featurestore.jobs import backfill as backfilling
from featurestore.jobs import compact as compacting
from featurestore.jobs import materialize as materializing
from featurestore.jobs import plan as planning
from featurestore.jobs.due import Due
from featurestore.jobs.run import Outcome, Report
from featurestore.jobs.workspace import Workspace
from featurestore.model.plan import Plan
from featurestore.model.time import micros

_Job = Callable[[Workspace, Report], tuple[Outcome, ...]]
_Tell = Callable[[Workspace], tuple[Due, ...]]
_Look = Callable[[Sequence[Outcome]], None]


def plan(repo: Path, *, alias: str, sample: bool, json: bool) -> Plan:
    """Show what applying would change and what an alias then needs; give the plan."""
    with closing(Workspace.open(repo)) as workspace, terminal.busy("reading the definitions"):
        aim(alias, workspace.releases.aliases())
        found = planning.plan(workspace, alias)
        samples = planning.samples(workspace, found) if sample else None
    if json:
        terminal.as_json(values.plan(found.plan, samples))
    else:
        text.plan(found.plan)
        text.samples(samples or ())
    return found.plan


def apply(repo: Path, *, plan: str | None, alias: str, anyway: bool, json: bool) -> None:
    """Register the definitions."""
    with closing(Workspace.open(repo)) as workspace, terminal.busy("reading the definitions"):
        aim(alias, workspace.releases.aliases())
        found = applying.apply(workspace, plan, alias=alias, anyway=anyway)
    if json:
        terminal.as_json(values.plan(found))
    else:
        text.plan(found, applied=True)


def materialize(
    repo: Path, start: str, end: str, *, views: Sequence[str], dry_run: bool, json: bool
) -> None:
    """Materialize what became known in [start, end], or only say what that takes."""
    first, last = micros(moment(start, "START")), micros(moment(end, "END"))

    def tell(workspace: Workspace) -> tuple[Due, ...]:
        return materializing.due(workspace, first, last, views=views)

    def job(workspace: Workspace, report: Report) -> tuple[Outcome, ...]:
        return materializing.materialize(workspace, first, last, views=views, report=report)

    if dry_run:
        _tell(repo, tell, json=json)
    else:
        _run(repo, job, text.outcomes, views=views, json=json)


def materialize_incremental(
    repo: Path, end: str | None, *, views: Sequence[str], dry_run: bool, json: bool
) -> None:
    """Materialize what became known since each view's watermark, or only say what that takes."""
    last = micros(datetime.now(UTC) if end is None else moment(end, "END"))

    def tell(workspace: Workspace) -> tuple[Due, ...]:
        return materializing.due_incremental(workspace, last, views=views)

    def job(workspace: Workspace, report: Report) -> tuple[Outcome, ...]:
        return materializing.materialize_incremental(workspace, last, views=views, report=report)

    if dry_run:
        _tell(repo, tell, json=json)
    else:
        _run(repo, job, text.outcomes, views=views, json=json)


def backfill(repo: Path, alias: str, *, views: Sequence[str], again: bool, json: bool) -> None:
    """Compute what is applied, over what the alias's live tables cover."""

    def job(workspace: Workspace, report: Report) -> tuple[Outcome, ...]:
        aim(alias, workspace.releases.aliases())
        return backfilling.backfill(workspace, alias, views=views, again=again, report=report)

    def look(found: Sequence[Outcome]) -> None:
        text.backfilled(found, alias)

    _run(repo, job, look, views=views, json=json)


def compact(repo: Path, *, views: Sequence[str], vacuum: bool, json: bool) -> None:
    """Rewrite small files as few."""
    with closing(Workspace.open(repo)) as workspace:
        stored = [view for view in workspace.project().views if view.kind == "batch"]
        with _progress(len(views or stored)) as report:
            found = compacting.compact(workspace, views=views, vacuumed=vacuum, report=report)
    if json:
        terminal.as_json([values.compacted(one) for one in found])
    else:
        text.compacted(found)


def _tell(repo: Path, tell: _Tell, *, json: bool) -> None:
    with closing(Workspace.open(repo)) as workspace, terminal.busy("reading the sources"):
        found = tell(workspace)
    if json:
        terminal.as_json([values.due(one) for one in found])
    else:
        text.due(found)


def _run(repo: Path, job: _Job, look: _Look, *, views: Sequence[str], json: bool) -> None:
    with closing(Workspace.open(repo)) as workspace:
        stored = [view for view in workspace.project().views if view.kind == "batch"]
        with _progress(len(views or stored)) as report:
            found = job(workspace, report)
    if json:
        terminal.as_json([values.outcome(one) for one in found])
    else:
        look(found)


@contextmanager
def _progress(views: int) -> Iterator[Report]:
    bar = Progress(
        TextColumn("{task.description:<44}"),
        BarColumn(bar_width=16),
        TextColumn("{task.completed}/{task.total} views"),
        TimeElapsedColumn(),
        console=terminal.err,
        transient=True,
        disable=not terminal.err.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=views)

        def report(name: str, stage: str, rows: int) -> None:
            if stage == "done":
                bar.advance(task)
            else:
                text = f"{name}: {stage}" + (f" {rows:,} rows" if rows else "")
                bar.update(task, description=text)

        yield report
