"""The gRPC client that serving services and notebooks use."""

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from json import dumps
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import polars as pl

from featurestore.errors import InvalidRequest, LockUnknown
from featurestore.model.lock import Lock
from featurestore.model.schema import dtype_name
from featurestore.model.time import micros, to_moment
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving import twin
from featurestore.serving.faults import error_of
from featurestore.serving.frames import frame_of
from featurestore.serving.limits import SERVICE, Limits
from featurestore.serving.locks import LockReference, read_lock
from featurestore.serving.pushed import PLACES, PushResult, named, read_result, where
from featurestore.serving.response import OnlineResponse, read_response
from featurestore.serving.wire import grid_of, put

Columns = Mapping[str, Any] | pl.DataFrame
"""Columns by name (Polars Series, NumPy arrays or lists); a frame of another library will do."""

_RETRIES = {
    "maxAttempts": 3,
    "initialBackoff": "0.01s",
    "maxBackoff": "0.1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


class FeatureClient:
    """Looks features up at a server, and pushes rows to it.

    It is safe to share between threads; close it when done.
    With a lock, or the path of its JSON, it answers the lock's outputs and nothing else, whatever
    the server's alias names. `timeout` bounds every call, in seconds, retries included.

    Raises:
        NotFound, InvalidRequest: the path names no lock, or the address is empty.
    """

    def __init__(
        self,
        address: str,
        *,
        lock: Lock | str | Path | None = None,
        timeout: float = 0.25,
        reply_bytes: int = Limits().reply_bytes,
    ) -> None:
        if not address.strip():
            raise InvalidRequest("address: is empty; give the server's HOST:PORT")
        self._lock = None if lock is None else LockReference.of(read_lock(lock))
        self._brought = False
        service = {"name": [{"service": SERVICE}], "retryPolicy": _RETRIES}
        self.address = address
        self._timeout = timeout
        self._channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.service_config", dumps({"methodConfig": [service]})),
                ("grpc.enable_retries", 1),
                ("grpc.initial_reconnect_backoff_ms", 50),
                ("grpc.min_reconnect_backoff_ms", 50),
                ("grpc.max_reconnect_backoff_ms", 1_000),
                ("grpc.keepalive_time_ms", 10_000),
                ("grpc.keepalive_timeout_ms", 2_000),
                ("grpc.max_receive_message_length", reply_bytes),
            ],
        )
        self._get = self._channel.unary_unary(f"/{SERVICE}/GetOnlineFeatures", None, None)
        self._push = self._channel.unary_unary(f"/{SERVICE}/Push", None, None)
        self._describe = self._channel.unary_unary(f"/{SERVICE}/DescribeService", None, None)

    def __repr__(self) -> str:
        return f"FeatureClient({self.address!r})"

    def get_online_features(
        self,
        features: str | Sequence[str] | None = None,
        entity_rows: Sequence[Mapping[str, Any]] | None = None,
        *,
        entities: Columns | None = None,
        request_data: Columns | None = None,
        full_feature_names: bool = False,
        as_of: datetime | None = None,
        timeout: float | None = None,
    ) -> OnlineResponse:
        """Give the values of a service (by name), of `view:feature` references, or of the lock.

        Entities come as rows or as columns, with request data among them or apart; naive datetimes
        are UTC. Without either the answer has one row. `as_of` is the moment at which age is
        judged (default: the server's clock).

        Raises:
            InvalidRequest, NotFound: the request does not fit what is defined, or it or its answer
                is too large for a message.
            NotMaterialized, OnlineDataMissing, Unsupported: the server cannot answer it now; it
                never answers a lock with other versions.
            Unavailable, DeadlineExceeded: the server or its Redis does not answer in time.
        """
        message, brought = request_message(
            features,
            entity_rows,
            entities=entities,
            request_data=request_data,
            full_feature_names=full_feature_names,
            as_of=as_of,
            lock=self._lock,
        )
        if self._lock is None:
            raw = self._call(self._get, message, timeout)
        else:
            raw = self._call_locked(message, self._lock, timeout)
        return read_response(raw, brought)

    def push(
        self,
        push_source_name: str,
        rows: Columns,
        *,
        to: Any = "online_and_offline",
        timeout: float | None = None,
    ) -> PushResult:
        """Push rows to a source: columns by name, under the names that expressions use.

        Naive datetimes are UTC. `to` is `online_and_offline`, `online` or `offline`, or Feast's
        `PushMode`. Bad rows are refused one by one, the others taken; see `FeatureStore.push`.

        Raises:
            NotFound: the server's release reads no PushSource of this name.
            InvalidRequest: the rows cannot be made into columns, or are too many for a message.
            Unavailable, DeadlineExceeded: the server or its Redis does not answer in time. Some
                rows may have been taken; pushing them again does no harm.
        """
        place, frame, source = where(to), frame_of(rows, "rows"), named(push_source_name)
        number = {one: number for number, one in PLACES.items()}[place]
        message = twin.PushRequest(source=source, count=frame.height, to=number)
        _add(message.rows, frame, "rows")
        return read_result(source, place, self._call(self._push, message, timeout))

    def describe(
        self,
        service: str | Lock | None = None,
        *,
        full_feature_names: bool = False,
        timeout: float | None = None,
    ) -> pb.DescribeServiceResponse:
        """Say what a service (by name) or a lock asks for and answers; by default the client's own.

        Raises:
            NotFound: the server's release has no such service.
            InvalidRequest: neither is named, or the lock cannot be answered there.
            NotMaterialized, Unsupported: the server cannot answer it now.
            Unavailable, DeadlineExceeded: the server does not answer in time.
        """
        request = pb.DescribeServiceRequest(full_feature_names=full_feature_names)
        lock = LockReference.of(service) if isinstance(service, Lock) else self._lock
        if isinstance(service, str):
            request.feature_service = service
        elif lock is None:
            raise InvalidRequest("service: none named; name one, or pass a lock")
        else:
            request.lock.id, request.lock.document = lock.id, lock.document
        return pb.DescribeServiceResponse.FromString(self._call(self._describe, request, timeout))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _call_locked(self, message: Any, lock: LockReference, timeout: float | None) -> bytes:
        """Send the lock's document once, and again to a server that does not know it."""
        ends = time.monotonic() + (timeout or self._timeout)
        if self._brought:
            message.lock.document = b""
            try:
                return self._call(self._get, message, timeout)
            except LockUnknown:
                message.lock.document = lock.document
        reply = self._call(self._get, message, max(ends - time.monotonic(), 0.001))
        self._brought = True
        return reply

    def _call(self, method: Any, message: Any, timeout: float | None) -> bytes:
        try:
            reply: bytes = method(message.SerializeToString(), timeout=timeout or self._timeout)
        except grpc.RpcError as failure:
            raise error_of(failure, self.address) from None
        return reply


def request_message(
    features: str | Sequence[str] | None,
    entity_rows: Sequence[Mapping[str, Any]] | None = None,
    *,
    entities: Columns | None = None,
    request_data: Columns | None = None,
    full_feature_names: bool = False,
    as_of: datetime | None = None,
    lock: LockReference | None = None,
) -> tuple[Any, pl.DataFrame]:
    """Give the message of a request, and the columns its caller brought.

    Raises:
        InvalidRequest: the columns do not fit each other, or not one of features and lock is given.
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
    _add(message.entities, brought, "entities")
    _add(message.request_data, data, "request_data")
    return message, brought


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
        message.feature_service = features
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
    names = {frozenset(row) for row in entity_rows}
    if len(names) > 1:
        odd = sorted(frozenset.union(*names) - frozenset.intersection(*names))
        raise InvalidRequest(f"entity_rows: not every row has {odd[0]!r}; give each all columns")
    if not entity_rows:
        raise InvalidRequest("entity_rows: is empty; bring at least one row")
    return frame_of(
        {name: [row[name] for row in entity_rows] for name in entity_rows[0]}, "entity_rows"
    )


def _add(messages: Any, frame: pl.DataFrame, path: str) -> None:
    for column in _normal(frame.iter_columns(), path):
        message = messages.add()
        message.name = column.name
        put(grid_of([column], dtype_name(column.dtype)), message.values)


def _normal(columns: Iterable[pl.Series], path: str) -> Iterable[pl.Series]:
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
