"""The tree of an expression: Polars' serialized nodes, read without believing them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

LIST = "Literal.List"
SERIES = "Literal.Series"
LITERALS = frozenset({"Literal.Dyn", "Literal.Scalar"})

_NAMESPACES = frozenset(
    {
        *("Boolean", "StringExpr", "TemporalExpr", "ListExpr", "ArrayExpr", "StructExpr"),
        *("Categorical", "Pow", "Trigonometry", "Bitwise", "Business", "Range"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node of an expression's tree: its name, its inputs and its other arguments."""

    name: str
    inputs: tuple["Node", ...] = ()
    arguments: Any = None


def parse(expr: pl.Expr) -> Node:
    """Read an expression's tree; nothing in it is evaluated, a node not understood keeps its name.

    Raises:
        polars.exceptions.PolarsError: Polars cannot write the expression down.
        RecursionError: it is nested too deeply.
    """
    return _node(json.loads(expr.meta.serialize(format="json")))


def constants(expr: pl.Expr) -> tuple[str, ...]:
    """Give all that an expression names and counts, sorted: columns, literals, arguments.

    Two ways to write one expression have the same. It is walked, never evaluated.
    """
    return tuple(sorted(_leaves(json.loads(expr.meta.serialize(format="json")))))


def _leaves(tree: Any, *, named: bool = False) -> Iterator[str]:
    """Give the leaves that are values; other words are the names of nodes, which may move."""
    if isinstance(tree, dict):
        for key, inner in tree.items():
            yield from _leaves(inner, named=named or key in ("Column", "Literal"))
    elif isinstance(tree, list):
        for inner in tree:
            yield from _leaves(inner, named=named)
    elif named or (isinstance(tree, int | float) and not isinstance(tree, bool)):
        yield repr(tree)


def _node(tree: Any) -> Node:  # noqa: C901, PLR0911 - one case per kind of node
    if isinstance(tree, dict) and len(tree) != 1:
        return Node(name="nothing")
    match tree:
        case {"Column": column}:
            return Node(name="Column", arguments=column)
        case {"Literal": {"Scalar": {"List": _}}}:
            return Node(name=LIST)
        case {"Literal": {"Series": _}}:
            return Node(name=SERIES)
        case {"Literal": dict(body)} if len(body) == 1:
            ((kind, value),) = body.items()
            return Node(name=f"Literal.{kind}", arguments=value)
        case {"Alias": [inner, str(name)]}:
            return Node(name="Alias", inputs=(_node(inner),), arguments=name)
        case {"BinaryExpr": {"left": left, "op": str(op), "right": right, **more}} if not more:
            return Node(name=f"BinaryExpr.{op}", inputs=(_node(left), _node(right)))
        case {"Cast": {"expr": inner, "dtype": dtype, "options": str(), **more}} if not more:
            return Node(name="Cast", inputs=(_node(inner),), arguments=dtype)
        case {"Ternary": {"predicate": test, "truthy": yes, "falsy": no, **more}} if not more:
            return Node(name="Ternary", inputs=(_node(test), _node(yes), _node(no)))
        case {"Function": {"input": list(inputs), "function": function, **more}} if not more:
            name, arguments = _function(function)
            return Node(name=name, inputs=tuple(map(_node, inputs)), arguments=arguments)
    return Node(name=_unknown(tree))


def _function(function: Any) -> tuple[str, Any]:
    if isinstance(function, str):
        return function, None
    ((name, arguments),) = function.items()
    if name not in _NAMESPACES:
        return name, arguments
    inner, arguments = _function(arguments)
    return f"{name}.{inner}", arguments


def _unknown(tree: Any) -> str:
    """Name a node that is not understood, with its kind where that is a name: `Agg.Mean`."""
    if not isinstance(tree, dict):
        return str(tree)
    name, body = next(iter(tree.items()), ("nothing", None))
    if name == "RenameAlias" and isinstance(body, dict):
        body = body.get("function")
    kind = next(iter(body), None) if isinstance(body, dict) and len(body) == 1 else None
    return f"{name}.{kind}" if kind is not None else str(name)
