"""Child processes: each case runs in a process of its own, so that its memory is its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from featurestore.storage.launcher import EmbeddedServer

HERE = Path(__file__).resolve().parent
CASES = HERE / "cases"


def environment(**more: str) -> dict[str, str]:
    """Give a child's environment: this one's, with the project importable and nothing configured.

    Variables that would point the store elsewhere are left out.
    """
    ours = {name: text for name, text in os.environ.items() if not name.startswith("FEATURESTORE_")}
    paths = [str(HERE.parent), str(HERE), ours.get("PYTHONPATH", "")]
    return ours | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)} | more


def run_case(
    script: str, case: str, *, optimized: bool = False, **arguments: Any
) -> dict[str, Any]:
    """Run one case of a script in `cases/` in a fresh process; give what it measured.

    `optimized` runs Python with -O.

    Raises:
        RuntimeError: the case failed; the end of what it printed is in the message.
    """
    flags = ["-O"] if optimized else []
    command = [sys.executable, *flags, "-W", "ignore", str(CASES / script), case]
    done = subprocess.run(
        [*command, json.dumps(arguments, default=str)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{script} {case} failed:\n{done.stderr[-3000:]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def gathered(samples: list[dict[str, float]]) -> dict[str, tuple[float, ...]]:
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
    with redis.Redis.from_url(url, protocol=2) as client:
        client.execute_command("FLUSHALL", "SYNC")


def redis_bytes(url: str) -> float:
    """Give the memory that a server uses, its own and its data's."""
    with redis.Redis.from_url(url, protocol=2) as client:
        info: Mapping[str, Any] = client.info("memory")
    return float(info["used_memory"])


def redis_keys(url: str) -> int:
    """Count the keys in a server."""
    with redis.Redis.from_url(url, protocol=2) as client:
        return int(client.dbsize())


def resident(pid: int) -> float:
    """Give the memory that a process holds now, in MiB."""
    status = Path(f"/proc/{pid}/status")
    if status.is_file():
        lines = status.read_text("utf-8").splitlines()
        return int(next(one for one in lines if one.startswith("VmRSS")).split()[1]) / 1024
    told = ["ps", "-o", "rss=", "-p", str(pid)]
    return int(subprocess.run(told, capture_output=True, text=True, check=True).stdout) / 1024


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
