"""Every dtype through a real Delta table, bit for bit; intervals against a model of a table."""

import shutil
import tempfile
from datetime import UTC, date, datetime

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.model.documents import Table
from featurestore.model.schema import Column, parse_dtype
from featurestore.model.time import BEGINNING, CREATED, EVENT, KNOWN, REVISION, Interval
from featurestore.storage.layout import table_schema
from featurestore.storage.offline import OfflineStore
from tests.columns import DTYPES, bits, columns
from tests.declared import source, view

EVERYTHING = Interval(start=BEGINNING, end=10**9)


def of(dtypes, key="int64"):
    """Declare a view whose features are columns of these dtypes."""
    names = {f"x{number}": dtype for number, dtype in enumerate(dtypes)}
    schema = {"k": key, "at": "datetime", **names}
    described = source(columns=tuple(Column(name=n, dtype=d) for n, d in schema.items()))
    return view(
        source=described,
        join_keys={"k": None},
        features={name: pl.col(name) for name in names},
    )


def framed(made, series, moments=None):
    """Give offline rows of a view with these feature columns; the key is the row's number."""
    rows = len(series[0])
    moments = list(range(rows)) if moments is None else moments
    own = pl.DataFrame(
        {
            "k": range(rows),
            EVENT: moments,
            CREATED: [None] * rows,
            KNOWN: moments,
            REVISION: [2**32 - 1] * rows,
        },
        schema_overrides={
            **{n: d for n, d in table_schema(made).items() if n in ("k", EVENT, CREATED, KNOWN)},
            REVISION: pl.UInt32(),
        },
    )
    return own.with_columns(s.alias(f"x{number}") for number, s in enumerate(series))


def through_delta(made, frame):
    """Write rows to a new table and read them back in the order of their keys."""
    table = Table(data_id=made.data_id, generation=0)
    folder = tempfile.mkdtemp()
    try:
        store = OfflineStore(folder, "shop")
        store.create(made, table)
        store.replace(made, table, EVERYTHING, frame, base=0, run="r")
        return store.rows(made, table).sort("k")
    finally:
        shutil.rmtree(folder)


COLUMNS = st.lists(st.sampled_from(DTYPES), min_size=1, max_size=5).flatmap(
    lambda dtypes: st.integers(1, 5).flatmap(
        lambda rows: st.tuples(
            st.just(dtypes), st.tuples(*(columns(dtype, rows) for dtype in dtypes))
        )
    )
)


@given(COLUMNS)
@settings(max_examples=60)
def test_any_column_survives_delta_bit_for_bit(drawn):
    """Nulls, NaN payloads, signed zeros, infinities, lists and arrays come back as they were."""
    dtypes, series = drawn
    made = of(dtypes)
    found = through_delta(made, framed(made, series))
    assert found.schema == table_schema(made)
    for number, column in enumerate(series):
        assert bits(found[f"x{number}"]) == bits(column)


@given(st.sampled_from(["uint8", "uint32", "string", "date", "bool"]), st.data())
@settings(max_examples=20, deadline=None)
def test_chosen_rows_come_in_batches_as_they_are_read_whole(key, data):
    """Rows chosen by key of any dtype, times and revision, and no others, a few at a time."""
    made = view(
        source=source(
            columns=tuple(
                Column(name=n, dtype=d)
                for n, d in (("k", key), ("at", "datetime"), ("x", "float32"))
            )
        ),
        join_keys={"k": None},
        features={"x": pl.col("x")},
    )
    rows = data.draw(st.integers(1, 12))
    column = {n: data.draw(columns(d, rows, n)) for n, d in (("k", key), ("x", "float32"))}
    frame = (
        framed(made, [column["x"]])
        .rename({"x0": "x"})
        .with_columns(
            column["k"], pl.when(pl.col(KNOWN).to_physical() % 2 == 0).then(KNOWN).alias(CREATED)
        )
        .drop_nulls("k")
    )
    mask = data.draw(st.lists(st.booleans(), min_size=frame.height, max_size=frame.height))
    chosen = frame.filter(pl.Series(mask, dtype=pl.Boolean))
    table = Table(data_id=made.data_id, generation=0)
    folder = tempfile.mkdtemp()
    try:
        store = OfflineStore(folder, "shop")
        store.create(made, table)
        store.replace(made, table, EVERYTHING, frame, base=0, run="r")
        batches = list(store.batches(made, table, chosen, size=3))
    finally:
        shutil.rmtree(folder)
    assert all(0 < one.height <= 3 for one in batches)
    found = pl.concat([pl.DataFrame(schema=table_schema(made)), *batches]).sort(EVENT)
    assert found.schema == table_schema(made)
    assert bits(found["x"]) == bits(chosen["x"])
    assert found.drop("x").equals(chosen.select(found.columns).drop("x"))


EDGES = {
    "bool": [True, False, None],
    "uint8": [0, 255, None],
    "uint16": [0, 65_535, None],
    "uint32": [0, 2**32 - 1, None],
    "int8": [-128, 127, None],
    "int64": [-(2**63), 2**63 - 1, None],
    "float32": [float("nan"), -0.0, float("-inf")],
    "float64": [5e-324, -0.0, None],
    "string": ["", "\x00", "ä" * 70_000],
    "date": [date(1, 1, 1), date(9999, 12, 31), None],
    "datetime": [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        None,
    ],
    "list[uint32]": [[], [2**32 - 1, None], None],
    "list[float32]": [[None], [float("nan"), -0.0], []],
    "array[uint8,2]": [[255, None], None, [0, 1]],
    "array[float64,2]": [[-0.0, float("nan")], [None, None], None],
}


def test_the_edges_of_every_dtype_survive_delta():
    """The least and greatest values, empty and null ones, all in one table."""
    made = of(EDGES)
    series = [pl.Series(values, dtype=parse_dtype(dtype)) for dtype, values in EDGES.items()]
    found = through_delta(made, framed(made, series))
    for number, column in enumerate(series):
        assert bits(found[f"x{number}"]) == bits(column.alias(f"x{number}"))


RUNS = st.lists(
    st.tuples(
        st.integers(-6, 6),
        st.integers(0, 5),
        st.lists(st.integers(-6, 12), max_size=4, unique=True),
    ),
    min_size=1,
    max_size=6,
)


@given(RUNS, st.sampled_from([1, 2, 8]), st.sampled_from([None, 1, 4]))
@settings(max_examples=25)
def test_any_runs_leave_what_a_dictionary_would(runs, buckets, period):
    """However it is laid out, a table is the rows of each moment's last replacement."""
    made = of(["int64"])
    table = Table(data_id=made.data_id, generation=0, buckets=buckets, period=period)
    expected = {}
    folder = tempfile.mkdtemp()
    try:
        store = OfflineStore(folder, "shop")
        store.create(made, table)
        for number, (start, length, moments) in enumerate(runs):
            inside = [m for m in moments if start < m <= start + length]
            series = [pl.Series([number] * len(inside), dtype=pl.Int64)]
            interval = Interval(start=start, end=start + length)
            frame = framed(made, series, inside)
            store.replace(made, table, interval, frame, base=number, run=f"run {number}")
            assert store.last_run(made, table) == f"run {number}"
            expected = {m: n for m, n in expected.items() if not start < m <= start + length}
            expected |= dict.fromkeys(inside, number)
        found = store.rows(made, table).select(pl.col(KNOWN).to_physical(), "x0").rows()
    finally:
        shutil.rmtree(folder)
    assert dict(found) == expected
    assert len(found) == len(expected)
