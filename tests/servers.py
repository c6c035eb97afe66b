"""Real Redis-protocol servers for tests: the embedded Valkey and Debian's Redis, on free ports."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which

import redis

from featurestore.storage.launcher import embedded_binary

BINARIES = {"valkey": embedded_binary(), "redis": which("redis-server")}


def available() -> list[str]:
    """Give the names of the servers that are installed here."""
    return [name for name, path in BINARIES.items() if path is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server that keeps nothing on disk."""

    name: str
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the process for the length of a block, as a stalled machine would."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    @contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """Give a plain client of the server."""
        with redis.Redis(port=self.port, protocol=2) as client:
            yield client


def free_port() -> int:
    """Give a port that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Return as soon as a condition holds.

    Raises:
        TimeoutError: it did not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the condition never held")
        time.sleep(0.01)


@contextmanager
def running(name: str, directory: Path, *options: str) -> Iterator[Server]:
    """Run a server for the length of a block; another process may take its port, so try again."""
    for _ in range(5):
        server = _start(name, directory, *options)
        try:
            wait_until(lambda server=server: server.process.poll() is not None or _ours(server))
            if server.process.poll() is None:
                yield server
                return
        finally:
            server.process.kill()
            server.process.wait()
    raise RuntimeError(f"{name} did not start; see {directory}/server.log")


def _start(name: str, directory: Path, *options: str) -> Server:
    port = free_port()
    settings = ("--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no")
    process = subprocess.Popen(
        [str(BINARIES[name]), *settings, "--logfile", "server.log", *options],
        cwd=directory,
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
    )
    return Server(name=name, port=port, process=process)


def _ours(server: Server) -> bool:
    try:
        with server.client() as client:
            return bool(client.info("server")["process_id"] == server.process.pid)
    except redis.RedisError:
        return False
