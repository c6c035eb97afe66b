"""Why a node is refused and what to write instead: what people read when an expression is not ROW.

This table only words the refusal. What is accepted is decided by `model.allowed` alone.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

from featurestore.model.tree import Node

UPSTREAM = "compute it upstream as a source column"

_MANY = f"looks at many rows at once; {UPSTREAM}"
_ORDER = f"depends on the order of the rows; {UPSTREAM}"
_COUNT = f"changes the number or the order of the rows; filter in the view, or {UPSTREAM}"
_PYTHON = f"runs Python and has no stable identity; {UPSTREAM}"
_STRUCT = "handles structs, which are no feature dtype; make one feature of each field"

_KINDS: Mapping[str, str] = MappingProxyType(
    {
        _MANY: "Agg Over Rolling RollingExpr RollingExprBy Rank QCut Hist Quantile ApproxQuantile "
        "ApproxNUnique Skew Kurtosis Entropy Product NullCount ValueCounts MaxBy MinBy Correlation "
        "Boolean.Any Boolean.All Boolean.HasNulls Boolean.IsEmpty Boolean.IsSorted "
        "Boolean.IsDuplicated Boolean.IsUnique Boolean.IsFirstDistinct Boolean.IsLastDistinct "
        "StringExpr.ConcatVertical LowerBound UpperBound IndexOf ArgMin ArgMax SearchSorted "
        "PeakMin PeakMax Len Bitwise.And Bitwise.Or Bitwise.Xor",
        _ORDER: "Shift ShiftAndFill Diff PctChange CumSum CumProd CumMin CumMax CumCount "
        "Interpolate InterpolateBy EwmMean EwmMeanBy EwmStd EwmVar EwmSum EwmSumBy RLE RLEID "
        "Reverse SetSortedFlag",
        _COUNT: "Sort SortBy Unique UniqueCounts Explode Filter Slice Gather GatherEvery DropNulls "
        "DropNans TopK TopKBy Mode ArgSort ArgUnique ArgWhere Append ExtendConstant Reshape "
        "ArrayExpr.Explode RepeatBy Repeat",
        f"makes its own rows; {UPSTREAM}": "Range",
        _PYTHON: "FoldHorizontal ReduceHorizontal CumReduceHorizontal CumFoldHorizontal",
        _STRUCT: "AsStruct StructExpr StructEval StringExpr.JsonDecode StringExpr.ExtractGroups "
        "StringExpr.SplitExact StringExpr.SplitN ListExpr.ToStruct ArrayExpr.ToStruct",
        f"is random; {UPSTREAM}": "Random ListExpr.Sample",
        f"is not stable over Polars versions; {UPSTREAM}": "Hash",
        "may stand for several columns; name one with pl.col": "Selector",
        "renames by rule; use .alias(…)": "RenameAlias KeepName",
        f"evaluates an inner expression; use the list and array functions, or {UPSTREAM}": "Eval "
        "Element Field",
        f"loads a plug-in by its path on this machine; {UPSTREAM}": "FfiPlugin",
        "gives a Categorical, which is no feature dtype; use when/then": "Cut Categorical",
        "takes its bins from the rows it sees, or names them; use when/then": "Bin",
        "exposes storage, not meaning; use .cast(…)": "ToPhysical Reinterpret",
    }
)

REASONS: Mapping[str, str] = MappingProxyType(
    {name: reason for reason, names in _KINDS.items() for name in names.split()}
)

_SPOKEN: Mapping[str, str] = MappingProxyType(
    {
        "AnonymousFunction": "map_elements",
        "Agg": "",
        "Boolean": "",
        "Pow": "",
        "Range": "",
        "Trigonometry": "",
        "Random": "shuffle and sample",
        "StringExpr": "str",
        "TemporalExpr": "dt",
        "ListExpr": "list",
        "ArrayExpr": "arr",
        "StructExpr": "struct",
        "Literal": "literal",
        "Dyn": "",
        "Scalar": "",
        "Column": "a column",
        "BinaryExpr": "operator",
        "FoldHorizontal": "fold",
        "ReduceHorizontal": "reduce",
        "Strptime": "strptime",
        "RLE": "rle",
        "RLEID": "rle_id",
        "QCut": "qcut",
        "AsStruct": "struct",
        "FillNullWithStrategy": "fill_null",
        "RenameAlias": "name",
    }
)


def spoken(name: str) -> str:
    """Give a node's name as people write it: `StringExpr.LenChars` is `str.len_chars`."""
    parts = [_SPOKEN.get(part, _snake(part)) for part in name.split(".")]
    return ".".join(part for part in parts if part)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def reason(node: Node) -> str:
    """Say why a node that is not on the allow-list is refused, and the way out."""
    if node.name.startswith("AnonymousFunction"):
        return f"map_elements {_PYTHON}"
    if node.name.startswith("RenameAlias.Map"):
        return f"name.map {_PYTHON}"
    if "Map" in node.name.split(".") or "MapFields" in node.name:
        return f"{spoken(node.name)} {_PYTHON}"
    named = REASONS.get(node.name) or REASONS.get(node.name.split(".")[0])
    unknown = f"is not known to be one row in, one row out; {UPSTREAM}"
    return f"{spoken(node.name)} {named or unknown}"
