"""Lookups over gRPC: 1 and 100 entities x 50 float32, against a bare handler of the same bytes.

Both servers run in processes of their own with as many threads, take the same request bytes and
give the same reply bytes, under a closed loop from a client process. Where there are two cores or
more, the server has the first to itself and the client the last; Redis runs where there is room.
Also: the time from a server's start to its first SERVING, and its memory.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import polars as pl
from columns import END, KEY, READINGS, names
from dataset import Size, latest, same_bits, write_readings
from grpc_health.v1 import health_pb2, health_pb2_grpc
from load import CLIENT, Load, Pair, put
from memory import resident
from options import Options
from process import CASES, environment, gathered, on_cores, redis_server, run_case
from report import Case, Measure, Report, Table, Unequal

from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving.asking import request_message
from featurestore.serving.limits import SERVICE, Limits
from featurestore.serving.response import read_response

SIZES = {
    "tiny": Size(rows=1_000, keys=200),
    "default": Size(rows=20_000, keys=10_000),
    "full": Size(rows=400_000, keys=200_000),
}
SECONDS = {"tiny": 0.3, "default": 2.0, "full": 10.0}
CONNECTIONS = {"tiny": (2,), "default": (1, 8), "full": (1, 8)}
ENTITIES = (1, 100)
OURS, BARE = "ours", "bare handler"
PROJECT, SERVICE_NAME = "bench", "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that answers SERVING, the seconds that took, and its process."""

    address: str
    seconds: float
    process: "subprocess.Popen[str]"

    def resident(self) -> float:
        """Give the memory it holds now in MiB."""
        return resident(self.process.pid)


def run(options: Options, folder: Path) -> Report:
    """Load one server after the other, in turn; their replies are compared before that."""
    size = SIZES[options.size]
    write_readings(folder, size)
    newest = latest(pl.read_parquet(folder / READINGS))
    samples: dict[str, list[dict[str, float]]] = defaultdict(list)
    starts: dict[str, list[dict[str, float]]] = defaultdict(list)
    checks: dict[str, None] = {}
    with redis_server(folder / "online") as url:
        data: dict[str, Any] = {"folder": folder, "url": url, "features": size.features}
        run_case("ours.py", "materialize", repo=folder / "repo", **data)
        for _ in range(options.repeats):
            for name, command in _commands(folder).items():
                with served(command, url, folder / "server.log") as server:
                    at_start = server.resident()
                    checks |= dict.fromkeys(_checked(name, server.address, folder, newest))
                    for label, made in _loads(server.address, folder, options).items():
                        samples[f"{name}, {label}"].append(made)
                    starts[name].append(
                        {
                            "seconds to SERVING": server.seconds,
                            "MiB then": at_start,
                            "MiB after load": server.resident(),
                        }
                    )
    return Report(
        name="serving",
        size={"keys": size.keys, "features": size.features},
        repeats=options.repeats,
        tables=(_rates(samples, size), _starts(starts)),
        checks=tuple(checks),
        notes=_notes(),
    )


def _commands(folder: Path) -> dict[str, list[str]]:
    """Give each server's command."""
    threads = Limits().threads
    ours = ["-m", "featurestore.serving", "--project", PROJECT, "--threads", str(threads)]
    bare = [str(CASES / "bare_server.py"), str(folder), str(threads), SERVICE]
    return {OURS: ours, BARE: bare}


@contextmanager
def served(command: list[str], url: str, log: Path) -> Iterator[Running]:
    """Run a server while the block lasts, entered at its first SERVING.

    Raises:
        RuntimeError: it ended or never served; what it logged is in the message.
    """
    variables = environment(FEATURESTORE_REDIS_URL=url, POLARS_MAX_THREADS="1")
    began = time.perf_counter()
    with on_cores(core(0)), log.open("w") as told:
        process = subprocess.Popen(
            [sys.executable, *command],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
        )
    with process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise RuntimeError(f"{command}: ended before it listened:\n{log.read_text()}")
            address = json.loads(line)["address"]
            _await_serving(address)
            seconds = time.perf_counter() - began
            yield Running(address=address, seconds=seconds, process=process)
        finally:
            _stop(process)


def _stop(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()


def _await_serving(address: str, patience: float = 30.0) -> None:
    deadline = time.monotonic() + patience
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        asked, wanted = health_pb2.HealthCheckRequest(), health_pb2.HealthCheckResponse.SERVING
        while stub.Check(asked, timeout=patience, wait_for_ready=True).status != wanted:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{address}: never SERVING in {patience} s")
            time.sleep(0.005)


def core(number: int) -> set[int]:
    """Give the first (0) or last (-1) core of this process's, or none where there is only one."""
    if not hasattr(os, "sched_getaffinity"):
        return set()
    cores = sorted(os.sched_getaffinity(0))
    return {cores[number]} if len(cores) > 1 else set()


def _checked(name: str, address: str, folder: Path, newest: pl.DataFrame) -> list[str]:
    """Ask a server each request once and compare; our first replies are kept as files.

    Requests carry `as_of`, so that a reply has the same bytes every time.

    Raises:
        Unequal: a served value is not the source's, or replies have other bytes than the first.
    """
    checks = []
    for entities in ENTITIES:
        pair, rows = pair_of(folder, entities), newest.head(entities)
        message, brought = request_message(SERVICE_NAME, entities=rows.select(KEY), as_of=END)
        if not pair.request.exists():
            pair.request.write_bytes(message.SerializeToString())
        reply = ask(address, pair)
        if not pair.reply.exists():
            pair.reply.write_bytes(reply)
        if reply != pair.reply.read_bytes():
            raise Unequal(f"{name}: {entities} entities: not the bytes of our first reply")
        found, wanted = read_response(reply, brought).to_polars(), names(newest.width - 2)
        same_bits(found.select(wanted), rows.select(wanted), f"{name}: served values")
        if set(pb.GetOnlineFeaturesResponse.FromString(reply).statuses) != {pb.STATUS_PRESENT}:
            raise Unequal(f"{name}: not every status is PRESENT")
        checks.append(
            f"{name}: {entities} x {len(wanted)} served values = the source's newest, bit for bit, "
            f"in the same {len(reply):,} bytes"
        )
    return checks


def pair_of(folder: Path, name: object) -> Pair:
    """Say where a request and its reply are kept."""
    return Pair(request=folder / f"{name}.request", reply=folder / f"{name}.reply")


def ask(address: str, pair: Pair) -> bytes:
    """Send a request once; give the bytes of its reply."""
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(f"/{SERVICE}/GetOnlineFeatures", None, None)
        reply: bytes = call(pair.request.read_bytes(), timeout=10, wait_for_ready=True)
    return reply


def _loads(address: str, folder: Path, options: Options) -> dict[str, dict[str, float]]:
    """Put every load on a server, from the client's core."""
    wanted = {
        f"{entities} x {SIZES[options.size].features}, {connections} in flight": Load(
            pair=pair_of(folder, entities), connections=connections, seconds=SECONDS[options.size]
        )
        for entities in ENTITIES
        for connections in CONNECTIONS[options.size]
    }
    with on_cores(core(-1)):
        return dict(zip(wanted, put(address, list(wanted.values())), strict=True))


def _rates(samples: dict[str, list[dict[str, float]]], size: Size) -> Table:
    return Table(
        title=f"Serving: {size.features} float32 of {size.keys:,} keys, client: {CLIENT}",
        measures=(
            Measure(name="req/s", digits=0),
            Measure(name="p50 ms", digits=3),
            Measure(name="p99 ms", digits=3),
        ),
        cases=tuple(
            Case(
                name=name,
                samples=gathered(samples[name]),
                against=f"{BARE}, {name.partition(', ')[2]}",
            )
            for name in sorted(samples, key=lambda name: (name.partition(", ")[2], name))
        ),
    )


def _starts(starts: dict[str, list[dict[str, float]]]) -> Table:
    return Table(
        title="A serving process: start and memory",
        measures=(
            Measure(name="seconds to SERVING"),
            Measure(name="MiB then", digits=0),
            Measure(name="MiB after load", digits=0),
        ),
        cases=tuple(Case(name=name, samples=gathered(made)) for name, made in starts.items()),
    )


def _notes() -> tuple[str, ...]:
    lines = ["ratio: requests a second over the bare handler's; one request body, sent again"]
    if CLIENT == "h2load":
        lines.append("h2load checks the replies' lengths; their bytes were compared before")
    else:
        lines.append(
            "the Python client is the bottleneck: rates are its own, latencies contain it; "
            "install h2load (Debian: nghttp2-client) to see the servers"
        )
    return tuple(lines)
