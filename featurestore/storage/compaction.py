"""Rewriting a table's partitions as one sorted file each, and removing what no version needs."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from math import prod

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from featurestore.errors import Conflict, FeatureStoreError
from featurestore.model.documents import Table, View
from featurestore.model.time import BUCKET
from featurestore.model.windows import row_order
from featurestore.storage.damage import writing
from featurestore.storage.files import below, data_files
from featurestore.storage.layout import WHOLE, encoding, partitions, stored_schema
from featurestore.storage.offline import Commit, OfflineStore, moved
from featurestore.storage.parts import scan_files, verify

_HOUR = 3_600_000_000

_TOGETHER = 64
"""Partitions that are rewritten in one commit."""

Places = Mapping[str, Sequence[int]]
"""The values of each column that a table is partitioned by: all their pairs are meant."""


def crowded(store: OfflineStore, view: View, table: Table) -> Places:
    """Give the buckets, and the periods, in which partitions have more than one file.

    Of the newest version; what is full in no bucket, such as an old period, is not among them.

    Raises:
        NotMaterialized, CorruptData: as `OfflineStore.listed` does.
    """
    files = store.listed(view, table)
    many = files.group_by(partitions(table)).len().filter(pl.col("len") > 1)
    if many.is_empty():
        return {}
    return {name: many[name].unique().sort().to_list() for name in partitions(table)}


def in_groups(places: Places) -> Iterator[Places]:
    """Cut partitions into groups that are rewritten together: delta-rs holds a part of each."""
    others = prod(len(values) for name, values in places.items() if name != BUCKET)
    many = max(1, _TOGETHER // max(1, others))
    buckets = places.get(BUCKET, ())
    for start in range(0, len(buckets), many):
        yield {**places, BUCKET: buckets[start : start + many]}


def rewrite(
    store: OfflineStore,
    view: View,
    table: Table,
    places: Places,
    *,
    base: int,
    run: str,
    checksums: dict[str, str],
    hold: Callable[[], None],
) -> Commit:
    """Rewrite some partitions of a version as a file each, in one commit on that version.

    Rows are sorted by key and time: each partition is handed over in one piece, as delta-rs may
    take several out of turn. `hold` is called before each.

    Raises:
        Conflict: the table has moved past `base`; nothing was written.
        CorruptData: a file is not what was written.
        Unavailable: the files cannot be written; the table is as it was.
    """
    opened = store.checked(view, table, base, checksums)
    if store.version(view, table) != base:
        raise Conflict(moved(view))
    listed = store.listed(view, table)
    chosen = listed.filter(*(pl.col(name).is_in(values) for name, values in places.items()))
    before = set(listed["file"])
    verify(view, table, chosen["file"], checksums, store.verified)
    schema = stored_schema(view, table)
    arrow = pl.DataFrame(schema=schema).to_arrow().schema
    lost: list[FeatureStoreError] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for rows in _sorted(view, table, chosen):
            try:
                hold()
            except FeatureStoreError as error:
                lost.append(error)
                raise
            yield from rows.to_arrow().cast(arrow).combine_chunks().to_batches()

    with writing(view, table):
        try:
            write_deltalake(
                opened,
                pa.RecordBatchReader.from_batches(arrow, batches()),
                mode="overwrite",
                target_file_size=WHOLE,
                predicate=_within(places),
                writer_properties=encoding(view, table),
                commit_properties=CommitProperties(
                    custom_metadata={"run": run}, max_commit_retries=0
                ),
            )
        except CommitFailedError as error:
            raise Conflict(moved(view)) from error
        except DeltaError as error:
            # delta-rs tells what is raised while it asks for rows as a fault of its own.
            if lost:
                raise lost[0] from error
            raise
    added = sorted(set(store.listed(view, table)["file"]) - before)
    return Commit(version=base + 1, files=data_files(added))


def _within(places: Places) -> str:
    """Give the predicate of some partitions."""
    values = {name: ", ".join(map(str, some)) for name, some in places.items()}
    return " AND ".join(f"{name} IN ({some})" for name, some in values.items())


def _sorted(view: View, table: Table, files: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Give each partition's rows by key and time, as they are stored."""
    schema = stored_schema(view, table)
    order = list(row_order(view))
    places = partitions(table)
    for place, listed in files.sort(places).group_by(places, maintain_order=True):
        rows = scan_files(listed["file"].to_list()).collect()
        values = zip(places, place, strict=True)
        placed = rows.with_columns(pl.lit(value, pl.Int32).alias(name) for name, value in values)
        yield placed.select(schema.names()).sort(order, nulls_last=False)


def vacuum(
    store: OfflineStore, view: View, table: Table, *, keep: Collection[int], retention: int
) -> int:
    """Remove files that neither the newest version nor those to keep need, after a while.

    That is files which were replaced, or left behind by a writer that died, longer ago than the
    retention (microseconds, in whole hours). Gives how many were removed.

    Raises:
        Unavailable: a file cannot be removed.
    """
    opened = store.opened(view, table, None)
    with writing(view, table):
        there = below(store.path(view, table))
        named = opened.vacuum(
            retention_hours=-(-retention // _HOUR),
            dry_run=False,
            enforce_retention_duration=False,
            full=True,
            keep_versions=sorted(keep) or None,
        )
    return len(there.intersection(named))  # delta-rs names what it removed earlier, too (1.6)
