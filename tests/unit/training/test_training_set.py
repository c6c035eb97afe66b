"""Outputs, frames and the lock of a training set."""

import warnings
from datetime import UTC, datetime, timedelta

import polars as pl
import pyarrow as pa
import pytest

from featurestore.engine.executor import LocalExecutor
from featurestore.errors import InvalidRequest
from featurestore.model.catalog import Catalog
from featurestore.model.declare import on_demand_view
from featurestore.model.documents import Projection
from featurestore.model.lock import Lock, LockedLookup, LockedOutput, LockedView
from featurestore.model.query import references, resolve
from featurestore.model.schema import Column
from featurestore.model.time import CREATED, EVENT
from featurestore.training import WithheldWarning, training_set
from tests.tables import Memory, ask, make_view, stored

NOON = datetime(2013, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
PLANE = make_view(values={"last_delay": "float64", "landings": "int64"}, ttl=timedelta(days=7))
CITY = make_view("city", keys={}, values={"traffic": "int32"})
PACE = on_demand_view(
    name="pace",
    sources=[
        (PLANE, Projection(view="plane", alias="plane")),
        (CITY, Projection(view="city", alias="city")),
    ],
    request=[Column(name="distance", dtype="float64")],
    features={
        "delay_per_mile": pl.col("last_delay") / pl.col("distance"),
        "third": pl.col("plane__last_delay") / 3.0,
        "busy": pl.col("traffic") > 10,
    },
)
VIEWS = Catalog(current={view.name: view for view in (PLANE, CITY, PACE)})


def tables():
    return Memory(
        frames={
            "plane": stored(
                PLANE,
                {
                    "tailnum": ["N1", "N2"],
                    EVENT: [NOON - HOUR, NOON],
                    "last_delay": [6.0, None],
                    "landings": [3, 4],
                },
            ),
            "city": stored(CITY, {EVENT: [NOON - HOUR, NOON], "traffic": [5, 11]}),
        }
    )


SPINE = pl.DataFrame(
    {
        "late": [True, False, False],
        "tailnum": ["N1", "N2", None],
        "distance": [100, 200, 300],
        EVENT: [NOON - HOUR, NOON, NOON],
    }
)
NAMES = ["pace:third", "plane:landings", "pace:delay_per_mile", "city:traffic", "pace:busy"]


def query(names=NAMES):
    return resolve(references(names, VIEWS), VIEWS)


def test_outputs_come_in_the_callers_order_with_on_demand_features_computed():
    """Stored and on-demand features stand as asked, after the own columns."""
    made = training_set(SPINE, query(), tables(), project="tests").to_polars()
    assert made.columns == [*SPINE.columns, *(name.partition(":")[2] for name in NAMES)]
    assert made.drop(SPINE.columns).rows() == [
        (2.0, 3, 0.06, 5, False),
        (None, 4, None, 11, True),
        (None, None, None, 11, True),
    ]


def test_one_entity_row_gives_the_bits_that_many_give():
    """An on-demand feature does not depend on how many rows stand beside it."""
    delays = [0.1 * n for n in range(60)]
    table = stored(
        PLANE,
        {
            "tailnum": [f"N{n}" for n in range(60)],
            EVENT: [NOON] * 60,
            "last_delay": delays,
            "landings": [0] * 60,
        },
    )
    many = Memory(frames={**tables().frames, "plane": table})
    spine = pl.DataFrame({"tailnum": table["tailnum"], "distance": 3.0, EVENT: NOON})
    whole = training_set(spine, query(), many, project="tests").features
    alone = [
        training_set(spine[n], query(), many, project="tests").features for n in range(len(spine))
    ]
    assert pl.concat(alone).equals(whole)


def test_a_query_of_request_data_alone_needs_no_table():
    """An on-demand view without stored sources reads nothing."""
    view = on_demand_view(
        name="pace",
        sources=[],
        request=[Column(name="distance", dtype="int64")],
        features={"far": pl.col("distance") > 150},
    )
    memory = tables()
    made = training_set(SPINE, ask(view), memory, project="tests")
    assert made.features["far"].to_list() == [False, True, True]
    assert memory.reads == []


def test_a_feature_that_reads_nothing_has_a_value_in_every_row():
    """A literal on demand is as long as the spine, alone and beside others."""
    view = on_demand_view(name="fixed", sources=[], features={"one": pl.lit(1.5)})
    for count in (0, 1, 3):
        made = training_set(SPINE.head(count), ask(view), tables(), project="tests")
        assert made.features["one"].to_list() == [1.5] * count


def test_a_view_is_read_once_with_only_the_features_needed():
    """Keys and times first, then features for on-demand inputs and for outputs together."""
    memory = tables()
    made = training_set(SPINE, query(), memory, project="tests")
    assert memory.reads == []
    _ = made.features, made.lock, made.to_polars()
    assert sorted(memory.reads) == [
        ("city", 0, (EVENT, CREATED)),
        ("city", 0, ("traffic",)),
        ("plane", 0, ("last_delay", "landings")),
        ("plane", 0, ("tailnum", EVENT, CREATED)),
    ]


def test_full_feature_names_make_room_for_a_column_of_the_same_name():
    """An own column named like a feature is refused, or kept beside its full name."""
    spine = SPINE.with_columns(landings=pl.lit("mine"))
    with pytest.raises(InvalidRequest, match="full_feature_names=True"):
        training_set(spine, query(["plane:landings"]), tables(), project="tests")
    full = resolve(references(["plane:landings"], VIEWS), VIEWS, full_feature_names=True)
    made = training_set(spine, full, tables(), project="tests").to_polars()
    assert made["landings"].to_list() == ["mine"] * 3
    assert made["plane__landings"].to_list() == [3, 4, None]


def test_frames_agree_on_rows_and_columns():
    """Polars, pandas and Arrow hold the same training rows."""
    made = training_set(SPINE, query(), tables(), project="tests")
    frame = made.to_polars()
    assert pl.DataFrame(made.to_arrow()).equals(frame)
    assert isinstance(made.to_arrow(), pa.Table)
    assert made.to_df().columns.tolist() == frame.columns
    assert made.to_df().index.tolist() == [0, 1, 2]
    assert len(made) == len(made.to_df()) == 3


def test_the_lock_tells_what_was_read():
    """Outputs, uses, versions, policies and data versions stand in the lock, and it round-trips."""
    made = training_set(SPINE, query(), tables(), project="tests", service="lateness", draft=True)
    lock = made.lock
    assert (lock.project, lock.service, lock.draft, lock.rows) == ("tests", "lateness", True, 3)
    assert [one.name for one in lock.outputs] == [name.partition(":")[2] for name in NAMES]
    assert lock.outputs[1] == LockedOutput(
        name="landings",
        view="plane",
        alias="plane",
        feature="landings",
        feature_id=PLANE.features[1].id,
        version=PLANE.id,
        dtype="int64",
        join_key_map=(("tailnum", "tailnum"),),
    )
    assert lock.outputs[0].feature_id == PACE.features[1].id
    assert lock.outputs[0].version == PACE.id
    assert set(lock.lookups) == {
        LockedLookup(
            view="plane",
            alias="plane",
            join_key_map=(("tailnum", "tailnum"),),
            valued=2,
            version=PLANE.id,
            features=tuple(feature.id for feature in PLANE.features),
            readers=(PACE.id,),
        ),
        LockedLookup(
            view="city",
            alias="city",
            valued=3,
            version=CITY.id,
            features=(CITY.features[0].id,),
            readers=(PACE.id,),
        ),
    }
    week = 7 * 86_400_000_000
    assert set(lock.views) == {
        LockedView(
            name="plane", id=PLANE.id, kind="batch", ttl=week, data=tables().data_version(PLANE)
        ),
        LockedView(name="city", id=CITY.id, kind="batch", data=tables().data_version(CITY)),
        LockedView(name="pace", id=PACE.id, kind="on_demand"),
    }
    assert lock.polars == pl.__version__
    assert Lock.from_json(lock.to_json()) == lock


def test_equal_calls_leave_equal_locks_whatever_the_frame():
    """The library and the chunks of the entity rows do not move the spine's digest."""
    first = training_set(SPINE, query(), tables(), project="tests").lock
    for same in (
        SPINE.to_pandas(),
        SPINE.to_arrow(),
        pl.concat([SPINE[:1], SPINE[1:]], rechunk=False),
        SPINE.with_columns(pl.col("distance").cast(pl.Float32)),
        SPINE.with_columns(pl.col(EVENT).dt.convert_time_zone("Europe/Berlin")),
        SPINE.drop("late"),
    ):
        assert training_set(same, query(), tables(), project="tests").lock == first


@pytest.mark.parametrize(
    "edit",
    [
        SPINE.reverse(),
        SPINE[:2],
        SPINE.with_columns(tailnum=pl.Series(["N", "1N2", None])),
        SPINE.with_columns(tailnum=pl.Series(["N1", "N2", ""])),
        SPINE.with_columns(pl.col("distance") + 1),
        SPINE.with_columns(pl.col(EVENT) + timedelta(microseconds=1)),
    ],
    ids=["order", "rows", "key", "null", "request", "time"],
)
def test_other_entity_rows_have_another_digest(edit):
    """Order, keys, nulls, request data and times all count."""
    first = training_set(SPINE, query(), tables(), project="tests").lock
    assert training_set(edit, query(), tables(), project="tests").lock.spine != first.spine


def test_the_digest_sees_list_request_data():
    """Nested request data counts by its values and its shape."""
    view = on_demand_view(
        name="near",
        sources=[],
        request=[Column(name="v", dtype="list[float64]")],
        features={"size": pl.col("v").list.len()},
    )
    digests = set()
    for rows in ([[1.0], [2.0, 3.0]], [[1.0, 2.0], [3.0]], [[], [None]], [[None], []], [None, []]):
        values = pl.Series("v", rows, dtype=pl.List(pl.Float64))
        spine = pl.DataFrame([values, pl.Series(EVENT, [NOON, NOON])])
        digests.add(training_set(spine, ask(view), tables(), project="tests").lock.spine)
    assert len(digests) == 5


def test_a_bulk_loaded_created_column_warns():
    """Above a fifth of the values withheld, the way out is told; below, nothing."""
    table = stored(
        PLANE,
        {
            "tailnum": [f"N{n}" for n in range(10)],
            EVENT: [NOON] * 10,
            CREATED: [NOON + HOUR] * 2 + [None] * 8,
            "last_delay": [1.0] * 10,
            "landings": [0] * 10,
        },
    )
    memory = Memory(frames={"plane": table})
    spine = pl.DataFrame({"tailnum": table["tailnum"], EVENT: NOON})
    asked = query(["plane:last_delay"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = training_set(spine, asked, memory, project="tests")
        assert made.withheld == {"plane": 2}
    with pytest.warns(WithheldWarning, match='plane: 2 of 9 values .* known_at="event"'):
        training_set(spine[:9], asked, memory, project="tests").to_polars()


def test_a_training_set_prints_in_eighty_columns():
    """A notebook shows rows, columns, dtypes and versions."""
    made = training_set(SPINE, query(), tables(), project="tests", draft=True)
    lines = repr(made).splitlines()
    assert lines[0] == "TrainingSet of 3 rows: 4 own columns, 5 features, draft"
    assert lines[2].split() == ["landings", "int64", PLANE.version]
    wide = make_view(values={f"{'long' * 12}_{n}": "int64" for n in range(20)})
    table = stored(wide, {"tailnum": [], EVENT: [], **{f.name: [] for f in wide.features}})
    many = training_set(SPINE, ask(wide), Memory(frames={"plane": table}), project="tests")
    assert repr(many).endswith("… and 4 more")
    assert max(len(line) for line in (*lines, *repr(many).splitlines())) <= 80


@pytest.mark.parametrize("given", ["local", LocalExecutor])
def test_what_runs_nothing_is_no_executor(given):
    """It is refused when the training set is asked for, not when it is joined."""
    with pytest.raises(InvalidRequest, match=r"executor: .*pass LocalExecutor"):
        training_set(SPINE, query(), tables(), project="flights", executor=given)
