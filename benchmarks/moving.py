"""The sides of windowed training sets: the store from its own table, DuckDB from the raw file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asked import Asked
from columns import SPINE
from events import Flow, write_events, write_spine
from process import emptied, run_case
from sides import Side, case

OURS, FRAMES, RANGES = "ours", "DuckDB frames", "DuckDB range join"


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Events on disk, and the same materialized by the store; each service asks for some features.

    `url` is the store's Redis.
    """

    flow: Flow
    folder: Path
    url: str
    services: Mapping[str, Sequence[Asked]]

    def ours(self, service: str, name: str = OURS) -> Side:
        """Give the store's side, from its materialized table."""
        stored = {"repo": self.folder / "repo", "folder": self.folder, "url": self.url}
        run = case("ours_join.py", "training", **stored, service=service)
        return Side(name=name, against=OURS, run=run)

    def duckdb(self, service: str, way: str, name: str, spine: str = SPINE) -> Side:
        """Give DuckDB's side, in one of its ways: `frames` or `ranges`."""
        raw = {"folder": self.folder, "asked": self.services[service], "spine": spine}
        return Side(name=name, against=OURS, run=case("duckdb_windows.py", way, **raw))


def prepared(
    flow: Flow, folder: Path, url: str, services: Mapping[str, Sequence[Asked]]
) -> Windows:
    """Write events and entity rows, and materialize them; `url` is emptied afterwards.

    Training reads nothing from Redis.

    Raises:
        Failed: they could not be materialized.
    """
    folder.mkdir(parents=True)
    write_events(folder, flow)
    write_spine(folder, flow)
    run_case(
        "ours_windows.py",
        "prepare",
        repo=folder / "repo",
        folder=folder,
        url=url,
        days=flow.days,
        services=services,
    )
    emptied(url)
    return Windows(flow=flow, folder=folder, url=url, services=services)
