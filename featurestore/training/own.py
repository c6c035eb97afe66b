"""The caller's own columns: held in memory, or left in the file that they came in."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from featurestore.errors import Conflict, InvalidRequest


class Own(Protocol):
    """The columns of entity rows as they came."""

    @property
    def schema(self) -> pl.Schema:
        """Their names and dtypes, in order."""
        ...

    def columns(self, names: Sequence[str]) -> pl.DataFrame:
        """Give some of them, whole."""
        ...

    def rows(self, start: int, stop: int) -> pl.DataFrame:
        """Give all of them, from row `start` to row `stop`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Held:
    """Columns in memory."""

    frame: pl.DataFrame

    @property
    def schema(self) -> pl.Schema:
        """Their names and dtypes, in order."""
        return self.frame.schema

    def columns(self, names: Sequence[str]) -> pl.DataFrame:
        """Give some of them, whole."""
        return self.frame.select(names)

    def rows(self, start: int, stop: int) -> pl.DataFrame:
        """Give all of them, from row `start` to row `stop`."""
        return self.frame[start:stop]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Filed:
    """Columns in a Parquet file, which must stay as it is until they are no longer asked for."""

    path: Path
    schema: pl.Schema
    state: tuple[int, int]

    @staticmethod
    def of(path: Path) -> "Filed":
        """Look at a file, without reading its rows."""
        found = pl.scan_parquet(path, glob=False).collect_schema()
        return Filed(path=path, schema=found, state=_state(path))

    def columns(self, names: Sequence[str]) -> pl.DataFrame:
        """Give some of them, whole."""
        return self._read(self._scan().select(names))

    def rows(self, start: int, stop: int) -> pl.DataFrame:
        """Give all of them, from row `start` to row `stop`.

        Raises:
            Conflict: the file is not the one that was looked at.
            InvalidRequest: it cannot be read.
        """
        return self._read(self._scan().slice(start, stop - start))

    def _read(self, lazy: pl.LazyFrame) -> pl.DataFrame:
        try:
            return lazy.collect()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise InvalidRequest(
                f"entity_df: {self.path} cannot be read: {error}; write it again"
            ) from error

    def _scan(self) -> pl.LazyFrame:
        if not self.path.is_file() or _state(self.path) != self.state:
            raise Conflict(
                f"entity_df: {self.path} was changed after it was asked about; ask again"
            )
        return pl.scan_parquet(self.path, glob=False)


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
