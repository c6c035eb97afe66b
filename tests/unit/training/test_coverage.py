"""Which known-at moments entity rows need, and what is said when a table lacks them."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from featurestore.errors import NotMaterialized
from featurestore.model.time import EVENT, MOMENT, Interval, micros
from featurestore.training import training_set
from featurestore.training.coverage import EARLIEST, LATEST, needed, require
from tests.tables import Memory, ask, make_view, stored

DAY = 86_400_000_000


def us(*parts):
    return micros(datetime(*parts, tzinfo=UTC))


def spans(*pairs):
    return tuple(Interval(start=start, end=end) for start, end in pairs)


@pytest.mark.parametrize(
    ("ttl", "delay", "as_known", "need"),
    [
        (None, 0, True, (EARLIEST - 1, 20)),
        (5, 0, True, (4, 20)),
        (5, 2, True, (6, 20)),
        (5, 2, False, (6, 22)),
        (5, 16, True, None),
    ],
)
def test_entity_rows_need_one_ttl_before_the_first_up_to_the_last(ttl, delay, as_known, need):
    """A row exactly ttl old counts; a delayed row is known only after its delay."""
    view = make_view(ttl=ttl and timedelta(microseconds=ttl), delay=timedelta(microseconds=delay))
    wanted = need and Interval(start=need[0], end=need[1])
    assert needed(view, 10, 20, as_known=as_known) == wanted


def test_needs_stay_inside_the_calendar():
    """A ttl longer than history, and a delay past the year 9999, are clipped."""
    view = make_view(ttl=timedelta.max, delay=timedelta(days=1))
    assert needed(view, 0, LATEST, as_known=False) == Interval(start=EARLIEST - 1, end=LATEST)


def test_a_gap_before_the_data_names_view_gap_and_command():
    """The message tells from when to when and what to run; both ends are covered by it."""
    view = make_view()
    need = Interval(start=us(2013, 1, 1) - 1, end=us(2013, 3, 1))
    have = spans((us(2013, 2, 1) - 1, us(2014, 1, 1)))
    with pytest.raises(NotMaterialized) as raised:
        require(view, need, have)
    assert str(raised.value) == (
        f"plane: {view.version} is not materialized from 2013-01-01 00:00:00 UTC to "
        "2013-01-31 23:59:59.999999 UTC; run `featurestore materialize 2013-01-01T00:00:00 "
        "2013-01-31T23:59:59.999999`"
    )


def test_an_unbounded_need_starts_at_the_beginning():
    """Without a ttl the gap reaches back to the beginning, and the command to the first year."""
    view = make_view()
    need = needed(view, 0, us(2013, 1, 1), as_known=True)
    with pytest.raises(
        NotMaterialized, match=r"from the beginning to 2013-01-01 00:00:00 UTC; ru"
    ) as raised:
        require(view, need, ())
    assert "materialize 0001-01-01T00:00:00 2013-01-01T00:00:00`" in str(raised.value)
    require(view, need, spans((EARLIEST - 1, us(2013, 1, 1))))


def test_moments_after_the_watermark_name_the_incremental_command_and_allow_stale():
    """Being ahead of the table has its own way out."""
    view = make_view()
    need = Interval(start=0, end=2 * DAY)
    with pytest.raises(
        NotMaterialized,
        match=r"materialize-incremental 1970-01-03T00:00:00`, or pass allow_stale=True",
    ):
        require(view, need, spans((-1, DAY)))


@pytest.mark.parametrize(
    ("covered", "accepted"),
    [
        ([(0, 15)], True),
        ([(0, 5)], True),
        ([(12, 15)], False),
        ([(0, 11), (13, 15)], False),
        ([], False),
    ],
)
def test_allow_stale_accepts_only_moments_after_the_watermark(covered, accepted):
    """A hole before the watermark, or no data at all, is still refused."""
    view, need = make_view(), Interval(start=10, end=20)
    if accepted:
        require(view, need, spans(*covered), allow_stale=True)
    else:
        with pytest.raises(NotMaterialized):
            require(view, need, spans(*covered), allow_stale=True)


def test_entity_rows_outside_the_table_are_refused_and_stale_ones_on_request():
    """The same rules hold through the whole call; entity rows without a moment need nothing."""
    view = make_view(ttl=timedelta(days=1))
    table = stored(view, {"tailnum": ["N1"], EVENT: [DAY], "value": [1]})
    tables = Memory(frames={"plane": table}, intervals={"plane": spans((-1, DAY))})

    def entities(*times):
        return pl.DataFrame({"tailnum": ["N1"] * len(times), EVENT: pl.Series(times, dtype=MOMENT)})

    def run(*times, **options):
        made = training_set(entities(*times), ask(view), tables, project="tests", **options)
        return made.to_polars()["value"].to_list()

    assert run(DAY, None) == [1, None]
    assert run(None) == [None]
    assert run() == []
    with pytest.raises(NotMaterialized, match="plane"):
        run(DAY - 1)
    with pytest.raises(NotMaterialized, match="plane"):
        run(DAY + 1)
    assert run(DAY + 1, 2 * DAY, 2 * DAY + 1, allow_stale=True) == [1, 1, None]
