"""Where a server leaves pushed rows for offline: in a stream of its Redis, as Arrow's IPC format.

Materialization takes them from there into the log of the source's pushed rows.
"""

from io import BytesIO

import polars as pl

from featurestore.errors import CorruptData
from featurestore.serving.push.push import Sink
from featurestore.storage.redis import OnlineStore

QUEUED = "queued in Redis; the next materialization commits it to the log"
"""How safe rows in the queue are: as safe as what else that Redis was told."""


def queue(store: OnlineStore) -> Sink:
    """Give the sink that queues rows in a store."""

    def sink(source: str, rows: pl.DataFrame) -> str:
        entry = BytesIO()
        rows.write_ipc_stream(entry)
        store.queue(source, entry.getvalue())
        return QUEUED

    return sink


def read_entry(source: str, number: bytes, entry: bytes) -> pl.DataFrame:
    """Give the rows of one entry of a queue.

    Raises:
        CorruptData: the bytes are no rows.
    """
    try:
        return pl.read_ipc_stream(BytesIO(entry))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise CorruptData(
            f"{source}: entry {number.decode(errors='replace')} of its pushed rows in Redis is not "
            "what was written; remove it with XDEL and push its rows again"
        ) from error
