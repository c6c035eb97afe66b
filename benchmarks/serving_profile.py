"""Where the time of a lookup goes: our handler stage by stage, and the same call through gRPC.

In process there is no gRPC: one call after the other, in one thread, against the same Redis.
Through gRPC our server and the bare handler of our bytes take the same calls; what the processor
does for one of ours is then gRPC's own, the handler's, and what the two cost in each other's way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from answered import bare_answered, ours_answered
from load import CLIENT, REQUESTS, put
from memory import switches
from options import Options
from peers import BARE, OURS, Standing, beside, standing
from process import on_cores, redis_server, redis_worked, run_case
from report import Case, Measure, Report, Table
from servers import core
from serving import KEYS, VIEWS
from serving_goals import MEDIAN
from sides import Measured, Part, Sample, Side, in_turn, report
from stages import PROCESSOR, REDIS, STAGES, SUM, WALL, WHOLE
from works import DERIVED_HUNDRED, DERIVED_ONE, HUNDRED, ONE, TEXTS, Work, wide, work, write

SECONDS = {"tiny": 0.05, "default": 1.0, "full": 5.0}
"""How long a call is repeated for each figure."""
WARM = {"tiny": 2, "default": 50, "full": 50}
"""Calls on each connection that come before."""
SERVER, STORE = "CPU us", "Redis us"
VOLUNTARY, FORCED = "switches", "forced"
THROUGH = (
    Measure(name=MEDIAN, digits=3),
    Measure(name=SERVER, digits=0),
    Measure(name=STORE, digits=0),
    Measure(name=VOLUNTARY, digits=1),
    Measure(name=FORCED, digits=2),
)
ALONE, FULL = "one call in flight", "32 calls in flight"
WHOSE = ("whole", "gRPC", "Redis client", "ours", "together")


def run(options: Options, folder: Path) -> Report:
    """Compare the answers with the source, then measure in process and through gRPC."""
    keys, views = KEYS[options.size], VIEWS[options.size]
    works = {
        "1 x 50": ONE,
        "100 x 50": HUNDRED,
        f"{views} views": work(wide(views), 1),
        "100 mixed": TEXTS,
        "1 derived": DERIVED_ONE,
        "100 derived": DERIVED_HUNDRED,
    }
    write(folder, keys, views)
    with redis_server(folder / "online") as url:
        told: dict[str, Any] = {"folder": folder, "url": url, "views": views}
        run_case("ours_serving.py", "serve", repo=folder / "repo", **told)
        with standing(folder, url, {}, feast=False) as first:
            checks = ours_answered(
                first.peers[OURS], first.running[OURS], [*works.values()], folder
            )
            with beside(first, folder, url) as those:
                checks += bare_answered(those.peers[BARE], those.running[BARE], [*works.values()])
                inside = _inside(options, those, url, works)
                loaded = {how: _through(options, those, url, works, how) for how in (ALONE, FULL)}
    parts = [
        Part(checks=(*checks, *inside.checks), failed=inside.failed),
        _stages("wall", WALL, inside, works),
        _stages("processor", PROCESSOR, inside, works),
        *(_table(f"Through gRPC, {how}", found) for how, found in loaded.items()),
        Part(tables=(_whose(inside, loaded[FULL], works),)),
    ]
    size = {"keys": keys, "features": ONE.kind.features, "views": views}
    return report("serving-profile", size, options.repeats, parts, _notes(views))


def _inside(options: Options, those: Standing, url: str, works: Mapping[str, Work]) -> Measured:
    sides = [
        Side(name=name, run=partial(_profiled, those, url, one, SECONDS[options.size]))
        for name, one in works.items()
    ]
    said = "in process: every reply has the bytes of the one through gRPC"
    return in_turn(sides, options.repeats, those.folder, lambda _: (said,))


def _profiled(those: Standing, url: str, asked: Work, seconds: float, _: Path) -> Sample:
    pair = those.peers[OURS].pair(asked)
    with on_cores(core(0)):
        return run_case(
            "serving_stages.py",
            "profile",
            environ={"POLARS_MAX_THREADS": "1"},
            url=url,
            request=pair.request,
            reply=pair.reply,
            seconds=seconds,
        )


def _through(
    options: Options, those: Standing, url: str, works: Mapping[str, Work], how: str
) -> Measured:
    sides = [
        Side(
            name=f"{peer}, {name}",
            run=partial(_loaded, options, those, url, peer, one, how),
        )
        for name, one in works.items()
        for peer in (OURS, BARE)
    ]
    return in_turn(sides, options.repeats, those.folder, lambda _: ())


def _loaded(
    options: Options, those: Standing, url: str, name: str, asked: Work, how: str, _: Path
) -> Sample:
    """Load a server; give what it and Redis did for each call."""
    server = those.running[name]
    load = those.peers[name].load(asked, SECONDS[options.size])
    load = replace(load, warm=WARM[options.size])
    if how == ALONE:
        load = replace(load, connections=1, streams=1)

    def done() -> tuple[float, ...]:
        return server.worked(), redis_worked(url), *switches(server.process.pid)

    before = done()
    with on_cores(core(-1)):
        found = put(server.address, [load])[0]
    calls = found[REQUESTS]
    worked, stored, voluntary, forced = (
        (now - then) / calls for now, then in zip(done(), before, strict=True)
    )
    return {
        MEDIAN: found[MEDIAN],
        SERVER: 1e6 * worked,
        STORE: 1e6 * stored,
        VOLUNTARY: voluntary,
        FORCED: forced,
    }


def _stages(what: str, clock: str, inside: Measured, works: Mapping[str, Work]) -> Part:
    cases = [
        Case(
            name=stage,
            samples={
                name: tuple(inside.of(name, f"{clock} {stage}"))
                for name in works
                if name in inside.samples
            },
        )
        for stage in (*STAGES, SUM, WHOLE)
    ]
    table = Table(
        title=f"In process, microseconds of {what} time",
        measures=tuple(Measure(name=name, digits=0) for name in works),
        cases=tuple(cases),
    )
    return Part(tables=(table,))


def _table(title: str, found: Measured) -> Part:
    sides = [Side(name=name, run=lambda _: {}) for name in found.samples]
    return Part(tables=(found.table(title, sides, THROUGH),), failed=found.failed)


def _whose(inside: Measured, full: Measured, works: Mapping[str, Work]) -> Table:
    """Say whose the processor time of a call is, in a server that is saturated."""
    there = [
        name
        for name in works
        if name in inside.samples
        and all(f"{peer}, {name}" in full.samples for peer in (OURS, BARE))
    ]
    cases = []
    for name in there:
        whole, bare = (full.of(f"{peer}, {name}", SERVER) for peer in (OURS, BARE))
        handler = inside.of(name, f"{PROCESSOR} {WHOLE}")
        turns = zip(*(inside.of(name, f"{PROCESSOR} {one}") for one in REDIS), strict=True)
        client = [sum(turn) for turn in turns]
        samples = {
            WHOSE[0]: tuple(whole),
            WHOSE[1]: tuple(bare),
            WHOSE[2]: tuple(client),
            WHOSE[3]: tuple(a - b for a, b in zip(handler, client, strict=True)),
            WHOSE[4]: tuple(a - b - c for a, b, c in zip(whole, bare, handler, strict=True)),
        }
        cases.append(Case(name=name, samples=samples))
    return Table(
        title=f"Whose a call's processor time is, microseconds, {FULL}",
        measures=tuple(Measure(name=name, digits=0) for name in WHOSE),
        cases=tuple(cases),
    )


def _notes(views: int) -> Sequence[str]:
    wider = (
        f"{views} views: one entity, {10 * views} features; mixed: 100 x 50 with texts and nulls"
    )
    return (
        wider,
        "derived: with 5 on-demand expressions beside 50 features, 1 and 100 entities",
        "stages: medians of many calls; what saying so takes is taken off; whole: without stages",
        "Redis: command is written and a connection taken, bytes sent and awaited, replies parsed",
        "statuses: what of the rows counts, and their times; encode: the reply's bytes",
        f"through gRPC: client {CLIENT}; the server's process on the first core, all its threads",
        "CPU us: of the server's process for each call; Redis us: of Redis's own process",
        "switches: of context, by the server's threads, for each call; forced: not their own will",
        "whole: CPU us of our server; gRPC: of the bare handler; Redis client, ours: in process",
        "together: what is left: gRPC's threads and the handler in each other's way",
    )
