"""Which divisions would give other bits in other company: the one shape trap a frame cannot undo.

Polars multiplies by the reciprocal when it divides a column by one value, and divides when both are
columns or both are one value; the last bit differs. One value is a literal, but also a branch: over
rows that all take it, `when(…).then(0.1).otherwise(col)` and `coalesce(col, 0.1)` are kept as one
value. So `coalesce(col, 0.1) / 3` has other bits in a frame of nulls than in a mixed one (measured,
Polars 2.1), and no preparation of the frame can tell Polars otherwise. Such divisions are refused.

Left alone are those where both ways agree: divisors (or dividends) whose every single value is a
power of two, zero, or missing, which covers flags and guards against division by zero.
"""

import math
from dataclasses import dataclass
from typing import Literal

from featurestore.model.tree import LIST, LITERALS, SERIES, Node

DIVISIONS = frozenset(
    f"BinaryExpr.{op}" for op in ("TrueDivide", "FloorDivide", "TruncDivide", "Modulus")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How a node's values may stand in memory, and whether its single values divide exactly.

    `rows`: always a column; `one`: always one value; `either`: it depends on the rows.
    """

    stands: Literal["rows", "one", "either"]
    exact: bool = True


_ROWS = Spread(stands="rows")


def unstable_division(node: Node) -> bool:
    """Tell whether a node is a division whose last bit depends on the rows that stand beside."""
    if node.name not in DIVISIONS:
        return False
    above, below = (_spread(child) for child in node.inputs)
    if below.stands == "rows" or below.exact:
        return False
    if below.stands == "one":
        return above.stands == "either" and not above.exact
    return above.stands != "one"


def _spread(node: Node) -> Spread:  # noqa: PLR0911 - one line per kind of node
    if node.name in LITERALS:
        return Spread(stands="one", exact=_is_exact(node))
    if node.name in (LIST, SERIES):
        return Spread(stands="one", exact=False)
    if not node.inputs:
        return _ROWS
    inputs = [_spread(child) for child in node.inputs]
    if node.name in ("Alias", "Cast"):
        return inputs[0]
    if node.name == "FillNull" and inputs[0] == _ROWS:
        return _ROWS
    if node.name in ("Ternary", "Coalesce", "FillNull"):
        return _branches(inputs, inputs[1:] if node.name == "Ternary" else inputs)
    if any(spread.stands == "rows" for spread in inputs):
        return _ROWS
    return Spread(stands=_together(inputs), exact=False)


def _branches(inputs: list[Spread], branches: list[Spread]) -> Spread:
    exact = all(branch.exact for branch in branches)
    if all(branch.stands == "rows" for branch in branches):
        return _ROWS
    return Spread(stands=_together(inputs), exact=exact)


def _together(inputs: list[Spread]) -> Literal["one", "either"]:
    return "one" if all(spread.stands == "one" for spread in inputs) else "either"


def _is_exact(literal: Node) -> bool:
    ((kind, value),) = literal.arguments.items()
    match value:
        case None | bool():
            return True
        case int() | float():
            return value == 0 or abs(math.frexp(value)[0]) == 0.5
    return bool(kind == "Null")
