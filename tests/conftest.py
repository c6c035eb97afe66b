"""Fixtures and settings that all tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

from featurestore.storage.sql import Engine
from tests.databases import SQLITE, databases, opened, running_postgres
from tests.objects import Bucket, new_bucket, running_s3
from tests.servers import Server, available, running

# A shared machine is slow at random: how long an example takes is no law here.
settings.register_profile("laws", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("laws")


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run the embedded Valkey for the session."""
    with running("valkey", tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session", params=available())
def online_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Run, in turn, each server that is installed, for the session."""
    with running(request.param, tmp_path_factory.mktemp(request.param)) as server:
        yield server


@pytest.fixture
def online_url(online_server: Server) -> str:
    """Give the URL of each installed server in turn."""
    return online_server.url


@pytest.fixture(scope="session", params=databases())
def new_database(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Give, for each database that is installed in turn, what makes the URL of an empty one."""
    if request.param == "sqlite":
        yield lambda: SQLITE
    else:
        with running_postgres() as server:
            yield server.new_url


@pytest.fixture
def registry_url(new_database: Callable[[], str]) -> str:
    """Give the URL of an empty registry database; SQLite's lies in the root it is opened with."""
    return new_database()


@pytest.fixture
def engine(registry_url: str, tmp_path: Path) -> Iterator[Engine]:
    """Give a new registry database, opened; its root is `tmp_path`."""
    with opened(registry_url, tmp_path) as engine:
        yield engine


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """Run an S3 server for the session; gives its endpoint."""
    with running_s3() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Give a new bucket, in an environment that leads there."""
    return new_bucket(s3, monkeypatch)


@pytest.fixture
def project() -> str:
    """Give a project's name that no other test uses."""
    return f"test-{uuid4().hex[:12]}"
