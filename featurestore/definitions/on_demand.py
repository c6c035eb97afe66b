"""The on-demand view that carries Polars expressions, on top of Feast's."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import feast
import pandas as pd
import polars as pl
from feast.feature_view_projection import FeatureViewProjection
from feast.protos.feast.core.Transformation_pb2 import UserDefinedFunctionV2
from feast.transformation.mode import TransformationMode
from feast.transformation.pandas_transformation import PandasTransformation

from featurestore.definitions.dtypes import from_feast, to_feast
from featurestore.definitions.views import (
    FeatureView,
    checked_expressions,
    compiled,
    copied,
    feature_dtypes,
)
from featurestore.engine.transform import transform
from featurestore.errors import InvalidDefinition
from featurestore.model import expressions
from featurestore.model.documents import Expression, dump, load
from featurestore.model.schema import parse_dtype

_TEXT = '''\
from featurestore.definitions.on_demand import evaluate

EXPRESSIONS = {written}


def transform(frame):
    """Compute the features of the view {name} with the engine that training and serving use."""
    return evaluate(frame, {name}, EXPRESSIONS)
'''


class OnDemandFeatureView(feast.OnDemandFeatureView):  # type: ignore[misc]
    """A view whose features are Polars expressions over other features and request data.

    An expression names an input by its plain name where one source has it, or
    `<alias>__<feature>`.

    Args:
        name: The view's name.
        sources: Views (with their selection, alias and join-key map) and `RequestSource`s.
        features: Name and expression of each feature: one row in, one row out.
        description: What people read.
        tags: What people read.
        owner: What people read.
        org: What people read.

    Raises:
        InvalidDefinition: an argument is not of its kind.
    """

    def __init__(
        self,
        *,
        name: str,
        sources: Sequence[feast.FeatureView | FeatureViewProjection | feast.RequestSource],
        features: Mapping[str, pl.Expr],
        description: str = "",
        tags: Mapping[str, str] | None = None,
        owner: str = "",
        org: str = "",
    ) -> None:
        self.expressions = checked_expressions(name, features)
        self.inputs = _checked_sources(name, sources)
        self.dtypes = feature_dtypes(self.expressions, _schema(self.inputs))
        super().__init__(
            name=name,
            sources=list(self.inputs),
            schema=[
                feast.Field(name=feature, dtype=to_feast(dtype))
                for feature, dtype in self.dtypes.items()
            ],
            feature_transformation=_Expressions(name, self.expressions),
            mode="pandas",
            description=description,
            tags=dict(tags or {}),
            owner=owner,
            org=org,
        )

    def __copy__(self) -> Self:
        """Copy with a projection of its own, as `view[[…]]`, `with_name` and others need."""
        return copied(self)

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        return bool(super().__eq__(other))

    @classmethod
    def from_proto(
        cls,
        on_demand_feature_view_proto: Any,
        skip_udf: bool = False,
    ) -> feast.OnDemandFeatureView:
        """Give what Feast's registry holds: a view of Feast's own, computed by the same engine."""
        return feast.OnDemandFeatureView.from_proto(on_demand_feature_view_proto, skip_udf)

    def infer_features(self) -> None:
        """Do nothing: names and dtypes follow from the expressions, not from a trial run."""

    def transform(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Compute the features of rows of inputs: the way to test a view in plain pytest.

        `frame` holds the columns that the expressions name.

        Raises:
            InvalidDefinition: an expression is refused, or reads a column the frame lacks.
        """
        return transform(frame, compiled(self.name, self.expressions, frame))

    def _add_source_to_collections(self, odfv_source: Any) -> None:
        """Keep two uses of one view apart; Feast's own keeps the last of them."""
        if isinstance(odfv_source, feast.FeatureView):
            odfv_source = odfv_source.projection
        if isinstance(odfv_source, FeatureViewProjection):
            self.source_feature_view_projections[odfv_source.name_to_use()] = odfv_source
        else:
            super()._add_source_to_collections(odfv_source)


class _Expressions(PandasTransformation):  # type: ignore[misc]
    """Expressions in the shape of the transformation that Feast's registry asks for.

    Feast keeps a transformation as Python source; this one's source holds the expressions as data
    and hands them to `evaluate`.
    """

    def __new__(cls, *_: object) -> Self:
        return object.__new__(cls)

    def __init__(self, view: str, features: Mapping[str, pl.Expr]) -> None:
        self.mode = TransformationMode.PANDAS
        self.name = view
        self.features = features
        self.udf = self.transform
        self.tags: dict[str, str] = {}
        self.description = ""
        self.owner = ""

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PandasTransformation) and self.udf_string == other.udf_string

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self

    @property
    def udf_string(self) -> str:
        """The Python source that Feast stores, shows and compares."""
        written = {
            name: dump(expressions.encode(expr, path=f"{self.name}.features.{name}"))
            for name, expr in self.features.items()
        }
        return _TEXT.format(written=repr(written), name=repr(self.name))

    def to_proto(self) -> UserDefinedFunctionV2:
        """Give Feast's message: source text only, no pickled body."""
        return UserDefinedFunctionV2(
            name="transform", body=b"", body_text=self.udf_string, mode=self.mode.value
        )

    def transform(self, inputs: pd.DataFrame) -> pd.DataFrame:
        """Compute the features of a pandas frame, as Feast's own retrieval asks for it."""
        rows = pl.from_pandas(inputs)
        return transform(rows, compiled(self.name, self.features, rows)).to_pandas()


def evaluate(frame: pd.DataFrame, view: str, features: Mapping[str, str]) -> pd.DataFrame:
    """Compute features, each given as the JSON document of its expression, over a pandas frame.

    This is what Feast's copy of an on-demand view calls. Every expression is walked against the
    allow-list before it is used.

    Raises:
        InvalidExpression: an expression is refused, or reads a column the frame lacks.
        Unsupported: the expressions were written by a Polars whose dialect this one does not read.
    """
    decoded = {
        name: expressions.decode(load(text, Expression), path=f"{view}.features.{name}")
        for name, text in features.items()
    }
    rows = pl.from_pandas(frame)
    return transform(rows, compiled(view, decoded, rows)).to_pandas()


def _checked_sources(
    name: str, sources: Sequence[Any]
) -> tuple[feast.FeatureView | FeatureViewProjection | feast.RequestSource, ...]:
    aliases = []
    for source in sources:
        if not isinstance(source, feast.FeatureView | FeatureViewProjection | feast.RequestSource):
            raise InvalidDefinition(
                f"{name}.sources: give feature views and RequestSources, not "
                f"{type(source).__name__}"
            )
        projection = getattr(source, "projection", source)
        alias = source.name if isinstance(source, feast.RequestSource) else projection.name_to_use()
        if alias in aliases:
            raise InvalidDefinition(
                f"{name}.sources: two are called '{alias}'; give one another name with with_name(…)"
            )
        aliases.append(alias)
    return tuple(sources)


def _schema(sources: Sequence[Any]) -> dict[str, pl.DataType]:
    """Give the inputs' dtypes under plain and full names; those that are known now."""
    dtypes: dict[str, str | None] = {}
    for source in sources:
        if isinstance(source, feast.RequestSource):
            dtypes |= {field.name: _dtype(field) for field in source.schema}
            continue
        projection = getattr(source, "projection", source)
        exact = source.dtypes if isinstance(source, FeatureView) else {}
        for field in projection.features:
            dtype = exact.get(field.name) or _dtype(field)
            dtypes[field.name] = dtypes[f"{projection.name_to_use()}__{field.name}"] = dtype
    return {name: parse_dtype(dtype) for name, dtype in dtypes.items() if dtype is not None}


def _dtype(field: feast.Field) -> str | None:
    try:
        return from_feast(field.dtype)
    except ValueError:
        return None
