"""A real PostgreSQL for tests, where one is installed: a cluster of its own on a Unix socket."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg

from featurestore.storage.sql import Engine, open_engine
from tests.servers import wait_until

SQLITE = "sqlite:///data/registry.db"
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=16MB")


def postgres_binaries() -> Path | None:
    """Give the folder of PostgreSQL's programs: on the PATH, or where Debian puts the newest."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    versions = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(versions, key=lambda path: int(path.parent.name), default=None)


def databases() -> list[str]:
    """Give the names of the databases that a registry can be tested on here."""
    return ["sqlite", "postgresql"] if postgres_binaries() else ["sqlite"]


@contextmanager
def opened(url: str, root: Path) -> Iterator[Engine]:
    """Open a registry database for the length of a block, as another process would."""
    engine = open_engine(url, root=root)
    try:
        yield engine
    finally:
        engine.dispose()


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """A running cluster; `folder` holds its data and its socket."""

    folder: Path
    process: subprocess.Popen[bytes]

    def connect(self) -> psycopg.Connection:
        """Give a plain connection."""
        return psycopg.connect(host=str(self.folder), user="postgres", autocommit=True)

    def new_url(self) -> str:
        """Give the URL of an empty schema that nobody else uses."""
        schema = f"test_{uuid4().hex[:12]}"
        with self.connect() as connection:
            connection.execute(f"CREATE SCHEMA {schema}")
        options = f"host={self.folder}&options=-csearch_path%3D{schema}"
        return f"postgresql+psycopg://postgres@/postgres?{options}"


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Run a cluster for the length of a block; it does not start as root, so root lends it."""
    binaries = postgres_binaries()
    assert binaries is not None
    folder = Path(tempfile.mkdtemp(prefix="fs-pg-", dir="/tmp"))
    root = os.geteuid() == 0
    user = "postgres" if root else None
    settings = {"user": user, "cwd": folder, "env": {**os.environ, "LC_ALL": "C"}}
    if root:
        shutil.chown(folder, "postgres")
    initdb = [binaries / "initdb", "-D", "data", "-U", "postgres", "-A", "trust", "--no-sync"]
    with (folder / "log").open("wb") as log:
        try:
            subprocess.run([*initdb, "-E", "UTF8"], check=True, stdout=log, stderr=log, **settings)
            options = [word for one in FAST for word in ("-c", one)]
            server = [binaries / "postgres", "-D", "data", "-k", folder, "-h", "", *options]
            process = subprocess.Popen(server, stdout=log, stderr=log, **settings)
            try:
                started = Postgres(folder=folder, process=process)
                wait_until(lambda: _answers(started), seconds=30)
                yield started
            finally:
                process.send_signal(signal.SIGINT)
                process.wait()
        finally:
            shutil.rmtree(folder)


def _answers(server: Postgres) -> bool:
    if server.process.poll() is not None:
        raise RuntimeError((server.folder / "log").read_text())
    try:
        server.connect().close()
    except psycopg.OperationalError:
        return False
    return True
