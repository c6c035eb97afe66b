"""The answer of a lookup, as a caller holds it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from featurestore.errors import CorruptData, InvalidRequest
from featurestore.model.time import moment
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving import twin
from featurestore.serving.twin import Misfit, either_way
from featurestore.serving.wire import Array, Grid, read, series_of

_STATUSES = {value: name.removeprefix("STATUS_") for name, value in pb.Status.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionStatus:
    """One use of a view in an answer: `statuses` and `event_times` (UTC µs) per row, as arrays."""

    alias: str
    view: str
    version: str
    on_demand: bool
    statuses: Array
    event_times: Array


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class OnlineResponse:
    """Feature values of entities, all from one release, with a status and a time for each.

    `names` are the outputs in the order asked for; `release` is the release's number, `as_of` the
    moment at which age was judged (UTC).
    """

    names: tuple[str, ...]
    entities: pl.DataFrame
    projections: tuple[ProjectionStatus, ...]
    release: int
    as_of: datetime
    columns: tuple[pl.Series, ...]
    origins: tuple[int, ...]

    def __repr__(self) -> str:
        return (
            f"<OnlineResponse: {len(self.names)} features from release {self.release}, as of "
            f"{self.as_of:%Y-%m-%d %H:%M:%S} UTC>\n{self.to_polars()}"
        )

    def to_dict(self) -> dict[str, list[Any]]:
        """Give lists by name, the entity columns first, as Feast does; a missing value is None."""
        return self.to_polars().to_dict(as_series=False)

    def to_polars(self) -> pl.DataFrame:
        """Give a frame: the columns the caller brought, then the features in their exact dtypes."""
        kept = [column for column in self.entities if column.name not in self.names]
        return pl.DataFrame([*kept, *self.columns])

    def to_numpy(self) -> dict[str, "np.ma.MaskedArray[Any, Any]"]:
        """Give the features as masked arrays by name; a missing value is masked, never a number.

        Dates are datetime64[D] and datetimes datetime64[us] (UTC); fixed arrays have two
        dimensions; strings and lists are object arrays.
        """
        return {column.name: _masked(column) for column in self.columns}

    @property
    def statuses(self) -> dict[str, list[str]]:
        """The status of each output's rows: PRESENT, NULL_VALUE, NOT_FOUND, …."""
        named = [[_STATUSES[value] for value in one.statuses.tolist()] for one in self.projections]
        return {name: named[origin] for name, origin in zip(self.names, self.origins, strict=True)}

    @property
    def event_times(self) -> dict[str, list[datetime | None]]:
        """The event time (UTC) behind each output's rows; None where there is none."""
        times = [_times(one) for one in self.projections]
        return {name: times[origin] for name, origin in zip(self.names, self.origins, strict=True)}

    @property
    def versions(self) -> dict[str, str]:
        """The version id of each view that took part, by the view's name; of a pin, as written."""
        return {
            one.alias if "@" in one.alias else one.view: one.version for one in self.projections
        }


def read_response(raw: bytes, entities: pl.DataFrame) -> OnlineResponse:
    """Read the bytes of a GetOnlineFeaturesResponse to a request with these entity columns.

    Raises:
        CorruptData: the bytes are not a whole answer.
    """

    def read_message(message: Any) -> OnlineResponse:
        count = message.count
        shape = (len(message.projections), count)
        statuses, times = (
            _matrix(message.statuses, "u1", shape, "statuses"),
            _matrix(message.event_times, "<i8", shape, "event_times"),
        )
        names = tuple(message.names)
        columns: dict[int, pl.Series] = {}
        for block in message.blocks:
            grid = _grid(block, count)
            for place, output in enumerate(block.outputs):
                columns[output] = series_of(grid, place, names[output])
        return OnlineResponse(
            names=names,
            entities=entities,
            projections=tuple(
                ProjectionStatus(
                    alias=one.alias,
                    view=one.view,
                    version=one.version,
                    on_demand=one.on_demand,
                    statuses=statuses[number],
                    event_times=times[number],
                )
                for number, one in enumerate(message.projections)
            ),
            release=message.release,
            as_of=moment(message.as_of),
            columns=tuple(columns[number] for number in range(len(names))),
            origins=tuple(message.output_projections),
        )

    try:
        return either_way(
            raw, twin.GetOnlineFeaturesResponse, pb.GetOnlineFeaturesResponse, read_message
        )
    except (InvalidRequest, ValueError, KeyError, IndexError) as error:
        raise CorruptData("the server's answer is not whole; are the versions equal?") from error


def _grid(block: Any, count: int) -> Grid:
    return read(block.values, columns=len(block.outputs), rows=count, path="blocks")


def _matrix(raw: bytes, dtype: str, shape: tuple[int, int], path: str) -> Array:
    found = (
        np.frombuffer(raw, np.dtype(dtype)) if len(raw) % np.dtype(dtype).itemsize == 0 else None
    )
    if found is None or found.size != shape[0] * shape[1]:
        raise Misfit(f"{path}: has {len(raw)} bytes, which {shape[0]} x {shape[1]} values do not")
    return found.reshape(shape)


def _times(one: ProjectionStatus) -> list[datetime | None]:
    if one.on_demand:
        return [None] * len(one.statuses)
    there = pl.Series(one.statuses != pb.STATUS_NOT_FOUND)
    times = pl.Series(one.event_times).cast(pl.Datetime("us", "UTC"))
    nulls = pl.Series([None], dtype=times.dtype).new_from_index(0, len(times))
    return times.zip_with(there, nulls).to_list()


def _masked(column: pl.Series) -> "np.ma.MaskedArray[Any, Any]":
    null = column.is_null().to_numpy()
    values = column.to_numpy()
    return np.ma.MaskedArray(values, mask=null)
