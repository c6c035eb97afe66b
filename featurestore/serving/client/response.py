"""The answer of a lookup, as a caller holds it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from featurestore.errors import CorruptData, InvalidRequest
from featurestore.model.time import micros, moment
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving.message import twin
from featurestore.serving.message.columns import arrays, series
from featurestore.serving.message.twin import Misfit, either_way
from featurestore.serving.message.wire import Array, Grid, read

_STATUSES = np.array([f"STATUS_{number}" for number in range(256)], dtype=object)
for _name, _number in pb.Status.items():
    _STATUSES[_number] = _name.removeprefix("STATUS_")
_KEPT = 16
"""How many beginnings of answers a reader remembers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionStatus:
    """One use of a view in an answer: `statuses` and `event_times` (UTC µs) per row, as arrays."""

    alias: str
    view: str
    version: str
    on_demand: bool
    statuses: Array
    event_times: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A use of a view, as answers of one release and service all name it."""

    alias: str
    view: str
    version: str
    on_demand: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What answers of one release and service have in common; each output has a use's number."""

    names: tuple[str, ...]
    origins: tuple[int, ...]
    uses: tuple[Use, ...]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class OnlineResponse:
    """Feature values of entities, all from one release, with a status and a time for each.

    `release` is the release's number, `as_of` the moment at which age was judged (UTC). Values stay
    the server's arrays until they are asked for.
    """

    head: Head
    entities: pl.DataFrame
    release: int
    as_of: datetime
    blocks: tuple[tuple[tuple[int, ...], Grid], ...]
    status_numbers: Array
    times: Array

    def __repr__(self) -> str:
        return (
            f"<OnlineResponse: {len(self.names)} features from release {self.release}, as of "
            f"{self.as_of:%Y-%m-%d %H:%M:%S} UTC>\n{self.to_polars()}"
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The outputs, in the order asked for."""
        return self.head.names

    @property
    def origins(self) -> tuple[int, ...]:
        """Of each output the number of its projection."""
        return self.head.origins

    @property
    def projections(self) -> tuple[ProjectionStatus, ...]:
        """Each use of a view, with its rows' statuses and event times."""
        return tuple(
            ProjectionStatus(
                alias=one.alias,
                view=one.view,
                version=one.version,
                on_demand=one.on_demand,
                statuses=self.status_numbers[number],
                event_times=self.times[number],
            )
            for number, one in enumerate(self.head.uses)
        )

    @property
    def columns(self) -> tuple[pl.Series, ...]:
        """The features in their exact dtypes."""
        found = {
            output: column
            for outputs, grid in self.blocks
            for output, column in zip(outputs, series(grid), strict=True)
        }
        return tuple(found[number].alias(name) for number, name in enumerate(self.names))

    def to_dict(self) -> dict[str, list[Any]]:
        """Give lists by name, the entity columns first, as Feast does; a missing value is None."""
        return self.to_polars().to_dict(as_series=False)

    def to_polars(self) -> pl.DataFrame:
        """Give a frame: the columns the caller brought, then the features in their exact dtypes."""
        kept = [column for column in self.entities if column.name not in self.names]
        return pl.DataFrame([*kept, *self.columns])

    def to_numpy(self) -> dict[str, "np.ma.MaskedArray[Any, Any]"]:
        """Give the features as masked arrays by name; a missing value is masked, never a number.

        Dtypes are those of the features: dates are datetime64[D], datetimes datetime64[us] (UTC);
        fixed arrays have two dimensions; strings are objects, and lists: arrays, masked ones where
        an element is missing.
        """
        found = {
            output: column
            for outputs, grid in self.blocks
            for output, column in zip(outputs, arrays(grid), strict=True)
        }
        return {name: found[number] for number, name in enumerate(self.names)}

    @property
    def statuses(self) -> dict[str, list[str]]:
        """The status of each output's rows: PRESENT, NULL_VALUE, NOT_FOUND, …."""
        return self._of_outputs(_STATUSES[self.status_numbers].tolist())

    @property
    def event_times(self) -> dict[str, list[datetime | None]]:
        """The event time (UTC) behind each output's rows; None where there is none."""
        return self._of_outputs(self._lists(self.times, pl.Datetime("us", "UTC")))

    @property
    def ages(self) -> dict[str, list[timedelta | None]]:
        """How old each output's rows are: `as_of` less the event time; None where there is none.

        A row of an event after `as_of` has a negative age.
        """
        return self._of_outputs(self._lists(micros(self.as_of) - self.times, pl.Duration("us")))

    @property
    def versions(self) -> dict[str, str]:
        """The version id of each view that took part, by the view's name; of a pin, as written."""
        return {one.alias if "@" in one.alias else one.view: one.version for one in self.head.uses}

    def _of_outputs(self, found: Sequence[list[Any]]) -> dict[str, list[Any]]:
        """Give each output its projection's list."""
        return {name: found[origin] for name, origin in zip(self.names, self.origins, strict=True)}

    def _lists(self, spans: Array, dtype: pl.DataType) -> list[list[Any]]:
        """Give each projection's row times as Python's, None where no stored row was found."""
        stored = np.array([not one.on_demand for one in self.head.uses], np.bool_)
        there = (self.status_numbers != pb.STATUS_NOT_FOUND) & stored[:, None]
        flat = pl.DataFrame({"time": spans.reshape(-1), "there": there.reshape(-1)}).select(
            pl.when("there").then(pl.col("time").cast(dtype))
        )
        cells = flat.to_series().to_list()
        rows = spans.shape[1]
        return [cells[first * rows : (first + 1) * rows] for first in range(len(spans))]


class Reader:
    """Reads answers; what several begin with is read once, and known again by its bytes.

    The fields of a message may be read apart: after a beginning that is, byte for byte, one already
    read, only the rest is. It is safe to share between threads.
    """

    def __init__(self) -> None:
        self._known: tuple[tuple[bytes, Head], ...] = ()

    def __call__(self, raw: bytes, entities: pl.DataFrame) -> OnlineResponse:
        """Read the bytes of a GetOnlineFeaturesResponse to a request with these entity columns.

        Raises:
            CorruptData: the bytes are not a whole answer.
        """
        for start, head in self._known:
            if raw.startswith(start):
                return _read(raw[len(start) :], head, entities)
        found = _read(raw, _NOTHING, entities)
        start = _start(found.head)
        if raw.startswith(start):
            self._known = ((start, found.head), *self._known[: _KEPT - 1])
        return found


def read_response(raw: bytes, entities: pl.DataFrame) -> OnlineResponse:
    """Read one GetOnlineFeaturesResponse; see `Reader`."""
    return _read(raw, _NOTHING, entities)


_NOTHING = Head(names=(), origins=(), uses=())


def _read(raw: bytes, head: Head, entities: pl.DataFrame) -> OnlineResponse:
    """Read the bytes that follow those of a head."""
    try:
        return either_way(
            raw,
            twin.GetOnlineFeaturesResponse,
            pb.GetOnlineFeaturesResponse,
            partial(_response, head, entities),
        )
    except (InvalidRequest, ValueError, OverflowError) as error:
        raise CorruptData("the server's answer is not whole; are the versions equal?") from error


def _response(before: Head, entities: pl.DataFrame, message: Any) -> OnlineResponse:
    head, count = _whole(before, message), message.count
    shape = (len(head.uses), count)
    blocks = tuple((tuple(block.outputs), _grid(block, count)) for block in message.blocks)
    places = sorted(number for outputs, _ in blocks for number in outputs)
    if places != list(range(len(head.names))):
        raise InvalidRequest("blocks: do not answer each output once")
    if len(head.origins) != len(head.names) or max(head.origins, default=-1) >= len(head.uses):
        raise InvalidRequest("output_projections: do not give each output a projection")
    return OnlineResponse(
        head=head,
        entities=entities,
        release=message.release,
        as_of=moment(message.as_of),
        blocks=blocks,
        status_numbers=_matrix(message.statuses, "u1", shape, "statuses"),
        times=_matrix(message.event_times, "<i8", shape, "event_times"),
    )


def _whole(before: Head, message: Any) -> Head:
    """Give a head with what more of it a message has."""
    if not (message.names or message.output_projections or message.projections):
        return before
    return Head(
        names=(*before.names, *message.names),
        origins=(*before.origins, *message.output_projections),
        uses=(
            *before.uses,
            *(
                Use(alias=one.alias, view=one.view, version=one.version, on_demand=one.on_demand)
                for one in message.projections
            ),
        ),
    )


def _start(head: Head) -> bytes:
    """Give the bytes of a head, as servers begin their answers with."""
    message = twin.GetOnlineFeaturesResponse(names=head.names, output_projections=head.origins)
    for one in head.uses:
        message.projections.add(
            alias=one.alias, view=one.view, version=one.version, on_demand=one.on_demand
        )
    start: bytes = message.SerializeToString()
    return start


def _grid(block: Any, count: int) -> Grid:
    return read(block.values, columns=len(block.outputs), rows=count, path="blocks")


def _matrix(raw: bytes, dtype: str, shape: tuple[int, int], path: str) -> Array:
    found = (
        np.frombuffer(raw, np.dtype(dtype)) if len(raw) % np.dtype(dtype).itemsize == 0 else None
    )
    if found is None or found.size != shape[0] * shape[1]:
        raise Misfit(f"{path}: has {len(raw)} bytes, which {shape[0]} x {shape[1]} values do not")
    return found.reshape(shape)
