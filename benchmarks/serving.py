"""Lookups: ours, Feast's two servers and a bare gRPC handler of our bytes, on one Redis and data.

The bare handler is the floor: what gRPC itself costs in Python. Closed loops go to saturation, open
ones offer a fixed rate; what an on-demand view adds is the difference of two medians with one
request in flight. A server has one worker, on the first core, and the client the last one. Servers
stand side by side; each is under load alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import polars as pl
from answered import bare_answered, feast_answered, feast_held, ours_answered
from clusters import RATES, load_goals, loads
from load import CLIENT, H2LOAD, MISSING, PERCENTILES, RATE
from options import Options
from peers import (
    BARE,
    CPU,
    GRPC,
    HTTP,
    OURS,
    Standing,
    beside,
    prepare_feast,
    standing,
)
from process import Failed, redis_server, run_case
from report import Measure, Report, Unequal
from servers import PROJECT
from serving_goals import (
    DERIVED,
    FEAST,
    HELD,
    PLAIN,
    SHARE,
    added_goals,
    crew_goals,
    held_goals,
    named,
    open_goals,
    rate_goals,
    start_goals,
)
from serving_workers import CLIENTS, SECONDS, SHARED, STARTS, crews, kinds, starts
from sides import Measured, Part, Sample, Side, in_turn, part, report
from works import (
    DERIVED_HUNDRED,
    DERIVED_ONE,
    HUNDRED,
    MANY,
    ONE,
    SINGLE,
    TEXTS,
    Work,
    wide,
    work,
    write,
)

from featurestore.model.schema import Column
from featurestore.storage.keys import canonical_keys
from featurestore.storage.redis import OnlineStore

KEYS = {"tiny": 600, "default": 2_000, "full": 50_000}
VIEWS = {"tiny": 2, "default": 25, "full": 25}
OPEN = {"tiny": 0.3, "default": 3.0, "full": 60.0}
SEEN = 500
"""Entities whose bytes are counted, at most."""
LATENCIES = (
    *(Measure(name=name, digits=3) for name in PERCENTILES),
    Measure(name=RATE, digits=0),
    Measure(name=CPU),
)


def run(options: Options, folder: Path) -> Report:
    """Compare all servers' answers with the source, then load them in turn."""
    keys, views = KEYS[options.size], VIEWS[options.size]
    across = [work(wide(views), entities) for entities in (1, 100)]
    works = [ONE, HUNDRED, MANY, *across, TEXTS]
    write(folder, keys, views)
    with redis_server(folder / "online") as url:
        told: dict[str, Any] = {
            "repo": folder / "repo",
            "folder": folder,
            "url": url,
            "views": views,
        }
        tables = run_case("ours_serving.py", "serve", **told)
        failed = _feast(options, folder, url, views, works)
        with _compared(options, folder, url, works, failed) as (those, checks):
            parts = _loads(options, those, works, across, checks)
        parts += [
            part(
                "A serving worker: start and memory",
                start_goals(),
                partial(starts, options, folder, url),
                STARTS,
            ),
            part(
                "1 x 50 of a bare handler: threads, as ours has, and asyncio",
                {},
                partial(kinds, options, folder, url),
                (
                    Measure(name=RATE, digits=0),
                    *(Measure(name=one) for one in PERCENTILES),
                    Measure(name=CPU),
                ),
            ),
            part(
                f"1 x 50, {CLIENTS} in flight: workers, client and Redis share all cores",
                crew_goals(),
                partial(crews, options, folder, url),
                SHARED,
            ),
            part(
                "50 float32 of an entity in Redis, key included",
                held_goals(),
                partial(_held, options, url, tables[SINGLE.name], keys, failed),
                (Measure(name=HELD, digits=0),),
            ),
            part(
                "Loading rows of 50 float32 into fresh servers",
                load_goals(),
                partial(loads, options, folder, url, tables[SINGLE.name], keys),
                RATES,
            ),
        ]
    size = {"keys": keys, "features": SINGLE.features, "views": views}
    return report("serving", size, options.repeats, parts, _notes())


def _feast(
    options: Options, folder: Path, url: str, views: int, works: Sequence[Work]
) -> dict[str, str]:
    """Write what Feast's servers serve; give why they cannot be measured, if they cannot."""
    if options.feast:
        try:
            prepare_feast(folder, url, views, works)
        except Failed as problem:
            return dict.fromkeys((HTTP, GRPC), problem.why)
    return {}


@contextmanager
def _compared(
    options: Options, folder: Path, url: str, works: Sequence[Work], failed: dict[str, str]
) -> Iterator[tuple[Standing, list[str]]]:
    """Run all servers while the block lasts, once the values of each were compared."""
    with standing(folder, url, failed, feast=options.feast) as first:
        asked = [*works, DERIVED_ONE, DERIVED_HUNDRED]
        checks = ours_answered(first.peers[OURS], first.running[OURS], asked, folder)
        with beside(first, folder, url) as those:
            checks += bare_answered(those.peers[BARE], those.running[BARE], asked)
            for name in (HTTP, GRPC):
                if name in those.running:
                    try:
                        peer, server = those.peers[name], those.running[name]
                        checks += feast_answered(peer, server, works, folder)
                    except Failed as problem:
                        failed[name] = problem.why
            yield those, checks


def _loads(
    options: Options,
    those: Standing,
    works: Sequence[Work],
    across: Sequence[Work],
    checks: Sequence[str],
) -> list[Part]:
    """Load the servers to saturation, then ours alone, then ours and the floor at a fixed rate."""
    rates, sides = _saturated(options, those, works, checks)
    return [
        part(
            f"Lookups at saturation, client: {CLIENT}",
            rate_goals(across),
            lambda: (rates, sides),
            (
                Measure(name=RATE, digits=0),
                *(Measure(name=name, digits=1) for name in PERCENTILES),
                Measure(name=CPU),
            ),
        ),
        part(
            "Lookups with 5 on-demand expressions, one request in flight",
            added_goals(),
            partial(_added, options, those),
            LATENCIES,
        ),
        part(
            f"Lookups in an open loop at {SHARE:.0%} of our saturation",
            open_goals(),
            partial(_open, options, those, rates),
            LATENCIES,
        ),
    ]


def _saturated(
    options: Options, those: Standing, works: Sequence[Work], checks: Sequence[str]
) -> tuple[Measured, Sequence[Side]]:
    sides = [
        Side(
            name=named(name, one),
            run=partial(_put, those, name, one, SECONDS[options.size]),
            against=named(BARE, one),
        )
        for one in works
        for name in those.peers
    ]
    return in_turn(sides, options.repeats, those.folder, lambda _: checks), sides


def _put(those: Standing, name: str, asked: Work, seconds: float, _: Path) -> Sample:
    return those.put(name, asked, seconds)


def _added(options: Options, those: Standing) -> tuple[Measured, Sequence[Side]]:
    sides = [
        Side(
            name=named(label, plain),
            run=partial(_alone, those, asked, SECONDS[options.size]),
            against=named(PLAIN, plain),
        )
        for plain, beside_it in ((ONE, DERIVED_ONE), (HUNDRED, DERIVED_HUNDRED))
        for label, asked in ((PLAIN, plain), (DERIVED, beside_it))
    ]
    return in_turn(sides, options.repeats, those.folder, lambda _: ()), sides


def _alone(those: Standing, asked: Work, seconds: float, _: Path) -> Sample:
    return those.alone(OURS, asked, seconds)


def _open(options: Options, those: Standing, rates: Measured) -> tuple[Measured, Sequence[Side]]:
    sides = [
        Side(
            name=named(name, one),
            run=partial(
                _offered,
                those,
                name,
                one,
                SHARE * rates.median(named(OURS, one), RATE),
                OPEN[options.size],
            ),
            against=named(BARE, one),
        )
        for one in (ONE, HUNDRED)
        for name in (OURS, BARE)
        if H2LOAD
    ]
    return in_turn(sides, options.repeats, those.folder, lambda _: ()), sides


def _offered(
    those: Standing, name: str, asked: Work, rate: float, seconds: float, _: Path
) -> Sample:
    return those.offer(name, asked, rate, seconds)


def _held(
    options: Options, url: str, table: str, keys: int, failed: Mapping[str, str]
) -> tuple[Measured, Sequence[Side]]:
    """Count what some entities' rows take in Redis, keys included, on either side."""
    some = pl.DataFrame({SINGLE.key: range(min(keys, SEEN))})
    canonical = canonical_keys(some, (Column(name=SINGLE.key, dtype="int64"),))
    asked = [key for key in canonical if key is not None]
    with closing(OnlineStore.connect(url, project=PROJECT)) as online:
        held = {OURS: online.memory(table, asked)}
    if options.feast and not failed:
        held[FEAST] = feast_held(url, SINGLE)
    for name, rows in held.items():
        if len(rows) != (len(asked) if name == OURS else keys):
            raise Unequal(f"{name}: {len(rows)} rows of {len(asked)} entities")
    samples = {name: [{HELD: mean(rows)}] for name, rows in held.items()}
    sides = [Side(name=name, run=lambda _: {}, against=OURS) for name in held]
    return Measured(samples=samples, failed={}, checks=()), sides


def _notes() -> Sequence[str]:
    counted = (
        "h2load checks the replies' lengths; their values were compared before"
        if H2LOAD
        else MISSING
    )
    return (
        "ratio: over the bare handler's of the same work, or over the first side's",
        "load: one request body, sent again and again",
        "one worker each, on the first core; client on the last; Redis where there is room",
        "in flight: ours and the bare handler 8 connections x 4 streams, Feast's 4 x 1",
        "percentiles of few requests are their slowest",
        counted,
        "seconds a value: 1 / (req/s x entities x features); a key: 1 / (req/s x entities x views)",
        "open loop: the same rate is offered to both; latency is from when h2load sends",
        "CPU ms: the server's processor time for each request, without Redis's",
        "loading: keys and rows sent by one process, with an expiry; all share this machine",
        "6-node cluster: 3 primaries, 3 replicas; replicas after s: since the last row was written",
    )
