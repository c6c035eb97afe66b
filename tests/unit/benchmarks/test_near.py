"""Windows are compared before their times are: sums within what their order changes, all else."""

import polars as pl
import pytest

ROWS = pl.Series("row", [0, 1, 2])
WANTED = {
    "row": [0, 1, 2],
    "count_7d": [3, 0, 1],
    "sum_amount_7d": [3.0, 0.0, 1.0],
    "mean_amount_7d": [1.0, None, 1.0],
    "std_amount_7d": [0.5, None, None],
    "max_amount_7d": [2.0, None, 1.0],
}


@pytest.fixture
def near(benchmark, tmp_path):
    """Compare an answer with the one that is wanted."""
    asked = [
        benchmark("asked").Asked(function, "amount" if function != "count" else "", 7)
        for function in ("count", "sum", "mean", "std", "max")
    ]

    def compare(changed):
        files = {}
        for name, columns in (("one", WANTED), ("other", WANTED | changed)):
            files[name] = tmp_path / f"{name}.parquet"
            pl.DataFrame(columns).reverse().write_parquet(files[name])
        return benchmark("near").near(files, "one", ROWS, asked)

    return compare


def test_sums_of_floats_may_differ_as_their_order_does(near):
    """Of five features two are equal value for value."""
    (line,) = near(
        {"sum_amount_7d": [3.0 + 1e-9, 0.0, 1.0], "std_amount_7d": [0.5 + 1e-9] + [None] * 2}
    )
    assert "3 rows x 5 features, 2 of them value for value" in line


@pytest.mark.parametrize(
    "changed",
    [
        {"count_7d": [3, 0, 2]},
        {"sum_amount_7d": [3.0 + 1e-8, 0.0, 1.0]},
        {"sum_amount_7d": [3.0, 1e-30, 1.0]},
        {"mean_amount_7d": [1.0, None, None]},
        {"mean_amount_7d": [float("nan"), None, 1.0]},
        {"std_amount_7d": [0.5 + 1e-8, None, None]},
        {"max_amount_7d": [2.0 + 1e-12, None, 1.0]},
        {"row": [0, 1, 1]},
        {"row": [0, 1, 3]},
    ],
)
def test_what_differs_by_more_is_named(near, benchmark, changed):
    """A count, a sum beyond its bound, a null, NaN, an extreme, a row twice or of no entity row."""
    (name,) = changed
    with pytest.raises(benchmark("report").Unequal, match=name.replace("row", "rows")):
        near(changed)


def test_features_go_through_json_as_they_are(benchmark):
    """Each has twenty, of names of their own, and the tail of a long window moves by the day."""
    asked = benchmark("asked")
    for one in (asked.mixed(), asked.over(7)):
        assert asked.read([list(feature) for feature in one]) == one
        assert len({feature.name for feature in one}) == 20
    assert {one.days: one.every for one in asked.mixed()} == {
        1: asked.HOUR,
        7: asked.HOUR,
        30: asked.DAY,
    }
