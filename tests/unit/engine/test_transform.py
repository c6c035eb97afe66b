"""The evaluator: rows, order, dtypes and errors."""

import polars as pl
import pytest

from featurestore.engine.transform import Program, program, select, transform
from featurestore.errors import CorruptData, InvalidDefinition, InvalidExpression, InvalidRequest
from featurestore.model.documents import Expression, Feature, Spelling
from featurestore.model.expressions import DIALECT, encode
from featurestore.model.schema import Column

A, S = Column(name="a", dtype="int64"), Column(name="s", dtype="string")


def feature(name: str, expr: pl.Expr, dtype: str, reads: tuple[Column, ...] = (A,)) -> Feature:
    return Feature(id="0", name=name, dtype=dtype, expression=encode(expr, path=name), reads=reads)


def compiled(*features: Feature) -> Program:
    return program(features, path="v.features")


BIG = feature("big", pl.col("a") > 2, "bool")
FIVE = feature("five", pl.lit(5), "int32", ())
NUMBER = feature("number", pl.col("s").cast(pl.Int64), "int64", (S,))


@pytest.mark.parametrize("height", [0, 1, 2, 3, 10])
def test_rows_and_their_order_stay(height: int) -> None:
    """Rows out are rows in: for any height, also for features of literals alone."""
    frame = pl.DataFrame(
        {"key": range(height), "a": range(height)}, schema_overrides={"a": pl.Int64}
    )
    out = transform(frame, compiled(BIG, FIVE), keep=["key"])
    assert out.columns == ["key", "big", "five"]
    assert out["key"].to_list() == list(range(height))
    assert out["big"].to_list() == [a > 2 for a in range(height)]
    assert transform(frame, compiled(FIVE))["five"].to_list() == [5] * height
    assert out.schema["five"] == pl.Int32


def test_a_feature_may_have_the_name_of_a_column_it_reads() -> None:
    """Features replace nothing while they are computed."""
    both = compiled(feature("a", pl.col("a") + 1, "int64"), feature("b", pl.col("a") * 10, "int64"))
    out = transform(pl.DataFrame({"a": [1, 2]}), both)
    assert out.to_dict(as_series=False) == {"a": [2, 3], "b": [10, 20]}


def test_a_frame_without_its_columns_is_untouched() -> None:
    """The frame that comes in is not changed, whatever its chunks."""
    frame = pl.concat([pl.DataFrame({"a": [i]}) for i in range(3)], rechunk=False)
    transform(frame, compiled(BIG))
    assert frame.n_chunks() == 3


@pytest.mark.parametrize(
    ("frame", "keep", "words"),
    [
        ({"b": [1]}, [], "v.features: column 'a' is not in the source; there are b"),
        ({"a": [1.5]}, [], "column 'a' is Float64, the features read it as Int64; cast it"),
        ({"a": [1]}, ["key"], "column 'key' is not in the source"),
        ({"a": [1], "big": [2]}, ["big"], "v.features.big: the kept column 'big' has"),
    ],
)
def test_inputs_that_do_not_fit_are_named(
    frame: dict[str, list[object]], keep: list[str], words: str
) -> None:
    """A missing, mistyped or clashing column is an invalid request by name."""
    with pytest.raises(InvalidRequest, match=words):
        transform(pl.DataFrame(frame), compiled(BIG), keep=keep)


def test_a_poison_value_names_the_feature_and_hides_the_value() -> None:
    """The failing feature is named among others; its values stay out of the error."""
    frame = pl.DataFrame({"a": [1, 2], "s": ["7", "secret"]})
    with pytest.raises(InvalidRequest, match=r"^v\.features\.number: cannot be computed") as error:
        transform(frame, compiled(BIG, NUMBER))
    assert "secret" not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__context__ is None


def test_a_declared_dtype_must_be_what_the_expression_gives() -> None:
    """A document that claims another dtype is refused when it is compiled."""
    with pytest.raises(InvalidDefinition, match=r"v\.features\.x: declared float64.*gives Int64"):
        compiled(feature("x", pl.col("a") + 1, "float64"))


def test_features_must_agree_on_what_they_read() -> None:
    """One column has one dtype in one program."""
    other = feature("y", pl.col("a") > 1.5, "bool", (Column(name="a", dtype="float64"),))
    with pytest.raises(InvalidDefinition, match="reads 'a' as Float64, another feature as Int64"):
        compiled(BIG, other)


def test_an_undeclared_column_is_refused() -> None:
    """An expression reads what its document says, nothing else."""
    with pytest.raises(InvalidExpression, match="column 'a' is not in the source"):
        compiled(feature("x", pl.col("a") + 1, "int64", (S,)))


def test_bytes_are_walked_before_they_run() -> None:
    """A feature whose bytes are not ROW, or not bytes of an expression, never runs."""
    stored = Expression(
        spellings=(Spelling(dialect=DIALECT, data=pl.col("a").cum_sum().meta.serialize()),)
    )
    bad = Feature(id="0", name="x", dtype="int64", expression=stored, reads=(A,))
    with pytest.raises(InvalidExpression, match=r"v\.features\.x: cum_sum"):
        compiled(bad)
    torn = Expression(spellings=(Spelling(dialect=DIALECT, data=b"\x81"),))
    with pytest.raises(CorruptData, match=r"v\.features\.x"):
        compiled(Feature(id="0", name="x", dtype="int64", expression=torn, reads=(A,)))


@pytest.mark.parametrize("values", [[], [1], [3], [None], [1, 3, None, 4]])
def test_a_filter_keeps_the_true_rows(values: list[int | None]) -> None:
    """Null counts as false; order and columns stay."""
    frame = pl.DataFrame(
        {"a": values, "i": range(len(values))}, schema={"a": pl.Int64, "i": pl.Int64}
    )
    kept = select(frame, pl.col("a") > 2)
    assert kept.columns == ["a", "i"]
    assert kept["a"].to_list() == [v for v in values if v is not None and v > 2]


def test_a_filter_that_does_not_fit_is_named() -> None:
    """A missing column, another dtype than Boolean and a poison value are invalid requests."""
    frame = pl.DataFrame({"a": [1, 2], "s": ["1", "secret"]})
    with pytest.raises(InvalidRequest, match="filter: column 'b' is not in the source"):
        select(frame, pl.col("b") > 1)
    with pytest.raises(InvalidRequest, match="gives Int64, not Boolean"):
        select(frame, pl.col("a") + 1)
    with pytest.raises(InvalidRequest, match="filter: cannot be computed") as error:
        select(frame, pl.col("s").cast(pl.Int64) > 1)
    assert "secret" not in str(error.value)
