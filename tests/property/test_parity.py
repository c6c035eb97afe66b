"""The heart of the store: a training row and a served vector of one moment have equal bits."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from featurestore import FeatureStore
from featurestore.jobs.materialize import materialize, materialize_incremental
from featurestore.jobs.workspace import Workspace
from featurestore.model.declare import Aggregate, batch_view, on_demand_view, project, service
from featurestore.model.documents import Function, Projection, Source
from featurestore.model.schema import Column, parse_dtype
from featurestore.model.time import micros, normalize_schema
from featurestore.serving.client.client import FeatureClient
from tests.columns import DTYPES, bits, columns
from tests.repos import MICROSECOND, T0, notebook, opened, released, served, write

pytestmark = pytest.mark.filterwarnings("ignore::featurestore.training.WithheldWarning")

MOMENT = pl.Datetime("us", "UTC")
SCHEMA = {
    "plane": pl.String(),
    "seat": pl.Int16(),
    "at": MOMENT,
    "loaded": MOMENT,
    "x": pl.Float64(),
    "y": pl.Float32(),
    "n": pl.Int64(),
    "u": pl.UInt32(),
    "s": pl.String(),
    "b": pl.Boolean(),
    "d": pl.Date(),
    "many": pl.List(pl.Float32()),
    "three": pl.Array(pl.Int8(), 3),
    "id": pl.Int32(),
}
SOURCE = Source(
    name="landings",
    path="data/landings.parquet",
    format="parquet",
    timestamp_field="at",
    created_field="loaded",
    columns=normalize_schema(SCHEMA),
)
PLAIN = {name: pl.col(name) for name in [*SCHEMA][4:]}
COMPUTED = {
    "third": pl.col("x") / 3.0,
    "mixed": pl.col("x") * pl.col("n") + pl.col("y"),
    "late": pl.col("x") > 0.5,
    "text": pl.col("s").fill_null("none"),
}
STEP = MICROSECOND
PLANE = batch_view(
    name="plane",
    join_keys={"plane": "string"},
    source=SOURCE,
    features=PLAIN | COMPUTED,
    ttl=4 * STEP,
    settle=2 * STEP,
)
BULK = batch_view(
    name="bulk",
    join_keys={"plane": "string"},
    source=SOURCE,
    features={"newest": pl.col("x"), "word": pl.col("s"), "half": pl.col("y") / 2},
    known_at="event",
    delay=2 * STEP,
    settle=timedelta(0),
)
PAIR = batch_view(
    name="pair",
    join_keys={"plane": "string", "seat": "int16"},
    source=SOURCE,
    features={"raw": pl.col("n"), "paid": pl.col("n") % 7, "share": pl.col("x") / pl.col("n")},
    filter=pl.col("b"),
    delay=STEP,
    ttl=7 * STEP,
    settle=3 * STEP,
)
CITY = batch_view(
    name="city",
    join_keys={},
    source=SOURCE,
    features={"traffic": pl.col("u"), "mood": pl.col("s")},
    ttl=3 * STEP,
    settle=STEP,
)
PACE = on_demand_view(
    name="pace",
    sources=[
        (PLANE, Projection(view="plane", alias="plane")),
        (PAIR, Projection(view="pair", alias="pair")),
        (CITY, Projection(view="city", alias="city")),
    ],
    request=[Column(name="miles", dtype="float64")],
    features={
        "per_mile": pl.col("x") / pl.col("miles"),
        "scaled": pl.col("x") / 3.0 + pl.col("miles") / 7.0,
        "crowd": pl.col("traffic") / pl.col("paid") + pl.col("miles"),
        "known": pl.col("third").is_not_null(),
    },
)


def window(
    function: Function, of: str, steps: int, every: int = 1, kept: pl.Expr | None = None
) -> Aggregate:
    """Describe a window of some steps."""
    return Aggregate(
        function=function, of=pl.col(of), filter=kept, length=steps * STEP, every=every * STEP
    )


WINDOWS = {
    "many_x": window("count", "x", 3),
    "sum_x": window("sum", "x", 5, 2),
    "sum_n": window("sum", "n", 9, 3),
    "mean_u": window("mean", "u", 4),
    "late_share": window("mean", "b", 7, 2),
    "std_y": window("std", "y", 6, 6),
    "var_n": window("var", "n", 8),
    "min_x": window("min", "x", 4, 4),
    "max_y": window("max", "y", 9),
    "max_d": window("max", "d", 5),
    "first_n": window("first", "n", 6, 2),
    "last_at": window("last", "loaded", 7),
    "kept_u": window("sum", "u", 6, 2, kept=pl.col("b")),
}
MOVING = batch_view(
    name="moving",
    join_keys={"plane": "string"},
    source=SOURCE,
    features={"m": pl.col("x"), **WINDOWS},
    ttl=4 * STEP,
    settle=2 * STEP,
)
TOLD = batch_view(
    name="told",
    join_keys={"plane": "string", "seat": "int16"},
    source=SOURCE,
    features={**WINDOWS, "t": pl.col("n")},
    delay=STEP,
    settle=STEP,
    event_id="id",
)
TOTAL = batch_view(
    name="total",
    join_keys={},
    source=SOURCE,
    features={"rows": window("count", "id", 9, 3), "mean_x": window("mean", "x", 3)},
    filter=pl.col("b"),
    settle=timedelta(0),
    event_id="id",
)
TREND = on_demand_view(
    name="trend",
    sources=[
        (MOVING, Projection(view="moving", alias="moving")),
        (TOTAL, Projection(view="total", alias="total")),
    ],
    request=[Column(name="miles", dtype="float64")],
    features={
        "rate": pl.col("many_x") / pl.col("rows"),
        "excess": pl.col("mean_x") * pl.col("miles") - pl.col("sum_x"),
    },
)
VIEWS = (PLANE, BULK, PAIR, CITY, PACE, MOVING, TOLD, TOTAL, TREND)
USES = [
    *(Projection(view=view.name, alias=view.name) for view in VIEWS),
    Projection(view="plane", alias="other", join_key_map=(("plane", "other_plane"),)),
]
MODEL = service(name="model", projections=USES, views={view.name: view for view in VIEWS})

PLANES = ("a", "e\u0301", "\u00e9", "", None)
SEATS = (1, -1, None)
FLOATS = (0.0, -0.0, float("nan"), float("inf"), -float("inf"), 0.1, 5e-324, 1e308, None)
VALUES = {
    "x": FLOATS,
    "y": (-0.0, float("nan"), float("inf"), 0.1, 3e38, None),
    "n": (0, 1, -3, 2**63 - 1, -(2**63), None),
    "u": (0, 7, 2**32 - 1, None),
    "s": ("", "\u00e9", "e\u0301", "\x00", "\U0001f6ec", "\u00df" * 300, None),
    "b": (True, True, False, None),
    "d": (date(1, 1, 1), date(2024, 2, 29), date(9999, 12, 31), None),
    "many": ([], [None], [float("nan"), -0.0], [0.1] * 5, None),
    "three": ([1, -128, 127], [None, 0, None], None),
    "id": (0, 1, 2, 3, -1),
}

Row = tuple[Any, ...]
"""A source row in the order of `SCHEMA`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A state of the source, up to when it is materialized, and whether from the beginning."""

    rows: tuple[Row, ...]
    end: datetime
    whole: bool


def values_of(rng: random.Random) -> Row:
    """Give the values of one row, odd more often than not."""
    odd = {name: rng.choice(pool) for name, pool in VALUES.items()}
    if rng.random() < 0.5:
        odd |= {"x": rng.uniform(-1e3, 1e3), "n": rng.randrange(-99, 99)}
    return tuple(odd.values())


def new_row(rng: random.Random, last: int) -> Row:
    """Give a row at one of few moments, so that ties and edges are the rule."""
    event, loaded = (T0 + rng.randint(0, most) * STEP for most in (last, last + 3))
    return (
        *(rng.choice(PLANES), rng.choice(SEATS), event, rng.choice((None, loaded))),
        *values_of(rng),
    )


def history_of(seed: int) -> Iterator[Round]:
    """Give states of a source, in no order: rows come late, are corrected in place, and go."""
    rng = random.Random(seed)
    rows: list[Row] = []
    last = 0
    for number in range(3):
        last += rng.randint(1, 5)
        rows = [
            (*row[:4], *values_of(rng)) if rng.random() < 0.3 else row
            for row in rows
            if rng.random() < 0.8
        ]
        rows += [new_row(rng, last) for _ in range(rng.randint(3, 12))]
        rng.shuffle(rows)
        whole = number == 0 or rng.random() < 0.5
        yield Round(rows=tuple(rows), end=T0 + last * STEP, whole=whole)


def spine(seed: int, end: datetime) -> pl.DataFrame:
    """Give entity rows of all keys and an unknown one, at the watermark, just after, and later."""
    rng = random.Random(seed)
    planes, seats = (*PLANES, "nobody"), (*SEATS, 99)
    schema = {"plane": pl.String, "seat": pl.Int16, "other_plane": pl.String, "miles": pl.Float64}
    return pl.DataFrame(
        [
            (plane, seat, rng.choice(planes), rng.choice((*FLOATS, 2.5, 0.7)), end + after * STEP)
            for after in (0, 1, rng.randint(2, 9))
            for plane, seat in product(planes, seats)
        ],
        schema=schema | {"event_timestamp": MOMENT},
        orient="row",
    )


def trained(store: FeatureStore, asked: pl.DataFrame) -> pl.DataFrame:
    """Give the training rows' features."""
    return store.get_historical_features(
        asked, "model", full_feature_names=True, allow_stale=True
    ).features


def looked_up(client: FeatureClient, asked: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """Give the served vectors' features of entity rows at one moment."""
    found = client.get_online_features(
        "model",
        entities=asked.select("plane", "other_plane", "seat"),
        request_data=asked.select("miles"),
        full_feature_names=True,
        as_of=as_of,
    )
    return found.to_polars().select(found.names)


def assert_equal_bits(trained: pl.DataFrame, served: pl.DataFrame, about: object) -> None:
    """Compare all features, all bits."""
    assert trained.columns == served.columns
    differing = [one.name for one in trained if bits(one) != bits(served[one.name])]
    assert not differing, (about, trained.select(differing), served.select(differing))


def follow(workspace: Workspace, one: Round) -> None:
    """Bring a state of the source into the tables and into Redis."""
    frame = pl.DataFrame(list(one.rows), schema=SCHEMA, orient="row")
    frame.write_parquet(workspace.config.root / "data" / "landings.parquet")
    if one.whole:
        materialize(workspace, micros(T0 - STEP), micros(one.end))
    else:
        materialize_incremental(workspace, micros(one.end))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How one output follows from source rows: what a brute-force reading needs to know."""

    output: str
    value: int
    keys: tuple[int, ...]
    ttl: int | None
    delay: int = 0
    created: bool = True
    filtered: bool = False

    def candidates(self, one: Round, key: tuple[Any, ...], moment: datetime) -> list[Any]:
        """Give the values that may answer: several only where rows tie in all their times."""
        known = []
        for row in one.rows:
            due = row[2] + self.delay * STEP
            due = max(due, row[3]) if self.created and row[3] is not None else due
            mine = None not in key and tuple(row[place] for place in self.keys) == key
            if mine and due <= min(moment, one.end) and (row[9] or not self.filtered):
                known.append(((row[2], row[3] is not None, row[3] or T0), row[self.value]))
        newest = max((times for times, _ in known), default=None)
        if newest is None or (self.ttl is not None and newest[0] < moment - self.ttl * STEP):
            return [None]
        return [value for times, value in known if times == newest]


RULES = (
    Rule(output="plane__x", value=4, keys=(0,), ttl=4),
    Rule(output="plane__s", value=8, keys=(0,), ttl=4),
    Rule(output="bulk__newest", value=4, keys=(0,), ttl=None, delay=2, created=False),
    Rule(output="pair__raw", value=6, keys=(0, 1), ttl=7, delay=1, filtered=True),
    Rule(output="city__traffic", value=7, keys=(), ttl=3),
)


@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(seed=st.integers(0, 2**32))
def test_a_training_row_is_the_served_vector_bit_for_bit(online_url: str, seed: int) -> None:
    """One, two and no keys, ttl, delay, both known-at rules, filter, corrections, on-demand."""
    with TemporaryDirectory() as folder:
        name = f"parity-{uuid4().hex[:12]}"
        first = pl.DataFrame(schema=SCHEMA)
        workspace = opened(write(Path(folder) / "repo", first, name=name), online_url)
        workspace.registry.apply(
            project(name=name, views=VIEWS, services=[MODEL]), expected=None, now=0, who="test"
        )
        earliest, *later = history_of(seed)
        follow(workspace, earliest)
        released(workspace)
        with notebook(workspace) as store, served(workspace) as client:
            _compare(store, client, earliest, spine(seed, earliest.end))
            for one in later:
                follow(workspace, one)
                _compare(store, client, one, spine(seed, one.end))
        workspace.close()


def _compare(store: FeatureStore, client: FeatureClient, one: Round, asked: pl.DataFrame) -> None:
    training = trained(store, asked)
    assert training.height == asked.height
    for (as_of,), rows in asked.with_row_index("row").group_by("event_timestamp"):
        assert isinstance(as_of, datetime)
        answers = looked_up(client, rows, as_of)
        assert_equal_bits(training[rows["row"].to_list()], answers, one)
        for row in (0, 1):
            assert_equal_bits(answers[row], looked_up(client, rows[row], as_of), one)
    if one.whole:
        _compare_with_the_source(one, asked, training)


def _compare_with_the_source(one: Round, asked: pl.DataFrame, training: pl.DataFrame) -> None:
    """Check every raw output against a reading of the source that is too simple to be wrong."""
    for rule in RULES:
        for row, found in zip(asked.iter_rows(named=True), training[rule.output], strict=True):
            key = (row["plane"], row["seat"])[: len(rule.keys)]
            possible = rule.candidates(one, key, row["event_timestamp"])
            assert repr(found) in map(repr, possible), (rule, one, row)


WIDE_SCHEMA = {"key": pl.Int64(), "at": MOMENT} | {
    f"f{number}": parse_dtype(dtype) for number, dtype in enumerate(DTYPES)
}
WIDE = batch_view(
    name="wide",
    join_keys={"key": "int64"},
    source=Source(
        name="wide",
        path="data/landings.parquet",
        format="parquet",
        timestamp_field="at",
        columns=normalize_schema(WIDE_SCHEMA),
    ),
    columns=[*WIDE_SCHEMA][2:],
)
ALL = service(
    name="model", projections=[Projection(view="wide", alias="wide")], views={"wide": WIDE}
)


@st.composite
def wide_frames(draw: st.DrawFn) -> pl.DataFrame:
    """Draw a few rows of every dtype; the first may be all null."""
    size = draw(st.integers(1, 3))
    cells = [draw(columns(dtype, size, f"f{number}")) for number, dtype in enumerate(DTYPES)]
    return pl.DataFrame(
        [
            pl.Series("key", range(size), pl.Int64),
            pl.Series("at", [T0] * size, MOMENT),
            *cells,
        ]
    )


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(frame=wide_frames())
def test_every_dtype_is_trained_on_and_served_as_the_source_has_it(
    online_url: str, frame: pl.DataFrame
) -> None:
    """From Parquet through Delta, and from Parquet through Redis and gRPC: all bits."""
    with TemporaryDirectory() as folder:
        name = f"wide-{uuid4().hex[:12]}"
        workspace = opened(write(Path(folder) / "repo", frame, name=name), online_url)
        workspace.registry.apply(
            project(name=name, views=[WIDE], services=[ALL]), expected=None, now=0, who="test"
        )
        materialize(workspace, micros(T0), micros(T0))
        released(workspace)
        expected = frame.sort("key", descending=True)
        asked = expected.select("key", event_timestamp="at")
        with notebook(workspace) as store, served(workspace) as client:
            training = store.get_historical_features(asked, "model").features
            answer = client.get_online_features("model", entities=asked.select("key"), as_of=T0)
        workspace.close()
    assert_equal_bits(training, answer.to_polars().select(answer.names), frame)
    assert_equal_bits(training, expected.select(training.columns), frame)
