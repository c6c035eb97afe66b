"""What of Feast the store does not take: each thing with its reason and the way out."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import feast
from feast.base_feature_view import BaseFeatureView
from feast.data_format import DeltaFormat, ParquetFormat
from feast.data_source import DataSource, KafkaSource, KinesisSource, PushSource, RequestSource
from feast.labeling.label_view import LabelView
from feast.permissions.permission import Permission
from feast.saved_dataset import SavedDataset, ValidationReference

from featurestore.definitions.dtypes import from_feast, from_value
from featurestore.definitions.on_demand import OnDemandFeatureView

KINDS = (
    DataSource,
    BaseFeatureView,
    feast.Entity,
    feast.FeatureService,
    feast.Project,
    Permission,
    SavedDataset,
    ValidationReference,
)
"""What a module of a repo can define; other Feast objects are parts of these."""


def refusal(thing: object) -> str | None:
    """Give `name: reason; way out` if the store cannot take a Feast object, else None."""
    name = getattr(thing, "name", type(thing).__name__)
    for kind, judge in _JUDGES.items():
        if isinstance(thing, kind):
            reason = judge(thing)
            return reason and f"{name}: {reason}"
    return f"{name}: {type(thing).__name__} has no counterpart here; remove it"


def _entity(entity: feast.Entity) -> str | None:
    try:
        dtype = from_value(entity.value_type)
    except ValueError as error:
        return f"{error}; change the entity's value_type and cast the column upstream"
    if dtype in ("float32", "float64") or (dtype or "").startswith("list"):
        return f"a join key cannot be {dtype}; cast it upstream to a string or an integer"
    return None


def _file_source(source: feast.FileSource) -> str | None:
    if not isinstance(source.file_format, ParquetFormat | DeltaFormat | None):
        return (
            f"{type(source.file_format).__name__} files are not read; use ParquetFormat() or "
            "DeltaFormat()"
        )
    if source.s3_endpoint_override:
        return (
            "s3_endpoint_override would put a place into the definition; remove it and set "
            "AWS_ENDPOINT_URL where the jobs run"
        )
    if source.connection_ref is not None:
        return (
            "connection_ref is not read; remove it and give the jobs their credentials in the "
            "environment"
        )
    return None


def _push_source(source: PushSource) -> str | None:
    if source.batch_source is None:
        return "the push source has no batch source to rebuild from; set batch_source=FileSource(…)"
    reason = _batch(source.batch_source)
    return reason and f"its batch source {reason}"


def _batch(source: DataSource) -> str | None:
    if isinstance(source, RequestSource):
        return f"{source.name}: request data has no history; use it in an OnDemandFeatureView"
    return refusal(source)


def _request_source(source: RequestSource) -> str | None:
    for field in source.schema:
        try:
            from_feast(field.dtype)
        except ValueError as error:
            return f"field '{field.name}': {error}"
    return None


def _stream(source: DataSource) -> str:
    return (
        f"{type(source).__name__} is a stream, and streams are not read; land the rows as Parquet "
        "or Delta, and push fresh ones through PushSource(batch_source=FileSource(…))"
    )


def _other_source(source: DataSource) -> str:
    return (
        f"{type(source).__name__} is not read; export its rows to Parquet or Delta and use "
        "FileSource"
    )


def _feature_view(view: feast.FeatureView) -> str | None:
    if view.source_views:
        return (
            "a view over other views is not computed; write its features as expressions over the "
            "source, or as an OnDemandFeatureView"
        )
    if getattr(view, "feature_transformation", None):
        return (
            "a Python or SQL transformation has no stable identity and cannot be served; write "
            "Polars expressions with featurestore.definitions.FeatureView, or compute the columns "
            "upstream"
        )
    if view.batch_source is None:
        return "the view has no source; set source=FileSource(…)"
    reason = refusal(view.stream_source) if view.stream_source else _batch(view.batch_source)
    return f"its source {reason}" if reason else _state(view)


def _state(view: BaseFeatureView) -> str | None:
    if getattr(view, "version", "latest").lower() != "latest":
        return f"version='{view.version}' is Feast's; remove it: a version here is its content"
    if not getattr(view, "enabled", True):
        return "the view is disabled, and a disabled view would still be served; remove it"
    return None


def _stream_view(view: feast.StreamFeatureView) -> str | None:
    if view.udf or not view.aggregations or not isinstance(view.stream_source, PushSource):
        return (
            "a stream view runs Python over a stream; compute the columns upstream, and push fresh "
            "rows through a PushSource"
        )
    return _feature_view(view)


def _on_demand(view: feast.OnDemandFeatureView) -> str | None:
    if isinstance(view, OnDemandFeatureView):
        return _state(view)
    return (
        "a Python transformation has no stable identity and runs row by row; write its features as "
        "Polars expressions with featurestore.definitions.OnDemandFeatureView"
    )


def _label_view(_: object) -> str:
    return "labels are not features; keep them in the entity frame of get_historical_features"


def _service(service: feast.FeatureService) -> str | None:
    if service.logging_config is not None:
        return "served vectors are not logged through Feast; remove logging_config"
    for use in service._features:  # noqa: SLF001 - Feast keeps the order of uses nowhere else
        if isinstance(use, str) and "@" in use:
            return (
                f"'{use}' pins a version of Feast's; name the view without it: a lock or a release "
                "pins versions here"
            )
        if not isinstance(use, str | BaseFeatureView):
            return f"features: {type(use).__name__} is no view; list views and 'view:feature' names"
    return None


def _permission(_: object) -> str:
    return "permissions are not enforced; remove it and guard Redis, the files and the server"


def _fine(_: object) -> None:
    return None


_JUDGES: Mapping[type, Callable[..., str | None]] = MappingProxyType(
    {
        feast.Entity: _entity,
        feast.FileSource: _file_source,
        PushSource: _push_source,
        RequestSource: _request_source,
        KafkaSource: _stream,
        KinesisSource: _stream,
        DataSource: _other_source,
        feast.StreamFeatureView: _stream_view,
        LabelView: _label_view,
        feast.FeatureView: _feature_view,
        feast.OnDemandFeatureView: _on_demand,
        feast.FeatureService: _service,
        feast.Project: _fine,
        Permission: _permission,
    }
)
