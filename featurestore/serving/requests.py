"""Requests from bytes, checked: what is wanted, and the columns that came along."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from featurestore.errors import InvalidRequest
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving import twin
from featurestore.serving.locks import LockReference
from featurestore.serving.pushed import PLACES, To
from featurestore.serving.state import Wanted
from featurestore.serving.twin import either_way
from featurestore.serving.wire import read, series_of

COLUMNS = 1_000
REFERENCES = 10_000
_FIRST = -62_135_596_800_000_000
_LAST = 253_402_300_799_999_999


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A GetOnlineFeatures request; `as_of` None means the server's clock."""

    wanted: Wanted | LockReference
    full_feature_names: bool
    count: int
    entities: dict[str, pl.Series]
    request_data: dict[str, pl.Series]
    as_of: int | None


def read_request(raw: bytes, *, most: int) -> Request:
    """Read a request of at most so many rows.

    Raises:
        InvalidRequest: the bytes are no request, or a part is missing or of a wrong length.
    """
    return either_way(raw, twin.GetOnlineFeaturesRequest, pb.GetOnlineFeaturesRequest, _read(most))


@dataclass(frozen=True, slots=True, kw_only=True)
class PushRequest:
    """A Push request."""

    source: str
    rows: pl.DataFrame
    to: To


def read_push(raw: bytes) -> PushRequest:
    """Read a push.

    Raises:
        InvalidRequest: the bytes are no push, or a part is missing or of a wrong length.
    """
    return either_way(raw, twin.PushRequest, pb.PushRequest, _read_push)


def _read_push(message: Any) -> PushRequest:
    if message.to not in PLACES:
        raise InvalidRequest(f"to: {message.to} is no place for rows that this server knows")
    return PushRequest(
        source=message.source,
        rows=pl.DataFrame(list(_columns(message.rows, message.count, "rows").values())),
        to=PLACES[message.to],
    )


def _read(most: int) -> Callable[[Any], Request]:
    def read_message(message: Any) -> Request:
        count = message.count
        if not count:
            raise InvalidRequest("count: 0 entities asked for; send at least 1")
        if count > most:
            raise InvalidRequest(
                f"count: {count} entities asked for, at most {most} a call; split the request"
            )
        if message.HasField("as_of") and not _FIRST <= message.as_of <= _LAST:
            raise InvalidRequest("as_of: lies outside the years 1 to 9999; send microseconds, UTC")
        return Request(
            wanted=_wanted(message),
            full_feature_names=message.full_feature_names,
            count=count,
            entities=_columns(message.entities, count, "entities"),
            request_data=_columns(message.request_data, count, "request_data"),
            as_of=message.as_of if message.HasField("as_of") else None,
        )

    return read_message


def _wanted(message: Any) -> Wanted | LockReference:
    match message.WhichOneof("wanted"):
        case "feature_service":
            return str(message.feature_service)
        case "features":
            listed = message.features.references
            _at_most(len(listed), REFERENCES, "features")
            return tuple(listed)
        case "lock":
            return LockReference(id=message.lock.id, document=message.lock.document)
    raise InvalidRequest(
        "wanted: nothing asked for; name a feature_service, list features or send a lock"
    )


def _columns(messages: Sequence[Any], count: int, path: str) -> dict[str, pl.Series]:
    _at_most(len(messages), COLUMNS, path)
    found: dict[str, pl.Series] = {}
    for message in messages:
        where = f"{path}.{message.name}"
        if message.name in found:
            raise InvalidRequest(f"{where}: sent twice; send it once")
        grid = read(message.values, columns=1, rows=count, path=where)
        found[message.name] = series_of(grid, 0, message.name)
    return found


def _at_most(count: int, most: int, path: str) -> None:
    """Refuse a list whose reading alone would keep others waiting for seconds."""
    if count > most:
        raise InvalidRequest(f"{path}: {count} sent, at most {most} a call; split the request")
