"""The laws of errors over gRPC."""

from types import SimpleNamespace

import grpc
import pytest

from featurestore import errors
from featurestore.serving.message.faults import code_of, error_of

KINDS = [
    one
    for one in vars(errors).values()
    if isinstance(one, type) and issubclass(one, errors.FeatureStoreError)
]
CODES = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.NotMaterialized: grpc.StatusCode.FAILED_PRECONDITION,
    errors.OnlineDataMissing: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Unsupported: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.CorruptData: grpc.StatusCode.DATA_LOSS,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_a_code(kind: type[errors.FeatureStoreError]) -> None:
    """No error of the store reaches a caller as UNKNOWN."""
    assert code_of(kind("why")) is not grpc.StatusCode.UNKNOWN


@pytest.mark.parametrize(("kind", "code"), CODES.items())
def test_codes_follow_the_published_table(
    kind: type[errors.FeatureStoreError], code: grpc.StatusCode
) -> None:
    """The codes are what clients in other languages rely on."""
    assert code_of(kind("why")) is code


def test_a_status_without_our_key_still_gives_an_error_of_ours() -> None:
    """A proxy or gRPC itself may fail a call: its code chooses the class, the address is named."""
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        call = channel.unary_unary("/x/Y")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=2)
    found = error_of(caught.value, "127.0.0.1:1")
    assert type(found) is errors.Unavailable
    assert "127.0.0.1:1" in str(found)


@pytest.mark.parametrize(
    ("details", "way"),
    [
        ("Ssl handshake failed: SSL_ERROR_SSL: WRONG_VERSION_NUMBER", "check that it has TLS, and"),
        ("Socket closed", "runs there, and if it has TLS, pass tls=TLS(…) (Socket closed)"),
        ("Connection refused", "check that `featurestore serve` runs there (Connection refused)"),
    ],
)
def test_who_cannot_be_reached_for_tls_is_told_so(details: str, way: str) -> None:
    """Else people look for a server that runs."""
    failed = SimpleNamespace(
        code=lambda: grpc.StatusCode.UNAVAILABLE, details=lambda: details, trailing_metadata=tuple
    )
    found = error_of(failed, "there:1")
    assert type(found) is errors.Unavailable
    assert way in str(found)


def test_a_server_with_too_many_calls_can_be_asked_again() -> None:
    """What is too much now is no error of the request: only sizes are."""
    busy = SimpleNamespace(
        code=lambda: grpc.StatusCode.RESOURCE_EXHAUSTED,
        details=lambda: "Concurrent RPC limit exceeded!",
        trailing_metadata=tuple,
    )
    assert type(error_of(busy, "here:1")) is errors.Overloaded
