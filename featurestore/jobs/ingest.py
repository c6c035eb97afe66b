"""Ingest: events of a stream, pushed in micro-batches; each at least once, which counts once.

What was taken is acknowledged after the push is done, so a kill at any moment loses nothing. What
is pushed twice then changes nothing: windows count events by their id, rows are newest or unique.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import polars as pl

from featurestore.engine.texts import read_texts
from featurestore.errors import Conflict, InvalidRequest, Unavailable
from featurestore.jobs.materialize import materialize_incremental
from featurestore.jobs.push import Target, push_to, target
from featurestore.jobs.workspace import Workspace
from featurestore.model.pushes import SKEW
from featurestore.model.reads import takes_pushed
from featurestore.serving.message.pushed import PushResult, To
from featurestore.storage.consumer import Batch, Consumer, Lag

T = TypeVar("T")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
_IDLE = 1.0
"""Seconds between two looks at the lag while nothing comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a job ingests: up to `batch` entries at a time, waiting for them up to `wait` seconds.

    It ends after so many `batches`, or once the stream is empty, if asked to. For `patience`
    seconds on end it tries again what cannot be done now. Every `materialize` microseconds it
    brings the tables up to date.
    """

    batch: int = 1_000
    wait: float = 0.1
    until_empty: bool = False
    batches: int | None = None
    patience: float = 300.0
    materialize: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What became of a batch of `entries`, in so many seconds, and how far behind the group is.

    `rows` were taken and `refused` were not; the totals are of all batches so far. While nothing
    comes, batches are of no entries.
    """

    batches: int
    entries: int
    rows: int
    refused: int
    seconds: float
    total_rows: int
    total_refused: int
    lag: Lag


def ingest(
    workspace: Workspace,
    source: str,
    consumer: Consumer,
    *,
    to: To = "online_and_offline",
    max_skew: int = SKEW,
    pace: Pace,
    stop: threading.Event,
    report: Callable[[Progress], None],
    tell: Callable[[str], None],
) -> Progress:
    """Push what comes until `stop` is set, as `pace` says; give where that ended.

    A batch in hand is finished first. `tell` is told what holds the job up, and what else a person
    should know.

    Raises:
        NotFound, InvalidRequest: no view takes rows of the source, or the stream cannot be read.
        Unavailable, Conflict: a store could not be used for longer than the pace's patience; what
            was in hand comes again.
    """
    patience = _Patience(seconds=pace.patience, stop=stop, tell=tell)
    job = _Pushing(workspace=workspace, source=source, to=to, max_skew=max_skew)
    patience.until(job.takers)
    runs, told = _Runs(workspace, pace.materialize, tell), set[str]()
    done, looked = _NOTHING, -_IDLE
    while not stop.is_set() and done.batches != pace.batches:
        batch = patience.until(partial(consumer.take, pace.batch, pace.wait))
        began = time.monotonic()
        if batch is not None:
            result, refused = patience.until(partial(job.push, batch), first=job.reach)
            patience.until(partial(consumer.done, batch, refused))
            for text in set(_notes(result)) - told:
                told.add(text)
                tell(text)
            done = _after(done, len(batch.ids), refused.height, time.monotonic() - began)
        if batch is not None or began - looked > _IDLE:
            looked = began
            done = replace(done, lag=patience.until(consumer.lag))
            report(done if batch else _idle(done))
        runs.go_on()
        if batch is None and pace.until_empty:
            break
    return _idle(done)


_NOTHING = Progress(
    batches=0,
    entries=0,
    rows=0,
    refused=0,
    seconds=0.0,
    total_rows=0,
    total_refused=0,
    lag=Lag(entries=0, pending=0, seconds=0.0),
)


def _after(done: Progress, entries: int, refused: int, seconds: float) -> Progress:
    """Give the progress after another batch."""
    rows = entries - refused
    return replace(
        done,
        batches=done.batches + 1,
        entries=entries,
        rows=rows,
        refused=refused,
        seconds=seconds,
        total_rows=done.total_rows + rows,
        total_refused=done.total_refused + refused,
    )


def _idle(done: Progress) -> Progress:
    return replace(done, entries=0, rows=0, refused=0, seconds=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Patience:
    """Tries again what cannot be done now: sooner at first, then ever more seldom."""

    seconds: float
    stop: threading.Event
    tell: Callable[[str], None]

    def until(self, what: Callable[[], T], first: Callable[[], None] | None = None) -> T:
        """Give what is asked for as soon as it can be done; `first` is done before a new try."""
        began, pause, tries = time.monotonic(), _FIRST_PAUSE, 0
        while True:
            try:
                if tries and first is not None:
                    first()
                return what()
            except (Unavailable, Conflict) as error:
                if self.stop.is_set() or time.monotonic() - began >= self.seconds:
                    raise
                self.tell(f"{error}; trying again in {pause:g} s")
            tries += 1
            self.stop.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pushing:
    """Pushes the entries of batches to a source."""

    workspace: Workspace
    source: str
    to: To
    max_skew: int

    def takers(self) -> Target:
        """Find who takes rows of the source.

        Raises:
            NotFound: no view reads a PushSource of this name.
            InvalidRequest: none of the views over it takes pushed rows.
        """
        found = target(self.workspace, self.source)
        if not any(map(takes_pushed, found.views)):
            names = ", ".join(dict.fromkeys(view.name for view in found.views))
            raise InvalidRequest(
                f"{self.source}: none of its views takes pushed rows ({names}): their windows "
                "count every row as an event; add event_id to a view"
            )
        return found

    def reach(self) -> None:
        """Ask Redis first: a push that fails there has left its rows in the log once more."""
        if self.to != "offline":
            self.workspace.online().ping()

    def push(self, batch: Batch) -> tuple[PushResult, pl.DataFrame]:
        """Push a batch; give what came of it, and which entries were refused, and why."""
        found = self.takers()
        views = [view for view in found.views if takes_pushed(view)]
        rows, misread = read_texts(batch.fields, len(batch.ids), views)
        places = pl.Series("row", range(rows.height), dtype=pl.Int64)
        read = ~places.is_in(misread["row"].implode())
        result = push_to(
            self.workspace, found, rows.filter(read), to=self.to, max_skew=self.max_skew
        )
        judged = result.refused.drop_nulls("row")
        judged = judged.with_columns(places.filter(read).gather(judged["row"]))
        refused = _reasons(pl.concat([misread, judged]))
        if result.accepted + refused.height != len(batch.ids):
            told = "; ".join(result.refused.filter(pl.col("row").is_null())["reason"])
            raise InvalidRequest(
                f"{self.source}: its views take no rows now ({told}); nothing is lost"
            )
        return result, refused


def _reasons(refused: pl.DataFrame) -> pl.DataFrame:
    """Give for each refused entry all that is wrong with it."""
    told = pl.concat_str([pl.col("at").replace("", None) + ": ", "reason"], ignore_nulls=True)
    return refused.group_by("row", maintain_order=True).agg(reason=told.str.join("; ")).sort("row")


def _notes(result: PushResult) -> Iterator[str]:
    """Give what rows that were taken miss nevertheless."""
    for _, at, reason in result.refused.filter(pl.col("row").is_null()).iter_rows():
        yield f"{at}: takes no rows: {reason}"
    for one in result.online:
        if one.missing:
            yield f"{one.version}: {one}"
        elif one.lost:
            yield (
                f"{one.version}: rows known only later, or too late for windows, are lost: nothing "
                "brings what goes online only; ingest to online_and_offline"
            )


class _Runs:
    """Materializes every so many microseconds, if at all."""

    def __init__(
        self, workspace: Workspace, every: int | None, tell: Callable[[str], None]
    ) -> None:
        self._workspace = workspace
        self._every = every
        self._tell = tell
        self._next = workspace.clock() + (every or 0)

    def go_on(self) -> None:
        """Bring the tables up to date if it is time; what cannot be done now waits for the next."""
        now = self._workspace.clock()
        if self._every is None or now < self._next:
            return
        self._next = now + self._every
        try:
            materialize_incremental(self._workspace, now)
        except (Unavailable, Conflict) as error:
            self._tell(f"not materialized: {error}")
