"""Any sequence of changes, promotions, rollbacks, locks and collections, against plain sets.

Real stores: SQLite, Delta tables and Valkey. After every step the alias answers from the version
that the model says is live, and every registered lock from its own.
"""

import shutil
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from featurestore.errors import InvalidRequest, NotMaterialized
from featurestore.jobs.backfill import backfill
from featurestore.jobs.collect import collect, collectible
from featurestore.jobs.locks import register, retire
from featurestore.jobs.materialize import materialize_incremental
from featurestore.jobs.promote import promote, rollback
from featurestore.jobs.verify import verify
from featurestore.model.declare import Aggregate
from featurestore.model.lock import Lock
from featurestore.model.time import micros
from tests.repos import DAY, NOW, applied, at, history, landings, notebook, opened, write

KEPT = timedelta(days=7)
SPINE = pl.DataFrame({"plane": ["a", "b", "a"], "event_timestamp": [at(20), at(20), at(3)]})


def pooled(times, days):
    """Describe a version of a row feature and a window."""
    delay = pl.col("delay") * times
    mean = Aggregate(function="mean", of=delay, filter=None, length="2d", every="1h")
    return history(features={"last_delay": delay, "mean_delay": mean}, ttl=days * DAY)


POOL = {key: pooled(*key) for key in ((1, 2), (2, 2), (1, 9), (3, 2))}
ANSWERS = {"last_delay": {"a": 30.0, "b": 20.0}, "mean_delay": {"a": 20.0, "b": 20.0}}
CHOICES = sorted(POOL)
NUMBERS = count()

Version = tuple[int, int]


@dataclass
class Trained:
    """A training set that was made of a version, and the lock it left."""

    version: Version
    lock: Lock
    frame: pl.DataFrame
    held: bool = True


@dataclass
class Made:
    """A table: which one of its data, and when it was last written to."""

    number: int
    written: object


class Versions(RuleBasedStateMachine):
    """The store, and beside it what it should know of versions, tables and moments."""

    url = ""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="versions-"))
        rows = landings(("a", 1, None, 10.0, 3), ("b", 2, None, 20.0, 3), ("a", 5, None, 30.0, 3))
        repo = write(self.folder / "repo", rows, name=f"versions-{next(NUMBERS)}")
        self.now = NOW
        self.workspace = opened(repo, self.url)
        self.workspace.clock = lambda: micros(self.now)
        self.head = None
        self.verified = set()
        self.tables = {}
        self.serial = count()
        self.stack = []
        self.back = False
        self.left = {}
        self.trained = []

    @property
    def live(self):
        return self.stack[-1][0] if self.stack else None

    def data(self, version):
        return POOL[version].data_id

    def write(self, data):
        made = self.tables.setdefault(data, Made(next(self.serial), self.now))
        made.written = self.now

    def move(self, stack):
        if self.live is not None:
            self.left[self.data(self.live)] = self.now
        self.stack = stack

    def lately(self, moment):
        return self.now - moment < KEPT

    def fresh(self):
        """Give the data that is kept up to date, as far as it has tables."""
        found = {self.data(one) for one in (self.head, self.live) if one is not None}
        found |= {data for data, moment in self.left.items() if self.lately(moment)}
        found |= {self.data(one.version) for one in self.trained if one.held}
        return found & set(self.tables)

    def needed(self):
        lately = {data for data, made in self.tables.items() if self.lately(made.written)}
        return self.fresh() | lately

    @rule(version=st.sampled_from(CHOICES))
    def apply(self, version):
        applied(self.workspace.config.root, self.url, POOL[version]).close()
        self.head = version

    @precondition(lambda self: self.head is not None)
    @rule(check=st.booleans())
    def prepare(self, check):
        if backfill(self.workspace):
            self.write(self.data(self.head))
        if check:
            assert verify(self.workspace).differences.is_empty()
            self.verified.add(self.head)

    @precondition(lambda self: self.head is not None)
    @rule()
    def promote(self):
        if self.head == self.live or self.head in self.verified:
            release = promote(self.workspace).release
            assert [one.view for one in release.views] == [POOL[self.head]]
            if self.head != self.live:
                self.back = False
                number = self.tables[self.data(self.head)].number
                self.move([*self.stack, (self.head, number)])
        else:
            with pytest.raises(NotMaterialized, match=r"backfill|verify"):
                promote(self.workspace)

    @precondition(lambda self: self.stack)
    @rule()
    def rollback(self):
        if self.back:
            with pytest.raises(InvalidRequest, match="rolled back already"):
                rollback(self.workspace)
            return
        if len(self.stack) == 1:
            with pytest.raises(InvalidRequest, match="nothing before"):
                rollback(self.workspace)
            return
        version, number = self.stack[-2]
        table = self.tables.get(self.data(version))
        if table and (table.number == number or version in self.verified):
            rollback(self.workspace)
            self.move([*self.stack[:-2], (version, table.number)])
            self.back = True
        else:
            with pytest.raises(NotMaterialized, match="were collected"):
                rollback(self.workspace)

    @precondition(lambda self: self.live is not None)
    @rule()
    def train(self):
        pinned = [f"{POOL[self.live].version}:{name}" for name in ANSWERS]
        with notebook(self.workspace, now=self.now) as store:
            made = store.get_historical_features(SPINE, pinned)
        register(self.workspace, made.lock, owner="ann")
        self.trained.append(Trained(self.live, made.lock, made.to_polars()))

    @precondition(lambda self: any(one.held for one in self.trained))
    @rule(which=st.integers(0, 9))
    def let_go(self, which):
        held = [one for one in self.trained if one.held]
        chosen = held[which % len(held)].lock.id
        retire(self.workspace, chosen)
        for one in self.trained:
            one.held = one.held and one.lock.id != chosen

    @rule()
    def collect(self):
        needed = self.needed()
        gone = {one.table.data_id for one in collectible(self.workspace).tables}
        assert gone == set(self.tables) - needed
        assert {one.table.data_id for one in collect(self.workspace).tables} == gone
        self.tables = {data: made for data, made in self.tables.items() if data in needed}
        self.verified = {one for one in self.verified if self.data(one) in self.tables}
        folder = Path(self.workspace.config.offline) / self.workspace.config.project / "history"
        left = {path.name.partition(".")[0] for path in folder.glob("*")}
        assert left == {data[:16] for data in self.tables}

    @precondition(lambda self: self.head is not None)
    @rule()
    def materialize(self):
        fresh = self.fresh() | ({self.data(self.head)} if self.live is None else set())
        materialize_incremental(self.workspace, micros(self.now))
        for data in fresh:
            self.write(data)

    @rule(days=st.sampled_from([1, 3, 8]))
    def time_passes(self, days):
        self.now += days * DAY

    @invariant()
    def the_alias_answers_from_its_version(self):
        if self.live is None:
            return
        with notebook(self.workspace, now=self.now) as store:
            answer = store.get_online_features(
                [f"history:{name}" for name in ANSWERS],
                [{"plane": "a"}, {"plane": "b"}],
                as_of=at(20),
            ).to_dict()
        for name, values in ANSWERS.items():
            assert answer[name] == [values[plane] * self.live[0] for plane in "ab"]

    @invariant()
    def every_lock_is_answered_and_rebuilt(self):
        for one in (one for one in self.trained if one.held):
            with notebook(self.workspace, now=self.now) as store:
                answer = store.get_online_features(
                    lock=one.lock, entity_rows=[{"plane": "b"}], as_of=at(20)
                )
                rebuilt = store.get_historical_features(SPINE, lock=one.lock).to_polars()
            for name, values in ANSWERS.items():
                assert answer.to_dict()[name] == [values["b"] * one.version[0]]
            assert rebuilt.equals(one.frame)

    def teardown(self):
        self.workspace.close()
        shutil.rmtree(self.folder)


@pytest.mark.timeout(600)
def test_nothing_that_is_needed_is_ever_lost(valkey):
    """Whatever is done in whatever order, aliases and registered locks keep their answers."""
    machine = type("Machine", (Versions,), {"url": valkey.url})
    run_machine(
        machine,
        settings=settings(
            max_examples=8,
            stateful_step_count=18,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
        ),
    )
