"""Goals: what falls short is named, and no figure is short, too."""

import pytest


@pytest.fixture
def goals(benchmark):
    """The module of goals."""
    return benchmark("goals")


@pytest.mark.parametrize(
    ("better", "must", "reach", "value", "verdict"),
    [
        ("more", 40, None, 40.0, "met"),
        ("more", 40, None, 39.9, "short"),
        ("less", 1.0, 0.7, 1.0, "met"),
        ("less", 1.0, 0.7, 0.7, "reached"),
        ("less", 1.0, 0.7, 1.01, "short"),
        ("less", 1.0, 0.7, None, "short"),
        ("less", None, 1.0, 1.5, ""),
        ("less", None, 1.0, 0.9, "reached"),
        ("less", None, None, None, "none"),
    ],
)
def test_a_figure_is_judged_by_its_bounds(goals, better, must, reach, value, verdict):
    """Bounds are inclusive; a goal without a must is never short."""
    goal = goals.Goal(work="join", figure="of its time", better=better, must=must, reach=reach)
    found = goals.Reached(goal=goal, value=value)
    assert found.verdict == verdict
    assert found.short == (verdict == "short")


def test_a_figure_that_cannot_be_had_says_why(goals):
    """The reason of the side that is missing stands in the complaint."""
    goal = goals.Goal(work="join", figure="of its time", must=1.0)

    def figure():
        raise LookupError("Feast: left out")

    found = goals.reached(goal, figure)
    assert found.short
    assert found.complaint() == "join: of its time: not measured: Feast: left out; must ≤ 1.00"
