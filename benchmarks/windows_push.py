"""Pushes over gRPC to a view of twenty windowed features: how soon they are seen, and how many.

Each event is of an entity with ten events a day for a week, goes online and into the queue for the
offline table, and is looked up at once; the time is from the call of push to the reply that shows
it. Then events in batches, one call after the other. The server has the first core to itself, the
client the last; Redis runs where there is room. The events go on where those of the file end.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import count as counting
from pathlib import Path

import numpy as np
import polars as pl
from asked import over
from columns import EVENT, KEY, ROW
from events import EVENTS, Flow, entity_rows, write_events
from goals import Goal
from near import check
from options import Options
from process import on_cores, redis_server, run_case
from report import Measure, Report
from servers import PROJECT, core, served
from sides import Goals, Measured, Sample, Side, in_turn, part, report
from windows_lookup import A_DAY, DAYS, KEYS, MOVING, SERVED, WINDOW

from featurestore import FeatureClient

SINGLE = {"tiny": 20, "default": 500, "full": 2_000}
BATCHED = {"tiny": 500, "default": 50_000, "full": 200_000}
BATCH = {"tiny": 100, "default": 5_000, "full": 5_000}
SEEN = 100
ONE = "one event, then a lookup"
RATE, SLOW = "events/s", "p99 ms"
MEASURES = (
    Measure(name="p50 ms"),
    Measure(name=SLOW),
    Measure(name=RATE, digits=0),
)


def run(options: Options, folder: Path) -> Report:
    """Push events in both ways; served windows are compared before times count."""
    keys = KEYS[options.size]
    flow = Flow(events=keys * DAYS * A_DAY, keys=keys, days=DAYS)
    batch = f"batches of {BATCH[options.size]:,}"
    goals: Goals = {
        Goal(work=f"push over gRPC, {ONE}", figure=SLOW, must=20.0): (
            lambda found: found.median(ONE, SLOW)
        ),
        Goal(
            work=f"push over gRPC, {batch}",
            figure=RATE,
            better="more",
            must=2e4,
            reach=5e4,
            digits=0,
        ): lambda found: found.median(batch, RATE),
    }
    write_events(folder, flow)
    with redis_server(folder / "online") as url:
        told = {"repo": folder / "repo", "folder": folder, "url": url, "days": DAYS}
        run_case("ours_windows.py", "serve", **told, asked=over(WINDOW), plain_too=False)
        made = part(
            f"Push: 20 windowed features of {WINDOW} d by 1 h, {keys:,} entities",
            goals,
            partial(_pushes, options, folder, url, flow, batch),
            MEASURES,
        )
    notes = (
        f"{ONE}: from the call of push to the reply that shows the event",
        f"{batch}: milliseconds of a call; one call in flight, the server on one core",
    )
    return report("windows-push", flow.plain(), options.repeats, [made], notes)


def _pushes(
    options: Options, folder: Path, url: str, flow: Flow, batch: str
) -> tuple[Measured, Sequence[Side]]:
    command = ["-m", "featurestore.serving", "--project", PROJECT]
    turns = counting()
    with served(command, url, folder / "server.log") as server:
        asked = {"address": server.address, "keys": flow.keys, "end": flow.end.isoformat()}
        single = {**asked, "count": SINGLE[options.size]}
        many = {**asked, "count": BATCHED[options.size], "size": BATCH[options.size]}
        sides = [
            Side(name=ONE, run=partial(_push, "readable", single, turns)),
            Side(name=batch, run=partial(_push, "batches", many, turns)),
        ]
        compare = partial(_compared, server.address, folder, flow)
        return in_turn(sides, options.repeats, folder, compare), sides


def _push(name: str, asked: Mapping[str, object], turns: Iterator[int], answer: Path) -> Sample:
    """Push from the client's core; the events are kept as the answer."""
    with on_cores(core(-1)):
        return run_case("push_client.py", name, **asked, turn=next(turns), keep=answer)


def _compared(address: str, folder: Path, flow: Flow, answers: Mapping[str, Path]) -> Sequence[str]:
    """Compare served windows with DuckDB's of the file's events and all that was pushed.

    Raises:
        Unequal: an event is missing, was counted twice, or another value is served.
    """
    events = [pl.read_parquet(file) for file in (folder / EVENTS, *answers.values())]
    pl.concat(events).write_parquet(folder / EVENTS)
    as_of = flow.end + timedelta(hours=1)
    rows = entity_rows(np.arange(SEEN), np.zeros(SEEN, np.int64))
    rows.with_columns(pl.lit(as_of).alias(EVENT)).write_parquet(folder / SERVED)
    told, file = {"folder": folder, "asked": over(WINDOW), "spine": SERVED}, folder / "all.parquet"
    run_case("duckdb_windows.py", "ranges", **told, keep=file)
    with FeatureClient(address, timeout=5) as client:
        found = client.get_online_features(MOVING, entities=rows.select(KEY), as_of=as_of)
    check(found.to_polars(), pl.read_parquet(file).sort(ROW), over(WINDOW), MOVING)
    return [f"{SEEN} entities' served windows are DuckDB's of all events, pushed ones included"]
