"""Errors as gRPC statuses, and back: the code says the kind, a trailing key names the class."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import grpc

from featurestore import errors
from featurestore.errors import FeatureStoreError

KEY = "featurestore-error"

_Code = grpc.StatusCode
# The first class that an error is an instance of decides; so subclasses stand before their parents.
_CODES: tuple[tuple[type[FeatureStoreError], grpc.StatusCode], ...] = (
    (errors.NotFound, _Code.NOT_FOUND),
    (errors.InvalidRequest, _Code.INVALID_ARGUMENT),
    (errors.DeadlineExceeded, _Code.DEADLINE_EXCEEDED),
    (errors.Overloaded, _Code.RESOURCE_EXHAUSTED),
    (errors.Unavailable, _Code.UNAVAILABLE),
    (errors.Unauthenticated, _Code.UNAUTHENTICATED),
    (errors.Forbidden, _Code.PERMISSION_DENIED),
    (errors.CorruptData, _Code.DATA_LOSS),
    (FeatureStoreError, _Code.FAILED_PRECONDITION),
)
_CLASSES: Mapping[str, type[FeatureStoreError]] = MappingProxyType(
    {
        name: one
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, FeatureStoreError)
    }
)
_UNNAMED: Mapping[grpc.StatusCode, type[FeatureStoreError]] = MappingProxyType(
    {
        _Code.NOT_FOUND: errors.NotFound,
        _Code.INVALID_ARGUMENT: errors.InvalidRequest,
        _Code.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
        _Code.UNAVAILABLE: errors.Unavailable,
        _Code.RESOURCE_EXHAUSTED: errors.Overloaded,
        _Code.UNAUTHENTICATED: errors.Unauthenticated,
        _Code.PERMISSION_DENIED: errors.Forbidden,
        _Code.CANCELLED: errors.Unavailable,
        _Code.DATA_LOSS: errors.CorruptData,
        _Code.FAILED_PRECONDITION: errors.NotMaterialized,
        _Code.UNIMPLEMENTED: errors.Unsupported,
    }
)


# gRPC's own words on a message that one side may not send or take: who says it, and the bytes.
_HANDSHAKE = re.compile(r"(?i)handshake|ssl_error|certificate")
_TOO_LARGE = re.compile(
    r"(CLIENT|SERVER): (Received|Sent) message larger than max \(([0-9]+) vs\. ([0-9]+)\)"
)


def code_of(error: FeatureStoreError) -> grpc.StatusCode:
    """Give the status code of an error."""
    return next(code for kind, code in _CODES if isinstance(error, kind))


def error_of(failure: Any, address: str) -> FeatureStoreError:
    """Give the store's error for a failed call to a server at an address.

    `failure` is what a call raised; its code, details and trailing metadata are read.
    """
    code, details = failure.code(), failure.details() or ""
    named = dict(failure.trailing_metadata() or ()).get(KEY, "")
    if named in _CLASSES:
        return _CLASSES[named](details)
    if code is _Code.RESOURCE_EXHAUSTED and (told := _TOO_LARGE.search(details)):
        return _too_large(told, address)
    kind = _UNNAMED.get(code, FeatureStoreError)
    if kind is errors.DeadlineExceeded:
        return kind(
            f"server at {address}: no answer within the call's timeout; pass a longer timeout "
            "or check that `featurestore serve` runs there"
        )
    if kind is errors.Overloaded:
        return kind(
            f"server at {address}: has as many calls in hand as it takes; try again in a moment, "
            f"and if it stays so, start more workers ({details or 'no details'})"
        )
    if code is _Code.UNAVAILABLE:
        way = "check that `featurestore serve` runs there"
        if _HANDSHAKE.search(details):
            way = "check that it has TLS, and that tls=TLS(roots=…) knows its certificate"
        elif details == "Socket closed":
            way += ", and if it has TLS, pass tls=TLS(…)"
        return kind(f"server at {address}: cannot be reached; {way} ({details or 'no details'})")
    return kind(f"server at {address}: {code.name}: {details or 'no details'}")


def _too_large(told: re.Match[str], address: str) -> FeatureStoreError:
    side, done = told[1], told[2]
    size, most = f"{int(told[3]):,} bytes", f"{int(told[4]):,}"
    if (side, done) in (("SERVER", "Received"), ("CLIENT", "Sent")):
        return errors.InvalidRequest(
            f"request: is {size}, and the server at {address} takes at most {most} a call; split "
            "it into calls of fewer rows"
        )
    if side == "SERVER":
        return errors.InvalidRequest(
            f"answer: would be {size}, and the server at {address} sends at most {most} a call; "
            "ask for fewer rows or features"
        )
    return errors.InvalidRequest(
        f"answer: of the server at {address} is {size}, and this client takes at most {most} a "
        "call; ask for fewer rows or features, or set FeatureClient(reply_bytes=…)"
    )
