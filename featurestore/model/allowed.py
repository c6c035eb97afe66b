"""The nodes an expression may be made of: an allow-list, as data.

Names are those of Polars' own serialized tree (Polars 2.1): `Column`, `BinaryExpr.Plus`,
`StringExpr.Lowercase`, … A node that is not here is refused, so a node that a later Polars adds is
refused until someone has shown that it is ROW: one row in, one row out, the same bits whatever rows
stand beside it (`tests/property/test_one_evaluator.py` shows it for every entry).

Not here although they look like ROW, each for a measured reason:

- `ListExpr.Sample`, `Random`: random. `Hash`: not stable over Polars versions.
- `Cut`: gives a Categorical. `ToPhysical`, `Reinterpret`: expose storage, not meaning.
- `Boolean.IsIn` of a column: membership in the whole column, not in the row.
- Struct functions: structs are no feature dtype; `str.extract` and `list.get` reach the parts.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from featurestore.model.tree import LIST, LITERALS, SERIES, Node

Rule = Callable[[Node], str | None]
"""Gives the reason why a node of an allowed name is refused all the same, or None."""

_PLAIN_DTYPES = frozenset(
    {
        *("Boolean", "String", "Date", "Time", "Float32", "Float64"),
        *("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64"),
    }
)
_SCALARS = _PLAIN_DTYPES | {"Null", "Datetime", "Duration"}


def bare(node: Node) -> str | None:
    """Accept a node without arguments."""
    return (
        None
        if node.arguments is None
        else "it has arguments that are not known here; leave them out"
    )


def plain(node: Node) -> str | None:
    """Accept arguments that are numbers, strings, booleans and nulls, alone or nested."""
    return (
        None
        if _is_plain(node.arguments)
        else "it has arguments that are not plain values; give numbers and strings"
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(v) for v in value.values())
    if isinstance(value, list):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, bool | int | float | str)


def dtype(value: Any) -> str | None:
    """Say why a dtype of the tree is not one that an expression may pass through, or None."""
    match value:
        case str() if value in _PLAIN_DTYPES:
            return None
        case {"Datetime": [str(), None | {"inner": str()}], **rest} if not rest:
            return None
        case {"Duration": str(), **rest} if not rest:
            return None
        case {"List": inner, **rest} if not rest:
            return dtype(inner)
        case {"Array": [inner, int()], **rest} if not rest:
            return dtype(inner)
    name = value if isinstance(value, str) else next(iter(value), "") if value else ""
    return f"dtype {name} is not one the store keeps; cast to one that is, or leave it upstream"


def _literal_dtype(value: Any) -> str | None:
    match value:
        case {"Literal": inner, **rest} if not rest:
            return dtype(inner)
    return "its dtype is computed, not written down; name it"


def _cast(node: Node) -> str | None:
    return _literal_dtype(node.arguments)


def _scalar(node: Node) -> str | None:
    kind = next(iter(node.arguments), None) if isinstance(node.arguments, dict) else None
    return (
        None
        if kind in _SCALARS
        else f"kind {kind} is not one the store keeps; write it as another dtype"
    )


def _column(node: Node) -> str | None:
    name = node.arguments
    if not isinstance(name, str) or not name or name == "*" or (name[0], name[-1]) == ("^", "$"):
        return "it may stand for several columns; name one"
    return None


def _strptime(node: Node) -> str | None:
    match node.arguments:
        case [target, {"format": str(), **_rest}]:
            return _literal_dtype(target)
    return "without a format it guesses one from the rows it sees; give the format"


def _to_integer(node: Node) -> str | None:
    return dtype(node.arguments["dtype"])


def _replace(node: Node) -> str | None:
    if all(child.name in LITERALS or child.name == LIST for child in node.inputs[1:3]):
        return_dtype = (node.arguments or {}).get("return_dtype")
        return None if return_dtype is None else _literal_dtype(return_dtype)
    return "it maps by whole columns; write the mapping as literals"


def _is_in(node: Node) -> str | None:
    if node.inputs[1].name == LIST:
        return plain(node)
    return "it looks for a value in a whole column; give a list of literals"


def _fill(node: Node) -> str | None:
    if node.arguments in ("Zero", "One"):
        return None
    return "this strategy looks at other rows; fill with a literal or another column"


def _nothing_more(node: Node) -> str | None:  # noqa: ARG001
    return None


def _names(prefix: str, names: str) -> list[str]:
    return [f"{prefix}.{name}" if prefix else name for name in names.split()]


def _rules(rule: Rule, names: Sequence[str]) -> dict[str, Rule]:
    return dict.fromkeys(names, rule)


_BARE = [
    *_names(
        "BinaryExpr",
        "Plus Minus Multiply TrueDivide FloorDivide TruncDivide Modulus "
        "Eq EqValidity NotEq NotEqValidity Lt LtEq Gt GtEq And Or Xor",
    ),
    "Ternary",
    *_names("", "Abs Sign Floor Ceil Negate Exp Log Log1p Atan2 Erf Erfc Coalesce FillNull"),
    *_names("", "MinHorizontal MaxHorizontal"),
    *_names("Pow", "Generic Sqrt Cbrt"),
    *_names("Trigonometry", "Sin Cos Tan Cot ArcSin ArcCos ArcTan Sinh Cosh Tanh"),
    *_names("Trigonometry", "ArcSinh ArcCosh ArcTanh Degrees Radians"),
    *_names("Boolean", "IsNull IsNotNull IsNan IsNotNan IsFinite IsInfinite Not"),
    *_names("Boolean", "AllHorizontal AnyHorizontal"),
    *_names("Bitwise", "CountOnes CountZeros LeadingOnes LeadingZeros TrailingOnes TrailingZeros"),
    *_names("StringExpr", "Lowercase Uppercase Titlecase LenBytes LenChars Reverse Slice Head"),
    *_names("StringExpr", "Tail StartsWith EndsWith StripChars StripCharsStart StripCharsEnd"),
    *_names("StringExpr", "StripPrefix StripSuffix ZFill EscapeRegex ExtractAll JsonPathMatch"),
    *_names("StringExpr", "HexEncode Base64Encode"),
    *_names("TemporalExpr", "Millennium Century Year IsoYear Quarter Month Week WeekDay Day"),
    *_names("TemporalExpr", "OrdinalDay DaysInMonth IsLeapYear Hour Minute Second Millisecond"),
    *_names("TemporalExpr", "Microsecond Nanosecond Date Time MonthStart MonthEnd Truncate"),
    *_names("TemporalExpr", "Round OffsetBy BaseUtcOffset DSTOffset Replace"),
    *_names("ListExpr", "Length Sum Mean Median Min Max ArgMin ArgMax CountMatches DropNulls"),
    *_names("ListExpr", "Slice Concat"),
    *_names("ArrayExpr", "Length Sum Mean Median Min Max ArgMin ArgMax CountMatches ToList"),
    *_names("ArrayExpr", "Concat Dot"),
]

_PLAIN = [
    *_names("", "Round RoundSF Truncate Clip SumHorizontal MeanHorizontal"),
    *_names("Boolean", "IsBetween IsClose"),
    *_names("StringExpr", "Contains ContainsAny CountMatches Extract ExtractMany Find Normalize"),
    *_names("StringExpr", "PadStart PadEnd Replace ReplaceMany Split ConcatHorizontal Format"),
    *_names("TemporalExpr", "ConvertTimeZone ReplaceTimeZone CastTimeUnit TimeStamp Combine"),
    *_names("TemporalExpr", "Duration DatetimeFunction ToString TotalDays TotalHours TotalMinutes"),
    *_names("TemporalExpr", "TotalSeconds TotalMilliseconds TotalMicroseconds TotalNanoseconds"),
    *_names("Business", "IsBusinessDay AddBusinessDay BusinessDayCount"),
    *_names("ListExpr", "Std Var Get Contains Sort Gather Join ToArray"),
    *_names("ArrayExpr", "Std Var Get Contains Sort Join"),
    "Alias",
    "Literal.Dyn",
]

ALLOWED: Mapping[str, Rule] = MappingProxyType(
    {
        **_rules(bare, _BARE),
        **_rules(plain, _PLAIN),
        "Column": _column,
        "Literal.Scalar": _scalar,
        LIST: _nothing_more,
        SERIES: _nothing_more,
        "Cast": _cast,
        "Boolean.IsIn": _is_in,
        "Replace": _replace,
        "ReplaceStrict": _replace,
        "FillNullWithStrategy": _fill,
        "StringExpr.Strptime": _strptime,
        "StringExpr.ToInteger": _to_integer,
    }
)

LIST_ARGUMENTS: Mapping[str, str] = MappingProxyType(
    {
        "Boolean.IsIn": LIST,
        "Replace": LIST,
        "ReplaceStrict": LIST,
        "StringExpr.ContainsAny": LIST,
        "StringExpr.ExtractMany": LIST,
        "StringExpr.ReplaceMany": LIST,
        "ListExpr.Gather": LIST,
        "Business.IsBusinessDay": SERIES,
        "Business.AddBusinessDay": SERIES,
        "Business.BusinessDayCount": SERIES,
    }
)
"""The functions that take a literal list (or Series: holidays) after their first input."""
