"""Messages with the same bytes as the public ones, whose packed arrays are plain `bytes`.

A packed field of fixed-width numbers is, on the wire, a length and little-endian values: what a
`bytes` field is too. The twins are derived from the public descriptors, so they cannot drift; with
them an array goes from NumPy into a message, and back, in one copy.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from featurestore.proto.v1 import feature_store_pb2, values_pb2

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
GetOnlineFeaturesResponse = _CLASSES["GetOnlineFeaturesResponse"]
