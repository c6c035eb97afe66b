"""Polars expressions as documents: checked node by node, written as bytes, read back only if safe.

Every feature is ROW: one row in, one row out, whatever rows stand beside it. The walk in `check`
must know every node (`model.allowed`); `decode` walks before anything is evaluated, because bytes
can hold a pickled function that Polars would run (measured: not when it parses, but as soon as it
asks for the schema).
"""

import difflib
import io
import re
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from featurestore.errors import CorruptData, InvalidExpression, Unsupported
from featurestore.model.allowed import ALLOWED, LIST_ARGUMENTS
from featurestore.model.broadcast import unstable_division
from featurestore.model.documents import Expression, Spelling
from featurestore.model.refused import reason, spoken
from featurestore.model.tree import LIST, SERIES, Node, parse

DIALECT = "polars-" + ".".join(pl.__version__.split(".")[:2])

_ARITHMETIC = frozenset(
    f"BinaryExpr.{op}"
    for op in ("Plus", "Minus", "Multiply", "TrueDivide", "FloorDivide", "TruncDivide", "Modulus")
)
_TYPED = _ARITHMETIC | {"Cast", "ListExpr.Sum", "ListExpr.Mean", "Replace", "ReplaceStrict"}
_COLUMN = re.compile(r'\(col\("(\w+)"\)\)')
_LITERAL = re.compile(r"\(dyn (?:int|float): ([^()]*)\)")
_TEMPORAL = (pl.Date, pl.Datetime, pl.Time, pl.Duration)


def check(expr: pl.Expr, *, path: str) -> None:
    """Accept an expression that is ROW: native nodes of the allow-list only, exactly one output.

    Raises:
        InvalidExpression: names the path, the node, the reason and the way out.
    """
    try:
        why = _refusal(parse(expr))
    except RecursionError:
        why = "it is nested too deeply; split it, or compute a part upstream as a source column"
    except pl.exceptions.PolarsError:
        why = "Polars cannot write it down, so it has no stable identity; use native expressions"
    if why is not None:
        raise InvalidExpression(f"{path}: {why}")


def encode(expr: pl.Expr, *, path: str) -> Expression:
    """Write an expression as bytes of the running Polars' dialect, after `check`.

    Raises:
        InvalidExpression: the expression is not ROW.
    """
    check(expr, path=path)
    return Expression(spellings=(Spelling(dialect=DIALECT, data=expr.meta.serialize()),))


def decode(expression: Expression, *, path: str) -> pl.Expr:
    """Read an expression back from its bytes; it is walked before anything could evaluate it.

    Raises:
        Unsupported: no spelling is of the running Polars' dialect.
        CorruptData: the bytes are not what `encode` wrote.
        InvalidExpression: the bytes hold a node that is not ROW.
    """
    data = next((s.data for s in expression.spellings if s.dialect == DIALECT), None)
    if data is None:
        dialects = ", ".join(s.dialect for s in expression.spellings) or "no dialect"
        raise Unsupported(
            f"{path}: its bytes are of {dialects}, this process runs {DIALECT}; "
            f"run `featurestore apply` with {DIALECT}, or install the Polars of its dialect"
        )
    try:
        expr = pl.Expr.deserialize(io.BytesIO(data), format="binary")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        expr = None
    if expr is None:
        raise CorruptData(
            f"{path}: the expression's bytes do not parse; apply the definition again"
        )
    if expr.meta.serialize() != data:
        raise CorruptData(
            f"{path}: the expression's bytes are not as Polars writes them; "
            "apply the definition again"
        )
    check(expr, path=path)
    return expr


def reread(expression: Expression, *, path: str) -> pl.Expr | None:
    """Read an expression of any dialect as the running Polars does; None if it cannot.

    Whether it still means the same is for the caller to find out.
    """
    for spelling in expression.spellings:
        try:
            expr = pl.Expr.deserialize(io.BytesIO(spelling.data), format="binary")
            check(expr, path=path)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, InvalidExpression):
            continue
        return expr
    return None


def reads(expr: pl.Expr) -> tuple[str, ...]:
    """Give the names of the columns an expression reads, sorted, each once."""
    return tuple(sorted(set(expr.meta.root_names())))


def text(expr: pl.Expr) -> str:
    """Show an expression to people; it drops arguments, so it identifies nothing.

    Polars' own text, with columns and untyped literals as they are written: `[(delay) > 15]`.
    """
    return _COLUMN.sub(r"(\1)", _LITERAL.sub(r"\1", str(expr)))


def output_dtype(expr: pl.Expr, schema: Mapping[str, pl.DataType], *, path: str) -> pl.DataType:
    """Give the dtype of a checked expression's output over columns of these dtypes.

    Raises:
        InvalidExpression: it reads a column that is not there, Polars cannot type it, or a node
            that is ROW for other dtypes is not for these.
    """
    for name in reads(expr):
        if name not in schema:
            raise InvalidExpression(f"{path}: {unknown_column(name, schema)}")
    parts = [part for part in _parts(expr) if part.meta.root_names()] or [expr]
    dtypes = _computed(parts, schema, path)
    for part, dtype in zip(parts, dtypes, strict=True):
        why = _typed_refusal(part, dtype, schema)
        if why is not None:
            raise InvalidExpression(f"{path}: {why}")
    return dtypes[0]


def unknown_column(name: str, known: Mapping[str, object]) -> str:
    """Say that a column is not there, and which one may be meant."""
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(known))}"
    return f"column {name!r} is not in the source; {hint}"


def _parts(expr: pl.Expr) -> Iterator[pl.Expr]:
    """Give an expression, then all expressions inside it."""
    stack = [expr]
    while stack:
        part = stack.pop()
        yield part
        stack.extend(part.meta.pop())


def _computed(
    parts: Sequence[pl.Expr], schema: Mapping[str, pl.DataType], path: str
) -> list[pl.DataType]:
    """Give the dtypes of expressions, planned by Polars and confirmed by computing over no rows.

    Both, because Polars 2.1 plans some dtypes that it does not compute: the mean_horizontal of
    Float32 columns is planned Float32 and comes as Float64.
    """
    named = [part.alias(str(at)) for at, part in enumerate(parts)]
    query = pl.LazyFrame(schema=dict(schema)).select(named)
    try:
        planned = query.collect_schema().dtypes()
        given = query.collect(engine="in-memory").dtypes
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        message = str(error).partition("\n")[0]
    else:
        pairs = zip(planned, given, strict=True)
        drift = next((pair for pair in pairs if pair[0] != pair[1]), None)
        if drift is None:
            return planned
        message = f"Polars plans {drift[0]} but computes {drift[1]}"
    raise InvalidExpression(f"{path}: {message}; mend it or cast its inputs")


def _typed_refusal(
    part: pl.Expr, dtype: pl.DataType, schema: Mapping[str, pl.DataType]
) -> str | None:
    """Refuse what is ROW for some dtypes only (the walk of names cannot know)."""
    node = parse(part)
    if node.name not in _TYPED:
        return None
    children = part.meta.pop()[::-1]
    inputs = pl.LazyFrame(schema=dict(schema)).select(
        child.alias(str(at)) for at, child in enumerate(children[:2])
    )
    first, *others = inputs.collect_schema().dtypes()
    if node.name == "Cast" and first == pl.String and dtype in _TEMPORAL:
        return (
            "a cast from String to a time guesses the format from the rows it sees; "
            "use str.to_date or str.to_datetime with a format"
        )
    if node.name in _ARITHMETIC and any(
        isinstance(d, pl.List | pl.Array) for d in (first, *others)
    ):
        return (
            "arithmetic on lists depends on the lengths of the lists beside it; "
            "use the list and array functions, or compute it upstream as a source column"
        )
    if node.name in ("ListExpr.Sum", "ListExpr.Mean") and _may_hold_nulls(node, first):
        return (
            f"{spoken(node.name)} adds floats in another order when a list beside it holds a null; "
            "write .list.drop_nulls() before it"
        )
    if node.name in ("Replace", "ReplaceStrict") and node.inputs[1].name == LIST:
        keys = pl.select(children[1].alias("_")).item().cast(first, strict=False)
        if keys.is_duplicated().any():
            return f"its keys are not distinct as {first}, which multiplies rows; use when/then"
    return None


def _may_hold_nulls(node: Node, dtype: pl.DataType) -> bool:
    floats = isinstance(dtype, pl.List) and dtype.inner in (pl.Float32, pl.Float64)
    return floats and node.inputs[0].name != "ListExpr.DropNulls"


def _refusal(node: Node, takes: str | None = None) -> str | None:
    """Give why a tree is refused, or None; `takes` is the kind of literal list allowed here."""
    rule = ALLOWED.get(node.name)
    if rule is None:
        return reason(node)
    if node.name in (LIST, SERIES) and node.name != takes:
        return "a literal list is not one value per row; write single literals, or use is_in"
    why = rule(node)
    if why is not None:
        return f"{spoken(node.name)}: {why}"
    if unstable_division(node):
        return (
            "a division of or by a literal branch (when/then, coalesce) has another last bit when "
            "all rows take it; divide inside the branches, or use fill_null"
        )
    takes = LIST_ARGUMENTS.get(node.name)
    children = (_refusal(child, takes if at else None) for at, child in enumerate(node.inputs))
    return next((why for why in children if why is not None), None)
