"""Writing the lock of a training set: what was read, under which ids, and for which entity rows."""

from collections.abc import Iterator, Sequence

import polars as pl

from featurestore.model.expressions import DIALECT
from featurestore.model.fingerprint import Part, digest
from featurestore.model.lock import Lock, LockedLookup, LockedOutput, LockedView
from featurestore.model.query import Compute, Lookup, Output, Query
from featurestore.training.answers import Counts
from featurestore.training.assemble import versions_of
from featurestore.training.spine import Spine
from featurestore.training.tables import Tables


def make_lock(
    spine: Spine,
    query: Query,
    counts: Sequence[Counts],
    tables: Tables,
    *,
    project: str,
    service: str | None,
    as_known: bool,
    allow_stale: bool,
    draft: bool,
) -> Lock:
    """Give the lock of what was just read."""
    stored = (_view(one, tables.data_version(one.view)) for one in versions_of(query))
    computed = {one.version: _view(one, None) for one in query.computes}
    return Lock(
        project=project,
        draft=draft,
        service=service,
        as_known=as_known,
        allow_stale=allow_stale,
        outputs=tuple(_output(output, query) for output in query.outputs),
        lookups=tuple(_lookup(number, query, one) for number, one in enumerate(counts)),
        views=(*stored, *computed.values()),
        dialect=DIALECT,
        polars=pl.__version__,
        spine=spine_digest(spine),
        rows=len(spine),
    )


def spine_digest(spine: Spine) -> str:
    """Give a digest of what decides the answer: moments, keys and request data, row by row.

    It depends on values alone: not on chunks, on bits under nulls, or on the frame's library.
    """
    parts = (
        (role, series.name, str(series.dtype), *_content(series))
        for role, columns in (
            ("time", (spine.time.alias(""),)),
            ("key", spine.keys),
            ("request", spine.request),
        )
        for series in columns
    )
    return digest("spine", len(spine), *parts)


def _content(series: pl.Series) -> Iterator[Part]:
    """Give bytes that determine a column: which values are there, their sizes, the values."""
    yield series.is_not_null().to_numpy().tobytes()
    present = series.drop_nulls()
    if isinstance(series.dtype, pl.List):
        yield present.list.len().to_numpy().tobytes()
        yield tuple(_content(present.explode()))
    elif isinstance(series.dtype, pl.Array):
        yield tuple(_content(present.explode()))
    elif series.dtype == pl.String:
        yield present.str.len_bytes().to_numpy().tobytes()
        yield present.str.join("").item()
    else:
        yield present.to_physical().to_numpy().tobytes()


def _lookup(number: int, query: Query, counts: Counts) -> LockedLookup:
    lookup = query.lookups[number]
    reading = (c for c in query.computes if number in {bind.lookup for bind in c.binds})
    return LockedLookup(
        view=lookup.view.name,
        alias=lookup.alias,
        join_key_map=_pairs(lookup),
        withheld=counts.withheld,
        valued=counts.valued,
        version=lookup.version,
        features=tuple(feature.id for feature in lookup.features),
        readers=tuple(dict.fromkeys(compute.version for compute in reading)),
    )


def _view(use: Lookup | Compute, data: str | None) -> LockedView:
    view = use.view
    return LockedView(
        name=view.name,
        id=use.version,
        kind=view.kind,
        ttl=view.ttl,
        known_at=view.known_at,
        delay=view.delay,
        data=data,
    )


def _output(output: Output, query: Query) -> LockedOutput:
    use: Lookup | Compute
    if output.lookup is not None:
        use = query.lookups[output.lookup]
    else:
        assert output.compute is not None
        use = query.computes[output.compute]
    return LockedOutput(
        name=output.name,
        view=use.view.name,
        alias=output.alias,
        feature=output.feature.name,
        feature_id=output.feature.id,
        version=use.version,
        dtype=output.feature.dtype,
        join_key_map=_pairs(use) if isinstance(use, Lookup) else (),
    )


def _pairs(lookup: Lookup) -> tuple[tuple[str, str], ...]:
    return tuple((key.name, column) for key, column in lookup.keys)
