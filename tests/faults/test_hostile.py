"""Requests that are made to hurt: each gets a status that says so, and the process lives on.

Over real sockets, to a serving process whose memory is looked at.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving.client.asking import request_message
from featurestore.serving.message import twin
from featurestore.serving.message.limits import SERVICE
from tests.faults.serving import Serving, load, serving
from tests.servers import Server

PROJECT = "hostile"
REFUSED = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
OURS = (
    *REFUSED,
    grpc.StatusCode.OK,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
)
MANY = 1_000_000
ROOM = 192
"""MiB that the worst of requests may make a process of 90 MiB larger by, for a moment."""


@pytest.fixture(scope="module")
def process(server: Server) -> Iterator[Serving]:
    """Serve for the module."""
    load(server.url, PROJECT)
    with serving(server.url, PROJECT) as process:
        assert answers(process)
        yield process


def code_of(
    process: Serving,
    raw: bytes,
    method: str = "GetOnlineFeatures",
    compression: grpc.Compression = grpc.Compression.NoCompression,
) -> grpc.StatusCode:
    """Send bytes, on a connection of their own, and give the status they get."""
    options = [("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0)]
    with grpc.insecure_channel(process.address, options, compression) as channel:
        return status(channel, raw, method)


def status(channel: grpc.Channel, raw: bytes, method: str) -> grpc.StatusCode:
    """Send bytes and give the status they get."""
    try:
        channel.unary_unary(f"/{SERVICE}/{method}", None, None)(raw, timeout=20)
    except grpc.RpcError as failure:
        code: grpc.StatusCode = failure.code()
        return code
    return grpc.StatusCode.OK


def answers(process: Serving) -> bool:
    """Say whether an ordinary lookup is answered."""
    return process.lives and code_of(process, lookup()) is grpc.StatusCode.OK


def most(process: Serving) -> float:
    """Give the most memory that a process ever had, MiB."""
    told = Path(f"/proc/{process.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", told)
    assert found
    return int(found[1]) / 1024


def lookup(keys: object = (1, 2), **more: object) -> bytes:
    """Give the bytes of a lookup."""
    message, _ = request_message(["view:a"], entities={"key": pl.Series("key", keys)}, **more)
    raw: bytes = message.SerializeToString()
    return raw


def of_strings() -> bytes:
    """Give a lookup of a million keys that are strings."""
    message, _ = request_message(["view:a"], entities={"key": ["k"] * MANY})
    raw: bytes = message.SerializeToString()
    return raw


def of_one_row() -> bytes:
    """Give a lookup of one row that brings a million strings."""
    message, _ = request_message(["view:a"], entities={"key": ["k"] * MANY})
    message.count = 1
    raw: bytes = message.SerializeToString()
    return raw


def of_references() -> bytes:
    """Give a lookup of a million features."""
    message = twin.GetOnlineFeaturesRequest(count=1)
    message.features.references.extend(["v:"] * MANY)
    raw: bytes = message.SerializeToString()
    return raw


def of_columns() -> bytes:
    """Give a lookup of a million columns without a name."""
    return lookup() + b"\x22\x00" * MANY


HOSTILE: dict[str, tuple[Callable[[], bytes], str, grpc.Compression]] = {
    "five megabytes": (lambda: bytes(5 << 20), "GetOnlineFeatures", grpc.Compression.NoCompression),
    "a bomb": (lambda: bytes(96 << 20), "GetOnlineFeatures", grpc.Compression.Gzip),
    "another bomb": (lambda: bytes(96 << 20), "Push", grpc.Compression.Deflate),
    "just below the limit": (lambda: bytes((4 << 20) - 9), "Push", grpc.Compression.Gzip),
    "many strings": (of_strings, "GetOnlineFeatures", grpc.Compression.Gzip),
    "many strings for one row": (of_one_row, "GetOnlineFeatures", grpc.Compression.Gzip),
    "many features": (of_references, "GetOnlineFeatures", grpc.Compression.NoCompression),
    "many columns": (of_columns, "GetOnlineFeatures", grpc.Compression.NoCompression),
    "many rows to push": (of_strings, "Push", grpc.Compression.NoCompression),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_made_to_hurt_is_refused(process: Serving, case: str) -> None:
    """Too many bytes, packed or not, too many strings, names or columns; memory is bounded."""
    make, method, compression = HOSTILE[case]
    raw = make()
    assert code_of(process, raw, method, compression) in REFUSED
    assert answers(process)
    assert most(process) < 90 + ROOM


VALID = {
    "GetOnlineFeatures": [lookup(), lookup(["a", None]), lookup([1.5, 2.5])],
    "DescribeService": [pb.DescribeServiceRequest(feature_service="service").SerializeToString()],
    "Push": [pb.PushRequest(source="view_source", count=1).SerializeToString() + lookup()],
}


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """Give a method, and bytes of any kind or those of a request that was damaged."""
    method = draw(st.sampled_from(sorted(VALID)))
    if draw(st.booleans()):
        return method, draw(st.binary(max_size=200))
    raw = bytearray(draw(st.sampled_from(VALID[method])))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        length = draw(st.integers(0, 8))
        match draw(st.sampled_from(["replaced", "removed", "put in", "repeated"])):
            case "replaced":
                raw[at : at + length] = draw(st.binary(min_size=length, max_size=length))
            case "removed":
                del raw[at : at + length]
            case "put in":
                raw[at:at] = draw(st.binary(max_size=8))
            case "repeated":
                raw[at:at] = raw[at : at + length] * draw(st.integers(1, 50))
    return method, bytes(raw)


def test_damaged_bytes_get_a_status_of_ours(process: Serving) -> None:
    """Whatever comes instead of a request, no method fails in a way that nobody thought of."""
    with grpc.insecure_channel(process.address) as channel:

        @settings(max_examples=400)
        @given(sent=mutated())
        def check(sent: tuple[str, bytes]) -> None:
            method, raw = sent
            assert status(channel, raw, method) in OURS
            assert process.lives

        check()


def test_the_process_still_answers(process: Serving) -> None:
    """After all of this it is well, and not large."""
    assert answers(process)
    assert most(process) < 90 + ROOM
