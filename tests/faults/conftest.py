"""A server for each module of these tests: its keys are saved and brought back."""

import pytest
import redis

from tests.servers import running


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A Valkey of the module's own."""
    with running("valkey", tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    """A plain client of it."""
    with redis.Redis(port=server.port, protocol=2) as client:
        yield client
