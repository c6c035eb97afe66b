"""The sides of a training set: the store from its own tables, and its peers from the raw files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset import Size, write_readings, write_spine
from process import emptied, run_case
from sides import Sample, Side, case

OURS, DUCKDB, FEAST, FLOOR = "ours", "DuckDB ASOF", "Feast, file store", "Polars join_asof"


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """Data on disk, and the same materialized by the store; `url` is its Redis."""

    size: Size
    folder: Path
    url: str

    def ours(self, name: str = OURS, does: str = "training", **more: Any) -> Side:
        """Give the store's side, from its materialized tables."""
        stored = {"repo": self.folder / "repo", "folder": self.folder, "url": self.url}
        return Side(name=name, against=OURS, run=case("ours_join.py", does, **stored, **more))

    def draft(self) -> Side:
        """Give the store's side without a table: a notebook's unapplied view of the raw file."""
        run = case("ours.py", "draft", repo=self.folder / "repo", **self._raw())
        return Side(name="ours, draft", against=OURS, run=run)

    def floor(self) -> Side:
        """Give one plain Polars `join_asof` of the raw file."""
        return Side(name=FLOOR, against=OURS, run=case("plain.py", "training", **self._raw()))

    def duckdb(self, name: str = DUCKDB, *, apart: bool = False) -> Side:
        """Give DuckDB's side, in one statement or in one for each view."""
        more = {"count": self.size.views, "apart": apart}
        run = case("duckdb_peer.py", "training", **self._raw(), **more)
        return Side(name=name, against=OURS, run=run)

    def feast(self) -> Side:
        """Give Feast's side; a registry of its own for each turn, beside the answer."""

        def run(answer: Path) -> Sample:
            repo = answer.with_suffix(".feast")
            arguments = {**self._raw(), "repo": repo, "keep": answer}
            return run_case("feast_peer.py", "training", optimized=True, **arguments)

        return Side(name=FEAST, against=OURS, run=run)

    def _raw(self) -> dict[str, Any]:
        return {"folder": self.folder, "features": self.size.features}


def prepared(size: Size, folder: Path, url: str) -> Join:
    """Write the data and materialize it into the store's tables; `url` is emptied afterwards.

    Training reads nothing from Redis, and the next data's tables have the same names.

    Raises:
        Failed: it could not be materialized.
    """
    folder.mkdir(parents=True)
    write_readings(folder, size)
    write_spine(folder, size)
    asked: dict[str, Any] = {"features": size.features, "count": size.views}
    run_case("ours.py", "prepare", repo=folder / "repo", folder=folder, url=url, **asked)
    emptied(url)
    return Join(size=size, folder=folder, url=url)
