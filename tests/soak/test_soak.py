"""A server under load for a long time: no call fails that should not, and no memory is lost.

`make soak` runs it for ten minutes, or for as many seconds as SOAK_SECONDS says, and writes what it
saw of each Redis where the benchmarks write theirs, or into the folder SOAK_OUT.
"""

import os
import signal
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from json import loads
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import polars as pl
import pytest

from featurestore.errors import FeatureStoreError, InvalidRequest, NotFound
from featurestore.model.declare import on_demand_view, service
from featurestore.model.schema import Column
from featurestore.serving.client.client import FeatureClient
from featurestore.storage.redis import OnlineStore
from tests.releases import NOON, at, load_rows, publish, release_of, stored_view, use
from tests.servers import Server as Redis
from tests.unit.benchmarks.conftest import FOLDER

Failed = pytest.fail.Exception
"""What `pytest.raises` raises where nothing was raised: nonsense that was answered."""

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
OUT = os.environ.get("SOAK_OUT")
CALLERS, SAMPLES, KEYS = 4, 60, 5_000
SMOKE = 60.0
"""Seconds below which it is a smoke test, whose figures are not published."""
GROWTH = 1.05
"""What the later half of the time may hold over the earlier, after the first quarter."""
SPARE = 4.0
"""MiB that allocators may take at any time."""

PLANE = stored_view(
    "plane",
    {"plane": "int64"},
    {"delay": "float64", "name": "string", "late": "bool", "seats": "int16"},
    ttl=timedelta(days=7),
)
PACE = on_demand_view(
    name="pace",
    sources=[(PLANE, use(PLANE))],
    request=[Column(name="distance", dtype="float64")],
    features={"per_mile": pl.col("delay") / pl.col("distance")},
)
VIEWS = {view.name: view for view in (PLANE, PACE)}


@contextmanager
def serving(url: str, project: str) -> Iterator[tuple[str, int]]:
    """Give a server process's address and id; it must end when it is told to."""
    process = subprocess.Popen(
        [sys.executable, "-m", "featurestore.serving", "--project", project],
        env={**os.environ, "FEATURESTORE_REDIS_URL": url, "POLARS_MAX_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        try:
            yield loads(process.stdout.readline())["address"], process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0


def resident(pid: int) -> float:
    """Give a process's resident memory, MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def ask(client: FeatureClient, random: Random) -> None:
    """Look up some planes, known and unknown, and check each answer; now and then ask nonsense."""
    planes = [random.randrange(2 * KEYS) for _ in range(random.choice((1, 1, 20, 100)))]
    data = {"distance": [2.0] * len(planes)}
    if random.random() < 0.01:
        with pytest.raises((InvalidRequest, NotFound)):
            client.get_online_features(random.choice(("nobody", "model")), entities={"x": [1]})
        return
    found = client.get_online_features(
        "model", entities={"plane": planes}, request_data=data, as_of=NOON
    ).to_dict()
    there = [plane < KEYS for plane in planes]
    wanted = [plane / 4 if known else None for plane, known in zip(planes, there, strict=True)]
    assert found["delay"] == wanted
    assert found["per_mile"] == [None if one is None else one / 2 for one in wanted]
    names = [f"é{plane}" if known else None for plane, known in zip(planes, there, strict=True)]
    assert found["name"] == names


def write(
    benchmark: Callable[[str], Any], name: str, calls: int, errors: int, held: list[float]
) -> None:
    """Write what was seen, as a report of the benchmarks: memory at start, each minute, at end."""
    report = benchmark("report")
    each = SECONDS / SAMPLES
    minutes = range(1, int(len(held) * each / 60) + 1)
    moments = [
        ("start", held[0]),
        *((f"minute {minute}", held[round(minute * 60 / each) - 1]) for minute in minutes),
        ("end", held[-1]),
    ]
    counts = {"calls": (float(calls),), "errors": (float(errors),)}
    tables = (
        report.Table(
            title=f"A server under load for {len(held) * each:,.0f} s, {CALLERS} callers, {name}",
            measures=tuple(report.Measure(name=name, digits=0) for name in counts),
            cases=(report.Case(name="all", samples=counts),),
        ),
        report.Table(
            title=f"Resident memory of that server, {name}",
            measures=(report.Measure(name="MiB", digits=1),),
            cases=tuple(report.Case(name=at, samples={"MiB": (mib,)}) for at, mib in moments),
        ),
    )
    made = report.Report(
        name=f"soak-{name}",
        size={"seconds": round(SECONDS), "callers": CALLERS, "keys": KEYS},
        repeats=1,
        tables=tables,
        checks=("every answer's values are those that were loaded",) if not errors else (),
        notes=("1, 20 or 100 entities a call, half of them unknown; a call in 100 asks nonsense",),
    )
    folder = Path(OUT) if OUT else FOLDER / "out"
    sizes = "tiny" if SECONDS < SMOKE else "full"
    sys.stderr.write(f"\n{report.write(made, folder, SECONDS, sizes)}\n")


@pytest.mark.timeout(0)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_a_server_under_load_stays_as_it_is(
    online_server: Redis, benchmark: Callable[[str], Any]
) -> None:
    """Every answer is right to the end, and memory is flat once all has been used."""
    store = OnlineStore.connect(online_server.url, project=f"soak-{uuid4().hex[:8]}")
    number = pl.int_range(KEYS, eager=True)
    rows = pl.DataFrame({"plane": number, "delay": number / 4, "seats": number % 300})
    rows = rows.with_columns(name="é" + number.cast(pl.String), late=number % 2 == 0)
    load_rows(store, PLANE, rows, [at(hours=-1)] * KEYS)
    model = service(name="model", projections=[use(PLANE), use(PACE)], views=VIEWS)
    publish(store, release_of(store, [PLANE, PACE], [model]))
    ended, calls, held = threading.Event(), [0] * CALLERS, list[float]()
    errors = list[BaseException]()
    with serving(online_server.url, store.project) as (address, pid):

        def load(caller: int) -> None:
            random = Random(caller)
            with FeatureClient(address, timeout=5) as client:
                while not ended.is_set():
                    try:
                        ask(client, random)
                    except (FeatureStoreError, AssertionError, Failed) as error:
                        errors.append(error)
                    calls[caller] += 1

        with ThreadPoolExecutor(CALLERS) as pool:
            callers = [pool.submit(load, caller) for caller in range(CALLERS)]
            for _ in range(SAMPLES):
                ended.wait(SECONDS / SAMPLES)
                held.append(resident(pid))
                if errors or any(caller.done() for caller in callers):
                    break
            ended.set()
        for caller in callers:
            caller.result()
    store.close()
    write(benchmark, online_server.name, sum(calls), len(errors), held)
    assert not errors, errors[0]
    quarter = len(held) // 4
    before, after = (
        statistics.median(half) for half in (held[quarter : 2 * quarter], held[-quarter:])
    )
    told = (
        f"{sum(calls):,} calls, {held[0]:.0f} MiB at first, {before:.1f} then, {after:.1f} at last"
    )
    sys.stderr.write(f"\n{told}\n")
    assert min(calls) > 0, told
    assert after <= before * GROWTH + SPARE, told
