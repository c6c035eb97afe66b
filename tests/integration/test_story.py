"""The story of two versions, over real tables and serving processes: changed, switched, kept.

A first version is live and asked without a pause; a second one that answers otherwise is planned,
computed beside it, proven, promoted, rolled back and promoted again, while rows keep coming.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import polars as pl
import pytest

from featurestore.errors import FeatureStoreError
from featurestore.jobs.apply import register as apply
from featurestore.jobs.backfill import backfill
from featurestore.jobs.locks import register
from featurestore.jobs.materialize import materialize, materialize_incremental
from featurestore.jobs.plan import towards
from featurestore.jobs.promote import promote, rollback
from featurestore.jobs.rebuild import rebuild_online
from featurestore.jobs.verify import verify
from featurestore.model.declare import on_demand_view
from featurestore.model.documents import Projection
from featurestore.model.schema import Column
from featurestore.model.time import micros
from featurestore.serving.client.client import FeatureClient
from tests.repos import (
    applied,
    at,
    dump,
    history,
    landings,
    notebook,
    released,
    served,
    shop,
    write,
)
from tests.servers import client_of, wait_until

FIRST = [("a", 1, None, 10.0, 3), ("b", 2, None, 20.0, 4), ("c", 3, None, 30.0, 5)]
ASKED = {"plane": ["a", "b", "c"], "miles": [2.0, 4.0, 8.0]}
PLANES = {"plane": ASKED["plane"]}
SPINE = pl.DataFrame({**ASKED, "event_timestamp": [at(20)] * 3})
SERVERS = 2


def release_views(sign, more):
    """Give two stored views and one computed on demand whose every value tells the version."""
    delays = history(features={"delay": pl.col("delay") * sign}, ttl=None)
    sizes = history(name="sizes", features={"size": pl.col("seats") * sign}, ttl=None)
    pace = on_demand_view(
        name="pace",
        sources=[(delays, Projection(view="history", alias="history"))],
        request=[Column(name="miles", dtype="float64")],
        features={"per_mile": pl.col("delay") / pl.col("miles") + more},
    )
    return delays, sizes, pace


ONE, TWO = release_views(1.0, 0.0), release_views(-1.0, -1000.0)


def version_in(frame):
    """Give the version that all values of a reply are of, None if they are not of one."""
    delay, size, pace = pl.col("delay"), pl.col("size"), pl.col("per_mile")
    each = pl.col("delay") / pl.col("miles")
    one = (delay > 0) & (size > 0) & (pace == each)
    two = (delay < 0) & (size < 0) & (pace == each - 1000)
    first, second = frame.select(one.all().alias("one"), two.all().alias("two")).row(0)
    return 1 if first else 2 if second else None


@dataclass(frozen=True)
class Told:
    """What a reply said: its release, its version and the delays by size alone."""

    release: int
    version: int | None
    delays: tuple[float, ...]


class Caller(threading.Thread):
    """Asks without a pause until it is told to stop; remembers what changed, and what failed."""

    def __init__(self, client: FeatureClient, service: str | None, ended: threading.Event):
        super().__init__()
        self._client, self._service, self._ended = client, service, ended
        self.told, self.failed, self.calls = [], [], 0

    def run(self):
        while not self._ended.is_set():
            self.calls += 1
            try:
                found = self._client.get_online_features(self._service, entities=ASKED)
            except FeatureStoreError as error:
                self.failed.append(error)
                continue
            frame = found.to_polars()
            one = Told(found.release, version_in(frame), tuple(frame["delay"].abs()))
            if not self.told or self.told[-1] != one:
                self.told.append(one)

    def now(self, release, delay):
        """Say whether it was told of a release and of a plane's newest delay."""
        return bool(self.told) and (self.told[-1].release, self.told[-1].delays[0]) == (
            release,
            delay,
        )


@contextmanager
def process(workspace):
    """Run a serving process for the length of a block; gives its address."""
    project = workspace.config.project
    with subprocess.Popen(
        [sys.executable, "-m", "featurestore.serving", "--project", project],
        env={**os.environ, "FEATURESTORE_REDIS_URL": workspace.redis_url()},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as started:
        try:
            yield json.loads(started.stdout.readline())["address"]
        finally:
            started.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                started.wait(10)
            started.kill()


@contextmanager
def asked(workspace, lock):
    """Ask each of several processes by service and by lock for the length of a block."""
    with ExitStack() as stack:
        addresses = [stack.enter_context(process(workspace)) for _ in range(SERVERS)]

        def opened(address, **options):
            return stack.enter_context(FeatureClient(address, timeout=10, **options))

        ended = threading.Event()
        alias = [Caller(opened(one), "model", ended) for one in addresses]
        locked = [Caller(opened(one, lock=lock), None, ended) for one in addresses]
        for caller in (*alias, *locked):
            caller.start()
        try:
            yield alias, locked
        finally:
            ended.set()
            for caller in (*alias, *locked):
                caller.join()


@pytest.fixture
def first(tmp_path, valkey):
    """A repo whose first version is live."""
    repo = write(tmp_path / "repo", landings(*FIRST), name=tmp_path.name.replace("_", "-"))
    made = applied(repo, valkey.url, *ONE)
    materialize(made, micros(at(0)), micros(at(24)))
    released(made)
    yield made
    made.close()


def source(workspace, *rows):
    """Replace the source's rows."""
    landings(*rows).write_parquet(workspace.config.root / "data" / "landings.parquet")


def comes(workspace, hour, delay, before=FIRST):
    """Let plane a land again at some hour, and materialize what is new."""
    rows = [*before, ("a", hour, None, delay, 3)]
    source(workspace, *rows)
    materialize_incremental(workspace, micros(at(hour + 1)))
    return rows


def train(workspace, **options):
    """Give the training set of the service, or of a lock."""
    with notebook(workspace) as store:
        return store.get_historical_features(SPINE, **options)


def test_two_versions_switch_under_load_and_a_lock_keeps_its_own(first):
    """Promoted, rolled back, promoted: no call fails or mixes, and the lock's is always the first.

    Rows that come meanwhile reach both versions, whichever is live.
    """
    lock = train(first, features="model").lock
    register(first, lock, owner="ann")
    with asked(first, lock) as (alias, locked):

        def followed(release: int, delay: float) -> None:
            wait_until(
                lambda: all(one.now(release, delay) for one in (*alias, *locked)), seconds=30
            )

        followed(1, 10.0)
        found = towards(first, shop(*TWO, name=first.config.project))
        plan = apply(first, found, found.plan.id)
        backfill(first)
        rows = comes(first, 30, 40.0)
        assert verify(first).differences.is_empty()
        followed(1, 40.0)
        promote(first, plan_id=plan.id)
        followed(2, 40.0)
        comes(first, 40, 50.0, rows)
        followed(2, 50.0)
        rollback(first)
        followed(3, 50.0)
        promote(first)
        followed(4, 50.0)
    assert [one.failed for one in (*alias, *locked)] == [[]] * 2 * SERVERS
    assert min(one.calls for one in (*alias, *locked)) > 20
    versions = {1: 1, 2: 2, 3: 1, 4: 2}
    for one in alias:
        assert {(told.release, told.version) for told in one.told} == set(versions.items())
    for one in locked:
        assert {told.version for told in one.told} == {1}
    for one in (*alias, *locked):
        assert [told.release for told in one.told] == sorted(told.release for told in one.told)
        assert {told.delays[1:] for told in one.told} == {(20.0, 30.0)}


def again(workspace, *views):
    """Apply, backfill and verify views."""
    applied(workspace.config.root, workspace.redis_url(), *views).close()
    backfill(workspace)
    assert verify(workspace).differences.is_empty()


def test_an_emptied_redis_gets_every_version_back(first):
    """Live, demoted, locked, second-generation and candidate tables, releases and aliases."""
    register(first, train(first, features="model").lock, owner="ann")
    again(first, *TWO)
    verify(first, "staging")
    promote(first, "staging")
    rows = comes(first, 30, 40.0)
    promote(first)
    source(first, *rows[:1], *rows[2:])
    backfill(first, again=True, views=["history"])
    released(first)
    again(first, *release_views(3.0, 0.0))
    comes(first, 40, 50.0, rows)
    before = dump(first)
    client_of(first.redis_url()).flushall()
    found = rebuild_online(first)
    assert dump(first) == before
    assert len(found.rows) == 7
    assert found.aliases == {"prod": 4, "staging": 2}


def test_a_suspect_load_is_an_alias_step_away_from_the_last_good_one(first):
    """Computed again into a generation beside, promoted, rolled back: data move with the alias.

    Later runs reach the generation that is served, and training reads it; the other one stays.
    """
    good = train(first, features=["history:delay"])
    suspect = [(plane, hour, None, -delay, seats) for plane, hour, _, delay, seats in FIRST]
    rows = comes(first, 30, 40.0)
    with served(first) as client:

        def delays(release):
            def asked():
                return client.get_online_features(["history:delay"], entities=PLANES)

            wait_until(lambda: asked().release == release)
            return asked().to_dict()["delay"]

        def trained(**options):
            return train(first, **options).features["delay"].to_list()

        assert delays(1) == [40.0, 20.0, 30.0]
        source(first, *suspect)
        made = backfill(first, again=True, views=["history"])
        assert {one.table for one in made} == {f"{ONE[0].data_id[:16]}.1"}
        assert (delays(1), trained(features=["history:delay"])) == (
            [40.0, 20.0, 30.0],
            [10.0, 20.0, 30.0],
        )
        released(first)
        comes(first, 40, -50.0, suspect)
        assert delays(2) == [-50.0, -20.0, -30.0]
        assert trained(features=["history:delay"]) == [-10.0, -20.0, -30.0]
        assert trained(lock=good.lock) == [10.0, 20.0, 30.0]
        source(first, *rows)
        rollback(first)
        assert delays(3) == [40.0, 20.0, 30.0]
        comes(first, 50, 60.0, rows)
        assert delays(3) == [60.0, 20.0, 30.0]
        assert trained(features=["history:delay"]) == [10.0, 20.0, 30.0]
        assert verify(first, live=True, everything=True).differences.is_empty()
        assert not promote(first).fresh
