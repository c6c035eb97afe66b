"""Fixtures and settings that all tests share."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

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


@pytest.fixture
def project() -> str:
    """Give a project's name that no other test uses."""
    return f"test-{uuid4().hex[:12]}"
