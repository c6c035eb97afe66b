"""Several serving processes on one port: counted together, drained together, refused together."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import pytest

from featurestore.serving.client.asking import request_message
from featurestore.serving.message.limits import SERVICE
from featurestore.storage.redis import OnlineStore
from tests.crews import OK, command, lookup, one_row, running
from tests.servers import Server as Redis
from tests.servers import free_port, wait_until


@pytest.fixture(scope="module")
def store(valkey: Redis) -> Iterator[OnlineStore]:
    """Load a project of one row."""
    with one_row(valkey.url) as store:
        yield store


def test_workers_count_together_and_end_together(valkey, store, tmp_path):
    """Their numbers are one; on SIGTERM all that was taken is answered, then all end with 0."""
    message, _ = request_message(["view:a"], [{"key": 1}])
    options = ("--redis-timeout=20", "--grace=20")
    with ExitStack() as stack:
        crew = stack.enter_context(running(valkey.url, store.project, tmp_path, *options))
        for _ in range(12):
            lookup(crew.address)
        wait_until(lambda: crew.metrics()[OK] == 12)
        found = crew.metrics()
        assert found["featurestore_keys_count"] == 12
        assert [found[f'featurestore_ready{{worker="{one}"}}'] for one in (0, 1)] == [1, 1]
        assert found["featurestore_worker_restarts_total"] == 0
        channels = [
            stack.enter_context(
                grpc.insecure_channel(
                    crew.address, options=[("grpc.use_local_subchannel_pool", 1), ("n", number)]
                )
            )
            for number in range(8)
        ]
        for channel in channels:
            grpc.channel_ready_future(channel).result(10)
        with valkey.frozen():
            calls = [
                channel.unary_unary(f"/{SERVICE}/GetOnlineFeatures").future(
                    message.SerializeToString(), timeout=30
                )
                for channel in channels
            ]
            wait_until(lambda: crew.metrics()["featurestore_in_flight"] == len(calls))
            crew.process.send_signal(signal.SIGTERM)
            wait_until(lambda: len(crew.told("stop")) == 2)
        assert all(call.result() for call in calls)
        assert crew.process.wait(20) == 0
    assert crew.told("worker_died") == []


def test_a_port_that_is_taken_ends_all():
    """With exit code 6 and the port's name, before any worker starts; so with the metrics'."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for option in (f"--port={port}", f"--metrics={port}"):
            found = subprocess.run(command(option), capture_output=True, text=True, check=False)
            assert found.returncode == 6
            assert f"127.0.0.1:{port}: cannot listen there" in found.stderr


def test_of_two_crews_at_once_one_has_the_port(valkey, store):
    """The other one ends with exit code 6 and the way out, whichever of them was first."""
    port = free_port()
    crews = [
        subprocess.Popen(
            command("--log-json", f"--port={port}", f"--project={store.project}"),
            env={**os.environ, "FEATURESTORE_REDIS_URL": valkey.url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        wait_until(lambda: any(one.poll() is not None for one in crews), seconds=30)
        (refused,) = [one for one in crews if one.poll() is not None]
        (serving,) = [one for one in crews if one is not refused]
        assert refused.returncode == 6
        told = refused.stderr.read()
        assert f"127.0.0.1:{port}: the workers of another `featurestore serve`" in told
        assert "stop that one first, or choose a free port" in told
        assert json.loads(serving.stdout.readline())["address"] == f"127.0.0.1:{port}"
        lookup(f"127.0.0.1:{port}")
    finally:
        for one in crews:
            one.send_signal(signal.SIGTERM)
            one.communicate(timeout=20)
    assert serving.returncode == 0


def test_a_public_host_is_refused_once():
    """Before any worker is started, each of which would say the same."""
    found = subprocess.run(
        command("--host=0.0.0.0", workers=2),
        env={**os.environ, "FEATURESTORE_REDIS_URL": "redis://127.0.0.1:1/0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert found.returncode == 1
    assert found.stderr.startswith("error: --host: 0.0.0.0 is reached from other machines")
    assert len(found.stderr.splitlines()) == 1


def test_what_a_worker_refuses_ends_all(tmp_path):
    """It says why and does not try again: what is wrong stays wrong."""
    missing = tmp_path / "none.toml"
    found = subprocess.run(
        command(f"--access={missing}", workers=1),
        env={**os.environ, "FEATURESTORE_REDIS_URL": "redis://127.0.0.1:1/0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert found.returncode == 1
    assert found.stderr.count(f"{missing}: cannot be read as an access file") == 1


def test_what_watches_workers_loads_nothing_heavy():
    """What a worker can fail of, it does not even load."""
    code = "import sys, featurestore.serving.process.workers; print(*sys.modules)"
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"grpc", "polars", "numpy", "redis", "google.protobuf"}.isdisjoint(listed)
