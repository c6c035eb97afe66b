"""What is due: the runs that bring a table up to date, told before any of them is begun.

Materialization carries out what this tells, and a dry run shows it: nothing here writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from featurestore.jobs.run import reach_back
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import Table, View
from featurestore.model.layout import row_bytes
from featurestore.model.pieces import Checked, changed, doubtful
from featurestore.model.time import BEGINNING, Interval, show, watermark
from featurestore.storage.view_source import ViewSource

BYTES_PER_RUN = 1 << 30
"""How much a run computes at most, so that memory is bounded and a kill loses one run's work."""

Why = Literal["never run", "asked for", "new", "source changed"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Due:
    """A run that is due: an interval of a version's table (None: a new one), and why.

    `rows` are those that the source knows in it now, where they were counted. What is `new` begins
    the view's settle span before the watermark, or where the source does if that is later.
    """

    view: View
    table: Table | None
    interval: Interval
    why: Why
    rows: int | None = None

    def __repr__(self) -> str:
        rows = "" if self.rows is None else f", {self.rows:,} rows"
        known = f"{show(self.interval.start)} to {show(self.interval.end)}"
        return f"<Due {self.view.version}: {known}, {self.why}{rows}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a table's bringing up to date takes: runs, and what may then be said of the table."""

    due: tuple[Due, ...] = ()
    checked: Checked | None = None


def asked(workspace: Workspace, view: View, table: Table | None, interval: Interval) -> Work:
    """Tell the runs of an interval that somebody asked for, whatever the table holds of it.

    Raises:
        SourceError: the source cannot be read.
    """
    held = table is not None and workspace.ledger.covered(table.id)
    source = ViewSource(view, workspace.config.sources)
    return Work(due=_runs(source, view, table, interval, "asked for" if held else "never run"))


def since(workspace: Workspace, view: View, table: Table | None, end: int) -> Work:
    """Tell the runs that bring a table to a moment: what is new, and where its source changed.

    A table whose watermark is past the moment is left as it is, and so is what it holds from before
    the first row that the source still knows. Pieces that were read from the
    source in the state that it is in now, or found to be right in it, are not looked at.

    Raises:
        SourceError: the source cannot be read.
    """
    done = watermark(workspace.ledger.covered(table.id)) if table else None
    if done is not None and done > end:
        return Work()
    source = ViewSource(view, workspace.config.sources)
    if table is None or done is None:
        whole = Interval(start=min(BEGINNING, end - 1), end=end)
        return Work(due=_runs(source, view, table, whole, "never run"))
    new = Interval(start=_settled(view, source.first(), done, end), end=end)
    intervals, checked = _changed(workspace, table, source, new)
    again = [run for one in intervals for run in _runs(source, view, table, one, "source changed")]
    # What is new comes first: nothing that is wrong with old rows holds it up.
    fresh = _runs(source, view, table, new, "new") if new.start < end else ()
    return Work(due=(*fresh, *again), checked=checked)


def _settled(view: View, first: int | None, done: int, end: int) -> int:
    """Give where what is new begins: not before the first moment that the source still knows of.

    What was known earlier it may have let go of, as a file of the last hour does.
    """
    if first is None or first > done:
        return done
    return min(max(BEGINNING, done - view.settle, first - 1), end - 1)


def _changed(
    workspace: Workspace, table: Table, source: ViewSource, new: Interval
) -> tuple[Sequence[Interval], Checked | None]:
    """Find where a source is no longer what a table's pieces before an interval were read from."""
    pieces = workspace.ledger.pieces(table.id)
    older = [piece for piece in pieces if piece.interval.start < new.start]
    doubts = doubtful(older, source.state, workspace.ledger.checked(table))
    if not doubts:
        return (), None
    found = source.fingerprint([piece.interval for piece in doubts])
    state = source.still()
    number = max(piece.number for piece in pieces)
    return (
        [
            Interval(start=one.start, end=min(one.end, new.start))
            for one in changed(doubts, found.reads, found.first)
            if one.start < new.start
        ],
        Checked(source=state, number=number) if state else None,
    )


def _runs(
    source: ViewSource, view: View, table: Table | None, interval: Interval, why: Why
) -> tuple[Due, ...]:
    """Cut an interval into runs of a bounded size."""
    shares = source.shares(interval, max(1, BYTES_PER_RUN // row_bytes(view)))
    return tuple(Due(view=view, table=table, interval=one, why=why) for one in shares)


def counted(workspace: Workspace, due: Sequence[Due]) -> tuple[Due, ...]:
    """Give what is due of one table as it will be carried out, with the source's rows counted.

    Raises:
        SourceError: the source cannot be read.
    """
    if not due:
        return ()
    view, table = due[0].view, due[0].table
    first = reach_back(workspace, view, table, due[0].interval)
    shown = [replace(due[0], interval=first), *due[1:]]
    rows = ViewSource(view, workspace.config.sources).counts([one.interval for one in shown])
    return tuple(replace(one, rows=count) for one, count in zip(shown, rows, strict=True))
