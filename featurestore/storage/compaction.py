"""Rewriting a table's partitions as one sorted file each, and removing what no version needs."""

from collections.abc import Callable, Collection, Iterator, Sequence

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, write_deltalake
from deltalake.exceptions import CommitFailedError

from featurestore.errors import Conflict
from featurestore.model.documents import Table, View
from featurestore.model.time import BUCKET, CREATED, EVENT, REVISION
from featurestore.storage.damage import writing
from featurestore.storage.files import below, data_files
from featurestore.storage.layout import WHOLE, encoding, partitions, stored_schema
from featurestore.storage.offline import Commit, OfflineStore, moved
from featurestore.storage.parts import scan_files, verify

_HOUR = 3_600_000_000


def crowded(store: OfflineStore, view: View, table: Table) -> tuple[int, ...]:
    """Give the buckets in which a partition of the newest version has more than one file.

    Raises:
        NotMaterialized, CorruptData: as `OfflineStore.listed` does.
    """
    files = store.listed(view, table)
    many = files.group_by(partitions(table)).len().filter(pl.col("len") > 1)
    return tuple(many[BUCKET].unique().sort().to_list())


def rewrite(
    store: OfflineStore,
    view: View,
    table: Table,
    buckets: Sequence[int],
    *,
    base: int,
    run: str,
    checksums: dict[str, str],
    hold: Callable[[], None],
) -> Commit:
    """Rewrite some buckets of a version, a file per partition, in one commit on that version.

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
    chosen = listed.filter(pl.col(BUCKET).is_in(buckets))
    before = set(listed["file"])
    verify(view, table, chosen["file"], checksums, store.verified)
    schema = stored_schema(view, table)
    arrow = pl.DataFrame(schema=schema).to_arrow().schema

    def batches() -> Iterator[pa.RecordBatch]:
        for rows in _sorted(view, table, chosen):
            hold()
            yield from rows.to_arrow().cast(arrow).combine_chunks().to_batches()

    with writing(view, table):
        try:
            write_deltalake(
                opened,
                pa.RecordBatchReader.from_batches(arrow, batches()),
                mode="overwrite",
                target_file_size=WHOLE,
                predicate=f"{BUCKET} IN ({', '.join(map(str, buckets))})",
                writer_properties=encoding(view, table),
                commit_properties=CommitProperties(
                    custom_metadata={"run": run}, max_commit_retries=0
                ),
            )
        except CommitFailedError as error:
            raise Conflict(moved(view)) from error
    added = sorted(set(store.listed(view, table)["file"]) - before)
    return Commit(version=base + 1, files=data_files(added))


def _sorted(view: View, table: Table, files: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Give each partition's rows by key and time, as they are stored."""
    schema = stored_schema(view, table)
    order = [*(key.name for key in view.join_keys), EVENT, CREATED, REVISION]
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
