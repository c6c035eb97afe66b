"""The heart of the store: a training row and a served vector of one moment have equal bits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
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
from featurestore.jobs.promote import promote
from featurestore.jobs.workspace import Workspace
from featurestore.model.declare import batch_view, on_demand_view, project, service
from featurestore.model.documents import Projection, Source
from featurestore.model.schema import Column
from featurestore.model.time import micros, normalize_schema
from featurestore.serving.client import FeatureClient
from tests.columns import bits, values
from tests.repos import MICROSECOND, T0, notebook, opened, served, write

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
    features={"paid": pl.col("n") % 7, "share": pl.col("x") / pl.col("n")},
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
        "crowd": pl.col("traffic") / pl.col("paid") + pl.col("miles"),
        "known": pl.col("third").is_not_null(),
    },
)
VIEWS = (PLANE, BULK, PAIR, CITY, PACE)
USES = [
    *(Projection(view=view.name, alias=view.name) for view in VIEWS),
    Projection(view="plane", alias="other", join_key_map=(("plane", "other_plane"),)),
]
MODEL = service(name="model", projections=USES, views={view.name: view for view in VIEWS})

PLANES = st.sampled_from(["a", "e\u0301", "\u00e9", "", None])
SEATS = st.sampled_from([1, -1, None])
ODD = st.sampled_from([0.0, -0.0, float("nan"), float("inf"), -float("inf"), 0.1, 5e-324, None])


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A state of the source, up to when it is materialized, and whether from the beginning."""

    rows: tuple[tuple[Any, ...], ...]
    end: datetime
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Entity rows of one moment: plane, other plane, seat, miles."""

    after: int
    rows: tuple[tuple[Any, ...], ...]


def moments(last: int) -> st.SearchStrategy[datetime]:
    """Give one of few moments, so that ties and edges are the rule."""
    return st.integers(0, last).map(lambda step: T0 + step * STEP)


@st.composite
def source_rows(draw: st.DrawFn, last: int) -> tuple[Any, ...]:
    """Draw one row; its values are odd more often than not."""
    kinds = ("float32", "int64", "uint32", "string", "bool", "date", "list[float32]")
    return (
        draw(PLANES),
        draw(SEATS),
        draw(moments(last)),
        draw(st.none() | moments(last + 2)),
        draw(ODD | st.floats()),
        *(draw(values(kind)) for kind in kinds),
        draw(values("array[int8,3]")),
    )


@st.composite
def rounds(draw: st.DrawFn) -> list[Round]:
    """Draw one to three states of the source; each keeps some rows and corrects, adds, drops."""
    made: list[Round] = []
    rows: list[tuple[Any, ...]] = []
    last = 0
    for number in range(draw(st.integers(1, 3))):
        last += draw(st.integers(1, 5))
        kept = [row for row in rows if draw(st.integers(0, 3))]
        corrected = [
            (*draw(st.sampled_from(kept))[:4], *draw(source_rows(last))[4:])
            for _ in range(draw(st.integers(0, 3)) if kept else 0)
        ]
        rows = kept + corrected + draw(st.lists(source_rows(last), min_size=2, max_size=8))
        whole = number == 0 or draw(st.booleans())
        made.append(Round(rows=tuple(rows), end=T0 + last * STEP, whole=whole))
    return made


ASKS = st.lists(
    st.builds(
        Ask,
        after=st.integers(0, 9),
        rows=st.lists(
            st.tuples(
                PLANES | st.just("nobody"),
                PLANES | st.just("nobody"),
                SEATS,
                ODD | st.floats(),
            ),
            min_size=1,
            max_size=4,
        ).map(tuple),
    ),
    min_size=1,
    max_size=2,
)


def spine(asks: Sequence[Ask], end: datetime) -> pl.DataFrame:
    """Give the entity rows of all moments, in one frame."""
    schema = {"plane": pl.String, "other_plane": pl.String, "seat": pl.Int16, "miles": pl.Float64}
    return pl.DataFrame(
        [(*row, end + ask.after * STEP) for ask in asks for row in ask.rows],
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


def candidates(one: Round, plane: str | None, moment: datetime) -> list[Any]:
    """Give the `x` that could answer for a plane: several only where rows tie in all times."""
    known = [
        (row[2], row[3] is not None, row[3] or row[2], row[4])
        for row in one.rows
        if row[0] == plane and plane is not None
        if max(row[2], row[3] or row[2]) <= min(moment, one.end)
    ]
    if not known or max(known, key=lambda row: row[:3])[0] < moment - 4 * STEP:
        return [None]
    newest = max(row[:3] for row in known)
    return [row[3] for row in known if row[:3] == newest]


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    report_multiple_bugs=False,
)
@given(history=rounds(), asks=ASKS)
def test_a_training_row_is_the_served_vector_bit_for_bit(
    online_url: str, history: list[Round], asks: list[Ask]
) -> None:
    """One, two and no keys, ttl, delay, both known-at rules, filter, corrections, on-demand."""
    with TemporaryDirectory() as folder:
        name = f"parity-{uuid4().hex[:12]}"
        first = pl.DataFrame(schema=SCHEMA)
        workspace = opened(write(Path(folder) / "repo", first, name=name), online_url)
        workspace.registry.apply(
            project(name=name, views=VIEWS, services=[MODEL]), expected=None, now=0, who="test"
        )
        follow(workspace, history[0])
        promote(workspace)
        with notebook(workspace) as store, served(workspace) as client:
            for number, one in enumerate(history):
                if number:
                    follow(workspace, one)
                _compare(store, client, one, asks)
        workspace.close()


def _compare(store: FeatureStore, client: FeatureClient, one: Round, asks: Sequence[Ask]) -> None:
    asked = spine(asks, one.end)
    training = trained(store, asked)
    assert training.height == asked.height
    for (as_of,), rows in asked.with_row_index("row").group_by("event_timestamp"):
        assert isinstance(as_of, datetime)
        answers = looked_up(client, rows, as_of)
        assert_equal_bits(training[rows["row"].to_list()], answers, (one, rows))
        alone = looked_up(client, rows.head(1), as_of)
        assert_equal_bits(answers.head(1), alone, (one, rows))
    if one.whole:
        for row, x in zip(asked.iter_rows(named=True), training["plane__x"], strict=True):
            possible = candidates(one, row["plane"], row["event_timestamp"])
            assert repr(x) in map(repr, possible), (one, row)
