"""Parts of offline tables: the files of one bucket, read column by column."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import polars as pl

from featurestore.model.documents import Table, View
from featurestore.model.time import BUCKET
from featurestore.storage.damage import damaged, reading
from featurestore.storage.files import checksums, file_name
from featurestore.storage.layout import table_schema


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredPart:
    """One bucket's rows of a table at a version: its files, in the order in which they are read.

    `checksums` are the sha256 of its files by path inside the table, `verified` the (file, sha256)
    pairs that this process has compared.
    """

    view: View
    table: Table
    bucket: int
    files: tuple[str, ...]
    rows: int
    checksums: dict[str, str] = field(repr=False)
    verified: set[tuple[str, str]] = field(repr=False)

    @staticmethod
    def of(
        view: View,
        table: Table,
        files: pl.DataFrame,
        checksums: dict[str, str],
        verified: set[tuple[str, str]],
    ) -> "StoredPart":
        """Make the part of one bucket's files, as `OfflineStore.listed` gives them."""
        uris = tuple(files["file"].to_list())
        own = {file_name(uri) for uri in uris}
        return StoredPart(
            view=view,
            table=table,
            bucket=files[BUCKET][0],
            files=uris,
            rows=int(files["rows"].sum()),
            checksums={name: found for name, found in checksums.items() if name in own},
            verified=verified,
        )

    def read(self, columns: Sequence[str]) -> pl.DataFrame:
        """Read some columns of all rows; every call gives the rows in the same order.

        Raises:
            CorruptData: a file's bytes are not those that were written.
        """
        verify(self.view, self.table, self.files, self.checksums, self.verified)
        dtypes = table_schema(self.view)
        schema = pl.Schema({name: dtypes[name] for name in columns})
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
