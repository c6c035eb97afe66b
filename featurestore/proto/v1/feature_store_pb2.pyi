from featurestore.proto.v1 import values_pb2 as _values_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATUS_UNSPECIFIED: _ClassVar[Status]
    STATUS_PRESENT: _ClassVar[Status]
    STATUS_NULL_VALUE: _ClassVar[Status]
    STATUS_NOT_FOUND: _ClassVar[Status]
    STATUS_OUTSIDE_MAX_AGE: _ClassVar[Status]
    STATUS_NOT_YET_KNOWN: _ClassVar[Status]

class PushTo(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PUSH_TO_UNSPECIFIED: _ClassVar[PushTo]
    PUSH_TO_ONLINE_AND_OFFLINE: _ClassVar[PushTo]
    PUSH_TO_ONLINE: _ClassVar[PushTo]
    PUSH_TO_OFFLINE: _ClassVar[PushTo]
STATUS_UNSPECIFIED: Status
STATUS_PRESENT: Status
STATUS_NULL_VALUE: Status
STATUS_NOT_FOUND: Status
STATUS_OUTSIDE_MAX_AGE: Status
STATUS_NOT_YET_KNOWN: Status
PUSH_TO_UNSPECIFIED: PushTo
PUSH_TO_ONLINE_AND_OFFLINE: PushTo
PUSH_TO_ONLINE: PushTo
PUSH_TO_OFFLINE: PushTo

class FeatureList(_message.Message):
    __slots__ = ("references",)
    REFERENCES_FIELD_NUMBER: _ClassVar[int]
    references: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, references: _Optional[_Iterable[str]] = ...) -> None: ...

class LockReference(_message.Message):
    __slots__ = ("id", "document")
    ID_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    id: str
    document: bytes
    def __init__(self, id: _Optional[str] = ..., document: _Optional[bytes] = ...) -> None: ...

class GetOnlineFeaturesRequest(_message.Message):
    __slots__ = ("feature_service", "features", "lock", "count", "entities", "request_data", "full_feature_names", "as_of", "max_age")
    FEATURE_SERVICE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    LOCK_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DATA_FIELD_NUMBER: _ClassVar[int]
    FULL_FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_FIELD_NUMBER: _ClassVar[int]
    feature_service: str
    features: FeatureList
    lock: LockReference
    count: int
    entities: _containers.RepeatedCompositeFieldContainer[_values_pb2.Column]
    request_data: _containers.RepeatedCompositeFieldContainer[_values_pb2.Column]
    full_feature_names: bool
    as_of: int
    max_age: int
    def __init__(self, feature_service: _Optional[str] = ..., features: _Optional[_Union[FeatureList, _Mapping]] = ..., lock: _Optional[_Union[LockReference, _Mapping]] = ..., count: _Optional[int] = ..., entities: _Optional[_Iterable[_Union[_values_pb2.Column, _Mapping]]] = ..., request_data: _Optional[_Iterable[_Union[_values_pb2.Column, _Mapping]]] = ..., full_feature_names: _Optional[bool] = ..., as_of: _Optional[int] = ..., max_age: _Optional[int] = ...) -> None: ...

class Projection(_message.Message):
    __slots__ = ("alias", "view", "version", "on_demand")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ON_DEMAND_FIELD_NUMBER: _ClassVar[int]
    alias: str
    view: str
    version: str
    on_demand: bool
    def __init__(self, alias: _Optional[str] = ..., view: _Optional[str] = ..., version: _Optional[str] = ..., on_demand: _Optional[bool] = ...) -> None: ...

class GetOnlineFeaturesResponse(_message.Message):
    __slots__ = ("names", "output_projections", "projections", "blocks", "statuses", "event_times", "count", "release", "as_of")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_PROJECTIONS_FIELD_NUMBER: _ClassVar[int]
    PROJECTIONS_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIMES_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    output_projections: _containers.RepeatedScalarFieldContainer[int]
    projections: _containers.RepeatedCompositeFieldContainer[Projection]
    blocks: _containers.RepeatedCompositeFieldContainer[_values_pb2.Block]
    statuses: _containers.RepeatedScalarFieldContainer[Status]
    event_times: _containers.RepeatedScalarFieldContainer[int]
    count: int
    release: int
    as_of: int
    def __init__(self, names: _Optional[_Iterable[str]] = ..., output_projections: _Optional[_Iterable[int]] = ..., projections: _Optional[_Iterable[_Union[Projection, _Mapping]]] = ..., blocks: _Optional[_Iterable[_Union[_values_pb2.Block, _Mapping]]] = ..., statuses: _Optional[_Iterable[_Union[Status, str]]] = ..., event_times: _Optional[_Iterable[int]] = ..., count: _Optional[int] = ..., release: _Optional[int] = ..., as_of: _Optional[int] = ...) -> None: ...

class DescribeServiceRequest(_message.Message):
    __slots__ = ("feature_service", "full_feature_names", "lock")
    FEATURE_SERVICE_FIELD_NUMBER: _ClassVar[int]
    FULL_FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    LOCK_FIELD_NUMBER: _ClassVar[int]
    feature_service: str
    full_feature_names: bool
    lock: LockReference
    def __init__(self, feature_service: _Optional[str] = ..., full_feature_names: _Optional[bool] = ..., lock: _Optional[_Union[LockReference, _Mapping]] = ...) -> None: ...

class Field(_message.Message):
    __slots__ = ("name", "dtype")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ...) -> None: ...

class Output(_message.Message):
    __slots__ = ("name", "dtype", "projection", "feature", "feature_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    PROJECTION_FIELD_NUMBER: _ClassVar[int]
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    FEATURE_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    projection: int
    feature: str
    feature_id: str
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., projection: _Optional[int] = ..., feature: _Optional[str] = ..., feature_id: _Optional[str] = ...) -> None: ...

class Stored(_message.Message):
    __slots__ = ("projection", "table", "ttl", "watermark")
    PROJECTION_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    WATERMARK_FIELD_NUMBER: _ClassVar[int]
    projection: int
    table: str
    ttl: int
    watermark: int
    def __init__(self, projection: _Optional[int] = ..., table: _Optional[str] = ..., ttl: _Optional[int] = ..., watermark: _Optional[int] = ...) -> None: ...

class DescribeServiceResponse(_message.Message):
    __slots__ = ("feature_service", "service_id", "release", "entities", "request_data", "outputs", "projections", "stored")
    FEATURE_SERVICE_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DATA_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    PROJECTIONS_FIELD_NUMBER: _ClassVar[int]
    STORED_FIELD_NUMBER: _ClassVar[int]
    feature_service: str
    service_id: str
    release: int
    entities: _containers.RepeatedCompositeFieldContainer[Field]
    request_data: _containers.RepeatedCompositeFieldContainer[Field]
    outputs: _containers.RepeatedCompositeFieldContainer[Output]
    projections: _containers.RepeatedCompositeFieldContainer[Projection]
    stored: _containers.RepeatedCompositeFieldContainer[Stored]
    def __init__(self, feature_service: _Optional[str] = ..., service_id: _Optional[str] = ..., release: _Optional[int] = ..., entities: _Optional[_Iterable[_Union[Field, _Mapping]]] = ..., request_data: _Optional[_Iterable[_Union[Field, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[Output, _Mapping]]] = ..., projections: _Optional[_Iterable[_Union[Projection, _Mapping]]] = ..., stored: _Optional[_Iterable[_Union[Stored, _Mapping]]] = ...) -> None: ...

class PushRequest(_message.Message):
    __slots__ = ("source", "count", "rows", "to")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    source: str
    count: int
    rows: _containers.RepeatedCompositeFieldContainer[_values_pb2.Column]
    to: PushTo
    def __init__(self, source: _Optional[str] = ..., count: _Optional[int] = ..., rows: _Optional[_Iterable[_Union[_values_pb2.Column, _Mapping]]] = ..., to: _Optional[_Union[PushTo, str]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("row", "at", "reason")
    ROW_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    row: int
    at: str
    reason: str
    def __init__(self, row: _Optional[int] = ..., at: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class Pushed(_message.Message):
    __slots__ = ("view", "version", "table", "rows", "written", "later", "known_at", "missing", "waiting", "lost")
    VIEW_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    LATER_FIELD_NUMBER: _ClassVar[int]
    KNOWN_AT_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    view: str
    version: str
    table: str
    rows: int
    written: int
    later: int
    known_at: int
    missing: bool
    waiting: int
    lost: int
    def __init__(self, view: _Optional[str] = ..., version: _Optional[str] = ..., table: _Optional[str] = ..., rows: _Optional[int] = ..., written: _Optional[int] = ..., later: _Optional[int] = ..., known_at: _Optional[int] = ..., missing: _Optional[bool] = ..., waiting: _Optional[int] = ..., lost: _Optional[int] = ...) -> None: ...

class PushResponse(_message.Message):
    __slots__ = ("accepted", "refused", "refusals", "refusal_count", "online", "offline")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    ONLINE_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_FIELD_NUMBER: _ClassVar[int]
    accepted: int
    refused: int
    refusals: _containers.RepeatedCompositeFieldContainer[Refusal]
    refusal_count: int
    online: _containers.RepeatedCompositeFieldContainer[Pushed]
    offline: str
    def __init__(self, accepted: _Optional[int] = ..., refused: _Optional[int] = ..., refusals: _Optional[_Iterable[_Union[Refusal, _Mapping]]] = ..., refusal_count: _Optional[int] = ..., online: _Optional[_Iterable[_Union[Pushed, _Mapping]]] = ..., offline: _Optional[str] = ...) -> None: ...
