"""Closed-loop load on a gRPC server: by h2load where it is installed, else by a Python client.

h2load (Debian's `nghttp2-client`) costs a fraction of what a Python server does. The Python client
costs more than the server it measures: with it, rates are the client's, and latencies contain it.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from process import run_case
from report import Unequal

H2LOAD = shutil.which("h2load")
CLIENT = "h2load" if H2LOAD else "Python client"
METHOD = "/featurestore.v1.FeatureStore/GetOnlineFeatures"
_FRAME = 5
"""Bytes gRPC puts before a message."""
_WARM = 200
"""Requests on each connection that only warm up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A request and its reply, as files of their bytes."""

    request: Path
    reply: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A request sent over and over, one in flight on each connection, for about so long."""

    pair: Pair
    connections: int
    seconds: float


def put(address: str, loads: Sequence[Load]) -> list[dict[str, float]]:
    """Put one load after the other on a server; give req/s and latency in milliseconds of each.

    Raises:
        Unequal: a reply is not the pair's (h2load: the replies have not its length).
        RuntimeError: a load did not run.
    """
    if H2LOAD:
        return [_h2load(H2LOAD, address, one) for one in loads]
    told = [
        {
            "request": str(one.pair.request),
            "reply": str(one.pair.reply),
            "connections": one.connections,
            "seconds": one.seconds,
        }
        for one in loads
    ]
    done = run_case("grpc_client.py", "put", address=address, method=METHOD, loads=told)
    measured: list[dict[str, float]] = done["loads"]
    if any(one.pop("wrong") for one in measured):
        raise Unequal(f"{address}: replies changed under load")
    return measured


def _h2load(binary: str, address: str, load: Load) -> dict[str, float]:
    """Run h2load with a gRPC frame as the body; a short run before it warms up and sets its size.

    Every reply of a counted run is awaited, so that the bytes that came back can be checked.
    """
    pair, least = load.pair, _WARM * load.connections
    message = pair.request.read_bytes()
    body, log = pair.request.with_suffix(".frame"), pair.request.with_suffix(".log")
    body.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    command = [
        binary, f"--clients={load.connections}", "--max-concurrent-streams=1", f"--data={body}",
        "--header=content-type: application/grpc", "--header=te: trailers",
        f"--log-file={log}", f"http://{address}{METHOD}",
    ]  # fmt: skip
    warm = _counted(command, pair, least)
    log.unlink()
    rate = _counted(command, pair, max(least, round(warm * load.seconds)))
    took = pl.read_csv(log, separator="\t", has_header=False, new_columns=["at", "code", "us"])[
        "us"
    ]
    return {
        "req/s": rate,
        "p50 ms": float(took.quantile(0.5) or 0) / 1000,
        "p99 ms": float(took.quantile(0.99) or 0) / 1000,
    }


def _counted(command: list[str], pair: Pair, requests: int) -> float:
    """Send so many requests; give how many a second were answered.

    Raises:
        RuntimeError: h2load failed, or not every request was answered.
        Unequal: the replies are not as long as they must be.
    """
    done = subprocess.run(
        [*command, f"--requests={requests}"], capture_output=True, text=True, check=False
    )
    told = done.stdout + done.stderr
    if done.returncode or f" {requests} succeeded, 0 failed" not in told:
        raise RuntimeError(f"h2load failed:\n{told[-2000:]}")
    data = int(_found(r"traffic: .*\((\d+)\) data", told))
    if data != requests * (_FRAME + pair.reply.stat().st_size):
        raise Unequal(f"{command[-1]}: {data} bytes of data in {requests} replies")
    return float(_found(r"finished in [^,]+, ([\d.]+) req/s", told))


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"h2load: no {pattern!r} in\n{text}")
    return match[1]
