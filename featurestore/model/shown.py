"""Expressions and features as people read them; their text identifies nothing."""

import polars as pl

from featurestore.model import expressions
from featurestore.model.documents import Expression, Feature, Function
from featurestore.model.tree import parse
from featurestore.model.words import span


def expression_text(expression: Expression, path: str) -> str:
    """Show an expression, or the dialect of one that this process cannot read."""
    foreign = _foreign(expression)
    return foreign or expressions.text(expressions.decode(expression, path=path))


def formula(feature: Feature, path: str) -> str:
    """Show what a feature is computed of: `[(delay) > 15]`, `mean(delay, filter=late)`."""
    foreign = _foreign(feature.expression)
    if feature.window is None or foreign:
        return foreign or expression_text(feature.expression, path)
    return _call(feature.window.function, expressions.decode(feature.expression, path=path))


def feature_text(feature: Feature, path: str) -> str:
    """Show what a feature is, its window included: `mean(delay) over 7d every 1h`."""
    one = feature.window
    over = "" if one is None else f" over {span(one.length)} every {span(one.every)}"
    return formula(feature, path) + over


def _foreign(expression: Expression) -> str:
    dialects = [spelling.dialect for spelling in expression.spellings]
    return "" if expressions.DIALECT in dialects else f"an expression of {', '.join(dialects)}"


def _call(function: Function, row: pl.Expr) -> str:
    """Show a function as a definition calls it; the inverse of `declare.windows.Aggregate.input`.

    That makes `when(filter).then(of)`; of a count `when(there & filter).then(True)`, where `there`
    is `of.is_not_null()`, or true.
    """
    arguments, kept = [row], None
    parts = row.meta.pop() if parse(row).name == "Ternary" else []
    if parts and parts[1].meta.eq(pl.lit(None)):
        kept, arguments = parts[0], [parts[2]]
        if function == "count":
            both = kept.meta.pop()[::-1] if parse(kept).name == "BinaryExpr.And" else [kept]
            arguments, kept = both[0].meta.pop(), both[1] if len(both) > 1 else None
    shown = [expressions.text(one) for one in arguments]
    shown += [] if kept is None else [f"filter={expressions.text(kept)}"]
    return f"{function}({', '.join(shown)})"
