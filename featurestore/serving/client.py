"""The gRPC client that serving services and notebooks use."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from json import dumps
from types import TracebackType
from typing import Any, Self

import grpc
import polars as pl

from featurestore.errors import InvalidRequest
from featurestore.model.schema import dtype_name
from featurestore.model.time import micros, to_moment
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving import twin
from featurestore.serving.faults import error_of
from featurestore.serving.limits import SERVICE, Limits
from featurestore.serving.response import OnlineResponse, read_response
from featurestore.serving.wire import grid_of, put

Columns = Mapping[str, Any] | pl.DataFrame
"""Columns by name: Polars Series, NumPy arrays or lists."""

_RETRIES = {
    "maxAttempts": 3,
    "initialBackoff": "0.01s",
    "maxBackoff": "0.1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


class FeatureClient:
    """Looks features up at a server; safe to share between threads, close it when done.

    `timeout` bounds every call, in seconds, retries included.
    """

    def __init__(
        self, address: str, *, timeout: float = 0.25, reply_bytes: int = Limits().reply_bytes
    ) -> None:
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
        self._describe = self._channel.unary_unary(f"/{SERVICE}/DescribeService", None, None)

    def __repr__(self) -> str:
        return f"FeatureClient({self.address!r})"

    def get_online_features(
        self,
        features: str | Sequence[str],
        entity_rows: Sequence[Mapping[str, Any]] | None = None,
        *,
        entities: Columns | None = None,
        request_data: Columns | None = None,
        full_feature_names: bool = False,
        as_of: datetime | None = None,
        timeout: float | None = None,
    ) -> OnlineResponse:
        """Give the values of a service (by name) or of `view:feature` references.

        Entities come as rows or as columns, with request data among them or apart; naive datetimes
        are UTC. Without either the answer has one row. `as_of` is the moment at which age is
        judged (default: the server's clock).

        Raises:
            InvalidRequest, NotFound: the request does not fit what is defined.
            NotMaterialized, OnlineDataMissing, Unsupported: the server cannot answer it now.
            Unavailable, DeadlineExceeded: the server or its Redis does not answer in time.
        """
        message, brought = request_message(
            features,
            entity_rows,
            entities=entities,
            request_data=request_data,
            full_feature_names=full_feature_names,
            as_of=as_of,
        )
        return read_response(self._call(self._get, message, timeout), brought)

    def describe(
        self, service: str, *, full_feature_names: bool = False, timeout: float | None = None
    ) -> pb.DescribeServiceResponse:
        """Say what a service asks for and answers: entities, request data, outputs, tables.

        Raises:
            NotFound: the server's release has no such service.
            Unavailable, DeadlineExceeded: the server does not answer in time.
        """
        request = pb.DescribeServiceRequest(
            feature_service=service, full_feature_names=full_feature_names
        )
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

    def _call(self, method: Any, message: Any, timeout: float | None) -> bytes:
        try:
            reply: bytes = method(message.SerializeToString(), timeout=timeout or self._timeout)
        except grpc.RpcError as failure:
            raise error_of(failure, self.address) from None
        return reply


def request_message(
    features: str | Sequence[str],
    entity_rows: Sequence[Mapping[str, Any]] | None = None,
    *,
    entities: Columns | None = None,
    request_data: Columns | None = None,
    full_feature_names: bool = False,
    as_of: datetime | None = None,
) -> tuple[Any, pl.DataFrame]:
    """Give the message of a request, and the columns its caller brought.

    Raises:
        InvalidRequest: the columns do not fit each other.
    """
    brought = _frame(entity_rows, entities)
    data = pl.DataFrame() if request_data is None else _columns(request_data, "request_data")
    heights = {frame.height for frame in (brought, data) if frame.width}
    if len(heights) > 1:
        raise InvalidRequest(
            f"request_data: has {data.height} rows, the entities {brought.height}; "
            "bring one row of request data for each entity"
        )
    message = twin.GetOnlineFeaturesRequest(
        count=heights.pop() if heights else 1, full_feature_names=full_feature_names
    )
    if isinstance(features, str):
        message.feature_service = features
    else:
        message.features.references.extend(features)
        message.features.SetInParent()
    if as_of is not None:
        message.as_of = micros(as_of)
    _add(message.entities, brought, "entities")
    _add(message.request_data, data, "request_data")
    return message, brought


def _frame(
    entity_rows: Sequence[Mapping[str, Any]] | None, entities: Columns | None
) -> pl.DataFrame:
    if entity_rows is not None and entities is not None:
        raise InvalidRequest("entities: came as entity_rows too; pass one of the two")
    if entities is not None:
        return _columns(entities, "entities")
    if entity_rows is None:
        return pl.DataFrame()
    names = {frozenset(row) for row in entity_rows}
    if len(names) > 1:
        odd = sorted(frozenset.union(*names) - frozenset.intersection(*names))
        raise InvalidRequest(f"entity_rows: not every row has {odd[0]!r}; give each all columns")
    if not entity_rows:
        raise InvalidRequest("entity_rows: is empty; bring at least one row")
    return _columns(
        {name: [row[name] for row in entity_rows] for name in entity_rows[0]}, "entity_rows"
    )


def _columns(given: Columns, path: str) -> pl.DataFrame:
    try:
        return given if isinstance(given, pl.DataFrame) else pl.DataFrame(given)
    except (pl.exceptions.PolarsError, TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(
            f"{path}: cannot be made into columns ({type(error).__name__}); give columns of one "
            "length, each of one type"
        ) from error


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
