"""A TCP proxy that does to a server's replies what broken networks do, and sentinels to run."""

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random

from tests.servers import Server, client_of, running, wait_until


class Proxy:
    """Forwards to a port; `how` says what becomes of replies: see `HOWS`."""

    HOWS = ("well", "silent", "dribble", "cut", "late", "slow", "refusing", "torn")

    def __init__(self, port: int) -> None:
        self._to = port
        self.how = "well"
        self._random = Random(port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._ended = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept nothing more."""
        self._ended.set()
        # A close alone would leave accept() waiting.
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                if self.how == "refusing":
                    raise ConnectionRefusedError
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                client.close()
                continue
            for one in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._forward, args=one, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket, replies: bool) -> None:
        with suppress(OSError), source, target:
            while data := source.recv(65_536):
                how = self.how if replies else "well"
                if how == "silent":
                    continue
                if how == "refusing":
                    return
                if how == "cut" or (how == "torn" and self._random.random() < 0.2):
                    target.sendall(data[: self._random.randrange(len(data))])
                    target.shutdown(socket.SHUT_RDWR)
                    return
                if how == "dribble":
                    for byte in data:
                        target.sendall(bytes([byte]))
                        if self.how == "well":
                            return
                        self._ended.wait(0.02)
                    continue
                if how in ("late", "slow"):
                    self._ended.wait(0.5 if how == "late" else 0.05)
                target.sendall(data)


@contextmanager
def proxied(port: int) -> Iterator[Proxy]:
    """Run a proxy for the length of a block."""
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()


class Lateness:
    """By how much calls outlive their deadlines, which a busy machine adds to at random.

    What a call itself waits too long shows each time, so the least of a few tries must be small,
    and none may be long.
    """

    SMALL = 0.05
    LONG = 1.0

    def __init__(self) -> None:
        self.seen: list[float] = []

    @contextmanager
    def of(self, deadline: float) -> Iterator[None]:
        """Measure a call."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seen.append(time.monotonic() - start - deadline)

    def judge(self, share: float = 0.5) -> None:
        """Judge what was measured since the last time, and that this share of it is small."""
        seen, self.seen = sorted(self.seen), []
        told = [round(one, 3) for one in seen[-5:]]
        assert seen[0] < self.SMALL, told
        assert seen[int(len(seen) * share)] < self.SMALL, told
        assert seen[-1] < self.LONG, told


@contextmanager
def watched(directory: Path) -> Iterator[tuple[list[Server], str]]:
    """Run a primary, two replicas and three sentinels; give the servers and the sentinels' URL."""
    with ExitStack() as stack:
        servers: list[Server] = []
        for number in range(3):
            (place := directory / f"server{number}").mkdir()
            of = ("--replicaof", "127.0.0.1", str(servers[0].port)) if servers else ()
            more = ("--repl-diskless-sync-delay", "0", "--replica-priority", str(number + 1))
            servers.append(stack.enter_context(running("valkey", place, *of, *more)))
        sentinels = []
        for number in range(3):
            (place := directory / f"sentinel{number}").mkdir()
            (place / "sentinel.conf").write_text(
                f"sentinel monitor shop 127.0.0.1 {servers[0].port} 2\n"
                "sentinel down-after-milliseconds shop 600\n"
                "sentinel failover-timeout shop 3000\n"
            )
            sentinels.append(
                stack.enter_context(running("valkey", place, sentinel="sentinel.conf"))
            )
        clients = [client_of(one.url) for one in sentinels]
        wait_until(lambda: all(_sees_all(one) for one in clients), seconds=20)
        yield servers, "redis+sentinel://" + ",".join(f"127.0.0.1:{s.port}" for s in sentinels)


def _sees_all(sentinel) -> bool:
    """Say whether a sentinel knows both replicas and both other sentinels."""
    told = sentinel.execute_command("SENTINEL MASTERS")
    (one,) = told.values() if isinstance(told, dict) else told
    return int(one["num-slaves"]) == 2 and int(one["num-other-sentinels"]) == 2


def ended(server: Server) -> None:
    """Kill a server."""
    server.process.kill()
    with suppress(subprocess.TimeoutExpired):
        server.process.wait(5)
