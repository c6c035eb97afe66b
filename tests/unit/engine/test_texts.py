"""Entries of streams read as rows: a table of texts, what they say, and which say nothing."""

import json
import math
from datetime import UTC, date, datetime

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.engine.texts import read_texts
from featurestore.model.time import normalize_schema
from featurestore.storage.consumer import FIELDS
from tests.declared import source, view

SCHEMA = {
    "plane": pl.String(),
    "at": pl.Datetime("us", "UTC"),
    "flight": pl.Int64(),
    "seats": pl.UInt8(),
    "load": pl.Float32(),
    "delay": pl.Float64(),
    "late": pl.Boolean(),
    "day": pl.Date(),
    "shape": pl.Array(pl.Float32(), 2),
    "parts": pl.List(pl.Int16()),
    "spare": pl.String(),
}
LISTS = ("shape", "parts")
READ = ("flight", "seats", "load", "delay", "late", "day", "shape", "parts")
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


def landings(name="history", schema=SCHEMA, read=READ, **of):
    """Declare a view that reads every column but one."""
    described = source(columns=normalize_schema(schema), pushed=True, created_field=None, **of)
    return view(name, source=described, features={one: pl.col(one) for one in read})


def entries(*rows):
    """Give the fields of entries, each a mapping of text or bytes."""
    flat = [
        (place, name.encode(), value if isinstance(value, bytes) else value.encode())
        for place, row in enumerate(rows)
        for name, value in row.items()
    ]
    return pl.DataFrame(flat, schema=FIELDS, orient="row")


def read(*rows, views=None):
    """Read entries."""
    return read_texts(entries(*rows), len(rows), views or [landings()])


TEXTS = [
    ("plane", "", ""),
    ("plane", " ä\n", " ä\n"),
    ("at", "2024-03-01T12:00:00Z", NOON),
    ("at", "2024-03-01 12:00", NOON),
    ("at", "2024-03-01t12:00:00z", NOON),
    ("at", "2024-03-01T14:30:00+02:30", NOON),
    ("at", "2024-03-01T11:00:00.250000-01", NOON.replace(microsecond=250_000)),
    ("at", "2024-03-01T12:00:00.123456789Z", NOON.replace(microsecond=123_456)),
    ("at", "2024-03-01", NOON.replace(hour=0)),
    ("flight", "-12345678901234567", -12345678901234567),
    ("flight", "007", 7),
    ("seats", "255", 255),
    ("load", "0.5", 0.5),
    ("load", "1e3", 1000.0),
    ("delay", "0.1", 0.1),
    ("delay", "-inf", -math.inf),
    ("delay", "1e308", 1e308),
    ("late", "true", True),
    ("late", "False", False),
    ("day", "2024-02-29", date(2024, 2, 29)),
    ("shape", "[1, null]", [1.0, None]),
    ("parts", " [ 1,2 , 3] ", [1, 2, 3]),
    ("parts", "[]", []),
    ("parts", "[null]", [None]),
]


def test_texts_are_read_in_their_columns_dtypes():
    """Nothing is refused, be they fields or members of objects; dtypes are the source's."""
    for told in (
        [{name: text} for name, text, _ in TEXTS],
        [
            {"json": json.dumps({name: json.loads(text) if name in LISTS else text})}
            for name, text, _ in TEXTS
        ],
    ):
        rows, refused = read(*told)
        assert rows.schema == SCHEMA
        for place, (name, text, value) in enumerate(TEXTS):
            found = rows[name].to_list()[place]
            assert found == value, (name, text)
        assert refused.is_empty(), refused


MISFITS = [
    ("at", "yesterday"), ("at", ""), ("at", "2024-13-01"), ("at", "2024-03-01T25:00"),
    ("at", "1709294400"), ("at", "2024-03-01T12:00:00+24:00"), ("at", b"\xff"),
    ("flight", ""), ("flight", "1.0"), ("flight", "0x10"), ("flight", "99999999999999999999"),
    ("flight", " 1"), ("seats", "256"), ("seats", "-1"), ("load", "x"), ("load", "1e39"),
    ("delay", "1e999"), ("delay", "1,5"), ("late", "1"), ("late", "yes"), ("day", "01.03.2024"),
    ("day", "2023-02-29"), ("shape", "[1]"), ("shape", "[1,2,3]"), ("shape", "[]"),
    ("parts", "[1.5]"), ("parts", "[1,]"), ("parts", "1"), ("parts", "[70000]"), ("parts", "[x]"),
]  # fmt: skip


def test_texts_that_their_columns_cannot_hold_are_refused():
    """By entry and column, and null among the rows; good ones beside them are not."""
    good = {"plane": "a"}
    rows, refused = read(good, *({name: text} for name, text in MISFITS), good)
    assert rows["plane"].to_list() == ["a", *[None] * len(MISFITS), "a"]
    assert rows.drop("plane").null_count().row(0) == (rows.height,) * (rows.width - 1)
    found = {row: (at, reason) for row, at, reason in refused.iter_rows()}
    assert len(found) == refused.height
    for place, (name, text) in enumerate(MISFITS, 1):
        at, reason = found.pop(place)
        assert at == name, text
        assert reason.startswith("is no ")
        assert "which the source has" in reason
    assert not found


def test_a_missing_field_is_null_and_so_is_null_in_an_object():
    """Entries need not have the same fields; what no source has is not looked at."""
    rows, refused = read(
        {"plane": "a", "nobody": "x"}, {"flight": "1"}, {"json": '{"plane": null, "late": true}'}
    )
    assert refused.is_empty()
    assert rows["plane"].to_list() == ["a", None, None]
    assert rows["flight"].to_list() == [None, 1, None]
    assert rows["late"].to_list() == [None, None, True]


def test_an_object_has_values_of_json():
    """Numbers, booleans and lists need no quotes."""
    told = {"plane": "q\"'\\ä", "flight": 2**62, "delay": 0.1, "late": False, "parts": [1, None]}
    rows, refused = read({"json": json.dumps(told)})
    assert refused.is_empty()
    assert {name: rows[name][0] for name in told if name != "parts"} == {
        name: value for name, value in told.items() if name != "parts"
    }
    assert rows["parts"].to_list()[0] == [1, None]


def test_what_is_no_object_is_refused():
    """Alone: its neighbours are read."""
    bad = ("", "{", "[1]", "3", "null", '"x"', '{"plane": {}}', '{"a": 1} x', b"{\xff}")
    rows, refused = read(*({"json": text} for text in ('{"plane": "a"}', *bad, '{"plane": "b"}')))
    assert rows["plane"].to_list() == ["a", *[None] * len(bad), "b"]
    assert refused["row"].to_list() == [*range(1, len(bad) + 1)]
    assert set(refused["reason"]) == {"is no JSON object of the source's columns"}


def test_a_column_that_is_called_json_is_that():
    """No object is looked for then."""
    of = landings(schema={**SCHEMA, "json": pl.String()}, read=["json"])
    rows, refused = read({"json": "{"}, views=[of])
    assert rows["json"].to_list() == ["{"]
    assert refused.is_empty()


def test_an_entry_without_fields_was_removed():
    """It is refused, and said to be gone."""
    rows, refused = read({}, {"plane": "a"})
    assert rows.height == 2
    assert refused.rows() == [(0, "", "was removed from the stream before it was read")]


def test_a_value_that_no_view_needs_is_taken_as_null():
    """As for rows that are pushed in a frame; text that is no UTF-8 is nothing."""
    rows, refused = read({"spare": b"\xff"}, {"spare": "s"})
    assert refused.is_empty()
    assert rows["spare"].to_list() == [None, "s"]


def test_naive_moments_are_local_times_of_the_source():
    """A time that the clocks skip is refused; where views differ in their zone, every naive one."""
    berlin = landings(time_zone="Europe/Berlin")
    rows, refused = read(
        {"at": "2024-03-01T13:00"}, {"at": "2024-03-31T02:30"}, {"at": "2024-03-01T12:00Z"},
        views=[berlin],
    )  # fmt: skip
    assert rows["at"].to_list() == [NOON, None, NOON]
    assert refused["row"].to_list() == [1]
    both = [berlin, landings("other")]
    rows, refused = read({"at": "2024-03-01T13:00"}, {"at": "2024-03-01T12:00Z"}, views=both)
    assert rows["at"].to_list() == [None, NOON]
    assert refused["row"].to_list() == [0]


def test_columns_may_have_the_names_of_the_file():
    """As before the source's field mapping; the name that expressions use comes first."""
    of = landings(field_mapping=(("tail", "plane"),))
    rows, _ = read(
        {"tail": "a"}, {"tail": "b", "plane": "c"}, {"json": '{"tail": "d"}'}, views=[of]
    )
    assert rows["plane"].to_list() == ["a", "c", "d"]


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.none() | st.text(),
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.floats(allow_nan=False),
            st.none() | st.booleans(),
        ),
        max_size=20,
    )
)
def test_what_was_written_is_read(rows):
    """Any values, as fields or in objects, in any order."""
    names = ("plane", "flight", "delay", "late")
    told = [{n: v for n, v in zip(names, row, strict=True) if v is not None} for row in rows]
    plain = [
        {n: v if isinstance(v, str) else json.dumps(v) for n, v in one.items()} | {"other": ""}
        for one in told
    ]
    expected = [tuple(one.get(n) for n in names) for one in told]
    found, refused = read(*plain)
    assert found.select(names).rows() == expected
    assert refused.is_empty()
    finite = [{n: v for n, v in one.items() if v not in (math.inf, -math.inf)} for one in told]
    found, refused = read(*({"json": json.dumps(one)} for one in finite))
    assert found.select(names).rows() == [tuple(one.get(n) for n in names) for one in finite]
    assert refused.is_empty()
