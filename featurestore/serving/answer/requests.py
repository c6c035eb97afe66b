"""Requests from bytes, checked: what is wanted, and the columns that came along."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import polars as pl

from featurestore.errors import InvalidRequest
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving.answer.brought import Brought
from featurestore.serving.answer.state import Wanted
from featurestore.serving.message import twin
from featurestore.serving.message.locks import LockReference
from featurestore.serving.message.pushed import PLACES, To
from featurestore.serving.message.twin import either_way

T = TypeVar("T")

REFERENCES = 10_000
_FIRST = -62_135_596_800_000_000
_LAST = 253_402_300_799_999_999


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A GetOnlineFeatures request; `as_of` None means the server's clock.

    `max_age` is the age in microseconds beyond which no row counts, besides its view's ttl.
    """

    wanted: Wanted | LockReference
    full_feature_names: bool
    count: int
    entities: Brought
    request_data: Brought
    as_of: int | None
    max_age: int | None


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
        rows=pl.DataFrame(list(Brought(message.rows, message.count, "rows").values())),
        to=PLACES[message.to],
    )


def reading(raw: bytes, use: Callable[[Request], T], *, most: int) -> T:
    """Read a GetOnlineFeaturesRequest of at most so many rows, and give what becomes of it.

    Columns are read as they are used: where one does not fit, `use` is asked again, of the same
    bytes read in another way.

    Raises:
        InvalidRequest: the bytes are no request, or a part is missing or out of range.
    """

    def used(message: Any) -> T:
        return use(_request(message, most))

    return either_way(raw, twin.GetOnlineFeaturesRequest, pb.GetOnlineFeaturesRequest, used)


def _request(message: Any, most: int) -> Request:
    count = message.count
    if not count:
        raise InvalidRequest("count: 0 entities asked for; send at least 1")
    if count > most:
        raise InvalidRequest(
            f"count: {count} entities asked for, at most {most} a call; split the request"
        )
    as_of = message.as_of if message.HasField("as_of") else None
    if as_of is not None and not _FIRST <= as_of <= _LAST:
        raise InvalidRequest("as_of: lies outside the years 1 to 9999; send microseconds, UTC")
    max_age = message.max_age if message.HasField("max_age") else None
    if max_age is not None and max_age <= 0:
        raise InvalidRequest("max_age: is not above 0; send microseconds, or leave it out")
    return Request(
        wanted=_wanted(message),
        full_feature_names=message.full_feature_names,
        count=count,
        entities=Brought(message.entities, count, "entities"),
        request_data=Brought(message.request_data, count, "request_data"),
        as_of=as_of,
        max_age=max_age,
    )


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


def _at_most(count: int, most: int, path: str) -> None:
    """Refuse a list whose reading alone would keep others waiting for seconds."""
    if count > most:
        raise InvalidRequest(f"{path}: {count} sent, at most {most} a call; split the request")
