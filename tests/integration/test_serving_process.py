"""A serving process of its own: what it loads, how soon it serves, how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from uuid import uuid4

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from featurestore.serving.client.client import FeatureClient
from featurestore.storage.redis import OnlineStore
from tests.releases import publish, release_of, stored_view, table_of
from tests.servers import Server as Redis
from tests.servers import free_port

VIEW = stored_view("view", {"key": "int64"}, {"a": "float64"})
FOREIGN = [
    "feast",
    "pandas",
    "pyarrow",
    "deltalake",
    "sqlalchemy",
    "duckdb",
    "redis",
    "featurestore.jobs",
    "featurestore.training",
    "featurestore.definitions",
    "featurestore.store",
    "featurestore.storage.offline",
    "featurestore.storage.registry",
]


def _start(url: str, project: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "featurestore.serving", "--project", project],
        env={**os.environ, "FEATURESTORE_REDIS_URL": url, "POLARS_MAX_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for_serving(address: str, seconds: float) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        deadline = time.monotonic() + seconds
        while True:
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=seconds)
            if reply.status == health_pb2.HealthCheckResponse.SERVING:
                return
            assert time.monotonic() < deadline, "the server never answered SERVING"


def test_a_process_serves_soon_and_ends_on_sigterm(online_server: Redis) -> None:
    """It prints its address, is SERVING within seconds, answers, and exits 0 on a signal or two."""
    store = OnlineStore.connect(online_server.url, project=f"process-{uuid4().hex[:8]}")
    store.mark(table_of(VIEW).id)
    publish(store, release_of(store, [VIEW]))
    started = time.monotonic()
    with _start(online_server.url, store.project) as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        _wait_for_serving(address, 5)
        took = time.monotonic() - started
        with FeatureClient(address, timeout=5) as client:
            found = client.get_online_features(["view:a"], [{"key": 1}])
            assert found.statuses == {"a": ["NOT_FOUND"]}
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    store.close()
    assert took < 20, f"{took:.2f} s from start to SERVING"


def test_a_process_without_redis_lives_and_hides_the_password() -> None:
    """Redis unreachable: it listens, NOT_SERVING, and no secret of the URL shows in its output."""
    url = f"redis://:hunter2@127.0.0.1:{free_port()}/0"
    with _start(url, "lonely") as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"]
        with grpc.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert reply.status == health_pb2.HealthCheckResponse.NOT_SERVING
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=10)
    assert "hunter2" not in output + errors


@pytest.mark.parametrize(
    "module", ["featurestore.serving.__main__", "featurestore.serving.client.client"]
)
def test_a_serving_process_loads_nothing_heavy(module: str) -> None:
    """Neither server nor client imports definitions, jobs, or the libraries behind them."""
    code = f"import sys, {module}; print(*sys.modules, sep='\\n')"
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert [name for name in FOREIGN if name in listed] == []


def test_a_client_process_loads_no_redis() -> None:
    """The client needs gRPC, Polars, NumPy and what reads a lock, not what a server needs."""
    code = "import sys, featurestore.serving.client.client; print(*sys.modules, sep='\\n')"
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert [name for name in ("redis", "hiredis", "featurestore.engine") if name in listed] == []


def test_a_process_without_a_url_says_which_variable() -> None:
    """Without the environment variable it exits 2 and names it."""
    environment = {k: v for k, v in os.environ.items() if k != "FEATURESTORE_REDIS_URL"}
    found = subprocess.run(
        [sys.executable, "-m", "featurestore.serving", "--project", "p"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 2
    assert "FEATURESTORE_REDIS_URL" in found.stderr
