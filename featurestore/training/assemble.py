"""From lookups side by side to output columns in the caller's order."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from featurestore.engine.transform import program, transform
from featurestore.errors import CorruptData
from featurestore.model.documents import View
from featurestore.model.query import Compute, Lookup, Query
from featurestore.model.schema import parse_dtype
from featurestore.training.coverage import needed, require
from featurestore.training.join import Found, gather, look_up, timeline
from featurestore.training.spine import Spine
from featurestore.training.tables import Tables


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gathered:
    """One lookup's answers: which rows were found, and their features by plain name."""

    found: Found
    features: pl.DataFrame


def check_coverage(
    spine: Spine, query: Query, tables: Tables, *, as_known: bool, allow_stale: bool
) -> None:
    """Refuse entity rows at moments that the tables do not hold; no moments need nothing.

    Raises:
        NotMaterialized: a table does not cover what the entity rows need.
    """
    moments = spine.time.drop_nulls().to_physical()
    if moments.is_empty():
        return
    first, last = int(moments.min()), int(moments.max())  # type: ignore[arg-type]
    for view in (one.view for one in versions_of(query)):
        need = needed(view, first, last, as_known=as_known)
        if need is not None:
            require(view, need, tables.covered(view), allow_stale=allow_stale)


def versions_of(query: Query) -> tuple[Lookup, ...]:
    """Give one lookup of each stored version of a query, however often it is used."""
    return tuple({lookup.version: lookup for lookup in query.lookups}.values())


def gather_lookups(
    spine: Spine, query: Query, tables: Tables, *, as_known: bool
) -> tuple[Gathered, ...]:
    """Answer every lookup; a view used twice is read and ordered once.

    Raises:
        CorruptData: a table gives a feature in another dtype than its version declares.
    """
    answers: dict[int, Gathered] = {}
    for version, view in ((one.version, one.view) for one in versions_of(query)):
        uses = [(n, one) for n, one in enumerate(query.lookups) if one.version == version]
        wanted = tuple(dict.fromkeys(f.name for _, one in uses for f in one.features))
        rows = tables.rows(view, wanted)
        _check_dtypes(view, rows, wanted)
        line = timeline(rows, [key.name for key in view.join_keys])
        for number, one in uses:
            found = look_up(
                line, keys=_keys(spine, one), time=spine.time, ttl=view.ttl, as_known=as_known
            )
            features = gather(rows, found.row, [f.name for f in one.features])
            answers[number] = Gathered(found=found, features=features)
    return tuple(answers[number] for number in range(len(query.lookups)))


def outputs(spine: Spine, query: Query, gathered: Sequence[Gathered]) -> pl.DataFrame:
    """Compute the on-demand views and give all outputs, named and ordered as the query says.

    Raises:
        FeatureStoreError: an on-demand feature cannot be computed (see `engine.transform`).
    """
    computed = tuple(_compute(one, spine, gathered) for one in query.computes)
    columns = []
    for output in query.outputs:
        if output.lookup is not None:
            origin = gathered[output.lookup].features
        else:
            assert output.compute is not None
            origin = computed[output.compute]
        columns.append(origin[output.feature.name].alias(output.name))
    return pl.DataFrame(columns)


def _compute(compute: Compute, spine: Spine, gathered: Sequence[Gathered]) -> pl.DataFrame:
    inputs = [
        spine.field(bind.field).alias(bind.column)
        if bind.lookup is None
        else gathered[bind.lookup].features[bind.field].alias(bind.column)
        for bind in compute.binds
    ]
    path = f"{compute.view.name}.features"
    # The times give the frame its height where the features are literals and read nothing.
    return transform(
        pl.DataFrame([spine.time.alias(""), *inputs]), program(compute.features, path=path)
    )


def _keys(spine: Spine, lookup: Lookup) -> list[pl.Series]:
    return [spine.key(column) for _, column in lookup.keys]


def _check_dtypes(view: View, rows: pl.DataFrame, wanted: Sequence[str]) -> None:
    declared = {f.name: f for f in view.features}
    for name in wanted:
        if rows.schema[name] != parse_dtype(declared[name].dtype):
            raise CorruptData(
                f"{view.name}.features.{name}: {view.version} declares {declared[name].dtype} but "
                f"its table holds {rows.schema[name]}; materialize the view again"
            )
