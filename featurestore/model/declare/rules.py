"""Rules that every declaration keeps."""

import re
from collections.abc import Iterable, Sequence

import polars as pl

from featurestore.errors import InvalidDefinition, InvalidExpression
from featurestore.model import expressions
from featurestore.model.schema import Column, dtype_name
from featurestore.model.time import RESERVED

PRIVATE = "__"
"""What the names of the store's own columns start with."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def check_name(name: str) -> None:
    """Refuse a name that a key, a path or a reference could not carry."""
    if not _NAME.fullmatch(name):
        raise InvalidDefinition(
            f"{name!r}: a name holds letters, digits, '_', '-' and '.', and starts with no sign"
        )


def is_column_name(name: str) -> bool:
    """Say whether a name means one column wherever it goes.

    Polars takes `*` and `^…$` for several columns, and Arrow ends a name at a NUL.
    """
    return bool(name) and name != "*" and (name[0], name[-1]) != ("^", "$") and "\0" not in name


def check_outputs(view: str, features: Iterable[str], *, taken: Iterable[str]) -> None:
    """Refuse a feature whose column would fall together with another one.

    Offline tables compare names without regard to case, and so does this.
    """
    names = {*RESERVED, *map(str.lower, taken)}
    for feature in features:
        path = f"{view}.features.{feature}"
        if not feature or feature.startswith(PRIVATE):
            raise InvalidDefinition(
                f"{path}: a feature's name is not empty and does not start with '{PRIVATE}'; "
                "rename it"
            )
        if not is_column_name(feature):
            raise InvalidDefinition(
                f"{view}.features: {feature!r} cannot be the name of one column; rename it"
            )
        if feature.lower() in names:
            raise InvalidDefinition(
                f"{path}: the name is taken by a key, time or request column or another feature "
                "(names that differ in case only count as one); rename it"
            )
        names.add(feature.lower())


def polars(schema: Sequence[Column]) -> dict[str, pl.DataType]:
    """Give a schema as Polars takes it."""
    return {c.name: c.polars for c in schema}


def output_dtype(expr: pl.Expr, schema: Sequence[Column], path: str) -> str:
    """Give the stable name of the dtype an expression gives, or refuse it."""
    dtype = expressions.output_dtype(expr, polars(schema), path=path)
    try:
        return dtype_name(dtype)
    except ValueError as error:
        raise InvalidExpression(f"{path}: {error}; add a cast(…)") from error
