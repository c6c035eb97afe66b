"""What serving is measured with: the rows, and how figures are made of what was measured."""

import math

import polars as pl
import pytest


@pytest.fixture
def works(benchmark):
    """The module of what is looked up."""
    return benchmark("works")


def test_every_key_has_its_newest_values(works, tmp_path):
    """Each kind has every key once, its features in all dtypes asked for, and nulls where mixed."""
    works.write(tmp_path, 200, 3)
    for kind in works.kinds(3):
        found = kind.newest(tmp_path)
        assert found[kind.key].to_list() == list(range(200))
        assert found.width == kind.features + 1
        assert [name for of in kind.by_view().values() for name in of] == found.columns[1:]
        assert (sum(found.null_count().row(0)) > 0) == (kind is works.MIXED)
    assert set(works.MIXED.newest(tmp_path).dtypes[1:]) == {
        pl.Float32, pl.Float64, pl.Int64, pl.String, pl.Boolean,
    }  # fmt: skip


def test_a_work_counts_its_values_and_keys(works):
    """A view more is a key more of each entity."""
    asked = works.work(works.wide(25), 100)
    assert (asked.label, asked.values, asked.keys) == ("100 x 250 over 25 views", 25_000, 2_500)


def test_scaling_is_held_against_time_a_value_and_a_key(benchmark, works):
    """Five times the values in five times the time is one; so is 25 times the keys in 25 times."""
    sides = benchmark("sides")
    goals = benchmark("serving_goals")
    wide = [works.work(works.wide(25), entities) for entities in (1, 100)]
    rates = {
        works.ONE: 5_000.0,
        works.HUNDRED: 1_000.0,
        works.MANY: 200.0,
        wide[0]: 200.0,
        wide[1]: 4.0,
    }
    samples = {goals.named("ours", one): [{"req/s": rate}] for one, rate in rates.items()}
    measured = sides.Measured(samples=samples, failed={}, checks=())
    found = {
        goal.work.removeprefix("Serving: "): figure(measured)
        for goal, figure in goals.rate_goals(wide).items()
        if goal.figure.startswith("seconds a ")
    }
    wanted = {"500 x 50": 1.0, "1 x 250 over 25 views": 1.0, "100 x 250 over 25 views": 0.5}
    assert found.keys() == wanted.keys()
    assert all(math.isclose(found[name], wanted[name]) for name in wanted)


def test_every_bound_of_a_figure_has_its_sides(benchmark, works):
    """A side that was not measured leaves its figures without a value, and says so."""
    sides, goals = benchmark("sides"), benchmark("serving_goals")
    nothing = sides.Measured(samples={}, failed={"Feast HTTP, 1 x 50": "it fell over"}, checks=())
    wide = [works.work(works.wide(2), entities) for entities in (1, 100)]
    made = (
        goals.rate_goals(wide),
        goals.added_goals(),
        goals.open_goals(),
        goals.crew_goals(),
        goals.start_goals(),
        goals.held_goals(),
        benchmark("clusters").load_goals(),
    )
    for of in made:
        for figure in of.values():
            with pytest.raises(LookupError, match=r"left out|it fell over"):
                figure(nothing)
