"""How a view's rows lie in a Delta table: columns, dtypes, partitions, encoding, order."""

from typing import Any

import polars as pl
from deltalake import ColumnProperties, WriterProperties

from featurestore.model.documents import Table, View
from featurestore.model.layout import row_bytes
from featurestore.model.time import (
    BEGINNING,
    BUCKET,
    CREATED,
    EVENT,
    KNOWN,
    MOMENT,
    PERIOD,
    REVISION,
    Interval,
)
from featurestore.model.windows import stored_columns
from featurestore.storage.keys import bucket_of

_FEWEST, _MOST = 16_384, 131_072
"""Rows of a row group."""
WHOLE = 1 << 40
"""Bytes that a file may have: a partition's rows of one run are one file."""
_HELD = 512 << 20
"""Bytes that all row groups being written may have together."""
# Locks name versions: none may be cleaned away, by us or by another tool (measured: with the first
# setting alone, delta-rs still cleans when it is asked to).
FOR_EVER = {
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
}
_WIDER: dict[pl.DataType, pl.DataType] = {
    pl.UInt8(): pl.Int16(),
    pl.UInt16(): pl.Int32(),
    pl.UInt32(): pl.Int64(),
}


def table_schema(view: View) -> dict[str, pl.DataType]:
    """Give the columns of a view's offline rows with the dtypes readers see."""
    return {
        **{k.name: k.polars for k in view.join_keys},
        EVENT: MOMENT,
        CREATED: MOMENT,
        KNOWN: MOMENT,
        REVISION: pl.UInt32(),
        **{column.name: column.polars for column in stored_columns(view)},
    }


def stored_dtype(dtype: pl.DataType) -> pl.DataType:
    """Give the nearest dtype Delta has that holds every value of this one."""
    if isinstance(dtype, pl.Array | pl.List):
        inner = dtype.inner
        return pl.List(stored_dtype(inner if isinstance(inner, pl.DataType) else inner()))
    return _WIDER.get(dtype, dtype)


def partitions(table: Table) -> list[str]:
    """Name the columns that a table is partitioned by."""
    return [BUCKET] if table.period is None else [BUCKET, PERIOD]


def stored_schema(view: View, table: Table) -> pl.Schema:
    """Give the columns of a table as Delta has them, those it is partitioned by last."""
    dtypes = {name: stored_dtype(dtype) for name, dtype in table_schema(view).items()}
    return pl.Schema(dtypes | dict.fromkeys(partitions(table), pl.Int32()))


def laid_out(view: View, table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """Give rows as Delta stores them, partition by partition, in its dtypes.

    In a partition they keep their order; they come sorted by key and time.
    """
    schema = stored_schema(view, table)
    placed = rows.with_columns(bucket_of(rows, view.join_keys, table.buckets).alias(BUCKET))
    if table.period is not None:
        period = pl.col(KNOWN).to_physical().floordiv(table.period)
        placed = placed.with_columns(period.alias(PERIOD))
    stored = placed.select(pl.col(name).cast(dtype) for name, dtype in schema.items())
    whole = table.buckets == 1 and table.period is None
    return stored if whole else stored.sort(partitions(table), maintain_order=True)


def encoding(view: View, table: Table) -> WriterProperties:
    """Give how columns are encoded: by a dictionary only texts, which repeat themselves.

    delta-rs tries one for every column, which takes long over numbers and gains little there.
    It holds a row group of every partition that it writes to until it is whole.
    """
    dtypes = stored_schema(view, table)
    texts = [name for name, dtype in dtypes.items() if dtype == pl.String]
    chunks: dict[str, Any] = {"statistics_enabled": "CHUNK"}
    fitting = _HELD // (row_bytes(view) * table.buckets)
    return WriterProperties(
        compression="SNAPPY",
        max_row_group_size=max(_FEWEST, min(_MOST, fitting)),
        default_column_properties=ColumnProperties(dictionary_enabled=False, **chunks),
        column_properties=dict.fromkeys(texts, ColumnProperties(dictionary_enabled=True, **chunks)),
    )


def known_in(interval: Interval) -> str:
    """Give the predicate of the rows known in an interval."""
    until = f"{KNOWN} <= {_literal(interval.end)}"
    if interval.start <= BEGINNING:
        return until
    return f"{KNOWN} > {_literal(interval.start)} AND {until}"


def _literal(us: int) -> str:
    return f"arrow_cast({us}, 'Timestamp(Microsecond, Some(\"UTC\"))')"
