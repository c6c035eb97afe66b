"""Windows of events that land, are pushed, or both: what is served is what an oracle counts."""

import random
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from featurestore import FeatureStore
from featurestore.jobs.materialize import materialize_incremental
from featurestore.jobs.verify import verify
from featurestore.jobs.workspace import Workspace
from featurestore.model.declare import Aggregate, batch_view
from featurestore.model.documents import Source
from featurestore.model.time import micros, moment, normalize_schema
from tests.oracle import Event, alike, answer, covered
from tests.repos import T0, applied, notebook, released, write

pytestmark = pytest.mark.filterwarnings("ignore::featurestore.training.WithheldWarning")

MOMENT = pl.Datetime("us", "UTC")
SCHEMA = {
    "plane": pl.String(),
    "at": MOMENT,
    "loaded": MOMENT,
    "x": pl.Float64(),
    "n": pl.Int64(),
    "id": pl.Int64(),
}
STEP = 1_000_000
KEYS = ("a", "b")
VALUES = (0.1, -2.5, 1e16, -1e16, float("nan"), float("inf"), None, 7.0)


def window(function: str, of: str | None, steps: int, every: int) -> Aggregate:
    """Describe a window of some seconds."""
    return Aggregate(
        function=function,
        of=None if of is None else pl.col(of),
        filter=None,
        length=timedelta(seconds=steps),
        every=timedelta(seconds=every),
    )


WRITTEN = {
    "rows": (None, window("count", None, 30, 3)),
    "sum_x": ("x", window("sum", "x", 12, 2)),
    "mean_x": ("x", window("mean", "x", 5, 1)),
    "var_n": ("n", window("var", "n", 30, 5)),
    "min_x": ("x", window("min", "x", 9, 3)),
    "first_n": ("n", window("first", "n", 20, 4)),
    "last_x": ("x", window("last", "x", 20, 4)),
}
VIEW = batch_view(
    name="history",
    join_keys={"plane": "string"},
    source=Source(
        name="landings",
        path="data/landings.parquet",
        format="parquet",
        timestamp_field="at",
        created_field="loaded",
        columns=normalize_schema(SCHEMA),
        pushed=True,
    ),
    features={"last": pl.col("x"), **{name: made for name, (_, made) in WRITTEN.items()}},
    event_id="id",
    settle=timedelta(seconds=6),
    ttl=timedelta(days=30),
)


@dataclass
class World:
    """A store, and beside it the events that each side has been told of."""

    workspace: Workspace
    store: FeatureStore
    rng: random.Random
    now: int
    landed: list[Event] = field(default_factory=list)
    offline: list[Event] = field(default_factory=list)
    online: list[Event] = field(default_factory=list)
    waiting: set[str] = field(default_factory=set)
    pushed: list[Event] = field(default_factory=list)

    def events(self) -> list[Event]:
        """Give events that are known from now on: new ones, and other versions of earlier ones."""
        ids = self.rng.sample(range(12), self.rng.randint(1, 4))
        return [self.event(number) for number in ids]

    def event(self, number: int) -> Event:
        """Give a version of an event: of one id, it may be another's, or move in time."""
        return Event(
            key=self.rng.choice(KEYS),
            event=self.now - self.rng.randint(0, 12) * STEP // 2,
            created=self.now,
            revision=0,
            number=number,
            inputs={None: True, "x": self.rng.choice(VALUES), "n": self.rng.randint(-9, 9)},
        )

    def land(self) -> None:
        """Let events come with the source's file."""
        found = self.events()
        self.landed += found
        self.offline += found
        _frame(self.landed).write_parquet(self.workspace.config.root / "data" / "landings.parquet")

    def push(self, to: str = "online_and_offline", *, again: bool = False) -> None:
        """Push events, or those pushed last once more."""
        found = [self.stamped(one) for one in self.pushed] if again else self.events()
        frame = _frame(found).drop("loaded")
        result = self.store.push("landings", frame, to=to)
        assert (result.accepted, result.refused_rows) == (len(found), 0), result
        self.offline += found
        self.pushed = found
        if to == "offline":
            return
        self.online += found
        if result.online[0].waiting:
            self.waiting |= {one.key for one in found}

    def stamped(self, one: Event) -> Event:
        return Event(
            key=one.key,
            event=one.event,
            created=self.now,
            revision=0,
            number=one.number,
            inputs=one.inputs,
        )

    def materialize(self) -> None:
        """Bring the table and Redis to now."""
        materialize_incremental(self.workspace, self.now)
        self.online = list(self.offline)
        self.waiting = set()
        trained = self.trained()
        served = self.served((*KEYS, "nobody"))
        assert trained.equals(served), (trained, served)

    def materialize_a_part(self) -> None:
        """Bring the table to an earlier moment: what was pushed since stays as it is."""
        end = self.now - self.rng.randint(1, 6) * STEP
        materialize_incremental(self.workspace, end)
        there = {id(one) for one in self.online}
        self.online += [one for one in self.offline if one.created <= end and id(one) not in there]

    def trained(self) -> pl.DataFrame:
        rows = pl.DataFrame({"plane": [*KEYS, "nobody"]}).with_columns(
            event_timestamp=pl.lit(moment(self.now)).cast(MOMENT)
        )
        names = [f"history:{name}" for name in WRITTEN]
        return self.store.get_historical_features(rows, names).features

    def served(self, keys: tuple[str, ...], later: int = 0) -> pl.DataFrame:
        found = self.store.get_online_features(
            [f"history:{name}" for name in WRITTEN],
            entities={"plane": list(keys)},
            as_of=moment(self.now + later),
        )
        return pl.DataFrame(found.columns)

    def check(self) -> None:
        """Compare what is served now, and what will be when time passes, with the oracle."""
        keys = (*(key for key in KEYS if key not in self.waiting), "nobody")
        for later in (0, STEP, 7 * STEP, 40 * STEP):
            found = self.served(keys, later)
            for name, (of, _) in WRITTEN.items():
                feature = VIEW.feature(name)
                for key, value in zip(keys, found[name], strict=True):
                    rows = covered(
                        self.online, key, self.now + later, feature.window, delay=0, versions=True
                    )
                    told, within = answer(feature.window, [one.inputs[of] for one in rows])
                    assert alike(value, told, within), (name, key, later, value, told)


def _frame(events: list[Event]) -> pl.DataFrame:
    rows = [
        (
            one.key,
            moment(one.event),
            moment(one.created),
            one.inputs["x"],
            one.inputs["n"],
            one.number,
        )
        for one in events
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


DEEDS = ("land", "push", "push", "push", "again", "torn", "materialize", "a part")


@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(seed=st.integers(0, 2**32))
def test_served_windows_are_the_oracles_however_events_come(valkey, seed: int) -> None:
    """Landed, pushed, pushed again, pushed to the log alone before a crash, in any order."""
    rng = random.Random(seed)
    with TemporaryDirectory() as folder:
        repo = write(Path(folder) / "repo", _frame([]), name=f"moving-{uuid4().hex[:12]}")
        first = applied(repo, valkey.url, VIEW)
        store = notebook(first)
        world = World(workspace=first, store=store, rng=rng, now=micros(T0) + 100 * STEP)
        first.clock = lambda: world.now
        store._workspace.clock = lambda: world.now
        world.land()
        materialize_incremental(first, world.now)
        released(first)
        world.materialize()
        for _ in range(14):
            world.now += rng.randint(1, 3) * STEP
            match rng.choice(DEEDS):
                case "land":
                    world.land()
                case "push":
                    world.push()
                case "again":
                    world.push(again=True) if world.pushed else None
                case "torn":
                    world.push("offline")
                case "a part":
                    world.materialize_a_part()
                case "materialize":
                    world.materialize()
            world.check()
        world.now += STEP
        world.materialize()
        world.check()
        assert verify(first).differences.is_empty()
        store.close()
        first.close()
