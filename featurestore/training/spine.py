"""The entity rows a caller brings: read from any frame, checked, and never changed.

Times, keys and request data are copied into private columns and coerced there; the caller's own
columns come back as they were.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from featurestore.engine.request import cast_request
from featurestore.errors import InvalidRequest
from featurestore.model.names import suggest
from featurestore.model.query import Query
from featurestore.model.time import EVENT
from featurestore.training.coerce import PATH, join_keys, moments
from featurestore.training.own import Filed, Held, Own

# pyarrow, which reads pandas columns, says NotImplementedError of dtypes it does not know.
_UNREADABLE = (OSError, ValueError, TypeError, NotImplementedError, pl.exceptions.PolarsError)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spine:
    """Entity rows, ready to join.

    `own` are the caller's columns as they came; `origin` the pandas or Arrow table they came in,
    if so. `time` is UTC microseconds, null where the caller's is. `keys` and `request` are
    named as the caller's columns and have the declared dtypes.
    """

    own: Own
    origin: Any
    time: pl.Series
    keys: tuple[pl.Series, ...]
    request: tuple[pl.Series, ...]

    def __len__(self) -> int:
        return len(self.time)

    @property
    def frame(self) -> pl.DataFrame:
        """The caller's columns, all in memory."""
        return self.own.rows(0, len(self))

    @property
    def ends(self) -> tuple[int, int] | None:
        """The first and the last moment, UTC microseconds; None if there is none."""
        moments = self.time.drop_nulls().to_physical()
        if moments.is_empty():
            return None
        return int(moments.min()), int(moments.max())  # type: ignore[arg-type]

    def came_from(self, library: str) -> bool:
        """Say whether the rows came in a table of that library (`pandas`, `pyarrow`)."""
        return _library(self.origin) == library

    def key(self, name: str) -> pl.Series:
        """Give the join key the caller's column of that name holds."""
        return next(key for key in self.keys if key.name == name)

    def field(self, name: str) -> pl.Series:
        """Give the request data of that name."""
        return next(field for field in self.request if field.name == name)


def read_spine(entity_df: Any, query: Query) -> Spine:
    """Read entity rows from pandas, Polars, Arrow or the path of a Parquet file.

    The moment of a row is `event_timestamp`, else the only datetime column that is neither a key
    nor request data. Naive times are UTC, other zones are converted; a null time matches nothing.

    Raises:
        InvalidRequest: the rows cannot be read, a column is missing or has a dtype that does not
            fit, or an own column is named like an output.
    """
    own, origin = _own(entity_df)
    names = own.schema.names()
    _check_outputs(names, query)
    needed = dict(_roles(query))
    for column, role in needed.items():
        if column not in names:
            raise InvalidRequest(
                f"{PATH}: {role} is missing: there is no column '{column}'{suggest(column, names)}"
            )
    time = _time_column(own.schema, query)
    frame = own.columns([*dict.fromkeys((time, *needed))])
    return Spine(
        own=own,
        origin=origin,
        time=moments(frame[time]),
        keys=join_keys(frame, query.entities),
        request=tuple(
            cast_request(frame[field.name], field.dtype, path=f"{PATH}.{field.name}")
            for field in query.request
        ),
    )


def _library(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _own(entity_df: Any) -> tuple[Own, Any]:
    """Give the caller's own columns, and the table to keep them from.

    The library they came from is already imported; nothing is imported for it here.
    """
    try:
        if isinstance(entity_df, pl.DataFrame):
            return Held(frame=entity_df), None
        if isinstance(entity_df, pl.LazyFrame):
            return Held(frame=entity_df.collect()), None
        if isinstance(entity_df, str | os.PathLike):
            path = os.fspath(entity_df)
            there = "://" not in path and Path(path).is_file()
            return Filed.of(Path(path)) if there else Held(frame=pl.read_parquet(path)), None
        if _library(entity_df) == "pandas" and hasattr(entity_df, "columns"):
            frame, kept = _from_pandas(entity_df)
            return Held(frame=frame), kept
        if hasattr(entity_df, "__arrow_c_stream__"):
            kept = entity_df if hasattr(entity_df, "append_column") else None
            return Held(frame=pl.DataFrame(entity_df)), kept
    except _UNREADABLE as error:
        raise InvalidRequest(f"{PATH}: cannot be read: {error}") from error
    raise InvalidRequest(
        f"{PATH}: {type(entity_df).__name__} is no table; pass a pandas or Polars DataFrame, a "
        "LazyFrame, an Arrow table or the path of a Parquet file"
    )


def _from_pandas(entity_df: Any) -> tuple[pl.DataFrame, Any]:
    if not all(isinstance(column, str) for column in entity_df.columns):
        raise InvalidRequest(f"{PATH}: column names are not all strings; rename them")
    if not entity_df.columns.is_unique:
        raise InvalidRequest(f"{PATH}: two columns share a name; rename or drop one")
    if EVENT not in entity_df.columns and EVENT in entity_df.index.names:
        raise InvalidRequest(f"{PATH}: '{EVENT}' is in the index; call reset_index() first")
    kept = entity_df.copy()  # a pandas frame can change under us, and Polars shares its memory
    offsets = {
        name: kept[name].dt.tz_convert("UTC")
        for name, dtype in kept.dtypes.items()
        if _is_fixed_offset(getattr(dtype, "tz", None))
    }
    return pl.from_pandas(kept.assign(**offsets)), kept


def _is_fixed_offset(zone: Any) -> bool:
    """Say whether a pandas time zone has no name; Polars knows named zones only."""
    names = (getattr(zone, name, None) for name in ("key", "zone"))
    return zone is not None and str(zone) != "UTC" and not any(names)


def _check_outputs(names: Sequence[str], query: Query) -> None:
    for output in query.outputs:
        if output.name in names:
            raise InvalidRequest(
                f"{PATH}: column '{output.name}' has the name of the feature "
                f"{output.alias}:{output.feature.name}; rename or drop it, or pass "
                "full_feature_names=True"
            )


def _roles(query: Query) -> Iterable[tuple[str, str]]:
    for lookup in query.lookups:
        for key, column in lookup.keys:
            yield column, f"join key '{key.name}' of {lookup.alias}"
    for compute in query.computes:
        for bind in compute.binds:
            if bind.lookup is None:
                yield bind.field, f"request data '{bind.field}' of {compute.view.name}"


def _time_column(schema: pl.Schema, query: Query) -> str:
    if EVENT in schema:
        return EVENT
    taken = {column.name for column in (*query.entities, *query.request)}
    found = [
        name
        for name, dtype in schema.items()
        if isinstance(dtype, pl.Datetime) and name not in taken
    ]
    if len(found) == 1:
        return found[0]
    why = f"{', '.join(found)} are all datetimes" if found else "no column is a datetime"
    raise InvalidRequest(
        f"{PATH}: which column is the moment of a row? {why}; name the one to use '{EVENT}'"
    )
