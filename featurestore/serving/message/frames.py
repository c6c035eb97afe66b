"""Rows and columns as callers bring them: a frame of any library, or plain mappings."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from featurestore.errors import InvalidRequest

# pyarrow, which reads pandas columns, says NotImplementedError of dtypes it does not know.
_UNREADABLE = (
    ValueError,
    TypeError,
    OverflowError,
    NotImplementedError,
    OSError,
    pl.exceptions.PolarsError,
)


def frame_of(given: Any, path: str) -> pl.DataFrame:
    """Read a pandas or Polars frame, an Arrow table, columns by name, or rows as mappings.

    In a pandas frame NaN is a missing value, as pandas means it; elsewhere it is a number.

    Raises:
        InvalidRequest: it is none of these, or its columns are not of one length and one type each.
    """
    way_out = (
        "bring a pandas or Polars frame, an Arrow table, or columns by name, of one length and of "
        "one type each"
    )
    try:
        found = _read(given)
    except _UNREADABLE as error:
        raise InvalidRequest(
            f"{path}: cannot be read ({type(error).__name__}); {way_out}"
        ) from error
    if found is None:
        raise InvalidRequest(f"{path}: {type(given).__name__} is no frame; {way_out}")
    return found


def sendable(text: str, path: str) -> str:
    """Give a text back if it can be sent.

    Raises:
        InvalidRequest: a part of it is no character, as of a file's name that is not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{path}: {text!r:.100} is not Unicode; write it in UTF-8") from None
    return text


def _read(given: Any) -> pl.DataFrame | None:
    if isinstance(given, pl.DataFrame):
        return given
    if isinstance(given, pl.LazyFrame):
        return given.collect()
    if type(given).__module__.partition(".")[0] == "pandas":
        found: Any = pl.from_pandas(given)
        return found if isinstance(found, pl.DataFrame) else None
    named = isinstance(given, Mapping) or _are_rows(given)
    if named or (hasattr(given, "__arrow_c_stream__") and not isinstance(given, pl.Series)):
        return pl.DataFrame(given, infer_schema_length=None)
    if hasattr(given, "__arrow_c_array__") and hasattr(given, "schema"):
        return pl.DataFrame(given)
    return None


def _are_rows(given: Any) -> bool:
    sequence = isinstance(given, Sequence) and not isinstance(given, str | bytes)
    return sequence and all(isinstance(one, Mapping) for one in given[:1])
