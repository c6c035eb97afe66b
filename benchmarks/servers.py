"""Servers under measurement: each in processes of its own, on the first core where there are two.

The client has the last core; Redis runs where there is room.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from load import METHOD, Pair
from memory import family, resident, worked
from process import Failed, environment, on_cores

PROJECT = "bench"
_PATIENCE = 60.0
"""Seconds that a server may take to serve, or to answer once."""
_MB = (1 << 20) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that answers SERVING, the seconds that took, and its process."""

    address: str
    seconds: float
    process: "subprocess.Popen[str]"

    def resident(self) -> float:
        """Give the megabytes that it and what it started hold now."""
        return sum(map(resident, family(self.process.pid))) * _MB

    def worked(self) -> float:
        """Give the seconds of processor time that it and what it started took so far."""
        return sum(map(worked, family(self.process.pid)))


@contextmanager
def served(
    command: Sequence[str], url: str, log: Path, *, anywhere: bool = False
) -> Iterator[Running]:
    """Run one of our servers while the block lasts, entered at its first SERVING.

    The command prints a JSON line with its address; its Redis is at the URL. `anywhere` lets it
    run on all cores.

    Raises:
        Failed: it ended or never served; what it logged is in the message.
    """
    more = {"FEATURESTORE_REDIS_URL": url, "POLARS_MAX_THREADS": "1"}
    began = time.perf_counter()
    with _started(command, log, piped=True, anywhere=anywhere, **more) as process:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise Failed(command[0], log.read_text("utf-8"))
        address = json.loads(line)["address"]
        _await(lambda: _healthy(address), process, log)
        yield Running(address=address, seconds=time.perf_counter() - began, process=process)


@contextmanager
def listening(
    command: Callable[[int], Sequence[str]], log: Path, *, web: str | None = None
) -> Iterator[Running]:
    """Run a server on a port that it is told, while the block lasts, entered when it is healthy.

    `web` is the path over HTTP that says so; without, gRPC's health service does.

    Raises:
        Failed: it ended or never served; what it logged is in the message.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    began = time.perf_counter()
    # Gunicorn leaves a socket in the home folder.
    with _started(command(port), log, piped=False, HOME=str(log.parent)) as process:
        _await(lambda: _healthy(address) if web is None else _found(address, web), process, log)
        yield Running(address=address, seconds=time.perf_counter() - began, process=process)


@contextmanager
def _started(
    command: Sequence[str], log: Path, *, piped: bool, anywhere: bool = False, **more: str
) -> Iterator["subprocess.Popen[str]"]:
    with on_cores(set() if anywhere else core(0)), log.open("w") as told:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", *command],
            env=environment(**more),
            stdout=subprocess.PIPE if piped else told,
            stderr=told,
            text=True,
        )
    with process:
        try:
            yield process
        finally:
            _stop(process)


def _stop(process: "subprocess.Popen[str]") -> None:
    """End a server and all it started."""
    tree = family(process.pid)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        for pid in tree:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _await(ready: Callable[[], bool], process: "subprocess.Popen[str]", log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failed("a server", f"{log.read_text('utf-8')}\nnever served")
        time.sleep(0.005)


def _healthy(address: str) -> bool:
    asked, wanted = health_pb2.HealthCheckRequest(), health_pb2.HealthCheckResponse.SERVING
    with grpc.insecure_channel(address) as channel:
        try:
            found = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=1)
        except grpc.RpcError:
            return False
    return bool(found.status == wanted)


def _found(address: str, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=1) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def core(number: int) -> set[int]:
    """Give the first (0) or last (-1) core of this process's, or none where there is only one."""
    if not hasattr(os, "sched_getaffinity"):
        return set()
    cores = sorted(os.sched_getaffinity(0))
    return {cores[number]} if len(cores) > 1 else set()


def pair_of(folder: Path, name: object) -> Pair:
    """Say where a request and its reply are kept."""
    return Pair(request=folder / f"{name}.request", reply=folder / f"{name}.reply")


def ask(address: str, pair: Pair, path: str = METHOD) -> bytes:
    """Send a request to a gRPC method once; give the bytes of its reply.

    Raises:
        Failed: it was not answered.
    """
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(path, None, None)
        try:
            reply: bytes = call(pair.request.read_bytes(), timeout=_PATIENCE, wait_for_ready=True)
        except grpc.RpcError as error:
            raise Failed(path, str(error), f"{path}: {error.code()}: {error.details()}") from None
    return reply


def post(address: str, pair: Pair, path: str) -> bytes:
    """Send a request as a JSON body once; give the bytes of its reply.

    Raises:
        Failed: it was not answered.
    """
    asked = urllib.request.Request(
        f"http://{address}{path}",
        data=pair.request.read_bytes(),
        headers={"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(asked, timeout=_PATIENCE) as reply:
            body: bytes = reply.read()
    except OSError as error:
        raise Failed(path, f"{path}: {error}") from None
    return body
