"""Real Redis-protocol servers for tests: the embedded Valkey and Debian's Redis, on free ports."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which

import redis

from featurestore.storage.forming import OPTIONS, form
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


def client_of(url: str) -> redis.Redis:
    """Give a plain client of the server at a URL, to look and to damage."""
    return redis.Redis.from_url(url, protocol=2)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterServers:
    """The servers of a running cluster; with replicas, the primaries come first."""

    servers: tuple[Server, ...]

    @property
    def url(self) -> str:
        """The cluster's URL."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{one.port}" for one in self.servers[:3])

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all servers for the length of a block."""
        with ExitStack() as stack:
            for one in self.servers:
                stack.enter_context(one.frozen())
            yield

    @contextmanager
    def client(self) -> Iterator[redis.RedisCluster]:
        """Give a plain client of the cluster."""
        with redis.RedisCluster(host="127.0.0.1", port=self.servers[0].port, protocol=2) as client:
            yield client


@contextmanager
def running_cluster(directory: Path, *, replicas: int = 0) -> Iterator[ClusterServers]:
    """Run three primaries that share the slots, and so many replicas of each, for a block."""
    with ExitStack() as stack:
        servers, places = [], []
        for number in range(3 * (1 + replicas)):
            (place := directory / str(number)).mkdir()
            bus = free_port()
            more = ("--cluster-node-timeout", "1000", "--cluster-port", str(bus))
            servers.append(stack.enter_context(running("valkey", place, *OPTIONS, *more)))
            places.append((servers[-1].port, bus))
        form(places)
        yield ClusterServers(servers=tuple(servers))


@contextmanager
def running(
    name: str,
    directory: Path,
    *options: str,
    sentinel: str | None = None,
    port: int | None = None,
) -> Iterator[Server]:
    """Run a server for the length of a block; another process may take its port, so try again.

    With the name of a configuration in its folder it is a sentinel. With a port it runs there.
    """
    for _ in range(5):
        server = _start(name, directory, *options, sentinel=sentinel, port=port)
        try:
            wait_until(lambda server=server: server.process.poll() is not None or _ours(server))
            if server.process.poll() is None:
                yield server
                return
        finally:
            server.process.kill()
            server.process.wait()
    raise RuntimeError(f"{name} did not start; see {directory}/server.log")


def _start(
    name: str, directory: Path, *options: str, sentinel: str | None, port: int | None
) -> Server:
    port = free_port() if port is None else port
    kind = (sentinel, "--sentinel") if sentinel else ("--save", "", "--appendonly", "no")
    settings = ("--bind", "127.0.0.1", "--port", str(port), "--logfile", "server.log")
    process = subprocess.Popen(
        [str(BINARIES[name]), *kind, *settings, *options],
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
