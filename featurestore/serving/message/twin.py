"""Messages with the same bytes as the public ones, whose packed arrays are plain `bytes`.

A packed field of fixed-width numbers is, on the wire, a length and little-endian values: what a
`bytes` field is too. The twins are derived from the public descriptors, so they cannot drift; with
them an array goes from NumPy into a message, and back, in one copy.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from featurestore.errors import InvalidRequest
from featurestore.proto.v1 import feature_store_pb2, values_pb2

T = TypeVar("T")

PUBLIC = "featurestore.v1"
TWIN = "featurestore.twin.v1"

_Field = descriptor_pb2.FieldDescriptorProto
# Booleans and small enums are one byte each: varints below 128.
_ONE_COPY = frozenset(
    {
        _Field.TYPE_BOOL,
        _Field.TYPE_ENUM,
        _Field.TYPE_FIXED32,
        _Field.TYPE_FIXED64,
        _Field.TYPE_SFIXED32,
        _Field.TYPE_SFIXED64,
        _Field.TYPE_FLOAT,
        _Field.TYPE_DOUBLE,
    }
)


def _file(public: Any) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto()
    public.CopyToProto(file)
    file.name = f"twin/{file.name}"
    file.package = TWIN
    file.dependency[:] = [f"twin/{name}" for name in file.dependency]
    del file.service[:]
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(f".{PUBLIC}.", f".{TWIN}.")
            if field.label == _Field.LABEL_REPEATED and field.type in _ONE_COPY:
                field.label = _Field.LABEL_OPTIONAL
                field.type = _Field.TYPE_BYTES
                field.ClearField("type_name")
    return file


def _classes() -> Mapping[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    files = [_file(module.DESCRIPTOR) for module in (values_pb2, feature_store_pb2)]
    for file in files:
        pool.Add(file)  # type: ignore[no-untyped-call, unused-ignore]
    return MappingProxyType(
        {
            message.name: message_factory.GetMessageClass(
                pool.FindMessageTypeByName(f"{TWIN}.{message.name}")
            )
            for file in files
            for message in file.message_type
        }
    )


_CLASSES = _classes()

Values = _CLASSES["Values"]
Column = _CLASSES["Column"]
Block = _CLASSES["Block"]
GetOnlineFeaturesRequest = _CLASSES["GetOnlineFeaturesRequest"]
PushRequest = _CLASSES["PushRequest"]
GetOnlineFeaturesResponse = _CLASSES["GetOnlineFeaturesResponse"]


class Misfit(InvalidRequest):
    """A message's arrays do not have the lengths that it says."""


def either_way(raw: bytes, fast: Any, public: Any, read: Callable[[Any], T]) -> T:
    """Read bytes through a twin, else through the public message.

    A packed array may lawfully come in pieces, or unpacked, which only the public message reads;
    no generated code writes that, so the detour is for what looks malformed.

    Raises:
        InvalidRequest: neither way gives a message.
    """
    try:
        try:
            return read(fast.FromString(raw))
        except Misfit:
            return read(fast.FromString(public.FromString(raw).SerializeToString()))
    except DecodeError as error:
        raise InvalidRequest(
            f"{public.DESCRIPTOR.full_name}: the bytes are not this message; "
            "generate the client from protos/featurestore/v1"
        ) from error
