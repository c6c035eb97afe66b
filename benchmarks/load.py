"""Load on a server, closed loop or open: by h2load where it is installed, else by a Python client.

h2load (Debian's `nghttp2-client`) costs a fraction of what a Python server does. The Python clients
cost more than the server they measure: with them, rates are the client's, latencies contain it, and
there is no open loop.
"""

import math
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
from process import Failed, run_case
from report import Unequal

H2LOAD = shutil.which("h2load")
CLIENT = "h2load" if H2LOAD else "Python client"
MISSING = (
    "h2load is not installed: the Python client, which takes its place, is slower than the servers "
    "it measures, and there is no open loop; Debian and Ubuntu: apt-get install nghttp2-client"
)
METHOD = "/featurestore.v1.FeatureStore/GetOnlineFeatures"
PERCENTILES = {"p50 ms": 0.5, "p99 ms": 0.99, "p99.9 ms": 0.999}
RATE, REQUESTS = "req/s", "requests"
_FRAME = 5
"""Bytes gRPC puts before a message."""
_WARM = 200
"""Requests on each connection that only warm up."""
_EACH = 100
"""Requests a second that a connection of an open loop begins, at most: see `offer`."""
_APART = 0.013
"""Seconds between the beginnings of two connections of an open loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A request and its reply, as files of their bytes."""

    request: Path
    reply: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A request sent over and over for about so many seconds.

    Each connection has `streams` in flight (the Python clients: one). `warm` requests on each
    connection come before. The path is a gRPC method, or that of a JSON body over HTTP/1.1.
    """

    pair: Pair
    connections: int
    seconds: float
    streams: int = 1
    warm: int = _WARM
    path: str = METHOD
    form: Literal["grpc", "http"] = "grpc"


def put(address: str, loads: Sequence[Load]) -> list[dict[str, float]]:
    """Put one load after the other on a server; give req/s and latencies in milliseconds of each.

    `requests` says how many there were in all, those that warm up included.

    Raises:
        Unequal: a reply is not the pair's (h2load: the replies have not its length).
        Failed: a load did not run.
    """
    if H2LOAD:
        return [_closed(H2LOAD, address, one) for one in loads]
    return [_python(address, one) for one in loads]


def _python(address: str, load: Load) -> dict[str, float]:
    told: dict[str, Any] = {
        "address": address,
        "path": load.path,
        "request": str(load.pair.request),
        "reply": str(load.pair.reply),
        "connections": load.connections,
        "seconds": load.seconds,
    }
    measured: dict[str, float] = run_case("load_client.py", f"over_{load.form}", **told)
    if measured.pop("wrong"):
        raise Unequal(f"{address}: replies changed under load")
    return measured


def offer(address: str, load: Load, rate: float) -> dict[str, float]:
    """Send so many requests a second whatever is answered; give the rate and latencies in ms.

    h2load begins a connection's requests at ticks of at least 10 ms, a few at once if they are
    more. So there is a connection for each hundred a second, whatever the load says, opened a
    little after the last one; what is asked while they open does not count.

    Raises:
        Failed: h2load is not installed or failed, or not every request was answered.
        Unequal: the replies are not as long as they must be.
    """
    if not H2LOAD:
        raise Failed("h2load", "left out: an open loop needs h2load, which is not installed")
    clients = max(math.ceil(rate / _EACH), 1)
    each = rate / clients
    opening = clients * _APART
    requests = clients * math.ceil(each * (load.seconds + opening))
    command = [
        *_command(H2LOAD, address, load), f"--clients={clients}", f"--rps={each:.4f}",
        "--max-concurrent-streams=100", "--rate=1", f"--rate-period={_APART * 1000:.0f}ms",
    ]  # fmt: skip
    _counted(command, load, requests)
    answered = _log(load)
    began = answered["at"].min()
    whole = answered.filter(
        (pl.col("at") - began).is_between(opening * 1e6, (opening + load.seconds) * 1e6)
    )
    rate = whole.height / load.seconds
    return {RATE: rate, REQUESTS: requests, **_latencies(whole)}


def _closed(binary: str, address: str, load: Load) -> dict[str, float]:
    """Run h2load; a short run before it warms up and sets its size.

    Every reply of a counted run is awaited, so that the bytes that came back can be checked.
    """
    streams = f"--max-concurrent-streams={load.streams}"
    command = [*_command(binary, address, load), f"--clients={load.connections}", streams]
    flights = load.connections * load.streams
    least = load.warm * load.connections
    warm = _counted(command, load, least)
    requests = max(flights, round(warm * load.seconds))
    rate = _counted(command, load, requests)
    return {RATE: rate, REQUESTS: least + requests, **_latencies(_log(load))}


def _command(binary: str, address: str, load: Load) -> list[str]:
    """Write the request as a body, in a gRPC frame or bare, and give h2load's command for it."""
    message = load.pair.request.read_bytes()
    body, log = load.pair.request.with_suffix(".frame"), load.pair.request.with_suffix(".log")
    if load.form == "grpc":
        message = b"\0" + len(message).to_bytes(4, "big") + message
        form = ["--header=content-type: application/grpc", "--header=te: trailers"]
    else:
        form = ["--header=content-type: application/json", "--h1"]
    body.write_bytes(message)
    url = f"http://{address}{load.path}"
    return [binary, url, f"--data={body}", f"--log-file={log}", *form]


def _counted(command: list[str], load: Load, requests: int) -> float:
    """Send so many requests; give how many a second were answered.

    Raises:
        Failed: h2load failed, or not every request was answered.
        Unequal: the replies are not as long as they must be.
    """
    log = load.pair.request.with_suffix(".log")
    log.unlink(missing_ok=True)
    done = subprocess.run(
        [*command, f"--requests={requests}"], capture_output=True, text=True, check=False
    )
    told = done.stdout + done.stderr
    if done.returncode or f" {requests} succeeded, 0 failed" not in told:
        why = re.search(r"requests: .*", told)
        raise Failed("h2load", told, why[0] if why else "")
    data = int(_found(r"traffic: .*\((\d+)\) data", told))
    frame = _FRAME if load.form == "grpc" else 0
    if data != requests * (frame + load.pair.reply.stat().st_size):
        raise Unequal(f"{command[1]}: {data} bytes of data in {requests} replies")
    return float(_found(r"finished in [^,]+, ([\d.]+) req/s", told))


def _log(load: Load) -> pl.DataFrame:
    """Read when each request began and how long it took, in microseconds."""
    file = load.pair.request.with_suffix(".log")
    return pl.read_csv(file, separator="\t", has_header=False, new_columns=["at", "code", "us"])


def _latencies(answered: pl.DataFrame) -> dict[str, float]:
    took = answered["us"]
    return {
        name: float(took.quantile(share, "nearest") or 0) / 1000
        for name, share in PERCENTILES.items()
    }


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise Failed("h2load", text, f"h2load: no {pattern!r} in what it printed")
    return match[1]
