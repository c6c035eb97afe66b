"""What a client asks and how it reads what comes back, whoever carries the bytes.

A lookup, a push or a description is a generator: it gives each call that is to be made, takes its
reply (or its error), and returns what the caller gets. `run` and `run_async` carry them out.
"""

import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from featurestore.errors import FeatureStoreError, InvalidRequest, LockUnknown
from featurestore.model.lock import Lock
from featurestore.model.schema import dtype_name
from featurestore.model.time import micros, to_moment
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving.client.response import OnlineResponse, Reader
from featurestore.serving.message import twin
from featurestore.serving.message.frames import frame_of, sendable
from featurestore.serving.message.locks import LockReference, read_lock
from featurestore.serving.message.pushed import PLACES, PushResult, named, read_result, where
from featurestore.serving.message.wire import grid_of, put

T = TypeVar("T")

_LONGEST = 86_400.0
"""Seconds that a call may take at most; gRPC's clock wraps round somewhere beyond."""
_OLDEST = timedelta(days=3_652_059)
"""From the year 1 to 9999: nothing is older."""

Columns = Mapping[str, Any] | pl.DataFrame
"""Columns by name (Polars Series, NumPy arrays or lists); a frame of another library will do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call to make: the method's name, the request's bytes, and how long it may take."""

    method: str
    raw: bytes
    seconds: float


Steps = Generator[Call, bytes, T]


def run(steps: Steps[T], send: Callable[[Call], bytes]) -> T:
    """Make the calls of some steps, and give what they return."""
    try:
        call = next(steps)
        while True:
            try:
                reply = send(call)
            except FeatureStoreError as error:
                call = steps.throw(error)
            else:
                call = steps.send(reply)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


async def run_async(steps: Steps[T], send: Callable[[Call], Awaitable[bytes]]) -> T:
    """Make the calls of some steps without blocking, and give what they return."""
    try:
        call = next(steps)
        while True:
            try:
                reply = await send(call)
            except FeatureStoreError as error:
                call = steps.throw(error)
            else:
                call = steps.send(reply)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]


class Asker:
    """What a client asks with: its lock, its patience in seconds, and what it read before."""

    def __init__(self, *, lock: Lock | str | Path | None, timeout: float) -> None:
        self._lock = None if lock is None else LockReference.of(read_lock(lock))
        self._timeout = _seconds(timeout)
        self._brought = False
        self._read = Reader()

    def look_up(
        self,
        features: str | Sequence[str] | None,
        entity_rows: Sequence[Mapping[str, Any]] | None,
        *,
        timeout: float | None,
        **asked: Any,
    ) -> Steps[OnlineResponse]:
        """Ask for features; see `FeatureClient.get_online_features` and `request_message`."""
        seconds = self._patience(timeout)
        message, brought = request_message(features, entity_rows, lock=self._lock, **asked)
        if self._lock is None:
            raw = yield _call("GetOnlineFeatures", message, seconds)
        else:
            raw = yield from self._locked(message, self._lock, seconds)
        return self._read(raw, brought)

    def push(
        self, source: str, rows: Columns, *, to: Any, timeout: float | None
    ) -> Steps[PushResult]:
        """Push rows; see `FeatureClient.push`."""
        place, frame, name = where(to), frame_of(rows, "rows"), named(source)
        number = {one: number for number, one in PLACES.items()}[place]
        message = twin.PushRequest(source=name, count=frame.height, to=number)
        _add(message.rows, frame, "rows")
        return read_result(name, place, (yield _call("Push", message, self._patience(timeout))))

    def describe(
        self, service: str | Lock | None, *, full_feature_names: bool, timeout: float | None
    ) -> Steps[pb.DescribeServiceResponse]:
        """Ask what a service is; see `FeatureClient.describe`."""
        request = pb.DescribeServiceRequest(full_feature_names=full_feature_names)
        lock = LockReference.of(service) if isinstance(service, Lock) else self._lock
        if isinstance(service, str):
            request.feature_service = sendable(service, "service")
        elif lock is None:
            raise InvalidRequest("service: none named; name one, or pass a lock")
        else:
            request.lock.id, request.lock.document = lock.id, lock.document
        raw = yield _call("DescribeService", request, self._patience(timeout))
        return pb.DescribeServiceResponse.FromString(raw)

    def _locked(self, message: Any, lock: LockReference, seconds: float) -> Steps[bytes]:
        """Send the lock's document once, and again to a server that does not know it."""
        ends = time.monotonic() + seconds
        if self._brought:
            message.lock.document = b""
            try:
                return (yield _call("GetOnlineFeatures", message, seconds))
            except LockUnknown:
                message.lock.document = lock.document
        left = max(ends - time.monotonic(), 0.001)
        reply = yield _call("GetOnlineFeatures", message, left)
        self._brought = True
        return reply

    def _patience(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else _seconds(timeout)


def _call(method: str, message: Any, seconds: float) -> Call:
    return Call(method=method, raw=message.SerializeToString(), seconds=seconds)


def _seconds(timeout: Any) -> float:
    known = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not known or not 0 < timeout <= _LONGEST:
        raise InvalidRequest(
            f"timeout: {timeout!r:.40} is no number of seconds; pass one above 0, and of a day at "
            f"most ({_LONGEST:,.0f})"
        )
    return float(timeout)


def request_message(
    features: str | Sequence[str] | None,
    entity_rows: Sequence[Mapping[str, Any]] | None = None,
    *,
    entities: Columns | None = None,
    request_data: Columns | None = None,
    full_feature_names: bool = False,
    as_of: datetime | None = None,
    max_age: timedelta | None = None,
    lock: LockReference | None = None,
) -> tuple[Any, pl.DataFrame]:
    """Give the message of a request, and the columns its caller brought.

    Raises:
        InvalidRequest: the columns do not fit each other, not one of features and lock is given, or
            `max_age` is no span.
    """
    brought = _frame(entity_rows, entities)
    data = pl.DataFrame() if request_data is None else frame_of(request_data, "request_data")
    heights = {frame.height for frame in (brought, data) if frame.width}
    if len(heights) > 1:
        raise InvalidRequest(
            f"request_data: has {data.height} rows, the entities {brought.height}; "
            "bring one row of request data for each entity"
        )
    message = twin.GetOnlineFeaturesRequest(
        count=heights.pop() if heights else 1, full_feature_names=full_feature_names
    )
    _want(message, features, lock)
    if as_of is not None:
        message.as_of = micros(as_of)
    if max_age is not None:
        message.max_age = _span(max_age)
    _add(message.entities, brought, "entities")
    _add(message.request_data, data, "request_data")
    return message, brought


def _span(max_age: Any) -> int:
    if not isinstance(max_age, timedelta) or max_age <= timedelta(0):
        raise InvalidRequest(f"max_age: {max_age!r:.40} is no age; pass a timedelta above 0")
    return min(max_age, _OLDEST) // timedelta(microseconds=1)


def _want(message: Any, features: str | Sequence[str] | None, lock: LockReference | None) -> None:
    if lock is not None and (features is not None or message.full_feature_names):
        raise InvalidRequest(
            "features: a lock says what is answered, and under which names; leave features and "
            "full_feature_names out, or ask without the lock"
        )
    if lock is not None:
        message.lock.id, message.lock.document = lock.id, lock.document
    elif features is None:
        raise InvalidRequest(
            "features: none asked for; name a service or `view:feature` references, or pass a lock"
        )
    elif isinstance(features, str):
        message.feature_service = sendable(features, "features")
    else:
        message.features.references.extend(_references(features))
        message.features.SetInParent()


def _references(features: Any) -> Sequence[str]:
    """Give references back if they are a list of strings; a server looks closer at them."""
    if not isinstance(features, Sequence) or isinstance(features, bytes):
        raise InvalidRequest(
            f"features: {type(features).__name__} names no features; pass a service's name, or a "
            "list of 'view:feature' references"
        )
    for number, one in enumerate(features):
        if not isinstance(one, str):
            raise InvalidRequest(
                f"features[{number}]: {type(one).__name__} is no reference; write 'view:feature'"
            )
        sendable(one, "features")
    return features


def _frame(
    entity_rows: Sequence[Mapping[str, Any]] | None, entities: Columns | None
) -> pl.DataFrame:
    if entity_rows is not None and entities is not None:
        raise InvalidRequest("entities: came as entity_rows too; pass one of the two")
    if entities is not None:
        return frame_of(entities, "entities")
    if entity_rows is None:
        return pl.DataFrame()
    rows = list(entity_rows) if isinstance(entity_rows, Iterable) else [entity_rows]
    if not all(issubclass(kind, Mapping) for kind in set(map(type, rows))):
        raise InvalidRequest(
            "entity_rows: are not mappings by column; bring a list of them, or columns or a frame "
            "as entities="
        )
    names = {frozenset(row) for row in rows}
    if len(names) > 1:
        odd = sorted(frozenset.union(*names) - frozenset.intersection(*names))
        raise InvalidRequest(f"entity_rows: not every row has {odd[0]!r}; give each all columns")
    if not rows:
        raise InvalidRequest("entity_rows: is empty; bring at least one row")
    return frame_of({name: [row[name] for row in rows] for name in rows[0]}, "entity_rows")


def _add(messages: Any, frame: pl.DataFrame, path: str) -> None:
    for column in normal(frame.iter_columns(), path):
        message = messages.add()
        message.name = column.name
        put(grid_of([column], dtype_name(column.dtype)), message.values)


def normal(columns: Iterable[pl.Series], path: str) -> Iterable[pl.Series]:
    """Give columns in dtypes that travel: times in UTC microseconds, categories as strings."""
    for column in columns:
        dtype = column.dtype
        if isinstance(dtype, pl.Datetime):
            moments = to_moment(pl.col(column.name), dtype, None)
            yield column.to_frame().select(moments).to_series()
        elif isinstance(dtype, pl.Categorical | pl.Enum | pl.Null):
            yield column.cast(pl.String)
        else:
            try:
                dtype_name(dtype)
            except ValueError as error:
                raise InvalidRequest(f"{path}.{column.name}: {error}; cast it first") from error
            yield column
