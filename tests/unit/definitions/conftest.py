"""A small repo's data, written once: landings of planes, with every dtype a test needs."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

LANDINGS = pl.DataFrame(
    {
        "tailnum": ["N1", "N2"],
        "number": pl.Series([1, 2], dtype=pl.Int32),
        "landed_at": [datetime(2013, 1, 1), datetime(2013, 1, 2)],  # noqa: DTZ001 - naive on purpose
        "written_at": [datetime(2013, 1, 3, tzinfo=UTC), datetime(2013, 1, 3, tzinfo=UTC)],
        "day": [date(2013, 1, 1), date(2013, 1, 2)],
        "arr_delay": [3.0, 20.0],
        "seats": pl.Series([100, 200], dtype=pl.Int16),
        "carrier": pl.Series(["UA", "AA"], dtype=pl.Categorical),
        "cancelled": [False, True],
        "price": [Decimal("1.50"), Decimal("2.50")],
        "__index": [0, 1],
    }
)


@pytest.fixture(scope="session")
def landings() -> pl.DataFrame:
    return LANDINGS


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty repo with data, made the working directory as Feast does."""
    (tmp_path / "data").mkdir()
    LANDINGS.write_parquet(tmp_path / "data" / "landings.parquet")
    (tmp_path / "feature_store.yaml").write_text("project: flights\nprovider: local\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path
