"""Promotions and rebuilds that meet each other: SQL's word stands, Redis follows it."""

from dataclasses import replace

import polars as pl
import pytest
import sqlalchemy as sa

from featurestore.errors import Conflict
from featurestore.jobs import publish as publishing
from featurestore.jobs.backfill import backfill
from featurestore.jobs.leases import leased
from featurestore.jobs.materialize import materialize
from featurestore.jobs.promote import promote, rollback
from featurestore.jobs.rebuild import rebuild_online
from featurestore.jobs.verify import verify
from featurestore.model.documents import Info
from featurestore.model.time import micros
from featurestore.storage.keys import canonical_keys
from featurestore.storage.rows import RowLayout, row_columns
from tests.repos import DAY, NOW, applied, at, history, landings, opened, released, write


@pytest.fixture
def workspace(tmp_path, online_url):
    """A repo of one row, materialized and promoted once."""
    name = tmp_path.name.replace("_", "-")
    repo = write(tmp_path / "repo", landings(("a", 1, None, 10.0, 3)), name=name)
    made = applied(repo, online_url)
    materialize(made, micros(at(0)), micros(at(24)))
    released(made)
    yield made
    made.close()


def promoted_elsewhere(workspace, days):
    """Promote the view with another ttl, as another process would."""
    other = applied(workspace.config.root, workspace.redis_url(), history(ttl=days * DAY))
    release = released(other)
    other.close()
    return release.number


def test_a_slow_promote_does_not_move_redis_back(workspace, monkeypatch):
    """Overtaken between SQL and Redis, a promote leaves the alias where SQL says it is now."""
    slow = applied(workspace.config.root, workspace.redis_url(), history(ttl=8 * DAY))
    follow_alias = publishing.follow_alias

    def overtaken(by, alias):
        monkeypatch.setattr(publishing, "follow_alias", follow_alias)
        promoted_elsewhere(workspace, 9)
        return follow_alias(by, alias)

    monkeypatch.setattr(publishing, "follow_alias", overtaken)
    assert released(slow).number == 2
    slow.close()
    assert workspace.releases.aliases() == {"prod": 3}
    assert workspace.online().alias("prod") == 3


def test_a_rebuild_does_not_undo_a_promote(workspace, monkeypatch):
    """An alias that moves while tables are loaded is followed."""
    read_release = workspace.releases.release

    def overtaken(number):
        monkeypatch.undo()
        promoted_elsewhere(workspace, 9)
        return read_release(number)

    monkeypatch.setattr(workspace.releases, "release", overtaken)
    assert rebuild_online(workspace).aliases == {"prod": 2}
    assert workspace.online().alias("prod") == 2


def test_a_promotion_gathers_what_it_decides_by_once(workspace):
    """Each view more costs a few reads of SQL, and not all that is known of the project again."""
    reads = []
    for views in ([history(ttl=8 * DAY)], [history(name=f"view{n}") for n in range(6)]):
        made = applied(workspace.config.root, workspace.redis_url(), *views)
        backfill(made)
        verify(made)
        said = []
        sa.event.listen(made._database(), "before_cursor_execute", lambda *_, to=said: to.append(1))
        promote(made)
        reads.append(len(said))
        made.close()
    assert reads[1] - reads[0] <= 6 * 4


def test_a_table_that_a_run_writes_to_is_not_rebuilt(workspace):
    """A row that the run takes back must not come again from what the rebuild read before."""
    table = workspace.table(workspace.view("history"))
    held = pytest.raises(Conflict, match=r"held by .*: a test \(until")
    with leased(workspace, table, "a run", why="a test"), held:
        rebuild_online(workspace)
    assert rebuild_online(workspace).aliases == {"prod": 1}


def test_a_run_that_outlived_its_lease_puts_no_row_back(workspace):
    """Finished and corrected by another while it slept, it leaves Redis as it finds it."""
    data = workspace.config.root / "data" / "landings.parquet"
    landings(("a", 1, None, 10.0, 3), ("a", 30, None, 20.0, 3)).write_parquet(data)

    def sleep(view, stage, rows):
        if stage == "serving":
            landings(("a", 1, None, 10.0, 3)).write_parquet(data)
            other = opened(workspace.config.root, workspace.redis_url(), now=NOW + DAY)
            materialize(other, micros(at(24)), micros(at(48)))
            other.close()

    with pytest.raises(Conflict, match="outlived its lease"):
        materialize(workspace, micros(at(24)), micros(at(48)), report=sleep)
    view = workspace.view("history")
    keys = canonical_keys(pl.DataFrame({"plane": ["a"]}), view.join_keys)
    ((row,),) = workspace.online().read([(workspace.table(view).id, keys)])
    decoded = RowLayout(columns=row_columns(view)).decode([row])
    assert decoded.frame()["last_delay"].to_list() == [10.0]


def test_a_promotion_that_changes_no_answer_is_no_step_to_roll_back(workspace):
    """Descriptions reach servers with a release of their own, and a rollback goes back past it."""
    other = applied(workspace.config.root, workspace.redis_url(), history(ttl=9 * DAY))
    released(other)
    told = replace(history(ttl=9 * DAY), info=Info(description="When it landed last."))
    other = applied(workspace.config.root, workspace.redis_url(), told)
    release = released(other)
    assert release.views[0].view.info.description == "When it landed last."
    assert [one.action for one in other.releases.moves()] == ["promote", "promote", "warm"]
    assert rollback(other).release.views[0].view == history()
    other.close()
