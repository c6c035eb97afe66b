"""What a backfill is estimated to cost: a table of what was measured."""

from dataclasses import replace

import pytest

from featurestore.model.cost import Cost, Measured, estimate

MEASURED = Measured(rows=1_000, bytes=50_000, keys=100, packed=208, becomes=208)
CASES = {
    "the same shape": ({}, Cost(rows=1_000, bytes=50_000, redis=30_500)),
    "twice as wide": ({"becomes": 416}, Cost(rows=1_000, bytes=100_000, redis=51_300)),
    "narrower": ({"becomes": 104}, Cost(rows=1_000, bytes=25_000, redis=20_100)),
    "seen in Redis": ({"used": 400.0}, Cost(rows=1_000, bytes=50_000, redis=40_000)),
    "half done": ({"held": 500}, Cost(rows=500, bytes=25_000, redis=30_500)),
    "more than done": ({"held": 2_000}, Cost(rows=0, bytes=0, redis=30_500)),
    "an empty table": ({"rows": 0, "bytes": 0, "keys": 0}, Cost(rows=0, bytes=0, redis=0)),
}


@pytest.mark.parametrize(("changes", "cost"), CASES.values(), ids=CASES.keys())
def test_a_cost_follows_from_the_current_table(changes, cost):
    """Rows stay, bytes follow the width of a row, Redis holds a row per key."""
    assert estimate(replace(MEASURED, **changes)) == cost
