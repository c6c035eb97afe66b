"""The one evaluator: features of a frame, the same bits for a row in any company.

Polars' own results depend on the shape of a frame (measured, Polars 2.1): one row divides by a
literal where many rows multiply by its reciprocal, and so does a one-row chunk; a column that was
made from one value (`with_columns(pl.lit(3.0))`) stays one value and makes the divisions by it
differ, which `rechunk` does not change. So every evaluation here is eager, over columns that are
real columns in one chunk, at least two rows of them. What a frame cannot neutralize is not on the
allow-list (`model.allowed`, `model.broadcast`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import polars as pl

from featurestore.errors import InvalidDefinition, InvalidRequest
from featurestore.model.documents import Feature
from featurestore.model.expressions import decode, output_dtype, reads, unknown_column
from featurestore.model.schema import parse_dtype

_FAILURES = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Decoded features, ready to run: names, output dtypes and expressions, in one order.

    `inputs` maps the columns they read to the dtypes they read them as; `path` is for errors.
    """

    names: tuple[str, ...]
    dtypes: tuple[pl.DataType, ...]
    expressions: tuple[pl.Expr, ...]
    inputs: Mapping[str, pl.DataType]
    path: str


def program(features: Sequence[Feature], *, path: str) -> Program:
    """Decode features into a program; `path` is the dotted path that their names follow.

    Raises:
        Unsupported: a feature has no bytes in the running Polars' dialect.
        CorruptData: a feature's bytes are not what was written.
        InvalidExpression: the bytes hold a node that is not ROW, or read an undeclared column.
        InvalidDefinition: an expression does not give the declared dtype.
    """
    inputs: dict[str, pl.DataType] = {}
    expressions = []
    for feature in features:
        where = f"{path}.{feature.name}"
        columns = {column.name: column.polars for column in feature.reads}
        expr = decode(feature.expression, path=where)
        given, declared = output_dtype(expr, columns, path=where), parse_dtype(feature.dtype)
        if given != declared:
            raise InvalidDefinition(
                f"{where}: declared {feature.dtype}, but its expression gives {given}; "
                "apply the definition again"
            )
        for name, dtype in columns.items():
            if inputs.setdefault(name, dtype) != dtype:
                raise InvalidDefinition(
                    f"{where}: reads {name!r} as {dtype}, another feature as {inputs[name]}; "
                    "apply the definitions again"
                )
        expressions.append(expr.alias(feature.name))
    return Program(
        names=tuple(feature.name for feature in features),
        dtypes=tuple(parse_dtype(feature.dtype) for feature in features),
        expressions=tuple(expressions),
        inputs=MappingProxyType(inputs),
        path=path,
    )


def transform(frame: pl.DataFrame, program: Program, *, keep: Sequence[str] = ()) -> pl.DataFrame:
    """Give the kept columns, then the features: same rows, same order.

    Raises:
        InvalidRequest: an input column is missing or of another dtype, a kept column has a
            feature's name, or a feature cannot be computed of these values (they are not shown).
    """
    given = {name: _column(frame, name, program.path) for name in program.inputs}
    kept = _kept(frame, program, keep)
    features = compute(given, frame.height, program)
    return pl.DataFrame([*kept, *features.get_columns()]) if kept else features


def compute(columns: Mapping[str, pl.Series], rows: int, program: Program) -> pl.DataFrame:
    """Give the features of columns of so many rows each; they are named by what reads them.

    Raises:
        InvalidRequest: a column is of another dtype than it is read as, or a feature cannot be
            computed of these values (they are not shown).
    """
    inputs = [_exact(columns[name], name, program) for name in program.inputs]
    try:
        features = _evaluate(inputs, rows, program.expressions)
    except _FAILURES:
        features = None
    if features is None:
        raise InvalidRequest(_culprit(inputs, rows, program))
    if tuple(features.dtypes) != program.dtypes:
        raise InvalidRequest(_drifted(features, program))
    return features


def select(frame: pl.DataFrame, predicate: pl.Expr) -> pl.DataFrame:
    """Give the rows for which a ROW predicate is true; null counts as false.

    Raises:
        InvalidRequest: a column is missing, the predicate is not Boolean, or it cannot be computed
            of these values (they are not shown).
    """
    inputs = [_column(frame, name, "filter") for name in reads(predicate)]
    try:
        mask = _evaluate(inputs, frame.height, (predicate.alias("_"),)).get_column("_")
    except _FAILURES as error:
        kind = type(error).__name__
    else:
        if mask.dtype == pl.Boolean:
            return frame.filter(mask)
        kind = f"it gives {mask.dtype}, not Boolean"
    raise InvalidRequest(f"filter: cannot be computed of these rows ({kind}); cast non-strictly")


def _evaluate(
    columns: Sequence[pl.Series], height: int, expressions: Sequence[pl.Expr]
) -> pl.DataFrame:
    """Run expressions over real columns in one chunk, two rows at least; give `height` rows."""
    if height == 1:
        # Before they are a frame again: a frame keeps a column of one row as one value.
        columns = [column.new_from_index(0, 2) for column in columns]
    values = pl.DataFrame(columns).rechunk().select(expressions)
    if values.height == height:
        return values
    if height == 1 and values.height == 2:
        return values.head(1)
    if columns or values.height != 1:
        raise pl.exceptions.ShapeError
    # Only literals: one row came out, whatever the height.
    return pl.DataFrame([value.new_from_index(0, height) for value in values.get_columns()])


def _column(frame: pl.DataFrame, name: str, path: str) -> pl.Series:
    """Take a column out of a frame as a real column, also where the frame holds one value."""
    try:
        return frame.get_column(name)
    except pl.exceptions.ColumnNotFoundError:
        raise InvalidRequest(f"{path}: {unknown_column(name, frame.schema)}") from None


def _exact(column: pl.Series, name: str, program: Program) -> pl.Series:
    dtype = program.inputs[name]
    if column.dtype != dtype:
        raise InvalidRequest(
            f"{program.path}: column {name!r} is {column.dtype}, the features read it as "
            f"{dtype}; cast it first"
        )
    return column.alias(name)


def _kept(frame: pl.DataFrame, program: Program, keep: Sequence[str]) -> list[pl.Series]:
    for name in keep:
        if name in program.names:
            raise InvalidRequest(
                f"{program.path}.{name}: the kept column {name!r} has the feature's name; "
                "rename one of them"
            )
    return [_column(frame, name, program.path) for name in keep]


def _culprit(columns: Sequence[pl.Series], height: int, program: Program) -> str:
    """Name the first feature that fails alone; Polars' message holds values, so it stays out."""
    for name, expression in zip(program.names, program.expressions, strict=True):
        try:
            _evaluate(columns, height, (expression,))
        except _FAILURES as error:
            return (
                f"{program.path}.{name}: cannot be computed of these rows "
                f"({type(error).__name__}); mend the values it reads "
                f"({', '.join(reads(expression))}), or make its casts non-strict"
            )
    return f"{program.path}: the features cannot be computed together; two may share a name"


def _drifted(features: pl.DataFrame, program: Program) -> str:
    drifts = [
        f"{name} gave {given} for {declared}"
        for name, given, declared in zip(
            program.names, features.dtypes, program.dtypes, strict=True
        )
        if given != declared
    ]
    return f"{program.path}: {'; '.join(drifts)}; apply the definitions again"
