"""One evaluator: every allow-listed node gives a row the same bits in any company."""

# ruff: noqa: PLW0108 - the examples are a table: every row has one shape

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.engine.transform import Program, transform
from featurestore.errors import InvalidExpression
from featurestore.model.allowed import ALLOWED
from featurestore.model.expressions import check, decode, encode, output_dtype
from featurestore.model.tree import Node, parse

Example = Callable[[pl.Expr, pl.Expr], pl.Expr]

FLOATS = [0.0, -0.0, 1.0, -1.0, 0.1, 2.5, float("nan"), float("inf"), float("-inf"), 5e-324]
FLOATS += [1.7976931348623157e308, -2.2250738585072014e-308, 1e16, 1 / 3]
STRINGS = ["", "a", "B c", "2013-03-31", "2013-10-27 02:30", "12", "-7", "1.5", "éß", "x,y,z"]
STRINGS += ['{"k": "v"}', "  pad ", "a.b*c", "nan", "true", "ǅ 🛫", "A" * 70]
ZONE = "Europe/Berlin"

DTYPES: Mapping[str, pl.DataType] = {
    "bool": pl.Boolean(),
    "int8": pl.Int8(),
    "int16": pl.Int16(),
    "int32": pl.Int32(),
    "int64": pl.Int64(),
    "uint8": pl.UInt8(),
    "uint16": pl.UInt16(),
    "uint32": pl.UInt32(),
    "float32": pl.Float32(),
    "float64": pl.Float64(),
    "string": pl.String(),
    "date": pl.Date(),
    "datetime": pl.Datetime("us", "UTC"),
    "zoned": pl.Datetime("us", ZONE),
    "naive": pl.Datetime("us"),
    "duration": pl.Duration("us"),
    "time": pl.Time(),
    "list_int": pl.List(pl.Int64()),
    "list_float": pl.List(pl.Float64()),
    "list_float32": pl.List(pl.Float32()),
    "list_string": pl.List(pl.String()),
    "array_int": pl.Array(pl.Int64(), 3),
    "array_string": pl.Array(pl.String(), 2),
    "array_float": pl.Array(pl.Float64(), 9),
    "array_one": pl.Array(pl.Float64(), 1),
    "array_float32": pl.Array(pl.Float32(), 4),
}

# Each example is tried on every dtype; x and y are two columns of it.
EXAMPLES: Sequence[Example] = (
    # arithmetic, comparison, logic
    lambda x, y: (x + y).alias("b"),
    lambda x, _: x + 1,
    lambda x, _: x + pl.lit(None, dtype=pl.Float64),
    lambda x, y: x - y,
    lambda x, _: 0.1 - x,
    lambda x, y: x * y,
    lambda x, _: x * 0.1,
    lambda x, y: x / y,
    lambda x, _: x / 3.0,
    lambda x, _: x / 7,
    lambda x, _: 0.7 / x,
    lambda x, y: x // y,
    lambda x, _: x // 3,
    lambda x, _: x // 0.3,
    lambda x, y: x.truncdiv(y),
    lambda x, _: x.truncdiv(3),
    lambda x, y: x % y,
    lambda x, _: x % 3,
    lambda x, _: x % 0.3,
    lambda x, y: x == y,
    lambda x, _: x == 1,
    lambda x, _: x == "a",
    lambda x, y: x.eq_missing(y),
    lambda x, y: x != y,
    lambda x, y: x.ne_missing(y),
    lambda x, y: x < y,
    lambda x, _: x < 0.1,
    lambda x, y: x <= y,
    lambda x, y: x > y,
    lambda x, y: x >= y,
    lambda x, _: x >= pl.lit(date(2000, 1, 1)),
    lambda x, _: x > pl.lit(datetime(2000, 1, 1, tzinfo=None)),  # noqa: DTZ001
    lambda x, _: x + timedelta(hours=1),
    lambda x, _: x - pl.lit(date(2000, 1, 1)),
    lambda x, y: x & y,
    lambda x, _: x & 3,
    lambda x, y: x | y,
    lambda x, y: x ^ y,
    lambda x, _: x.not_(),
    lambda x, _: -x,
    # branches and gaps
    lambda x, y: pl.when(x > y).then(x).otherwise(y),
    lambda x, y: pl.when(x.is_null()).then(y),
    lambda x, _: pl.when(x > 0).then(1.5).otherwise(2.5),
    lambda x, y: pl.when(x.is_null() | (y == 0)).then(None).otherwise(x / y),
    lambda x, y: x / pl.when(y == 0).then(1).otherwise(y),
    lambda x, _: 0.7 / pl.coalesce(x, 0),
    lambda x, _: pl.when(x > 0).then(1).otherwise(0) / 60,
    lambda x, _: pl.coalesce(x, 0) / 60,
    lambda x, _: pl.coalesce(x, float("nan")) % 0.3,
    lambda x, y: pl.when(x > y).then(x).otherwise(y) / 60,
    lambda x, y: pl.coalesce(x, y) // 0.3,
    lambda x, _: x.fill_null(0.1) / 3,
    lambda x, _: x.is_null().cast(pl.Float64) * 0.1 / 3,
    lambda x, y: pl.coalesce(x, y),
    lambda x, _: pl.coalesce(x, 1),
    lambda x, y: x.fill_null(y),
    lambda x, _: x.fill_null(0),
    lambda x, _: x.fill_null("?"),
    lambda x, _: x.fill_null(strategy="zero"),
    lambda x, _: x.fill_null(strategy="one"),
    lambda x, _: x.fill_nan(0.5),
    lambda x, _: x.is_null(),
    lambda x, _: x.is_not_null(),
    lambda x, _: x.is_nan(),
    lambda x, _: x.is_not_nan(),
    lambda x, _: x.is_finite(),
    lambda x, _: x.is_infinite(),
    lambda x, y: x.is_between(y, 5),
    lambda x, _: x.is_between(pl.lit(-1), pl.lit(5)),
    lambda x, y: x.is_close(y),
    lambda x, _: x.is_close(0.1, abs_tol=0.5),
    lambda x, _: x.is_in([1, 2, 3]),
    lambda x, _: x.is_in(["a", "12"]),
    lambda x, _: x.is_in([1.0, float("nan"), None], nulls_equal=True),
    lambda x, _: x.replace({1: 2}),
    lambda x, _: x.replace("a", "b"),
    lambda x, _: x.replace_strict({1: 0.1, 2: 0.2}, default=0.3),
    lambda x, _: x.replace_strict({"a": 1, "": 2}, default=None),
    lambda x, y: x.replace_strict([1], [0], default=y, return_dtype=pl.Float64),
    # numbers
    lambda x, _: x.abs(),
    lambda x, _: x.sign(),
    lambda x, _: x.floor(),
    lambda x, _: x.ceil(),
    lambda x, _: x.round(2),
    lambda x, _: x.round(0, mode="half_away_from_zero"),
    lambda x, _: x.round_sig_figs(3),
    lambda x, _: x.truncate(1),
    lambda x, y: x.clip(0, y),
    lambda x, _: x.clip(-1, 2.5),
    lambda x, _: x.clip(upper_bound=3),
    lambda x, _: x.exp(),
    lambda x, _: x.log(),
    lambda x, _: x.log(3),
    lambda x, y: x.log(y),
    lambda x, _: x.log10(),
    lambda x, _: x.log1p(),
    lambda x, _: x.sqrt(),
    lambda x, _: x.cbrt(),
    lambda x, y: x**y,
    lambda x, _: x**2,
    lambda x, _: x**2.5,
    lambda x, _: x ** (-1),
    lambda x, _: 2.0**x,
    lambda x, _: x.erf(),
    lambda x, _: x.erfc(),
    lambda x, _: x.sin() + x.cos(),
    lambda x, _: x.tan() - x.cot(),
    lambda x, _: x.arcsin() + x.arccos() * x.arctan(),
    lambda x, _: x.sinh() - x.cosh(),
    lambda x, _: x.tanh(),
    lambda x, _: x.arcsinh() + x.arccosh(),
    lambda x, _: x.arctanh(),
    lambda x, _: x.degrees(),
    lambda x, _: x.radians(),
    lambda x, y: pl.arctan2(x, y),
    lambda x, _: x.bitwise_count_ones() + x.bitwise_count_zeros(),
    lambda x, _: x.bitwise_leading_ones() + x.bitwise_leading_zeros(),
    lambda x, _: x.bitwise_trailing_ones() + x.bitwise_trailing_zeros(),
    lambda x, y: pl.min_horizontal(x, y),
    lambda x, _: pl.max_horizontal(x, 1),
    lambda x, y: pl.max_horizontal(x, y),
    lambda x, y: pl.sum_horizontal(x, y, 0.1),
    lambda x, y: pl.mean_horizontal(x, y, 0.1),
    lambda x, y: pl.mean_horizontal(x, y, ignore_nulls=False),
    lambda x, y: pl.all_horizontal(x, y),
    lambda x, y: pl.any_horizontal(x, y),
    # casts
    *(
        (lambda x, _, to=to, strict=strict: x.cast(to, strict=strict))
        for to in (*DTYPES.values(), pl.UInt64())
        for strict in (True, False)
    ),
    lambda x, _: x.cast(pl.Int8, wrap_numerical=True),
    # strings
    lambda x, y: x.str.to_lowercase() + y.str.to_uppercase(),
    lambda x, _: x.str.to_titlecase(),
    lambda x, _: x.str.len_bytes() + x.str.len_chars(),
    lambda x, _: x.str.reverse(),
    lambda x, _: x.str.slice(1, 2),
    lambda x, y: x.str.slice(y.str.len_chars() % 3),
    lambda x, _: x.str.head(2) + x.str.tail(-1),
    lambda x, y: x.str.starts_with(y),
    lambda x, _: x.str.ends_with("c"),
    lambda x, _: x.str.contains("^[a-z]"),
    lambda x, y: x.str.contains(y, literal=True),
    lambda x, _: x.str.contains_any(["a", "é"]),
    lambda x, _: x.str.count_matches("[0-9]"),
    lambda x, _: x.str.extract(r"(\d+)", 1),
    lambda x, _: x.str.extract_all(r"\d").list.len(),
    lambda x, _: x.str.extract_many(["a", "1"]).list.first(),
    lambda x, _: x.str.find("b|c"),
    lambda x, _: x.str.json_path_match("$.k"),
    lambda x, _: x.str.normalize("NFKD"),
    lambda x, _: x.str.pad_start(5, "*"),
    lambda x, _: x.str.pad_end(5),
    lambda x, _: x.str.zfill(5),
    lambda x, _: x.str.replace("[a-c]", "$0$0"),
    lambda x, y: x.str.replace_all(".", y, literal=True),
    lambda x, _: x.str.replace_many({"a": "b", "1": "2"}),
    lambda x, _: x.str.split(",").list.get(1, null_on_oob=True),
    lambda x, _: x.str.strip_chars(),
    lambda x, _: x.str.strip_chars_start(" a"),
    lambda x, _: x.str.strip_chars_end(" c"),
    lambda x, _: x.str.strip_prefix("a") + x.str.strip_suffix("c"),
    lambda x, _: x.str.escape_regex(),
    lambda x, _: x.str.encode("hex") + x.str.encode("base64"),
    lambda x, y: pl.concat_str(x, y, separator="|", ignore_nulls=True),
    lambda x, y: pl.concat_str(x, y),
    lambda x, y: pl.format("{}-{}", x, y),
    lambda x, _: x.str.to_integer(strict=False),
    lambda x, _: x.str.to_integer(base=16, strict=False, dtype=pl.Int32),
    lambda x, _: x.str.to_date("%Y-%m-%d", strict=False),
    lambda x, _: x.str.to_datetime("%Y-%m-%d %H:%M", strict=False),
    lambda x, _: x.str.strptime(pl.Datetime("us", "UTC"), "%Y-%m-%d", strict=False, exact=False),
    lambda x, _: x.str.to_time("%H:%M", strict=False),
    # times
    lambda x, _: x.dt.millennium() + x.dt.century(),
    lambda x, _: x.dt.year() * 100 + x.dt.iso_year(),
    lambda x, _: x.dt.quarter() + x.dt.month() + x.dt.week() + x.dt.weekday() + x.dt.day(),
    lambda x, _: x.dt.ordinal_day() + x.dt.days_in_month(),
    lambda x, _: x.dt.is_leap_year(),
    lambda x, _: x.dt.hour() + x.dt.minute() + x.dt.second(),
    lambda x, _: x.dt.millisecond() + x.dt.microsecond() + x.dt.nanosecond(),
    lambda x, _: x.dt.second(fractional=True),
    lambda x, _: x.dt.date(),
    lambda x, _: x.dt.time(),
    lambda x, _: x.dt.month_start(),
    lambda x, _: x.dt.month_end(),
    lambda x, _: x.dt.truncate("1h"),
    lambda x, _: x.dt.truncate("1mo"),
    lambda x, _: x.dt.truncate("1w"),
    lambda x, _: x.dt.round("1d"),
    lambda x, _: x.dt.offset_by("1mo"),
    lambda x, y: x.dt.offset_by(y.dt.day().cast(pl.String) + "h"),
    lambda x, _: x.dt.base_utc_offset() + x.dt.dst_offset(),
    lambda x, _: x.dt.replace(hour=5, minute=1),
    lambda x, _: x.dt.convert_time_zone(ZONE).dt.hour(),
    lambda x, _: x.dt.replace_time_zone(ZONE, ambiguous="earliest", non_existent="null"),
    lambda x, _: x.dt.replace_time_zone(None),
    lambda x, _: x.dt.cast_time_unit("ms"),
    lambda x, _: x.dt.timestamp("ms"),
    lambda x, _: x.dt.epoch("s"),
    lambda x, _: x.dt.combine(time(1, 2)),
    lambda x, _: x.dt.to_string("%Y-%m-%d %H:%M"),
    lambda x, _: x.dt.to_string(),
    lambda x, _: pl.duration(days=x, hours=1),
    lambda x, y: pl.datetime(2000, x.abs() % 12 + 1, y.abs() % 28 + 1),
    lambda x, _: x.dt.total_days() + x.dt.total_hours() + x.dt.total_minutes(),
    lambda x, _: x.dt.total_seconds() + x.dt.total_milliseconds(),
    lambda x, _: x.dt.total_microseconds() + x.dt.total_nanoseconds(),
    lambda x, _: x.dt.total_hours(fractional=True),
    lambda x, y: (x - y).dt.total_days(fractional=True),
    lambda x, _: x.dt.is_business_day(holidays=[date(2013, 7, 4)]),
    lambda x, _: x.dt.add_business_days(3, roll="forward"),
    lambda x, y: pl.business_day_count(x, y),
    # lists and arrays
    lambda x, _: x.list.len(),
    lambda x, _: x.list.sum(),
    lambda x, _: x.list.mean(),
    lambda x, _: x.list.drop_nulls().list.sum(),
    lambda x, _: x.list.drop_nulls().list.mean(),
    lambda x, _: x.list.median(),
    lambda x, _: x.list.std(),
    lambda x, _: x.list.var(ddof=0),
    lambda x, _: x.list.min(),
    lambda x, _: x.list.max(),
    lambda x, _: x.list.arg_min() + x.list.arg_max(),
    lambda x, _: x.list.get(1, null_on_oob=True),
    lambda x, _: x.list.first(),
    lambda x, _: x.list.last(),
    lambda x, _: x.list.contains(1),
    lambda x, _: x.list.contains("a"),
    lambda x, _: x.list.count_matches(1),
    lambda x, _: x.list.drop_nulls(),
    lambda x, _: x.list.slice(1, 2),
    lambda x, _: x.list.head(3).list.drop_nulls().list.sum(),
    lambda x, _: x.list.tail(3),
    lambda x, _: x.list.sort(descending=True),
    lambda x, _: x.list.gather([0, 2], null_on_oob=True),
    lambda x, _: x.list.join("-"),
    lambda x, y: x.list.concat(y).list.drop_nulls().list.mean(),
    lambda x, y: pl.concat_list(x, y),
    lambda x, _: x.list.gather([0, 1], null_on_oob=True).list.to_array(2),
    lambda x, _: x.arr.len(),
    lambda x, _: x.arr.sum(),
    lambda x, _: x.arr.mean(),
    lambda x, _: x.arr.median(),
    lambda x, _: x.arr.std(),
    lambda x, _: x.arr.var(ddof=0),
    lambda x, _: x.arr.min(),
    lambda x, _: x.arr.max(),
    lambda x, _: x.arr.arg_min() + x.arr.arg_max(),
    lambda x, _: x.arr.get(1, null_on_oob=True),
    lambda x, _: x.arr.contains(1),
    lambda x, _: x.arr.count_matches(1),
    lambda x, _: x.arr.sort(),
    lambda x, _: x.arr.join("-"),
    lambda x, _: x.arr.to_list(),
    lambda x, y: x.arr.dot(y),
    lambda x, y: pl.concat_arr(x, y),
)


def values(dtype: pl.DataType, height: int, seed: int) -> pl.Series:
    """Draw a column with nulls, NaN, -0.0, infinities, extremes and repeated values."""
    rng = np.random.default_rng(seed)
    match dtype:
        case pl.List() | pl.Array():
            width = dtype.size if isinstance(dtype, pl.Array) else 20
            inner = values(dtype.inner, height * width, seed + 1)
            whole = inner.reshape((height, width)).arr.to_list()
            lengths = (
                [width] * height if isinstance(dtype, pl.Array) else rng.integers(0, width, height)
            )
            frame = pl.DataFrame({"whole": whole, "length": lengths})
            drawn = (
                frame.select(pl.col("whole").list.head(pl.col("length"))).to_series().cast(dtype)
            )
        case pl.String():
            drawn = pl.Series(rng.choice(STRINGS, height), dtype=dtype)
        case pl.Boolean():
            drawn = pl.Series(rng.integers(0, 2, height), dtype=pl.Int8).cast(dtype)
        case pl.Float32() | pl.Float64():
            mixed = np.where(rng.random(height) < 0.3, rng.choice(FLOATS, height), 0)
            spread = rng.normal(size=height) * 10.0 ** rng.integers(-6, 6, height)
            drawn = pl.Series(np.where(mixed == 0, spread, mixed)).cast(dtype)
        case pl.Time():
            drawn = pl.Series(rng.integers(0, 86_400 * 10**6, height) * 1000).cast(dtype)
        case pl.Date():
            drawn = pl.Series(rng.integers(-80_000, 80_000, height)).cast(pl.Int32).cast(dtype)
        case pl.Datetime() | pl.Duration():
            drawn = pl.Series(rng.integers(-(10**15), 10**16, height)).cast(dtype)
        case _:
            low, high = (int(pl.select(f()).item()) for f in (dtype.min, dtype.max))
            small = rng.integers(max(low, -5), 13, height)
            wide = rng.integers(low, high, height, endpoint=True, dtype=dtype_numpy(dtype))
            drawn = pl.Series(np.where(rng.random(height) < 0.5, small, wide)).cast(dtype)
    gaps = pl.Series(rng.random(height) < 0.12)
    return drawn.zip_with(~gaps, pl.Series([None], dtype=drawn.dtype))


def dtype_numpy(dtype: pl.DataType) -> str:
    return str(dtype).lower()


def sample(dtype: pl.DataType, height: int = 1000, seed: int = 0) -> pl.DataFrame:
    return pl.DataFrame(
        {"x": values(dtype, height, 2 * seed + 7), "y": values(dtype, height, 2 * seed + 8)}
    )


def program_of(expressions: Sequence[pl.Expr], schema: Mapping[str, pl.DataType]) -> Program:
    return Program(
        names=tuple(str(i) for i in range(len(expressions))),
        dtypes=tuple(output_dtype(e, schema, path="example") for e in expressions),
        expressions=tuple(e.alias(str(i)) for i, e in enumerate(expressions)),
        inputs=dict(schema),
        path="example",
    )


def accepted(expr: pl.Expr, frame: pl.DataFrame) -> bool:
    """Tell whether an expression may be a feature over these columns and their values."""
    try:
        check(expr, path="example")
        output_dtype(expr, frame.schema, path="example")
        frame.select(expr)
    except (InvalidExpression, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return False
    return True


def bits(column: pl.Series) -> list[pl.Series]:
    """Give a column's raw bits as integer columns: lengths, validity and payload."""
    dtype = column.dtype
    if isinstance(dtype, pl.Array):
        return bits(column.arr.to_list())
    if isinstance(dtype, pl.List):
        flat = column.drop_nulls().list.explode(empty_as_null=False)
        return [column.list.len(), *bits(flat)]
    if dtype.is_float():
        whole = column.fill_null(0.0).to_numpy()
        return [column.is_null(), pl.Series(whole.view(f"u{whole.itemsize}"))]
    return [column]


def differing(left: pl.DataFrame, right: pl.DataFrame) -> list[str]:
    assert left.schema == right.schema
    assert left.height == right.height
    return [
        name
        for name in left.columns
        if not all(
            a.equals(b, null_equal=True)
            for a, b in zip(bits(left[name]), bits(right[name]), strict=True)
        )
    ]


def company(frame: pl.DataFrame, program: Program, rows: Sequence[int]) -> dict[str, list[str]]:
    """Give the features whose bits differ from the whole frame's, per way to cut the frame."""
    whole = transform(frame, program)
    n = frame.height
    backwards = list(range(n - 1, -1, -1))
    one_row_chunks = pl.concat([frame[i : i + 1] for i in range(n)], rechunk=False)
    cuts = {
        "1 row": pl.concat([transform(frame[i : i + 1], program) for i in rows]),
        "2 rows": pl.concat([transform(frame[i : i + 2], program)[:1] for i in rows if i + 2 <= n]),
        "3 rows": pl.concat([transform(frame[i : i + 3], program)[:1] for i in rows if i + 3 <= n]),
        "last of 3": pl.concat(
            [transform(frame[i - 2 : i + 1], program)[2:] for i in rows if i > 1]
        ),
        "twice": pl.concat([transform(frame[[i, i]], program)[:1] for i in rows]),
        "chunks": transform(one_row_chunks, program),
        "slice": transform(frame[n // 3 : n - 1], program),
        "reversed": transform(frame[backwards], program)[backwards],
        "sorted": transform(frame.with_row_index("i").sort("x"), program, keep=["i"])
        .sort("i")
        .drop("i"),
    }
    expected = {
        "1 row": whole[list(rows)],
        "2 rows": whole[[i for i in rows if i + 2 <= n]],
        "3 rows": whole[[i for i in rows if i + 3 <= n]],
        "last of 3": whole[[i for i in rows if i > 1]],
        "twice": whole[list(rows)],
        "chunks": whole,
        "slice": whole[n // 3 : n - 1],
        "reversed": whole,
        "sorted": whole,
    }
    found = {cut: differing(cuts[cut], expected[cut]) for cut in cuts}
    return {cut: names for cut, names in found.items() if names}


def shown(found: Mapping[str, list[str]], expressions: Sequence[pl.Expr]) -> dict[str, list[str]]:
    return {cut: [str(expressions[int(n)]) for n in names] for cut, names in found.items()}


def nodes(node: Node) -> set[str]:
    return {node.name}.union(*map(nodes, node.inputs))


def test_every_allowed_node_has_an_example() -> None:
    """The examples below are made of exactly the nodes of the allow-list."""
    x, y = pl.col("x"), pl.col("y")
    covered = set().union(*(nodes(parse(example(x, y))) for example in EXAMPLES))
    assert covered == set(ALLOWED)


def test_every_example_comes_back_from_its_bytes() -> None:
    """Encode, decode, encode: the same bytes for every node of the allow-list."""
    for example in EXAMPLES:
        written = encode(example(pl.col("x"), pl.col("y")), path="example")
        assert encode(decode(written, path="example"), path="example") == written


def test_every_example_takes_some_dtype() -> None:
    """No example is skipped on all dtypes, so no node goes untested."""
    x, y = pl.col("x"), pl.col("y")
    frames = [sample(dtype) for dtype in DTYPES.values()]
    idle = [
        str(expr)
        for expr in (example(x, y) for example in EXAMPLES)
        if not any(accepted(expr, frame) for frame in frames)
    ]
    assert idle == []


@pytest.mark.parametrize("kind", DTYPES)
def test_a_row_has_the_same_bits_in_any_company(kind: str) -> None:
    """For every node and dtype: 1, 2, 3 and 1000 rows, slices, one-row chunks, any order."""
    frame = sample(DTYPES[kind])
    x, y = pl.col("x"), pl.col("y")
    plain = [e for e in (example(x, y) for example in EXAMPLES) if accepted(e, frame)]
    divided = [e / 3.0 for e in plain if not parse(e).name.startswith(("Cast", "BinaryExpr"))]
    expressions = plain + [e for e in divided if accepted(e, frame)]
    found = company(frame, program_of(expressions, frame.schema), range(0, 1000, 40))
    assert shown(found, expressions) == {}


@given(
    kind=st.sampled_from(sorted(DTYPES)),
    seed=st.integers(0, 2**16),
    picks=st.lists(st.tuples(*[st.integers(0, len(EXAMPLES) - 1)] * 2), min_size=60, max_size=60),
)
@settings(max_examples=12, deadline=None)
def test_compositions_have_the_same_bits_in_any_company(
    kind: str, seed: int, picks: list[tuple[int, int]]
) -> None:
    """What holds for each node holds for nodes of nodes, divided by a literal too."""
    frame = sample(DTYPES[kind], height=120, seed=seed)
    x, y = pl.col("x"), pl.col("y")
    inner = [EXAMPLES[i](x, y) for _, i in picks]
    nested = [EXAMPLES[o](e, y) for (o, _), e in zip(picks, inner, strict=True)]
    drawn = [e for n in nested for e in (n, n / 0.3) if accepted(e, frame)]
    if drawn:
        found = company(frame, program_of(drawn, frame.schema), range(0, 120, 8))
        assert shown(found, drawn) == {}


def test_a_column_made_of_one_value_divides_like_any_other() -> None:
    """`with_columns(lit)` keeps one value in memory; the features do not notice."""
    made = sample(pl.Float64()).with_columns(y=pl.lit(3.0))
    written = made.with_columns(pl.Series("y", [3.0] * made.height))
    program = program_of([pl.col("x") / pl.col("y")], made.schema)
    assert differing(transform(made, program), transform(written, program)) == []


@pytest.mark.parametrize(
    "unstable",
    [
        pl.coalesce("x", 0.1) / 3,
        pl.when(pl.col("x") > 0).then(0.7).otherwise(pl.col("x")) / 3.0,
        pl.when(pl.col("x") > 0).then(0.7).otherwise(0.3).round(1) % 0.3,
        pl.col("x") // pl.when(pl.col("x").is_null()).then(3).otherwise(pl.col("x")),
    ],
    ids=str,
)
def test_divisions_that_no_frame_can_steady_are_refused(unstable: pl.Expr) -> None:
    """A division of or by a literal branch is refused, with the way out."""
    with pytest.raises(
        InvalidExpression, match=r"^v\.f: a division .*; divide inside the branches"
    ):
        check(unstable, path="v.f")


def test_polars_still_divides_by_shape() -> None:
    """The trap is real: if this fails, Polars has changed and the rule may be lifted."""
    draws = np.random.default_rng(0).random(200).tolist()
    expressions = [(pl.coalesce("x", value) / 3).alias(str(i)) for i, value in enumerate(draws)]
    equal_rows = pl.DataFrame({"x": [None, None]}, schema={"x": pl.Float64})
    mixed_rows = pl.DataFrame({"x": [None, 1.0]})
    assert differing(equal_rows.select(expressions)[:1], mixed_rows.select(expressions)[:1])
