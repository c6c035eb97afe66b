"""The laws of reading requests."""

from contextlib import suppress

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.errors import InvalidRequest
from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.proto.v1 import values_pb2
from featurestore.serving.answer.requests import Request, reading


def read_request(raw: bytes, *, most: int) -> Request:
    """Read a request and each of its columns."""

    def whole(request: Request) -> Request:
        request.entities.check()
        request.request_data.check()
        return request

    return reading(raw, whole, most=most)


def _column(**values: object) -> pb.GetOnlineFeaturesRequest:
    kind = {"type": values_pb2.DATA_TYPE_INT64, "int64s": [1, -2, 3], **values}
    column = values_pb2.Column(name="key", values=values_pb2.Values(**kind))
    return pb.GetOnlineFeaturesRequest(feature_service="s", count=3, entities=[column])


def _delimited(field: int, body: bytes) -> bytes:
    assert len(body) < 128
    return bytes([field << 3 | 2, len(body)]) + body


def _request(values: bytes) -> bytes:
    column = _delimited(1, b"key") + _delimited(2, values)
    return _delimited(1, b"s") + b"\x18\x03" + _delimited(4, column)


_KIND = bytes([1 << 3, values_pb2.DATA_TYPE_INT64])
_NUMBERS = [value.tobytes() for value in np.array([1, -2, 3], "<i8")]
SPELLINGS = {
    "packed": _KIND + _delimited(11, b"".join(_NUMBERS)),
    "in two pieces": _KIND + _delimited(11, _NUMBERS[0]) + _delimited(11, b"".join(_NUMBERS[1:])),
    "unpacked": _KIND + b"".join(bytes([11 << 3 | 1]) + one for one in _NUMBERS),
}


@pytest.mark.parametrize("values", SPELLINGS.values(), ids=SPELLINGS)
def test_every_lawful_spelling_of_an_array_reads_alike(values: bytes) -> None:
    """Packed, in pieces or value by value: protobuf allows all three."""
    found = read_request(_request(values), most=10)
    assert found.entities["key"].to_list() == [1, -2, 3]
    assert found.wanted == "s"
    assert found.as_of is None


BROKEN = {
    "length": (_column(int64s=[1, 2]), r"entities\.key\.int64s: has 16 bytes where 24 are needed"),
    "type": (_column(type=99), r"entities\.key\.type: 99 is no data type"),
    "shape": (_column(shape=9), r"entities\.key\.shape: 9 is no shape"),
    "no type": (_column(type=0), r"entities\.key\.type: 0"),
    "narrow": (
        _column(type=values_pb2.DATA_TYPE_INT8, int64s=[], int32s=[1, 2, 300]),
        r"entities\.key\.int32s: a value does not fit int8",
    ),
    "bitmap": (_column(nullable=[0], validity=b"\x01\x02"), r"entities\.key\.validity: has 2"),
    "null column": (_column(nullable=[4], validity=b"\x01"), r"entities\.key\.nullable"),
    "list of dates": (
        _column(type=values_pb2.DATA_TYPE_DATE, shape=values_pb2.SHAPE_LIST, lengths=[0, 0, 0]),
        r"entities\.key: no dtype is called 'list\[date\]'",
    ),
    "list lengths": (
        _column(shape=values_pb2.SHAPE_LIST, lengths=[2**32 - 1] * 3),
        r"entities\.key\.int64s: has 24 bytes",
    ),
    "array width": (
        _column(shape=values_pb2.SHAPE_ARRAY, width=2**32 - 1),
        r"entities\.key\.int64s: has 24 bytes",
    ),
    "strings": (
        _column(type=values_pb2.DATA_TYPE_STRING, strings=["a"]),
        r"entities\.key\.strings: has 1 values where 3",
    ),
}


@pytest.mark.parametrize(("message", "path"), BROKEN.values(), ids=BROKEN)
def test_a_column_that_does_not_add_up_is_named(
    message: pb.GetOnlineFeaturesRequest, path: str
) -> None:
    """Each length, type and bitmap is checked before it is used."""
    with pytest.raises(InvalidRequest, match=path):
        read_request(message.SerializeToString(), most=10)


def test_a_column_sent_twice_is_refused() -> None:
    """Two columns of one name leave open which counts."""
    message = _column()
    message.entities.append(message.entities[0])
    with pytest.raises(InvalidRequest, match=r"entities\.key: sent twice"):
        read_request(message.SerializeToString(), most=10)


@pytest.mark.parametrize("as_of", [-(2**63), 2**63 - 1])
def test_a_moment_outside_the_calendar_is_refused(as_of: int) -> None:
    """Ages are judged within the years 1 to 9999."""
    message = _column()
    message.as_of = as_of
    with pytest.raises(InvalidRequest, match="as_of"):
        read_request(message.SerializeToString(), most=10)


def test_nulls_come_through_their_bitmap() -> None:
    """A cleared bit is a null, whatever its slot holds."""
    found = read_request(_column(nullable=[0], validity=b"\x05").SerializeToString(), most=3)
    assert found.entities["key"].equals(pl.Series("key", [1, None, 3]), null_equal=True)


@settings(max_examples=200)
@given(data=st.data())
def test_no_bytes_do_more_than_be_refused(data: st.DataObject) -> None:
    """Random and mutated bytes give a request or InvalidRequest, nothing else."""
    whole = bytearray(_column(nullable=[0], validity=b"\x05").SerializeToString())
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    raw = data.draw(st.just(bytes(whole)) | st.binary(max_size=60))
    with suppress(InvalidRequest):
        assert read_request(raw, most=10).count <= 10
