"""What people read of a feature is what was written."""

import polars as pl
import pytest

from featurestore.model.declare import Aggregate
from featurestore.model.shown import feature_text
from tests.declared import view

DELAY, LATE, THERE = pl.col("delay"), pl.col("delay") > 15, pl.col("seats").is_not_null()
BRANCH = pl.when(LATE).then(DELAY).otherwise(0.0)

WRITTEN = {
    "count": (("count", None, None), "count()"),
    "count, filtered": (("count", None, LATE), "count(filter=[(delay) > 15])"),
    "count, filtered twice": (
        ("count", None, LATE & THERE),
        'count(filter=[([(delay) > 15]) & (col("seats").is_not_null())])',
    ),
    "count of values": (("count", DELAY, None), 'count(col("delay"))'),
    "count of values, filtered": (
        ("count", DELAY, LATE),
        'count(col("delay"), filter=[(delay) > 15])',
    ),
    "mean": (("mean", LATE, None), "mean([(delay) > 15])"),
    "mean, filtered": (("mean", DELAY, LATE), 'mean(col("delay"), filter=[(delay) > 15])'),
    "last of a branch": (("last", BRANCH, None), "last(.when([(delay) > 15]).then(delay)"),
}


@pytest.mark.parametrize(("made", "told"), WRITTEN.values(), ids=WRITTEN)
def test_a_window_is_shown_as_it_was_written(made, told):
    """Its function, expression and filter come back from the one expression that is stored."""
    function, of, kept = made
    one = Aggregate(function=function, of=of, filter=kept, length="7d", every=None)
    feature = view(features={"seen": one}).features[0]
    shown = feature_text(feature, "history.seen")
    assert shown.startswith(told)
    assert shown.endswith(" over 7d every 1h")


def test_a_row_feature_is_shown_as_its_expression():
    """Without a window there is nothing to add."""
    assert feature_text(view(features={"late": LATE}).features[0], "history.late") == (
        "[(delay) > 15]"
    )
