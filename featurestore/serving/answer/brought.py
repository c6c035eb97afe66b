"""The columns that a call brought: read when something needs them, and each at most once."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from featurestore.errors import InvalidRequest
from featurestore.serving.message.wire import ELEMENTS, SCALAR, read, series_of

COLUMNS = 1_000


class Brought(Mapping[str, pl.Series]):
    """Columns of `count` rows by name, of twin `Column` messages; `path` is where they stand.

    Raises:
        InvalidRequest: there are too many, or two of one name. What is malformed in a column is
            refused when it is read.
    """

    def __init__(self, messages: Sequence[Any], count: int, path: str) -> None:
        if len(messages) > COLUMNS:
            raise InvalidRequest(
                f"{path}: {len(messages)} sent, at most {COLUMNS} a call; split the request"
            )
        self._messages = {message.name: message.values for message in messages}
        self._read: dict[str, pl.Series] = {}
        self._taken = set[str]()
        self._count, self._path = count, path
        if len(self._messages) < len(messages):
            names = [message.name for message in messages]
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidRequest(f"{path}.{twice}: sent twice; send it once")

    def __getitem__(self, name: str) -> pl.Series:
        """Give a column.

        Raises:
            Misfit: its arrays are not as long as it says.
            InvalidRequest: it is of a type that this build does not know.
        """
        if name not in self._read:
            where = f"{self._path}.{name}"
            grid = read(self._messages[name], columns=1, rows=self._count, path=where)
            self._read[name] = series_of(grid, 0, name)
        return self._read[name]

    def __contains__(self, name: object) -> bool:
        # A mapping's own way would read the column.
        return name in self._messages

    def __iter__(self) -> Iterator[str]:
        return iter(self._messages)

    def __len__(self) -> int:
        return len(self._messages)

    def plain(self, name: str, dtype: str) -> bytes | list[str] | None:
        """Give a column of int64 or string without nulls as it travelled; None for another.

        Of int64 these are 8 bytes each, little-endian.
        """
        values = self._messages[name]
        if values.type != ELEMENTS[dtype].number or values.shape > SCALAR or values.nullable:
            return None
        cells: bytes | list[str] | None = None
        if dtype == "int64" and len(values.int64s) == 8 * self._count:
            cells = values.int64s
        elif dtype == "string" and len(values.strings) == self._count:
            cells = list(values.strings)
        if cells is not None:
            self._taken.add(name)
        return cells

    def check(self) -> None:
        """Read what nobody needed, so that what is malformed is refused whoever asks."""
        for name in self._messages.keys() - self._taken - self._read.keys():
            self[name]
