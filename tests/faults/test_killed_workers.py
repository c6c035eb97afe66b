"""Serving processes that are killed: one of several, and the one that watches them."""

import os
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from featurestore.errors import Unavailable
from featurestore.serving.client.client import FeatureClient
from featurestore.storage.redis import OnlineStore
from tests.crews import OK, one_row, running
from tests.servers import Server as Redis
from tests.servers import wait_until


@pytest.fixture(scope="module")
def store(valkey: Redis) -> Iterator[OnlineStore]:
    """Load a project of one row."""
    with one_row(valkey.url) as store:
        yield store


def test_a_worker_that_is_killed_under_load_comes_back(valkey, store, tmp_path):
    """It takes neither the numbers nor the port along; what fails says that it can be retried."""
    with running(valkey.url, store.project, tmp_path) as crew:
        ended, failed, answered = threading.Event(), [], []

        def load() -> None:
            while not ended.is_set():
                with FeatureClient(crew.address, timeout=10) as client:
                    for _ in range(10):
                        try:
                            client.get_online_features(["view:a"], [{"key": 1}])
                            answered.append(1)
                        except Unavailable:
                            failed.append(1)

        threads = [threading.Thread(target=load) for _ in range(2)]
        for thread in threads:
            thread.start()
        killed = crew.pids()[0]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: len(crew.pids()) == 3, seconds=30)
        known = len(answered)
        wait_until(lambda: len(answered) > known + 20, seconds=30)
        ended.set()
        for thread in threads:
            thread.join()
        assert len(failed) < len(answered)

        found = crew.metrics()
        assert found["featurestore_worker_restarts_total"] == 1
        assert found[OK] >= len(answered)
        wait_until(lambda: crew.metrics()["featurestore_in_flight"] == 0)
        (died,) = crew.told("worker_died")
        assert died["code"] == -signal.SIGKILL
        assert killed not in crew.pids()[1:]


def test_workers_end_with_what_watches_them(valkey, store, tmp_path):
    """Even if that is killed: nobody would start them again, or tell them to end."""
    with running(valkey.url, store.project, tmp_path) as crew:
        host, port = crew.address.split(":")
        crew.process.kill()
        crew.process.wait(10)

        def silent() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex((host, int(port))) != 0

        wait_until(silent)
