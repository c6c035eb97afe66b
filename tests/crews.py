"""Several serving processes for tests, as `featurestore serve --workers 2` runs them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen
from uuid import uuid4

import polars as pl

from featurestore.serving.client.client import FeatureClient
from featurestore.storage.redis import OnlineStore
from tests.releases import at, load_rows, publish, release_of, stored_view
from tests.unit.serving.test_metrics import read as read_metrics

VIEW = stored_view("view", {"key": "int64"}, {"a": "float64"})
OK = 'featurestore_requests_total{method="GetOnlineFeatures",code="OK"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """Running workers: what watches them, where they listen, and their log."""

    process: "subprocess.Popen[str]"
    address: str
    log: Path

    def told(self, event: str) -> list[Mapping[str, object]]:
        """Give what was logged of an event so far."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line.get("event") == event]

    def metrics(self) -> Mapping[str, float]:
        """Read the metrics of all workers."""
        (told,) = self.told("metrics")
        with urlopen(str(told["url"]), timeout=10) as answer:
            return read_metrics(answer.read().decode())

    def pids(self) -> list[int]:
        """Give the process of each worker that listened, in the order in which they did."""
        return [int(str(one["pid"])) for one in self.told("worker_listens")]


@contextmanager
def one_row(url: str) -> Iterator[OnlineStore]:
    """Give a project that serves one row."""
    store = OnlineStore.connect(url, project=f"workers-{uuid4().hex[:8]}")
    load_rows(store, VIEW, pl.DataFrame({"key": [1], "a": [0.5]}), [at()])
    publish(store, release_of(store, [VIEW]))
    yield store
    store.close()


def command(*options: str, workers: int = 2) -> list[str]:
    """Give the command line of so many workers."""
    module = "featurestore.serving.process.workers"
    return [sys.executable, "-m", module, f"--workers={workers}", "--project=none", *options]


@contextmanager
def running(url: str, project: str, folder: Path, *options: str) -> Iterator[Crew]:
    """Run two workers for the length of a block."""
    log = folder / "log"
    told = ("--log-json", "--metrics=0", f"--project={project}", *options)
    with started(command(*told), url, log) as (process, address):
        yield Crew(process=process, address=address, log=log)


@contextmanager
def started(
    command: list[str], url: str, log: Path
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run what serves for the length of a block, its log in a file; give it and its address."""
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            env={**os.environ, "FEATURESTORE_REDIS_URL": url},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    with process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())["address"]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def lookup(address: str) -> None:
    """Look the row up on a connection of its own."""
    with FeatureClient(address, timeout=10) as client:
        assert client.get_online_features(["view:a"], [{"key": 1}], as_of=None).statuses
