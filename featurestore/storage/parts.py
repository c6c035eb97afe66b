"""Parts of offline tables: the files of one bucket, read column by column."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import polars as pl

from featurestore.model.documents import Table, View
from featurestore.storage.damage import damaged, reading
from featurestore.storage.files import checksums, file_name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredPart:
    """One bucket's rows of a table at a version: its files, in the order in which they are read.

    `dtypes` are those of the table's document by column, `checksums` the sha256 of the files by
    path inside the table, and `verified` the (file, sha256) pairs that this process has compared.
    """

    view: View
    table: Table
    bucket: int
    files: tuple[str, ...]
    rows: int
    dtypes: dict[str, pl.DataType]
    checksums: dict[str, str] = field(repr=False)
    verified: set[tuple[str, str]] = field(repr=False)

    def read(self, columns: Sequence[str]) -> pl.DataFrame:
        """Read some columns of all rows; every call gives the rows in the same order.

        Raises:
            CorruptData: a file's bytes are not those that were written.
        """
        verify(self.view, self.table, self.files, self.checksums, self.verified)
        schema = pl.Schema({name: self.dtypes[name] for name in columns})
        with reading(self.view, self.table):
            found = scan_files(self.files).select(columns).collect()
            return found.cast(schema)


def scan_files(files: Sequence[str]) -> pl.LazyFrame:
    """Scan data files as they are named, one after the other."""
    return pl.scan_parquet(list(files), glob=False, hive_partitioning=False)


def verify(
    view: View,
    table: Table,
    files: Iterable[str],
    recorded: dict[str, str],
    verified: set[tuple[str, str]],
) -> None:
    """Compare files with what the ledger recorded of them, each once.

    Raises:
        CorruptData: a file's bytes are not those that were written.
    """
    named = ((uri, file_name(uri)) for uri in files)
    checked = {(uri, recorded[name]) for uri, name in named if name in recorded}
    wanted = sorted(checked - verified)
    with reading(view, table):
        found = checksums([uri for uri, _ in wanted])
    for (uri, expected), is_now in zip(wanted, found, strict=True):
        if is_now != expected:
            raise damaged(view, f"{uri} is not what was written (sha256 differs)")
        verified.add((uri, expected))
