"""Serving processes by themselves: start, memory, two against one, threads against asyncio."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from load import RATE, REQUESTS, put
from memory import children
from options import Options
from peers import BARE, CPU, LOOP, Peer, command, crew, floor, ours
from process import on_cores
from report import Measure
from servers import core, served
from serving_goals import CREWS, LOADED, SERVER, START, TAKEN
from sides import Measured, Sample, Side, in_turn
from works import MANY, ONE

from featurestore.serving.message.limits import Limits

SECONDS = {"tiny": 0.1, "default": 0.8, "full": 10.0}
"""How long a closed loop lasts, here and wherever lookups are measured."""
CLIENTS = 32
"""Connections to two workers, which the kernel spreads over them: enough to come out even."""
SHARED = (
    Measure(name=RATE, digits=0),
    Measure(name=SERVER),
    Measure(name=TAKEN),
    Measure(name=CPU),
)
THEN = "MB then"
STARTS = (
    Measure(name=START),
    Measure(name=THEN, digits=0),
    Measure(name=LOADED, digits=0),
)


def starts(options: Options, folder: Path, url: str) -> tuple[Measured, Sequence[Side]]:
    """Start our server and the bare handler anew each turn, and load each for a moment."""
    peers = ours(folder), floor(folder)
    seconds = SECONDS[options.size]
    sides = [
        Side(name=peer.name, run=partial(_start, peer, folder, url, seconds)) for peer in peers
    ]
    return in_turn(sides, options.repeats, folder, lambda _: ()), sides


def _start(peer: Peer, folder: Path, url: str, seconds: float, _: Path) -> Sample:
    with served(command(peer.name, folder), url, folder / "start.log") as server:
        then = server.resident()
        with on_cores(core(-1)):
            put(server.address, [peer.load(MANY, seconds)])
        return {START: server.seconds, THEN: then, LOADED: server.resident()}


def kinds(options: Options, folder: Path, url: str) -> tuple[Measured, Sequence[Side]]:
    """Load bare handlers to saturation: one of as many threads as ours, and one on asyncio."""
    threads = f"bare handler, {Limits().threads} threads"
    seconds = SECONDS[options.size]
    sides = [
        Side(name=name, run=partial(_kind, how, folder, url, seconds), against=threads)
        for name, how in ((threads, BARE), (LOOP, LOOP))
    ]
    return in_turn(sides, options.repeats, folder, lambda _: ()), sides


def _kind(how: str, folder: Path, url: str, seconds: float, _: Path) -> Sample:
    with served(command(how, folder), url, folder / "kind.log") as server:
        before = server.worked()
        with on_cores(core(-1)):
            found = put(server.address, [floor(folder).load(ONE, seconds)])[0]
        return found | {CPU: 1000 * (server.worked() - before) / found.pop(REQUESTS)}


def crews(options: Options, folder: Path, url: str) -> tuple[Measured, Sequence[Side]]:
    """Load one worker and two to saturation, pinned nowhere; say what the client took."""
    seconds = SECONDS[options.size]
    sides = [
        Side(
            name=name,
            run=partial(_crew, workers, folder, url, seconds),
            against=CREWS[1],
        )
        for workers, name in CREWS.items()
    ]
    return in_turn(sides, options.repeats, folder, lambda _: ()), sides


def _crew(workers: int, folder: Path, url: str, seconds: float, _: Path) -> Sample:
    load = replace(ours(folder), connections=CLIENTS, streams=1).load(ONE, seconds)
    with served(crew(workers), url, folder / "crew.log", anywhere=True) as server:
        before, began, mine = server.worked(), time.perf_counter(), children()
        found = put(server.address, [load])[0]
        took = time.perf_counter() - began
        server_took, client_took = server.worked() - before, children() - mine
    return {
        RATE: found[RATE],
        SERVER: server_took / took,
        TAKEN: client_took / took,
        CPU: 1000 * server_took / found[REQUESTS],
    }
