"""Two who change what is live at the same moment: one is done, the other is told who and what."""

from contextlib import suppress
from functools import partial

import polars as pl
import pytest

from featurestore.errors import Conflict, NotMaterialized
from featurestore.jobs.apply import register as apply
from featurestore.jobs.backfill import backfill
from featurestore.jobs.materialize import materialize, materialize_incremental
from featurestore.jobs.plan import towards
from featurestore.jobs.promote import promote, rollback
from featurestore.jobs.publish import Published
from featurestore.jobs.verify import verify
from featurestore.model.time import micros, watermark
from tests.races import race
from tests.repos import HOUR, NOW, applied, at, history, landings, opened, released, shop, write

ROWS = landings(("a", 1, None, 10.0, 3), ("a", 30, None, 20.0, 4), ("a", 60, None, 30.0, 5))
ONE = history()
TWO = history(features={"last_delay": pl.col("delay") * 2})
THREE = history(features={"last_delay": pl.col("delay") * 3})


@pytest.fixture
def live(tmp_path, valkey):
    """A repo whose first version is live in two intervals of a day."""
    repo = write(tmp_path / "repo", ROWS, name=tmp_path.name.replace("_", "-"))
    made = applied(repo, valkey.url, ONE)
    for start, end in ((0, 24), (24, 48)):
        materialize(made, micros(at(start)), micros(at(end)))
    released(made)
    yield made
    made.close()


@pytest.fixture
def other(live):
    """The same repo as somebody else has it open."""
    made = opened(live.config.root, live.redis_url())
    made.who = "bob"
    yield made
    made.close()


def whole(workspace):
    """Say that SQL and Redis name one release, and give its number."""
    number = workspace.releases.aliases()["prod"]
    assert workspace.online().alias("prod") == number
    return number


def complete_to(workspace, view):
    """Give the watermark of a version's table."""
    return watermark(workspace.ledger.covered(workspace.table(view).id))


def test_a_second_backfill_is_told_whose_the_first_is(live, other):
    """For one alias one backfill is on at a time; the other comes again when it has ended."""
    applied(live.config.root, live.redis_url(), TWO).close()
    live.who = "ann"
    told = []

    def meanwhile(view, stage, rows):
        if stage == "writing":
            with pytest.raises(Conflict) as caught:
                backfill(other)
            told.append(str(caught.value))

    assert len(backfill(live, report=meanwhile)) == 2
    assert ["held by" in one and "ann: backfill for prod" in one for one in told] == [True] * 2
    assert backfill(other) == ()


def test_what_is_live_is_materialized_while_a_backfill_is_on(live, other):
    """A new version that is just being computed holds up nobody."""
    applied(live.config.root, live.redis_url(), TWO).close()
    marks = []

    def meanwhile(view, stage, rows):
        if stage == "writing":
            end = micros(at(72)) + len(marks)
            materialize_incremental(other, end)
            marks.append((complete_to(other, ONE), end))

    backfill(live, report=meanwhile)
    assert len(marks) == 2
    assert all(mark == end for mark, end in marks)
    with pytest.raises(NotMaterialized, match="gap"):
        promote(live)
    backfill(live)
    assert [table.generation for table in live.ledger.tables()] == [0, 0]
    assert released(live).number == 2


def changed(workspace, view):
    """Plan, apply, compute and verify a view; gives the plan's id once it is applied."""
    found = towards(workspace, shop(view, name=workspace.config.project))
    plan = apply(workspace, found)
    backfill(workspace)
    assert verify(workspace).differences.is_empty()
    return plan.id


def test_a_promote_of_a_stale_plan_says_what_moved(live, other):
    """Somebody applied, or the alias moved: the plan is refused and the alias stays."""
    planned = changed(live, TWO)
    changed(other, THREE)
    with pytest.raises(Conflict, match=r"promote: somebody applied: revision 1 became 2; plan ag"):
        promote(live, plan_id=planned)
    assert whole(live) == 1
    assert promote(other).release.number == 2
    with pytest.raises(Conflict, match=r"promote: prod moved from release 1 to 2; plan again"):
        promote(live, plan_id=planned)
    with pytest.raises(Conflict, match="is no plan's id"):
        promote(live, plan_id="2")
    assert whole(live) == 2


def test_promotes_and_rollbacks_at_once_leave_one_whole_alias(live, other):
    """Whoever comes second does nothing or is refused; SQL and Redis name the same in the end."""
    changed(live, TWO)
    ends = race([partial(promote, one) for one in (live, other)])
    assert whole(live) == 2
    done = [one for one in ends if isinstance(one, Published)]
    assert ({one.release.number for one in done}, [one.fresh for one in done].count(True)) == (
        {2},
        1,
    )
    more = race([partial(rollback, live), partial(promote, other)])
    done = [one for one in more if isinstance(one, Published)]
    assert done
    assert {type(one) for one in (*ends, *more)} <= {Published, Conflict}
    release = live.releases.release(whole(live))
    assert [one.view for one in release.views] in ([ONE], [TWO])
    assert release.number == 2 + sum(one.fresh for one in done)


@pytest.mark.parametrize("stage", ["reading", "writing", "serving"])
def test_a_backfill_that_slept_past_its_lease_does_no_harm_when_it_wakes(live, stage):
    """Another one took over and ended: the sleeper is refused, or finds everything as it is."""
    applied(live.config.root, live.redis_url(), TWO).close()
    done = []

    def sleep(view, now, rows):
        if now == stage and not done:
            late = opened(live.config.root, live.redis_url(), now=NOW + HOUR)
            done.extend(backfill(late))
            late.close()

    with suppress(Conflict):
        backfill(live, report=sleep)
    assert [one.rows for one in done][-1] == 1
    assert complete_to(live, TWO) == complete_to(live, ONE)
    assert backfill(live) == ()
    assert [table.generation for table in live.ledger.tables()] == [0, 0]
    assert released(live).number == 2
