from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DataType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DATA_TYPE_UNSPECIFIED: _ClassVar[DataType]
    DATA_TYPE_BOOL: _ClassVar[DataType]
    DATA_TYPE_INT8: _ClassVar[DataType]
    DATA_TYPE_INT16: _ClassVar[DataType]
    DATA_TYPE_INT32: _ClassVar[DataType]
    DATA_TYPE_INT64: _ClassVar[DataType]
    DATA_TYPE_UINT8: _ClassVar[DataType]
    DATA_TYPE_UINT16: _ClassVar[DataType]
    DATA_TYPE_UINT32: _ClassVar[DataType]
    DATA_TYPE_FLOAT32: _ClassVar[DataType]
    DATA_TYPE_FLOAT64: _ClassVar[DataType]
    DATA_TYPE_STRING: _ClassVar[DataType]
    DATA_TYPE_DATE: _ClassVar[DataType]
    DATA_TYPE_DATETIME: _ClassVar[DataType]

class Shape(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SHAPE_UNSPECIFIED: _ClassVar[Shape]
    SHAPE_SCALAR: _ClassVar[Shape]
    SHAPE_ARRAY: _ClassVar[Shape]
    SHAPE_LIST: _ClassVar[Shape]
DATA_TYPE_UNSPECIFIED: DataType
DATA_TYPE_BOOL: DataType
DATA_TYPE_INT8: DataType
DATA_TYPE_INT16: DataType
DATA_TYPE_INT32: DataType
DATA_TYPE_INT64: DataType
DATA_TYPE_UINT8: DataType
DATA_TYPE_UINT16: DataType
DATA_TYPE_UINT32: DataType
DATA_TYPE_FLOAT32: DataType
DATA_TYPE_FLOAT64: DataType
DATA_TYPE_STRING: DataType
DATA_TYPE_DATE: DataType
DATA_TYPE_DATETIME: DataType
SHAPE_UNSPECIFIED: Shape
SHAPE_SCALAR: Shape
SHAPE_ARRAY: Shape
SHAPE_LIST: Shape

class Values(_message.Message):
    __slots__ = ("type", "shape", "width", "lengths", "nullable", "validity", "element_validity", "bools", "int32s", "uint32s", "int64s", "floats", "doubles", "strings")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    NULLABLE_FIELD_NUMBER: _ClassVar[int]
    VALIDITY_FIELD_NUMBER: _ClassVar[int]
    ELEMENT_VALIDITY_FIELD_NUMBER: _ClassVar[int]
    BOOLS_FIELD_NUMBER: _ClassVar[int]
    INT32S_FIELD_NUMBER: _ClassVar[int]
    UINT32S_FIELD_NUMBER: _ClassVar[int]
    INT64S_FIELD_NUMBER: _ClassVar[int]
    FLOATS_FIELD_NUMBER: _ClassVar[int]
    DOUBLES_FIELD_NUMBER: _ClassVar[int]
    STRINGS_FIELD_NUMBER: _ClassVar[int]
    type: DataType
    shape: Shape
    width: int
    lengths: _containers.RepeatedScalarFieldContainer[int]
    nullable: _containers.RepeatedScalarFieldContainer[int]
    validity: bytes
    element_validity: bytes
    bools: _containers.RepeatedScalarFieldContainer[bool]
    int32s: _containers.RepeatedScalarFieldContainer[int]
    uint32s: _containers.RepeatedScalarFieldContainer[int]
    int64s: _containers.RepeatedScalarFieldContainer[int]
    floats: _containers.RepeatedScalarFieldContainer[float]
    doubles: _containers.RepeatedScalarFieldContainer[float]
    strings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, type: _Optional[_Union[DataType, str]] = ..., shape: _Optional[_Union[Shape, str]] = ..., width: _Optional[int] = ..., lengths: _Optional[_Iterable[int]] = ..., nullable: _Optional[_Iterable[int]] = ..., validity: _Optional[bytes] = ..., element_validity: _Optional[bytes] = ..., bools: _Optional[_Iterable[bool]] = ..., int32s: _Optional[_Iterable[int]] = ..., uint32s: _Optional[_Iterable[int]] = ..., int64s: _Optional[_Iterable[int]] = ..., floats: _Optional[_Iterable[float]] = ..., doubles: _Optional[_Iterable[float]] = ..., strings: _Optional[_Iterable[str]] = ...) -> None: ...

class Column(_message.Message):
    __slots__ = ("name", "values")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    name: str
    values: Values
    def __init__(self, name: _Optional[str] = ..., values: _Optional[_Union[Values, _Mapping]] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("outputs", "values")
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    outputs: _containers.RepeatedScalarFieldContainer[int]
    values: Values
    def __init__(self, outputs: _Optional[_Iterable[int]] = ..., values: _Optional[_Union[Values, _Mapping]] = ...) -> None: ...
