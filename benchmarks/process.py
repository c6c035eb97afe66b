"""Child processes: each case runs in a process of its own, so that its memory is its own."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import redis
from memory import watched

from featurestore.storage.launcher import EmbeddedServer

HERE = Path(__file__).resolve().parent
CASES = HERE / "cases"
_PATIENCE = 300.0
"""Seconds that emptying millions of keys may take."""


def environment(**more: str) -> dict[str, str]:
    """Give a child's environment: this one's, with the project importable and nothing configured.

    Variables that would point the store elsewhere are left out.
    """
    ours = {name: text for name, text in os.environ.items() if not name.startswith("FEATURESTORE_")}
    paths = [str(HERE.parent), str(HERE), ours.get("PYTHONPATH", "")]
    return ours | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)} | more


class Failed(Exception):
    """A case did not end well; `why` is the last thing that it said."""

    def __init__(self, case: str, said: str, why: str = "") -> None:
        super().__init__(f"{case} failed:\n{said[-3000:]}")
        self.why = why or (said.strip().splitlines() or ["it said nothing"])[-1][:300]


def run_case(
    script: str,
    case: str,
    *,
    optimized: bool = False,
    limit: float | None = None,
    environ: Mapping[str, str] = MappingProxyType({}),
    **arguments: Any,
) -> dict[str, Any]:
    """Run one case of a script in `cases/` in a fresh process; give what it measured.

    `optimized` runs Python with -O. `limit` bounds the memory of the process and of what it starts,
    in MiB: see `memory`. `environ` are variables that it has besides.

    Raises:
        Failed: the case failed, or held more than its limit.
    """
    flags = ["-O"] if optimized else []
    command = [sys.executable, *flags, "-W", "ignore", str(CASES / script), case]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        with subprocess.Popen(
            [*command, json.dumps(arguments, default=str)],
            env=environment(**environ),
            stdout=out,
            stderr=err,
            text=True,
        ) as process:
            held = None if limit is None else watched(process, limit)
            code = process.wait()
        out.seek(0)
        err.seek(0)
        told, said, named = out.read(), err.read(), f"{script} {case}"
    if held is not None:
        raise Failed(named, said, f"killed at {held:,.0f} MiB, over {limit:,.0f} MiB")
    if code:
        raise Failed(named, said, f"killed by signal {-code}" if code < 0 else "")
    measured: dict[str, Any] = json.loads(told.splitlines()[-1])
    return measured


def gathered(samples: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, ...]]:
    """Turn one mapping per repeat into one tuple per measure."""
    return {name: tuple(one[name] for one in samples) for name in samples[0]}


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run the embedded Redis-protocol server while the block lasts; gives its URL."""
    server = EmbeddedServer(folder)
    try:
        yield server.ensure()
    finally:
        server.stop()


def emptied(url: str) -> None:
    """Remove everything from the block's own server."""
    with redis.Redis.from_url(url, protocol=2, socket_timeout=_PATIENCE) as client:
        client.execute_command("FLUSHALL", "SYNC")


def redis_bytes(url: str) -> float:
    """Give the memory that a server uses, its own and its data's."""
    with redis.Redis.from_url(url, protocol=2, socket_timeout=_PATIENCE) as client:
        info: Mapping[str, Any] = client.info("memory")
    return float(info["used_memory"])


def redis_worked(url: str) -> float:
    """Give the seconds of processor time that a server took so far."""
    with redis.Redis.from_url(url, protocol=2, socket_timeout=_PATIENCE) as client:
        info: Mapping[str, Any] = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def redis_keys(url: str) -> int:
    """Count the keys in a server."""
    with redis.Redis.from_url(url, protocol=2, socket_timeout=_PATIENCE) as client:
        return int(client.dbsize())


@contextmanager
def on_cores(cores: set[int]) -> Iterator[None]:
    """Start processes in the block on these cores only, where the system can do that."""
    if not hasattr(os, "sched_setaffinity") or not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
