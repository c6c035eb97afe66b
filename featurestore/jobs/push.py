"""Pushing rows to a source from a notebook or a job, and taking in what servers were pushed."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import polars as pl

from featurestore.errors import FeatureStoreError, Unavailable
from featurestore.jobs.facts import facts
from featurestore.jobs.run import going_on
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import LiveView, View
from featurestore.model.facts import Facts
from featurestore.model.needs import needs
from featurestore.model.pushes import SKEW
from featurestore.model.reads import sources_of
from featurestore.serving.message.frames import frame_of
from featurestore.serving.message.pushed import PushResult, To
from featurestore.serving.push.push import check_source, deliver, judge
from featurestore.serving.push.queue import read_entry
from featurestore.storage.pushed import PushedLog

ROWS = 1_000_000
"""How many rows one push takes."""

_ENTRIES = 25
"""How many pushes of a queue are committed together: each is a message's bytes at most."""


def push(
    workspace: Workspace,
    source: str,
    rows: Any,
    *,
    to: To = "online_and_offline",
    max_skew: int = SKEW,
) -> PushResult:
    """Push rows to a source: into its log, then into every table that is kept in Redis.

    Versions that are live take them first, then what is applied and what locks need.

    Raises:
        NotFound: no view reads a PushSource of this name, or nothing is applied.
        InvalidRequest: the rows cannot be read, or the name is none.
        SourceError, Unavailable: as the stores say; whether the rows are safe offline is said.
    """
    found = target(workspace, source)
    return push_to(workspace, found, frame_of(rows, "df"), to=to, max_skew=max_skew)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Who takes rows that are pushed to a source now: the versions over it, live ones first.

    `lives` are all tables that are kept in Redis.
    """

    source: str
    views: tuple[View, ...]
    lives: tuple[LiveView, ...]


def target(workspace: Workspace, source: str) -> Target:
    """Find who takes rows pushed to a source.

    Raises:
        NotFound: no view reads a PushSource of this name.
    """
    known = facts(workspace)
    lives = _online(known)
    applied = (known.head or workspace.project()).views
    views = dict.fromkeys((*(one.view for one in lives), *applied))
    return Target(source=source, views=check_source(source, list(views)), lives=lives)


def push_to(
    workspace: Workspace, found: Target, rows: pl.DataFrame, *, to: To, max_skew: int
) -> PushResult:
    """Push rows to who takes them; as `push` says."""
    now = workspace.clock()
    live = {one.view.data_id for one in found.lives}
    beside = {view.data_id for view in found.views} - live if live else set[str]()
    pushed = judge(
        found.source, rows, found.views, now=now, max_skew=max_skew, most=ROWS, beside=beside
    )

    def sink(name: str, accepted: pl.DataFrame) -> str:
        log = _log(workspace, name)
        # Whatever is wrong with what waits there, these rows are taken.
        with suppress(FeatureStoreError):
            _drain(workspace, name, log)
        return f"committed as version {log.append(accepted)} of the log of pushed rows"

    return deliver(pushed, found.lives, workspace.online, sink, to=to, now=now)


def take_in(workspace: Workspace, failed: list[FeatureStoreError]) -> None:
    """Commit what servers were pushed to the logs, and rewrite logs of many small files.

    What one source cannot do keeps no other from being done. A Redis that cannot be asked now
    holds up nothing that is done offline.
    """
    views = workspace.registry.all_versions().values()
    for name, documents in sources_of(views).items():
        if any(one.pushed for one in documents):
            log = _log(workspace, name)
            with going_on(failed):
                with suppress(Unavailable):
                    _drain(workspace, name, log)
                log.compact()


def _drain(workspace: Workspace, source: str, log: PushedLog) -> None:
    """Commit a source's queue to its log. What dies between the two is committed again: no harm."""
    online = workspace.online()
    while entries := online.queued(source, most=_ENTRIES):
        frames = [read_entry(source, number, entry) for number, entry in entries]
        for rows in _together(frames):
            log.append(rows)
        online.unqueue(source, [number for number, _ in entries])


def _together(frames: list[pl.DataFrame]) -> list[pl.DataFrame]:
    """Give frames as one, or as they are where their dtypes do not go together."""
    try:
        return [pl.concat(frames, how="diagonal_relaxed")]
    except pl.exceptions.PolarsError:
        return frames


def _log(workspace: Workspace, source: str) -> PushedLog:
    log = workspace.config.sources.log(source)
    assert log is not None
    return log


def _online(known: Facts) -> tuple[LiveView, ...]:
    """Give the tables that are kept in Redis, each with a version of it, live ones first."""
    kept = [need for need in needs(known) if need.online]
    order = sorted(kept, key=lambda need: not need.live)
    return tuple(LiveView(view=need.view, table=need.table) for need in order)
