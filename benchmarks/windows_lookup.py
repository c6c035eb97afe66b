"""Lookups of twenty windowed features, seven days by one hour, against as many plain ones.

Both services are in one serving process, which is asked for one and the other in turn over one
connection: what windows add is the difference of their medians. Every entity has ten events a day.
Also: what an entity takes in Redis, its row and its window state, against its raw events.
"""

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from asked import INPUTS, over
from columns import EVENT, KEY, ROW
from dataset import latest, same_bits
from events import EVENTS, SCHEMA, Flow, entity_rows, plain, write_events
from goals import Goal
from load import CLIENT, Load, put
from near import check
from options import Options
from process import on_cores, redis_server, run_case
from report import Measure, Report, Unequal
from servers import PROJECT, ask, core, pair_of, served
from sides import Goals, Measured, Sample, Side, in_turn, part, report

from featurestore.model.schema import Column
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving.client.asking import request_message
from featurestore.serving.client.response import read_response
from featurestore.storage.keys import canonical_keys, states_of
from featurestore.storage.redis import OnlineStore

WINDOW, A_DAY = 7, 10
DAYS = WINDOW + 2
"""Days of events: windows look back over the newest of them."""
KEYS = {"tiny": 200, "default": 2_000, "full": 20_000}
SECONDS = {"tiny": 0.3, "default": 2.0, "full": 10.0}
ENTITIES = (1, 100)
MOVING, PLAIN = "windowed", "plain"
SERVED = "served.parquet"
MEDIAN = "p50 ms"
LATENCIES = (
    Measure(name=MEDIAN, digits=3),
    Measure(name="p99 ms", digits=3),
    Measure(name="req/s", digits=0),
)
RAW = sum(max(field.type.bit_width // 8, 1) for field in SCHEMA)
"""Bytes of a raw event: key, id, time and inputs, packed."""
SEEN = 500
"""Entities whose bytes are counted, at most."""
HELD, STORED, PACKED = "bytes an entity", "in Redis: row and window state", "its raw events, packed"


def run(options: Options, folder: Path) -> Report:
    """Load both services in turn, after their values were compared with what the events say."""
    keys = KEYS[options.size]
    flow = Flow(events=keys * DAYS * A_DAY, keys=keys, days=DAYS)
    write_events(folder, flow)
    with redis_server(folder / "online") as url:
        told = {"repo": folder / "repo", "folder": folder, "url": url, "days": DAYS}
        tables = run_case("ours_windows.py", "serve", **told, asked=over(WINDOW))
        lookups = part(
            f"Lookup of 20 features of {keys:,} entities, plain and windowed ({WINDOW} d by 1 h)",
            _goals(),
            partial(_lookups, options, folder, url, flow),
            LATENCIES,
        )
        held = part(
            f"20 windowed features of {WINDOW} d by 1 h, {A_DAY} events a day",
            _held_goals(),
            partial(_held, url, tables[MOVING], keys),
            (Measure(name=HELD, digits=0),),
        )
    notes = (
        f"client: {CLIENT}, one request in flight; both services are in one process",
        f"raw: key, id, time and {len(INPUTS)} inputs, {RAW} bytes an event",
    )
    return report("windows-lookup", flow.plain(), options.repeats, (lookups, held), notes)


def _goals() -> Goals:
    work = f"lookup of 20 windowed features, {WINDOW} d by 1 h, against 20 plain ones"
    return {
        Goal(work=work, figure=f"added {MEDIAN}, {_entities(count)}", must=must, reach=must / 2): (
            partial(_added, count=count)
        )
        for count, must in zip(ENTITIES, (0.5, 3.0), strict=True)
    }


def _added(found: Measured, count: int) -> float:
    moving, plain = (found.median(_named(name, count), MEDIAN) for name in (MOVING, PLAIN))
    return moving - plain


def _lookups(
    options: Options, folder: Path, url: str, flow: Flow
) -> tuple[Measured, Sequence[Side]]:
    command = ["-m", "featurestore.serving", "--project", PROJECT]
    with served(command, url, folder / "server.log") as server:
        checks = _checked(server.address, folder, flow)
        sides = [
            Side(
                name=_named(name, count),
                run=partial(_load, server.address, folder, _named(name, count), options),
                against=_named(PLAIN, count),
            )
            for count in ENTITIES
            for name in (PLAIN, MOVING)
        ]
        return in_turn(sides, options.repeats, folder, lambda _: checks), sides


def _load(address: str, folder: Path, name: str, options: Options, _: Path) -> Sample:
    """Put one request on the server over and over, from the client's core."""
    wanted = Load(pair=pair_of(folder, name), connections=1, seconds=SECONDS[options.size])
    with on_cores(core(-1)):
        return put(address, [wanted])[0]


def _checked(address: str, folder: Path, flow: Flow) -> list[str]:
    """Ask for each service once, keep the replies, and compare them with what the events say.

    Raises:
        Unequal: a served value is not what DuckDB computes of the raw events, or the newest one.
    """
    asked, most = over(WINDOW), max(ENTITIES)
    rows = entity_rows(np.arange(most), np.zeros(most, np.int64))
    rows.with_columns(pl.lit(flow.end).alias(EVENT)).write_parquet(folder / SERVED)
    told, file = {"folder": folder, "asked": asked, "spine": SERVED}, folder / "wanted.parquet"
    run_case("duckdb_windows.py", "ranges", **told, keep=file)
    windows, newest = pl.read_parquet(file).sort(ROW), _newest(folder, len(asked))
    checks = []
    for count in ENTITIES:
        found = {name: _served(address, folder, name, flow, count) for name in (PLAIN, MOVING)}
        check(found[MOVING], windows.head(count), asked, _named(MOVING, count))
        same_bits(found[PLAIN], newest.head(count), _named(PLAIN, count))
        checks.append(
            f"{_entities(count)}: {len(asked)} served windows are DuckDB's of the raw events, and "
            f"{len(asked)} plain features the newest event's"
        )
    return checks


def _served(address: str, folder: Path, name: str, flow: Flow, count: int) -> pl.DataFrame:
    """Ask for the first keys' values as of the end, so that replies have equal bytes."""
    pair = pair_of(folder, _named(name, count))
    entities = pl.DataFrame({KEY: np.arange(count)})
    message, brought = request_message(name, entities=entities, as_of=flow.end)
    pair.request.write_bytes(message.SerializeToString())
    reply = ask(address, pair)
    pair.reply.write_bytes(reply)
    if set(pb.GetOnlineFeaturesResponse.FromString(reply).statuses) != {pb.STATUS_PRESENT}:
        raise Unequal(f"{name}: not every status is PRESENT")
    return read_response(reply, brought).to_polars().drop(KEY)


def _newest(folder: Path, features: int) -> pl.DataFrame:
    """Give the plain features of the first keys' newest events."""
    events = pl.scan_parquet(folder / EVENTS).filter(pl.col(KEY) < max(ENTITIES)).collect()
    return latest(events).select(**plain(features))


def _held_goals() -> Goals:
    work = f"20 windowed features of {WINDOW} d by 1 h, {A_DAY} events a day"
    return {
        Goal(work=work, figure=f"{HELD} in Redis", digits=0): (
            lambda found: found.median(STORED, HELD)
        ),
        Goal(work=work, figure="of the raw events' bytes"): (
            lambda found: found.ratio(STORED, PACKED, HELD)
        ),
    }


def _held(url: str, table: str, keys: int) -> tuple[Measured, Sequence[Side]]:
    """Count what Redis takes for some entities, keys included, and what a window's events would."""
    some = pl.DataFrame({KEY: np.arange(min(keys, SEEN))})
    canonical = canonical_keys(some, (Column(name=KEY, dtype="int64"),))
    asked = [key for key in canonical if key is not None]
    with closing(OnlineStore.connect(url, project=PROJECT)) as online:
        rows, states = online.memory(table, asked), online.memory(states_of(table), asked)
    if len(rows) != len(asked) or len(states) != len(asked):
        raise Unequal(f"{len(rows)} rows and {len(states)} states of {len(asked)} entities")
    held = {
        STORED: (sum(rows) + sum(states)) / len(asked),
        PACKED: float(WINDOW * A_DAY * RAW),
    }
    samples = {name: [{HELD: size}] for name, size in held.items()}
    sides = [Side(name=name, run=lambda _: {}, against=PACKED) for name in held]
    return Measured(samples=samples, failed={}, checks=()), sides


def _named(name: str, count: int) -> str:
    return f"{name}, {_entities(count)}"


def _entities(count: int) -> str:
    return "1 entity" if count == 1 else f"{count} entities"
