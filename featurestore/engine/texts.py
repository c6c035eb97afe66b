"""Rows that come as text, as streams carry them: each value read in its source's dtype.

An entry has a field for each column that it has a value of, or one field `json` with an object of
them. A field that is missing is null; so is null in an object. Text is itself, even if it is empty;
numbers are written as in JSON, booleans `true` or `false`, moments and dates as ISO 8601 has them,
lists and arrays `[1, 2.5, null]`.
"""

from collections.abc import Mapping, Sequence

import polars as pl

from featurestore.engine.accept import refusals
from featurestore.model.documents import View
from featurestore.model.reads import needed
from featurestore.model.schema import Column
from featurestore.model.time import MOMENT

JSON = "json"
"""The field that may hold all columns; where the source has a column of this name it is that."""

_ENTRY = "__entry"
_ISO = (
    r"^(?<date>\d{4}-\d\d-\d\d)(?:[Tt ](?<time>\d\d:\d\d)(?<second>:\d\d(?:\.\d{1,9})?)?"
    r"(?:(?<utc>[Zz])|(?<sign>[+-])(?<hours>[01]\d|2[0-3]):?(?<minutes>[0-5]\d)?)?)?$"
)


def read_texts(
    fields: pl.DataFrame, entries: int, views: Sequence[View]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read entries as rows of the source that some views read; give those, and what is refused.

    The frame has a row for each entry and the source's columns in its dtypes. Refused (columns
    `row`, `at`, `reason`) are values that a view needs and that their column cannot hold; they are
    null in the frame. A naive moment is a local time of the source's time zone, else UTC.

    Args:
        fields: `entry`, `name` and `value`, the two as bytes; of two of one name the last counts.
        entries: how many entries there are.
        views: versions of views over the source, what counts most first.
    """
    columns = {
        column.name: column
        for view in reversed(views)
        for column in (view.source.columns if view.source else ())
    }
    old = {new: old for view in views if view.source for old, new in view.source.field_mapping}
    wanted = {name for view in views for name in needed(view)}
    dtypes = {old[name]: columns[name] for name in columns if name in old} | columns
    values = _wide(fields, entries, list(dict.fromkeys([*dtypes, JSON])))
    bare = ~pl.Series(range(entries), dtype=pl.UInt32).is_in(fields["entry"].implode())
    bad = {"": (bare, "was removed from the stream before it was read")}
    members = pl.DataFrame()
    if JSON not in columns:
        members, broken = _objects(values[JSON], dtypes)
        bad[JSON] = (broken, "is no JSON object of the source's columns")
    rows = []
    for name, column in columns.items():
        text, there = _given(values, members, [name, *filter(None, [old.get(name)])])
        dtype = column.polars
        found = _moments(text, views) if dtype == MOMENT else _cast(text, dtype)
        rows.append(found.alias(name))
        if name in wanted:
            bad[name] = (found.is_null() & there, _reason(column))
    refused = [refusals(mask.arg_true(), at, reason) for at, (mask, reason) in bad.items()]
    return pl.DataFrame(rows), pl.concat(refused)


def _given(
    values: pl.DataFrame, members: pl.DataFrame, names: Sequence[str]
) -> tuple[pl.Series, pl.Series]:
    """Give a column's texts, from the first of some fields that is there, and where there is one.

    What is there and is no UTF-8 has no text.
    """
    given = values.select(pl.coalesce(names)).to_series()
    texts, there = _texts(given), given.is_not_null()
    if members.width:
        member = members.select(pl.coalesce(names)).to_series()
        texts, there = texts.zip_with(there, member), there | member.is_not_null()
    return texts, there


def _reason(column: Column) -> str:
    told = f"is no {column.dtype}, which the source has"
    return f"{told}, in ISO 8601" if column.dtype in ("date", "datetime") else told


def _wide(fields: pl.DataFrame, entries: int, names: Sequence[str]) -> pl.DataFrame:
    """Give the fields of some names as columns of bytes, a row for each entry."""
    known = pl.Series([name.encode() for name in names]).implode()
    mine = fields.rename({"entry": _ENTRY}).filter(pl.col("name").is_in(known))
    wide = mine.with_columns(pl.col("name").cast(pl.String)).pivot(
        on="name", on_columns=names, index=_ENTRY, values="value", aggregate_function="last"
    )
    numbers = pl.DataFrame({_ENTRY: pl.Series(range(entries), dtype=pl.UInt32)})
    return numbers.join(wide, on=_ENTRY, how="left", maintain_order="left")


def _texts(values: pl.Series) -> pl.Series:
    """Read bytes as UTF-8; null where they are none, found by halves."""
    try:
        return values.cast(pl.String)
    except pl.exceptions.PolarsError:
        if len(values) == 1:
            return values.clear().cast(pl.String).extend_constant(None, 1)
        middle = len(values) // 2
        return _texts(values[:middle]).append(_texts(values[middle:]))


def _objects(values: pl.Series, columns: Mapping[str, Column]) -> tuple[pl.DataFrame, pl.Series]:
    """Give the members of a field's JSON objects as texts, and which of them are no objects."""
    schema = {
        name: pl.List(pl.String()) if _is_list(column.polars) else pl.String()
        for name, column in columns.items()
    }
    texts = _texts(values)
    whole = texts.str.contains(r"^\s*\{").fill_null(value=False)
    decoded = _decoded(texts.zip_with(whole, texts.clear(1)), pl.Struct(schema))
    members = decoded.struct.unnest().with_columns(
        ("[" + pl.col(name).list.agg(pl.element().fill_null("null")).list.join(",") + "]").alias(
            name
        )
        for name, dtype in schema.items()
        if _is_list(dtype)
    )
    return members, decoded.is_null() & values.is_not_null()


def _decoded(texts: pl.Series, dtype: pl.Struct) -> pl.Series:
    """Decode JSON objects; null where one is none, or has another in it, found by halves."""
    if texts.null_count() == len(texts):
        return pl.Series(texts.name, [None], dtype).new_from_index(0, len(texts))
    try:
        return texts.str.json_decode(dtype)
    except pl.exceptions.PolarsError:
        if len(texts) == 1:
            return pl.Series(texts.name, [None], dtype)
        middle = len(texts) // 2
        return _decoded(texts[:middle], dtype).append(_decoded(texts[middle:], dtype))


def _is_list(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.List | pl.Array)


def _cast(text: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Read texts in a dtype, null where one is none of it."""
    if isinstance(dtype, pl.List | pl.Array):
        return _lists(text, dtype)
    match dtype:
        case pl.Boolean():
            words = text.str.to_lowercase()
            return words.replace_strict(
                {"true": True, "false": False}, default=None, return_dtype=dtype
            )
        case pl.Date():
            return text.str.to_date("%Y-%m-%d", strict=False)
    found = text.cast(dtype, strict=False)
    if not dtype.is_float():
        return found
    # Too large a number is not infinite.
    beyond = (found.is_infinite() & text.str.contains(r"\d")).fill_null(value=False)
    return found.zip_with(~beyond, found.clear(1)) if beyond.any() else found


def _lists(text: pl.Series, dtype: pl.List | pl.Array) -> pl.Series:
    """Read lists of numbers, null where a text is none or has another length than an array's."""
    body = text.str.extract(r"(?s)^\s*\[\s*(.*?)\s*\]\s*$")
    words = body.str.replace_all(r"\s*,\s*", ",").str.split(",")
    found = words.cast(pl.List(dtype.inner), strict=False)
    sound = (
        words.list.count_matches("null") == found.list.len() - found.list.drop_nulls().list.len()
    )
    found = found.zip_with(sound.fill_null(value=False), found.clear(1))
    found = pl.Series([[]], dtype=found.dtype).zip_with((body == "").fill_null(value=False), found)
    if isinstance(dtype, pl.List):
        return found
    whole = (found.list.len() == dtype.size).fill_null(value=False)
    return found.zip_with(whole, found.clear(1)).cast(dtype)


def _moments(text: pl.Series, views: Sequence[View]) -> pl.Series:
    """Read ISO 8601 moments as UTC microseconds, null where a text, or a local time, is none."""
    zones = {view.source.time_zone for view in views if view.source}
    parts = text.str.extract_groups(_ISO).struct.unnest()
    clock = pl.col("date") + "T" + pl.col("time").fill_null("00:00")
    naive = (clock + pl.col("second").fill_null(":00")).str.to_datetime(
        "%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False
    )
    offset = pl.duration(
        hours=pl.col("hours").cast(pl.Int64),
        minutes=pl.col("minutes").fill_null("0").cast(pl.Int64),
    )
    moved = pl.when(pl.col("sign") == "+").then(naive - offset).otherwise(naive + offset)
    # Where views of the source differ in their time zone a local time says nothing.
    local = naive.dt.replace_time_zone(
        next(iter(zones)) or "UTC", ambiguous="null", non_existent="null"
    ).dt.convert_time_zone("UTC")
    return parts.select(
        pl.when(pl.col("utc").is_not_null())
        .then(naive.dt.replace_time_zone("UTC"))
        .when(pl.col("sign").is_not_null())
        .then(moved.dt.replace_time_zone("UTC"))
        .when(len(zones) == 1)
        .then(local)
    ).to_series()
