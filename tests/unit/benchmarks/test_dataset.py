"""The data: equal for all sides, of the shape that was asked for."""

import polars as pl
import pytest


@pytest.fixture
def dataset(benchmark):
    """The module of the data."""
    return benchmark("dataset")


@pytest.mark.parametrize(("hot", "most"), [(0.0, 10), (0.5, 600)])
def test_rows_are_spread_over_the_keys_as_asked(dataset, tmp_path, hot, most):
    """Each key has as many rows, or one has half of all; moments are in order, none alike."""
    size = dataset.Size(rows=1000, keys=100, features=2, spine=300, views=2, hot=hot)
    dataset.write_readings(tmp_path, size)
    rows = pl.read_parquet(tmp_path / "readings1.parquet")
    assert rows.columns == ["key", "happened", "f002", "f003"]
    assert rows["happened"].is_sorted()
    assert rows["happened"].is_unique().all()
    counts = rows["key"].value_counts()["count"]
    assert counts.max() <= most
    assert hot == 0 or counts.max() >= 400


def test_data_of_many_chunks_are_equal_each_time(dataset, tmp_path, monkeypatch):
    """The seed decides alone."""
    monkeypatch.setattr(dataset, "_CHUNK", 64)
    size = dataset.Size(rows=500, keys=50, features=1)
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        dataset.write_readings(tmp_path / name, size)
        written.append(pl.read_parquet(tmp_path / name / "readings.parquet"))
    assert written[0].equals(written[1])
    assert written[0].height == 500
    assert written[0]["key"].n_unique() == 50
