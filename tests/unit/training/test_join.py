"""The point-in-time join of one view, case by case."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from featurestore.errors import CorruptData
from featurestore.model.schema import SCALARS, parse_dtype
from featurestore.model.time import CREATED, EVENT, MOMENT, REVISION, micros
from featurestore.training import WithheldWarning, training_set
from tests.tables import Memory, ask, make_view, stored

NOON = datetime(2013, 6, 1, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def at(*times):
    return pl.Series(EVENT, times, dtype=MOMENT)


def values(view, table, entities, **options):
    """Give the column `value` of the training rows."""
    tables = Memory(frames={view.name: table})
    made = training_set(entities, ask(view), tables, project="tests", **options)
    assert len(made) == len(entities)
    return made.to_polars()["value"].to_list()


@pytest.mark.parametrize(
    ("age", "value"),
    [
        (timedelta(0), 1),
        (timedelta(days=7) - TICK, 1),
        (timedelta(days=7), 1),
        (timedelta(days=7) + TICK, None),
        (-TICK, None),
    ],
)
def test_a_row_exactly_ttl_old_counts_and_a_microsecond_older_does_not(age, value):
    """The ttl edge is inclusive, to the microsecond; the future is out."""
    view = make_view(ttl=timedelta(days=7))
    table = stored(view, {"tailnum": ["N1"], EVENT: [NOON - age], "value": [1]})
    entities = pl.DataFrame({"tailnum": ["N1"], EVENT: at(NOON)})
    assert values(view, table, entities) == [value]


def test_an_expired_newest_row_hides_older_ones():
    """Only the newest known row can answer; if it is too old there is no value."""
    view = make_view(ttl=timedelta(hours=1))
    old = NOON - timedelta(hours=2)
    table = stored(view, {"tailnum": ["N1"], EVENT: [old], "value": [1]})
    entities = pl.DataFrame({"tailnum": ["N1", "N2"], EVENT: at(NOON, NOON)})
    assert values(view, table, entities) == [None, None]


def test_a_value_created_after_the_entity_row_is_not_returned():
    """A correction shows from its created time on, not before."""
    view = make_view()
    hour = timedelta(hours=1)
    table = stored(
        view,
        {
            "tailnum": ["N1", "N1"],
            EVENT: [NOON, NOON],
            CREATED: [NOON, NOON + hour],
            "value": [1, 2],
        },
    )
    entities = pl.DataFrame(
        {"tailnum": ["N1"] * 3, EVENT: at(NOON, NOON + hour - TICK, NOON + hour)}
    )
    with pytest.warns(WithheldWarning):
        assert values(view, table, entities) == [1, 1, 2]
    assert values(view, table, entities, as_known=False) == [2, 2, 2]


def test_a_late_row_that_has_expired_withholds_nothing():
    """Only a value that would have counted can be withheld."""
    view = make_view(ttl=timedelta(hours=1))
    table = stored(
        view,
        {
            "tailnum": ["N1"],
            EVENT: [NOON],
            CREATED: [NOON + timedelta(days=1)],
            "value": [1],
        },
    )
    entities = pl.DataFrame({"tailnum": ["N1"], EVENT: at(NOON + timedelta(hours=2))})
    made = training_set(entities, ask(view), Memory(frames={"plane": table}), project="tests")
    assert made.withheld == {"plane": 0}
    assert made.lock.lookups[0].valued == 0


def test_a_view_known_at_event_ignores_the_created_time_but_orders_by_it():
    """A created column that only says when a bulk load ran withholds nothing."""
    view = make_view(known="event")
    loaded = NOON + timedelta(days=900)
    table = stored(
        view,
        {
            "tailnum": ["N1", "N1"],
            EVENT: [NOON, NOON],
            CREATED: [loaded + TICK, loaded],
            "value": [2, 1],
        },
    )
    entities = pl.DataFrame({"tailnum": ["N1"], EVENT: at(NOON)})
    assert values(view, table, entities) == [2]


def test_a_delayed_source_is_known_only_after_its_delay():
    """With a delay a row answers from event time + delay on."""
    view = make_view(delay=timedelta(minutes=5))
    table = stored(view, {"tailnum": ["N1"], EVENT: [NOON], "value": [1]})
    edge = NOON + timedelta(minutes=5)
    entities = pl.DataFrame({"tailnum": ["N1"] * 2, EVENT: at(edge - TICK, edge)})
    with pytest.warns(WithheldWarning):
        assert values(view, table, entities) == [None, 1]


def test_created_ties_are_resolved_by_the_revision():
    """Of rows with equal times the one of the later source state wins."""
    view = make_view()
    table = stored(
        view,
        {
            "tailnum": ["N1"] * 3,
            EVENT: [NOON] * 3,
            CREATED: [NOON] * 3,
            REVISION: [1, 2, 0],
            "value": [1, 2, 0],
        },
    )
    entities = pl.DataFrame({"tailnum": ["N1"], EVENT: at(NOON)})
    assert values(view, table, entities) == [2]
    assert values(view, table.reverse(), entities) == [2]


def test_entity_rows_that_share_key_and_time_do_not_collapse():
    """Equal entity rows come back as often as they went in."""
    view = make_view()
    table = stored(view, {"tailnum": ["N1"], EVENT: [NOON], "value": [1]})
    entities = pl.DataFrame({"tailnum": ["N1"] * 3, EVENT: at(*[NOON] * 3), "label": [0, 1, 0]})
    assert values(view, table, entities) == [1, 1, 1]


def test_entity_rows_with_only_future_or_expired_rows_do_not_vanish():
    """A row without a value stays, with null."""
    view = make_view(ttl=timedelta(days=1))
    table = stored(
        view,
        {
            "tailnum": ["future", "expired", "fine"],
            EVENT: [NOON + TICK, NOON - timedelta(days=2), NOON],
            "value": [1, 2, 3],
        },
    )
    entities = pl.DataFrame(
        {"tailnum": ["future", "expired", "fine", "unknown", None], EVENT: at(*[NOON] * 5)}
    )
    assert values(view, table, entities) == [None, None, 3, None, None]


def test_null_keys_match_nothing_not_even_stored_null_keys():
    """A null in any key column finds no row."""
    view = make_view(keys={"origin": "string", "number": "int64"})
    table = stored(
        view,
        {
            "origin": ["JFK", None, "JFK"],
            "number": [None, 1, 1],
            EVENT: [NOON] * 3,
            "value": [1, 2, 3],
        },
    )
    entities = pl.DataFrame(
        {
            "origin": ["JFK", None, "JFK", None],
            "number": [None, 1, 1, None],
            EVENT: at(*[NOON] * 4),
        }
    )
    assert values(view, table, entities) == [None, None, 3, None]


def test_a_stored_null_is_a_value_and_hides_older_ones():
    """The newest row answers even where it says null."""
    view = make_view()
    table = stored(view, {"tailnum": ["N1"] * 2, EVENT: [NOON - TICK, NOON], "value": [1, None]})
    entities = pl.DataFrame({"tailnum": ["N1"], EVENT: at(NOON)})
    assert values(view, table, entities) == [None]


@pytest.mark.parametrize("keys", [{}, {"tailnum": "string"}, {"a": "int64", "b": "date"}])
@pytest.mark.parametrize(("stored_rows", "entity_rows"), [(0, 0), (0, 2), (2, 0)])
def test_empty_frames_on_either_side_are_ordinary(keys, stored_rows, entity_rows):
    """No stored rows give nulls; no entity rows give none, with all columns in place."""
    view = make_view(keys=keys, values={"value": "array[float32,3]"})
    sample = {"tailnum": "N1", "a": 1, "b": date(2013, 1, 1)}
    table = stored(
        view,
        {
            EVENT: [NOON] * stored_rows,
            **{key: [sample[key]] * stored_rows for key in keys},
            REVISION: list(range(stored_rows)),
            "value": [[1.0, 2.0, 3.0]] * stored_rows,
        },
    )
    entities = pl.DataFrame(
        [
            pl.Series(EVENT, [NOON] * entity_rows, dtype=MOMENT),
            *(
                pl.Series(k, [sample[k]] * entity_rows, dtype=parse_dtype(dtype))
                for k, dtype in keys.items()
            ),
        ]
    )
    made = training_set(entities, ask(view), Memory(frames={"plane": table}), project="tests")
    assert made.to_polars().columns == [EVENT, *keys, "value"]
    assert made.to_polars().height == entity_rows
    assert made.features["value"].dtype == pl.Array(pl.Float32, 3)
    assert made.features["value"].null_count() == entity_rows


def test_times_before_1970_and_in_the_year_9999_join_like_others():
    """Time is ordered over the whole calendar, with a ttl and without."""
    edges = [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1583, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ]
    for ttl in (None, timedelta(hours=1), timedelta.max):
        view = make_view(ttl=ttl)
        table = stored(view, {"tailnum": ["N1"] * 4, EVENT: edges, "value": [1, 2, 3, 4]})
        entities = pl.DataFrame({"tailnum": ["N1"] * 4, EVENT: at(*edges)})
        assert values(view, table, entities) == [1, 2, 3, 4]


SPECIAL = {
    "bool": [True, False, None],
    "string": ["", "ünïcode\0\U0001f6eb", None, "x" * 10_000],
    "date": [date(1, 1, 1), date(9999, 12, 31), None],
    "datetime": [datetime(1969, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), None],
    "float32": [float("nan"), -0.0, 0.0, float("inf"), float("-inf"), 1e-45, None],
    "float64": [float("nan"), -0.0, 0.0, float("inf"), float("-inf"), 5e-324, 0.1, None],
    "list[float64]": [[], [None], None, [float("nan"), -0.0], [1.5] * 100],
    "list[int8]": [[], [-128, 127, None], None],
    "array[float32,2]": [[float("nan"), -0.0], None, [None, 1.5]],
    "array[uint32,3]": [[0, 1, 2**32 - 1], None],
} | {
    name: [dtype.min().pipe(pl.select).item(), dtype.max().pipe(pl.select).item(), 0, None]
    for name, dtype in SCALARS.items()
    if dtype.is_integer()
}


def test_every_scalar_dtype_has_a_case():
    """The table of special values names every scalar the store keeps."""
    assert set(SCALARS) <= set(SPECIAL)


@pytest.mark.parametrize("dtype", SPECIAL)
def test_every_dtype_passes_unchanged(dtype):
    """Values come out as they were stored, bit for bit, nulls and special values included."""
    view = make_view(values={"value": dtype}, keys={"id": "int64"})
    column = pl.Series("value", SPECIAL[dtype], dtype=parse_dtype(dtype))
    size = len(column)
    table = stored(view, {"id": range(size), EVENT: [NOON] * size, "value": column})
    order = [*reversed(range(size)), size, 0]
    entities = pl.DataFrame({"id": order, EVENT: at(*[NOON] * len(order))})
    made = training_set(entities, ask(view), Memory(frames={"plane": table}), project="tests")
    found = made.features["value"]
    wanted = pl.concat([column.reverse(), column.clear(1), column.head(1)])
    assert found.dtype == column.dtype
    assert _bits(found) == _bits(wanted)


def _bits(series):
    """Give what distinguishes -0.0 from 0.0 as well."""
    return [str(value) for value in series.to_list()]


def test_a_table_of_another_dtype_is_refused():
    """A stored column that is not what the version declares is never passed on."""
    view = make_view()
    table = stored(view, {"tailnum": ["N1"], EVENT: [NOON], "value": [1]})
    wrong = table.with_columns(pl.col("value").cast(pl.Int32))
    entities = pl.DataFrame({"tailnum": ["N1"], EVENT: at(NOON)})
    with pytest.raises(CorruptData, match=r"plane\.features\.value: .* int64 .* Int32"):
        values(view, wrong, entities)


def test_columns_named_like_the_joins_own_do_no_harm():
    """Keys, features and own columns may be called rank, row, at, k0."""
    view = make_view(
        keys={"rank": "int64", "row": "string"}, values={"k0": "int64", "at_": "int64"}
    )
    table = stored(view, {"rank": [1], "row": ["x"], EVENT: [NOON], "k0": [5], "at_": [6]})
    entities = pl.DataFrame({"rank": [1], "row": ["x"], "at": ["own"], EVENT: at(NOON), "k1": [0]})
    made = training_set(entities, ask(view), Memory(frames={"plane": table}), project="tests")
    assert made.to_polars().rows() == [(1, "x", "own", NOON, 0, 5, 6)]


def test_known_at_is_exact_to_the_microsecond():
    """A row is known at its created time itself, not one microsecond before."""
    view = make_view()
    table = stored(
        view, {"tailnum": ["N1"], EVENT: [NOON], CREATED: [micros(NOON) + 2], "value": [1]}
    )
    entities = pl.DataFrame(
        {"tailnum": ["N1"] * 3, EVENT: at(*[NOON + n * TICK for n in (1, 2, 3)])}
    )
    with pytest.warns(WithheldWarning, match="1 of 3 values"):
        assert values(view, table, entities) == [None, 1, 1]
