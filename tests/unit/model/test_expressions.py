"""Expressions: what is accepted, what is refused and how, and how they travel as bytes."""

import datetime as dt
import io
import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from featurestore.errors import CorruptData, InvalidExpression, Unsupported
from featurestore.model.documents import Expression, Spelling
from featurestore.model.expressions import (
    DIALECT,
    check,
    decode,
    encode,
    output_dtype,
    reads,
    text,
)

PATH = "plane_history.features.was_late"
A, B, S, T, L = (pl.col(name) for name in "abstl")

REFUSED = {
    # aggregates
    "mean": (A - A.mean(), "mean looks at many rows"),
    "sum": (A.sum(), "sum looks at many rows"),
    "median": (A.median(), "median looks at many rows"),
    "std": (A.std(), "std looks at many rows"),
    "n_unique": (A.n_unique(), "n_unique looks at many rows"),
    "first": (A.first(), "first looks at many rows"),
    "len": (pl.len(), "len looks at many rows"),
    "count": (A.count(), "count looks at many rows"),
    "any": (A.any(), "any looks at many rows"),
    "quantile": (A.quantile(0.5), "looks at many rows"),
    "product": (A.product(), "looks at many rows"),
    "has_nulls": (A.has_nulls(), "looks at many rows"),
    "corr": (pl.corr(A, B), "looks at many rows"),
    "implode": (A.implode(), "looks at many rows"),
    "dot": (A.dot(B), "sum looks at many rows"),
    "str_join": (S.str.join(), "looks at many rows"),
    # windows
    "over": (A.sum().over("b"), "over looks at many rows"),
    "rolling": (A.sum().rolling("t", period="1d"), "rolling looks at many rows"),
    "rolling_mean": (A.rolling_mean(3), "looks at many rows"),
    "rolling_sum_by": (A.rolling_sum_by("t", "1d"), "looks at many rows"),
    "rank": (A.rank(), "rank looks at many rows"),
    "bin_quantiles": (A.bin_quantiles([0.5], labels=False), "bin takes its bins from the rows"),
    "is_duplicated": (A.is_duplicated(), "looks at many rows"),
    "is_first_distinct": (A.is_first_distinct(), "looks at many rows"),
    "is_unique": (A.is_unique(), "looks at many rows"),
    # order
    "shift": (A.shift(), "shift depends on the order of the rows"),
    "diff": (A.diff(), "diff depends on the order"),
    "pct_change": (A.pct_change(), "depends on the order"),
    "cum_sum": (A.cum_sum(), "cum_sum depends on the order"),
    "cum_count": (A.cum_count(), "depends on the order"),
    "ewm_mean": (A.ewm_mean(com=1), "depends on the order"),
    "interpolate": (A.interpolate(), "depends on the order"),
    "reverse": (A.reverse(), "depends on the order"),
    "set_sorted": (A.set_sorted(), "depends on the order"),
    "rle_id": (A.rle_id(), "rle_id depends on the order"),
    # rows
    "sort": (A.sort(), "sort changes the number or the order"),
    "sort_by": (A.sort_by("b"), "sort_by changes the number or the order"),
    "unique": (A.unique(), "unique changes the number"),
    "explode": (L.explode(), "explode changes the number"),
    "filter": (A.filter(B > 1), "filter changes the number"),
    "head": (A.head(), "slice changes the number"),
    "gather": (A.gather([0]), "gather changes the number"),
    "get": (A.get(0), "gather changes the number"),
    "drop_nulls": (A.drop_nulls(), "drop_nulls changes the number"),
    "top_k": (A.top_k(2), "changes the number"),
    "mode": (A.mode(), "changes the number"),
    "arg_sort": (A.arg_sort(), "changes the number"),
    "append": (A.append(B), "changes the number"),
    "repeat_by": (A.repeat_by(2), "changes the number"),
    "int_range": (pl.int_range(0, 3), "int_range makes its own rows"),
    "int_ranges": (pl.int_ranges(0, A), "makes its own rows"),
    "repeat": (pl.repeat(1, 3), "changes the number"),
    "literal_series": (A + pl.lit(pl.Series([1, 2])), "a literal list is not one value per row"),
    "literal_list": (pl.lit([1, 2]), "a literal list is not one value per row"),
    "is_in_column": (A.is_in(B.implode()), "whole column"),
    "replace_column": (A.replace_strict(B, L), "write the mapping as literals"),
    # filling from other rows
    "forward": (A.fill_null(strategy="forward"), "fill_null.*this strategy looks at other rows"),
    "backward": (A.backward_fill(), "this strategy looks at other rows"),
    "fill_mean": (A.fill_null(strategy="mean"), "this strategy looks at other rows"),
    "fill_max": (A.fill_null(strategy="max"), "this strategy looks at other rows"),
    # random, clocks, instability
    "sample": (A.sample(1), "is random"),
    "shuffle": (A.shuffle(), "is random"),
    "list_sample": (L.list.sample(1), "is random"),
    "hash": (A.hash(), "hash is not stable over Polars versions"),
    "strptime": (S.str.to_datetime(), "give the format"),
    "to_date": (S.str.to_date(), "give the format"),
    # Python and plug-ins
    "map_elements": (
        A.map_elements(repr, return_dtype=pl.String),
        "map_elements runs Python and has no stable identity; compute it upstream",
    ),
    "map_batches": (A.map_batches(lambda s: s), "runs Python"),
    "nested_udf": (A.map_batches(lambda s: s).abs() + 1, "runs Python"),
    "fold": (pl.fold(0, lambda x, y: x + y, [A, B]), "fold runs Python"),
    "reduce": (pl.reduce(lambda x, y: x + y, [A, B]), "reduce runs Python"),
    "rolling_map": (A.rolling_map(sum, 3), "looks at many rows"),
    "name_map": (A.name.map(str.upper), "name.map runs Python"),
    # several outputs, names by rule
    "all": (pl.all(), "selector.* may stand for several columns"),
    "columns": (pl.col("a", "b"), "may stand for several columns"),
    "regex": (pl.col("^a.*$"), "may stand for several columns"),
    "dtype": (pl.col(pl.Int8), "may stand for several columns"),
    "exclude": (pl.all().exclude("a"), "may stand for several columns"),
    "nth": (pl.nth(0), "may stand for several columns"),
    "suffix": (A.name.suffix("x"), r"use .alias\("),
    "keep_name": (A.name.keep(), r"use .alias\("),
    # other worlds
    "struct": (pl.struct(A), "struct handles structs"),
    "field": (A.struct.field("x"), "handles structs"),
    "json_decode": (S.str.json_decode(pl.Int64), "handles structs"),
    "list_eval": (L.list.eval(pl.element() + 1), "evaluates an inner expression"),
    "element": (pl.element(), "evaluates an inner expression"),
    "cut": (A.bin_intervals([1.0], labels=["a", "b"]), "bin takes its bins"),
    "categorical": (S.cast(pl.Categorical), "dtype Categorical is not one the store keeps"),
    "enum": (S.cast(pl.Enum(["x"])), "dtype Enum is not one the store keeps"),
    "decimal": (A.cast(pl.Decimal(10, 2)), "dtype Decimal is not one the store keeps"),
    "object": (A.cast(pl.Object), "dtype Object is not one the store keeps"),
    "int128": (A.cast(pl.Int128), "dtype Int128 is not one the store keeps"),
    "list_decimal": (L.cast(pl.List(pl.Decimal(9, 2))), "dtype Decimal is not one the store"),
    "binary": (pl.lit(b"x"), "literal: kind Binary is not one the store keeps"),
    "to_physical": (T.to_physical(), "exposes storage"),
    "unknown": (S.bin.size(), "is not known to be one row in, one row out"),
    "deep": (sum((A for _ in range(3000)), A), "nested too deeply"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_row_is_refused_with_path_reason_and_way_out(kind: str) -> None:
    """Every kind of node that is not one row in, one row out is refused in words."""
    expr, words = REFUSED[kind]
    with pytest.raises(
        InvalidExpression, match=f"^plane_history.features.was_late: .*{words}"
    ) as it:
        check(expr, path=PATH)
    assert ";" in str(it.value)


@pytest.mark.parametrize(
    "outer",
    [
        lambda bad: bad + 1,
        lambda bad: pl.when(bad > 1).then(1).otherwise(0),
        lambda bad: pl.when(A > 1).then(bad),
        lambda bad: bad.cast(pl.Int8),
        lambda bad: bad.alias("x"),
        A.fill_null,
        lambda bad: A.is_between(0, bad),
        lambda bad: bad.is_in([1]),
        lambda bad: pl.max_horizontal(A, B, bad),
        lambda bad: A.replace_strict({1: 2}, default=bad),
    ],
)
def test_all_children_are_walked(outer: object) -> None:
    """A refused node is found wherever it sits."""
    with pytest.raises(InvalidExpression, match="mean looks at many rows"):
        check(outer(A.mean()), path=PATH)  # type: ignore[operator]


def test_map_elements_is_refused_in_the_words_of_the_documentation() -> None:
    """The sentence that users will search for is exact."""
    with pytest.raises(InvalidExpression) as refused:
        check(A.map_elements(repr, return_dtype=pl.String), path=PATH)
    assert str(refused.value) == (
        "plane_history.features.was_late: map_elements runs Python and has no stable identity; "
        "compute it upstream as a source column"
    )


@pytest.mark.parametrize(
    "expr",
    [A + 1, A.is_in([1, 2]), A.replace({1: 2}), S.str.to_date("%Y"), A.fill_null(0), pl.lit(None)],
    ids=str,
)
def test_an_expression_comes_back_as_it_was_written(expr: pl.Expr) -> None:
    """Encode, then decode: the same expression, one spelling of the running dialect."""
    written = encode(expr, path=PATH)
    assert [s.dialect for s in written.spellings] == [DIALECT]
    assert decode(written, path=PATH).meta.eq(expr)
    assert encode(decode(written, path=PATH), path=PATH) == written


def test_equal_spellings_have_equal_bytes_and_other_arguments_do_not() -> None:
    """The bytes tell apart what a printed expression does not."""
    data = [
        encode(e, path=PATH).spellings[0].data
        for e in (A * 2, A * pl.lit(2), A.round(1), A.round(2), A.fill_null(0), A.fill_null(0.0))
    ]
    assert data[0] == data[1]
    assert len(set(data)) == 5


SCRIPT = """
import hashlib, polars as pl
from featurestore.model.expressions import encode
c = pl.col("a")
expressions = [c.is_in(["x", "y"]), pl.when(c == "q").then(1).otherwise(c.str.len_chars()),
               c.replace_strict({"a": 1, "b": 2}, default=None), c.str.to_datetime("%Y")]
data = b"".join(encode(e, path="v.f").spellings[0].data for e in expressions)
print(hashlib.sha256(data).hexdigest())
"""


def test_bytes_are_equal_across_processes_and_hash_seeds(tmp_path: Path) -> None:
    """Another process, hash seed and directory writes the same bytes."""
    root = str(Path(__file__).parents[3])
    seen = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            check=True,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": root},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


class Planted:
    """Touches a file when it is unpickled."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (self.target, "w"))


def planted(target: Path) -> bytes:
    """Give the bytes of an expression whose Python function is the pickle of `Planted`."""
    data = A.map_batches(lambda s: s).meta.serialize()
    start = data.index(b"\xa8function\xc5") + len(b"\xa8function\xc5")
    (length,) = struct.unpack(">H", data[start : start + 2])
    blob, rest = data[start + 2 : start + 2 + length], data[start + 2 + length :]
    blob = blob[: blob.index(b"\x80\x05\x95")] + pickle.dumps(Planted(str(target)), protocol=5)
    return data[:start] + struct.pack(">H", len(blob)) + blob + rest


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_planted_pickle_is_refused_and_never_loaded(tmp_path: Path) -> None:
    """Bytes that hold a pickled function are refused before it runs; Polars would have run it."""
    canary = tmp_path / "canary"
    data = planted(canary)
    for stored in (data, A.map_batches(lambda s: s).meta.serialize()):
        spelling = Spelling(dialect=DIALECT, data=stored)
        with pytest.raises((InvalidExpression, CorruptData)):
            decode(Expression(spellings=(spelling,)), path=PATH)
    with pytest.raises(InvalidExpression, match="runs Python"):
        check(pl.Expr.deserialize(io.BytesIO(data)), path=PATH)
    assert not canary.exists()
    with pytest.raises(pl.exceptions.PolarsError):
        pl.LazyFrame({"a": [1]}).select(pl.Expr.deserialize(io.BytesIO(data))).collect_schema()
    assert canary.exists()


def test_a_foreign_dialect_is_unsupported_by_name() -> None:
    """No spelling of this dialect: the error names theirs, ours and the command."""
    foreign = Expression(spellings=(Spelling(dialect="polars-1.0", data=b""),))
    with pytest.raises(Unsupported, match=rf"{PATH}: .*polars-1.0.*{DIALECT}.*featurestore apply"):
        decode(foreign, path=PATH)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda data: data[:-1],
        lambda data: data + b"\x00",
        lambda data: b"\x00" * len(data),
        lambda _: b"\x81\xa5Alias\x92" * 100_000,
    ],
)
def test_spoilt_bytes_are_corrupt_data(spoil: object) -> None:
    """Bytes that were not written by `encode` are named as such."""
    data = spoil(encode(A.is_in([1, 2]) | (B > 3), path=PATH).spellings[0].data)  # type: ignore[operator]
    with pytest.raises(CorruptData, match=PATH):
        decode(Expression(spellings=(Spelling(dialect=DIALECT, data=data),)), path=PATH)


def test_reads_are_sorted_and_each_once() -> None:
    """The columns that an expression names."""
    assert reads(pl.when(B > A).then(S).otherwise(B)) == ("a", "b", "s")
    assert reads(pl.lit(1)) == ()
    assert "a" in text(A + 1)


SCHEMA = {
    "a": pl.Int64(),
    "b": pl.Float32(),
    "s": pl.String(),
    "t": pl.Datetime("us", "UTC"),
    "l": pl.List(pl.Float64()),
    "ok": pl.Boolean(),
}


@pytest.mark.parametrize(
    ("expr", "dtype"),
    [
        (A > 15, pl.Boolean()),
        (A / 2, pl.Float64()),
        (B * 2, pl.Float32()),
        (T.dt.hour(), pl.Int8()),
        (T.dt.truncate("1h"), pl.Datetime("us", "UTC")),
        (S.str.to_date("%Y-%m-%d"), pl.Date()),
        (L.list.drop_nulls().list.sum(), pl.Float64()),
        (pl.lit(5), pl.Int32()),
    ],
    ids=str,
)
def test_output_dtypes_come_from_the_schema(expr: pl.Expr, dtype: pl.DataType) -> None:
    """Nobody writes a dtype twice."""
    assert output_dtype(expr, SCHEMA, path=PATH) == dtype


@pytest.mark.parametrize(
    ("expr", "words"),
    [
        (pl.col("arr_dely"), "column 'arr_dely' is not in the source; did you mean 'arr_delay'?"),
        (pl.col("zzzzzz"), "column 'zzzzzz' is not in the source; there are a, arr_delay, b"),
        (S.dt.hour(), "mend it or cast its inputs"),
        (A.list.sum(), "mend it or cast its inputs"),
        (S.cast(pl.Date), "guesses the format"),
        (S.str.to_lowercase().cast(pl.Datetime("us")), "guesses the format"),
        (L / 3, "arithmetic on lists"),
        (L.list.sum(), r"list.sum adds floats in another order .*list.drop_nulls\(\)"),
        (1 + L.list.mean(), "list.mean adds floats in another order"),
        (pl.col("ok").replace({1: True, 2: False}), "keys are not distinct as Boolean"),
    ],
    ids=str,
)
def test_what_the_dtypes_forbid_is_refused(expr: pl.Expr, words: str) -> None:
    """Unknown columns, dtype errors and nodes that are not ROW for these dtypes."""
    with pytest.raises(InvalidExpression, match=f"^{PATH}: .*{words}"):
        output_dtype(expr, {**SCHEMA, "arr_delay": pl.Float64()}, path=PATH)


def test_times_may_be_literals() -> None:
    """Dates, datetimes and durations are values like any other."""
    check((T - dt.datetime(2013, 1, 1, tzinfo=dt.UTC)) > dt.timedelta(days=1), path=PATH)
