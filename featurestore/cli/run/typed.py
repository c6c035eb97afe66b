"""What a person types, read as values."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

import polars as pl

from featurestore.cli import terminal
from featurestore.errors import InvalidRequest, NotFound
from featurestore.model.names import suggest
from featurestore.model.schema import parse_dtype
from featurestore.storage.keys import check_alias


def moment(text: str, name: str) -> datetime:
    """Read an ISO 8601 moment; a naive one is UTC.

    Raises:
        InvalidRequest: it is none; `name` says what it was for.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(
            f"{name}: {text!r} is no ISO 8601 moment; write 2013-09-01 or 2013-09-01T12:00:00Z"
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def aim(alias: str, known: Collection[str]) -> None:
    """Say that an alias is new where there are others: it may be a slip of the pen.

    Raises:
        InvalidRequest: it has other characters than it may.
    """
    check_alias(alias)
    if known and alias not in known:
        terminal.note(f"{alias} is a new alias; known are: {', '.join(sorted(known))}")


def row(pairs: Sequence[str], dtypes: Mapping[str, str]) -> pl.DataFrame:
    """Give one row from COLUMN=VALUE words, each value read in its declared dtype.

    Raises:
        InvalidRequest: a word has no `=`, comes twice, or its value is none of the dtype.
        NotFound: there is no such column.
    """
    columns: dict[str, pl.Series] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise InvalidRequest(f"{pair!r}: is not COLUMN=VALUE; write tailnum=N14228")
        if name not in dtypes:
            raise NotFound(f"{name}: the service asks for no such column{suggest(name, dtypes)}")
        if name in columns:
            raise InvalidRequest(f"{name}: comes twice; a look-up is of one entity")
        try:
            columns[name] = _value(name, text, dtypes[name])
        except pl.exceptions.PolarsError as error:
            raise InvalidRequest(f"{name}: {text!r} is no {dtypes[name]}") from error
    return pl.DataFrame(columns)


def _value(name: str, text: str, dtype: str) -> pl.Series:
    words = pl.Series(name, [text])
    match dtype:
        case "datetime":
            return pl.Series(name, [moment(text, name)], dtype=parse_dtype(dtype))
        case "date":
            return words.str.to_date("%Y-%m-%d")
        case "bool":
            return words.str.to_lowercase().replace_strict(
                {"true": True, "false": False}, return_dtype=pl.Boolean
            )
    return words.cast(parse_dtype(dtype))
