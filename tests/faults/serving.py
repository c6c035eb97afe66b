"""Serving processes for these tests: of a project of one view, on a Redis at any URL."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl

from featurestore.model.declare import service
from featurestore.storage.redis import OnlineStore
from tests.releases import at, load_rows, publish, release_of, stored_view, use

VIEW = stored_view("view", {"key": "int64"}, {"a": "float64", "b": "string"})
KEYS = 1_000


def load(url: str, project: str) -> None:
    """Put the project's rows, each of which names its key, and its release."""
    store = OnlineStore.connect(url, project=project, timeout=5.0)
    numbers = pl.int_range(KEYS, eager=True)
    rows = pl.DataFrame({"key": numbers, "a": numbers / 4, "b": "row of " + numbers.cast(pl.Utf8)})
    load_rows(store, VIEW, rows, [at()] * KEYS)
    if store.alias("prod") is None:
        services = [service(name="service", projections=[use(VIEW)], views={VIEW.name: VIEW})]
        publish(store, release_of(store, [VIEW], services))
    store.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A serving process."""

    address: str
    process: "subprocess.Popen[str]"

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None


@contextmanager
def serving(
    url: str, project: str, *options: str, limit: Sequence[str] = (), **environment: str
) -> Iterator[Serving]:
    """Run a serving process for the length of a block; it must end when it is told to.

    `limit` is a command that it is run by.
    """
    command = [*limit, sys.executable, "-m", "featurestore.serving", "--project", project]
    process = subprocess.Popen(
        [*command, *options],
        env={
            **os.environ,
            "FEATURESTORE_REDIS_URL": url,
            "POLARS_MAX_THREADS": "1",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        try:
            yield Serving(address=json.loads(process.stdout.readline())["address"], process=process)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
