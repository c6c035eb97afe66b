"""Rows kept in the process for a moment, and asked of Redis by one call where several want them.

Off unless asked for: while a row is kept, what is pushed or materialized does not show.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from time import monotonic
from typing import Protocol

from featurestore.errors import DeadlineExceeded, InvalidRequest
from featurestore.serving.answer.lookup import Keys

Key = tuple[str, bytes]
Value = bytes | None
Wanted = Sequence[tuple[str, Keys]]


class Reading(Protocol):
    """Gives rows as `lookup.Reader` does, within so many seconds."""

    def __call__(self, wanted: Wanted, *, timeout: float | None) -> list[list[Value]]:
        """Give rows."""
        ...


@dataclass(slots=True, eq=False)
class _Flight:
    """Keys on their way: whoever comes for one of them waits until they are here."""

    landed: threading.Event = field(default_factory=threading.Event)
    found: dict[Key, Value] = field(default_factory=dict)


class Cache:
    """A reader that keeps what another one read: so many rows at most, each `age` seconds long.

    It is safe to share between threads. A row that is not there is kept too. Where a call fails for
    which others wait, each of them asks anew.

    Raises:
        InvalidRequest: there is room for no row, or no time to keep it.
    """

    def __init__(self, read: Reading, *, entries: int, age: float) -> None:
        if entries < 1 or not age > 0:
            raise InvalidRequest(
                f"cache: {entries} entries for {age:g} s keep nothing; give at least 1 entry and "
                "some time, or leave the cache out"
            )
        self._read = read
        self._entries, self._age = entries, age
        self._kept: OrderedDict[Key, tuple[float, Value]] = OrderedDict()
        self._flights: dict[Key, _Flight] = {}
        self._mutex = threading.Lock()

    def __len__(self) -> int:
        """Give how many rows are kept, fresh or not."""
        return len(self._kept)

    def read(self, wanted: Wanted, *, timeout: float | None = None) -> list[list[Value]]:
        """Give rows as the other reader does, kept or read; a wait for others counts as reading.

        Raises:
            DeadlineExceeded: others had not read the rows within `timeout` seconds.
            OnlineDataMissing, Unavailable: the other reader's own.
        """
        ends = None if timeout is None else monotonic() + timeout
        asked: list[list[Key | None]] = [
            [None if key is None else (table, key) for key in keys] for table, keys in wanted
        ]
        found: dict[Key, Value] = {}
        missing = dict.fromkeys(key for keys in asked for key in keys if key is not None)
        while missing:
            mine, others = self._board(missing, found)
            if mine:
                self._fetch(mine, found, ends)
            for key, flight in others.items():
                if not flight.landed.wait(None if ends is None else max(ends - monotonic(), 0)):
                    raise DeadlineExceeded(
                        "rows that another call reads did not come within the deadline"
                    )
                if key in flight.found:
                    found[key] = flight.found[key]
            missing = dict.fromkeys(key for key in missing if key not in found)
        return [[None if key is None else found[key] for key in keys] for keys in asked]

    def _board(
        self, missing: dict[Key, None], found: dict[Key, Value]
    ) -> tuple[dict[Key, _Flight], dict[Key, _Flight]]:
        """Take what is fresh; of the rest give what this call reads, and what others do."""
        mine, others = dict[Key, _Flight](), dict[Key, _Flight]()
        oldest = monotonic() - self._age
        with self._mutex:
            own = _Flight()
            for key in missing:
                kept = self._kept.get(key)
                if kept is not None and kept[0] > oldest:
                    found[key] = kept[1]
                elif key in self._flights:
                    others[key] = self._flights[key]
                else:
                    self._flights[key] = mine[key] = own
        return mine, others

    def _fetch(self, mine: dict[Key, _Flight], found: dict[Key, Value], ends: float | None) -> None:
        """Read rows, keep them, and let those go on who wait; also where reading fails."""
        flight = next(iter(mine.values()))
        began = monotonic()
        try:
            tables: dict[str, list[bytes]] = {}
            for table, key in mine:
                tables.setdefault(table, []).append(key)
            left = None if ends is None else max(ends - began, 0.001)
            rows = self._read(list(tables.items()), timeout=left)
            for (table, keys), values in zip(tables.items(), rows, strict=True):
                flight.found.update(zip(zip(repeat(table), keys), values, strict=False))
            found.update(flight.found)
        finally:
            with self._mutex:
                for one in mine:
                    del self._flights[one]
                    if one in flight.found:
                        self._kept[one] = began, flight.found[one]
                        self._kept.move_to_end(one)
                while len(self._kept) > self._entries:
                    self._kept.popitem(last=False)
            flight.landed.set()
