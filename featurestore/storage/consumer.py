"""What a job that reads events from a stream asks of it, whichever system keeps the stream.

Entries are taken, worked on, and then said to be done: what a consumer that died had taken is taken
again, by itself when it is back or by another. So an entry may come twice, and never not at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

FIELDS = pl.Schema({"entry": pl.UInt32, "name": pl.Binary, "value": pl.Binary})
"""Fields of entries: the entry's place in its batch, and the field's name and value, as they came.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Entries that a consumer holds: their ids, in order, and all their fields (see `FIELDS`).

    An entry without fields was removed from the stream before anybody did it.
    """

    ids: Sequence[str]
    fields: pl.DataFrame


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How far a group of consumers is behind its stream.

    `entries` were not taken by any consumer yet (None: the stream cannot tell), `pending` ones were
    taken and are not done. `seconds` is the age of the oldest of both; 0 if there is none.
    """

    entries: int | None
    pending: int
    seconds: float


class Consumer(Protocol):
    """One of a group's consumers of a stream.

    Raises:
        Unavailable: from each method: the stream cannot be reached now; nothing is lost.
        InvalidRequest: from each method: it can never be read like this.
    """

    def take(self, most: int, wait: float) -> Batch | None:
        """Give at most so many entries, those come first that were taken and never done.

        Waits so many seconds for entries, and for more where there are fewer; None: there are none.
        """

    def done(self, batch: Batch, refused: pl.DataFrame) -> None:
        """Say that a batch's entries need not come again, and keep what was refused, and why.

        `refused` has the columns `row` (the entry's place in the batch) and `reason`.
        """

    def lag(self) -> Lag:
        """Say how far the group is behind."""
