"""Damage: what is broken in the offline store or in Redis is named, and its way out leads out."""

import shutil

import polars as pl
import pytest

from featurestore.errors import Conflict, CorruptData, NotMaterialized, SourceError
from featurestore.jobs import publish as publishing
from featurestore.jobs.apply import register as apply
from featurestore.jobs.backfill import backfill
from featurestore.jobs.collect import collect, collectible
from featurestore.jobs.locks import register, retire
from featurestore.jobs.materialize import materialize
from featurestore.jobs.plan import towards
from featurestore.jobs.promote import promote, rollback
from featurestore.jobs.rebuild import rebuild_online
from featurestore.jobs.verify import verify
from featurestore.jobs.versions import show
from featurestore.model.time import micros
from featurestore.storage.keys import canonical_keys, redis_keys
from tests.repos import (
    DAY,
    HOUR,
    NOW,
    applied,
    at,
    dump,
    history,
    landings,
    notebook,
    opened,
    released,
    shop,
    source,
    write,
)
from tests.servers import client_of

ROWS = landings(("a", 1, None, 10.0, 3), ("a", 5, None, 20.0, 4), ("b", 2, None, 30.0, None))
ONE = history()
TWO = history(features={"last_delay": pl.col("delay") * 2})
OTHER = history(name="other", features={"seats": pl.col("seats")})
SPINE = pl.DataFrame({"plane": ["a", "b"], "event_timestamp": [at(20)] * 2})


@pytest.fixture
def fresh(tmp_path, valkey):
    """A repo whose only view is applied."""
    repo = write(tmp_path / "repo", ROWS, name=tmp_path.name.replace("_", "-"))
    made = applied(repo, valkey.url, ONE)
    yield made
    made.close()


@pytest.fixture
def live(fresh):
    """A repo whose only view is live."""
    materialize(fresh, micros(at(0)), micros(at(24)))
    released(fresh)
    return fresh


def again(workspace, *views, now=NOW):
    """Open the workspace anew, as another process would, with views applied if there are any."""
    root, url = workspace.config.root, workspace.redis_url()
    return applied(root, url, *views, now=now) if views else opened(root, url, now=now)


def prepared(workspace, *views):
    """Apply, compute and verify views."""
    made = again(workspace, *views)
    backfill(made)
    assert verify(made).differences.is_empty()
    return made


def answers(workspace, **asked):
    """Look both planes up."""
    wanted = asked or {"features": ["history:last_delay"]}
    with notebook(workspace) as store:
        found = store.get_online_features(
            entity_rows=[{"plane": "a"}, {"plane": "b"}], as_of=at(20), **wanted
        )
    return found.to_dict()["last_delay"]


def trained(workspace):
    """Give a training set of both planes."""
    with notebook(workspace) as store:
        return store.get_historical_features(SPINE, features=["history:last_delay"])


def emptied(workspace):
    """Remove all that the project has in Redis."""
    client = client_of(workspace.redis_url())
    for key in dump(workspace):
        client.delete(key)


def flipped(data):
    """Give bytes with one of them changed."""
    return data[:60] + bytes([data[60] ^ 255]) + data[61:]


DAMAGE = {
    "a file is truncated": ("*.parquet", lambda path: path.write_bytes(path.read_bytes()[:200])),
    "a file is flipped": ("*.parquet", lambda path: path.write_bytes(flipped(path.read_bytes()))),
    "a file is gone": ("*.parquet", lambda path: path.unlink()),
    "the log is truncated": ("*1.json", lambda path: path.write_bytes(path.read_bytes()[:99])),
    "the log is empty": ("*1.json", lambda path: path.write_bytes(b"")),
    "the log is gone": ("*1.json", lambda path: path.unlink()),
    "the folder is gone": ("_delta_log", lambda path: shutil.rmtree(path.parent)),
}


def damaged(workspace, view, name):
    """Damage the newest table of a view."""
    pattern, damage = DAMAGE[name]
    folder = workspace.offline.path(view, workspace.table(view))
    (found,) = workspace.config.root.joinpath(folder).rglob(pattern)
    damage(found)


@pytest.mark.parametrize("name", DAMAGE)
def test_the_command_that_a_damaged_table_names_makes_a_sound_one(live, name):
    """Backfilled again, verified and promoted, training reads what it read; lookups never cease."""
    before = trained(live).features
    damaged(live, ONE, name)
    made = again(live)
    told = r"run `featurestore backfill --again --view history`, then `verify` and `promote`"
    for broken in (
        lambda one: trained(one).features,
        lambda one: materialize(one, micros(at(0)), micros(at(24))),
    ):
        with pytest.raises(CorruptData, match=told):
            broken(made)
    assert answers(made) == [20.0, 30.0]
    backfill(made, views=["history"], again=True)
    released(made)
    assert trained(made).features.equals(before)
    assert answers(made) == [20.0, 30.0]
    made.clock = lambda: micros(NOW + 8 * DAY)
    assert [one.table.generation for one in collect(made).tables] == [0]
    assert set(rebuild_online(made).rows) == {f"{ONE.version}.1"}
    made.close()


def test_one_damaged_table_stops_no_other(live):
    """Redis is emptied: the rebuild brings back the rest, names the one, and fails in the end."""
    prepared(live, ONE, OTHER).close()
    made = again(live)
    promote(made)
    damaged(made, ONE, "the log is truncated")
    emptied(made)
    made = again(made)
    with pytest.raises(CorruptData, match=r"not all: history: .* --again --view history"):
        rebuild_online(made)
    assert made.online().is_marked(made.table(OTHER).id)
    assert made.online().alias("prod") == 2
    (stored,) = show(made, ONE.version).tables
    assert (stored.rows, stored.bytes) == (None, None)
    assert collect(made).tables == ()
    backfill(made, views=["history"], again=True)
    released(made)
    assert answers(made) == [20.0, 30.0]
    made.close()


def test_a_damaged_table_is_collected_all_the_same(live):
    """Nobody needs it any more: its size is unknown, and it goes."""
    made = prepared(live, TWO)
    promote(made)
    damaged(made, ONE, "the log is truncated")
    made = again(made, now=NOW + 8 * DAY)
    (found,) = collectible(made).tables
    assert (found.view, found.rows, found.bytes) == (ONE, None, None)
    assert [one.table for one in collect(made).tables] == [found.table]
    made.close()


@pytest.mark.parametrize("command", [promote, rebuild_online, rollback])
def test_a_damaged_copy_in_redis_is_written_anew_from_sql(live, command):
    """Whatever stands there, another release's text or no text at all, SQL's word replaces it."""
    made = prepared(live, TWO)
    promote(made)
    if command is rollback:
        # Its second call completes what a death before Redis followed left undone.
        rollback(made)
    before, client, number = (
        dump(made),
        client_of(made.redis_url()),
        made.releases.aliases()["prod"],
    )
    prefix = f"fs1/{made.config.project}".encode()
    release = prefix + f"/release/{number}".encode()
    junk = [(release, text) for text in (b"\xff", b"{}", b"", before[prefix + b"/release/1"])]
    junk += [(prefix + b"/alias/prod", text) for text in (b"\xff", b"", b"7", b"9" * 400)]
    for key, text in junk:
        if command is rollback:
            client.delete(prefix + b"/alias/prod")
        client.set(key, text)
        command(made)
        assert dump(made) == before
    made.close()


def test_another_registry_of_the_same_name_is_refused_before_sql_is_written(live, tmp_path):
    """Whole releases that this registry never wrote are no damage: nothing moves on either side."""
    twin = write(tmp_path / "twin", ROWS, name=live.config.project)
    made = applied(twin, live.redis_url().replace("/0", "") + "/1", ONE, now=NOW + HOUR)
    materialize(made, micros(at(0)), micros(at(24)))
    released(made)
    made.close()
    ours = dump(live)
    made = applied(twin, live.redis_url(), history(ttl=9 * DAY), now=NOW + HOUR)
    for alias in ("prod", "staging"):
        assert verify(made, alias).differences.is_empty()
    for command in (promote, rebuild_online, lambda one: promote(one, "staging")):
        with pytest.raises(Conflict, match="that this registry never wrote; give the project"):
            command(made)
        assert (made.releases.aliases(), made.releases.releases()) == ({"prod": 1}, (1,))
    assert dump(live) == ours
    made.close()


def kept(workspace):
    """Train on what is applied and register its lock."""
    lock = trained(workspace).lock
    register(workspace, lock, owner="ann")
    return lock


def test_a_promotion_loads_what_a_lock_is_answered_from(live):
    """Redis lost it: it comes back from offline, and the next release carries it on."""
    lock = kept(live)
    promote(prepared(live, TWO))
    emptied(live)
    made = prepared(live, TWO, OTHER)
    promote(made)
    assert answers(made, lock=lock) == [20.0, 30.0]
    assert answers(made) == [40.0, 60.0]
    made.close()


def test_a_promotion_that_would_leave_a_lock_unanswered_is_refused(live):
    """Its table can be read nowhere: lock, owner and way out are told, and SQL is as it was."""
    lock = kept(live)
    made = prepared(live, TWO)
    damaged(made, ONE, "a file is gone")
    made.online().drop_table(made.table(ONE).id)
    told = rf"promote: would leave unanswered lock {lock.id[:12]} of ann .*`featurestore lock regis"
    with pytest.raises(NotMaterialized, match=told):
        promote(made)
    assert made.releases.aliases() == {"prod": 1}
    retire(made, lock.id)
    assert promote(made).release.number == 2
    made.close()


def test_a_rebuild_lets_aliases_carry_again_what_they_had_to_leave_out(fresh):
    """The first promotion went on without the table of a lock; rebuilt, it is warm beside it."""
    made = again(fresh, ONE)
    materialize(made, micros(at(0)), micros(at(24)))
    verify(made)
    lock = kept(made)
    made = prepared(made, TWO)
    (data,) = made.config.root.joinpath(made.offline.path(ONE, made.table(ONE))).rglob("*.parquet")
    data.rename(data.with_suffix(".lost"))
    made.online().drop_table(made.table(ONE).id)
    assert promote(again(made)).release.warm == ()
    data.with_suffix(".lost").rename(data)
    assert rebuild_online(made).aliases == {"prod": 2}
    assert answers(made, lock=lock) == [20.0, 30.0]
    assert rebuild_online(made).aliases == {"prod": 2}
    made.close()


@pytest.mark.parametrize("spoil", [lambda row: b"\xff" + row[1:], lambda row: row[:-3], flipped])
def test_a_rebuild_replaces_a_damaged_row_that_looks_newer(live, spoil):
    """Whichever bytes are wrong, the offline row stands in Redis afterwards."""
    table, client = live.table(ONE), client_of(live.redis_url())
    keys = canonical_keys(pl.DataFrame({"plane": ["a"]}), ONE.join_keys)
    (key,) = redis_keys(live.config.project, table.id, keys)
    row = client.get(key)
    client.set(key, spoil(row.ljust(61, b"\0")))
    with pytest.raises(CorruptData, match="run `featurestore rebuild-online`"):
        answers(live)
    rebuild_online(live)
    assert client.get(key) == row
    assert verify(live, live=True, everything=True).differences.is_empty()


def test_what_was_shown_and_then_went_live_again_is_not_collected(live):
    """Between showing and removing somebody rolled back to it: it stays."""
    made = prepared(live, TWO)
    promote(made)
    made.clock = lambda: micros(NOW + 8 * DAY)
    shown = collectible(made)
    assert [one.view for one in shown.tables] == [ONE]
    rollback(made)
    assert collect(made, shown).tables == ()
    assert answers(made) == [20.0, 30.0]
    made.close()


def test_a_generation_that_was_rolled_back_from_is_not_served_again(live):
    """Neither a promotion nor what is kept fresh takes it up; it goes once nobody needs it."""
    backfill(live, views=["history"], again=True)
    assert released(live).views[0].table.generation == 1
    assert rollback(live).release.views[0].table.generation == 0
    found = promote(live)
    assert (found.fresh, found.release.views[0].table.generation) == (False, 0)
    assert found.release.warm == ()
    live.clock = lambda: micros(NOW + 8 * DAY)
    assert [one.table.generation for one in collect(live).tables] == [1]
    assert answers(live) == [20.0, 30.0]


def test_a_planned_promotion_that_died_before_redis_followed_is_completed(live, monkeypatch):
    """SQL moved and Redis did not: the same command with the same plan ends it."""
    planned = apply(live, towards(live, shop(TWO, name=live.config.project))).id
    backfill(live)
    verify(live)

    class Died(BaseException):
        pass

    def die(workspace, alias):
        raise Died

    monkeypatch.setattr(publishing, "follow_alias", die)
    with pytest.raises(Died):
        promote(live, plan_id=planned)
    monkeypatch.undo()
    assert (live.releases.aliases()["prod"], live.online().alias("prod")) == (2, 1)
    assert not promote(live, plan_id=planned).fresh
    assert live.online().alias("prod") == 2
    assert answers(live) == [40.0, 60.0]


def test_a_table_that_cannot_be_materialized_stops_no_other(live):
    """Its source is gone: it is named in the end, and the others are as complete as they can be."""
    gone = history(name="gone", source=source(name="gone", path="data/gone.parquet"))
    made = again(live, gone, ONE, OTHER)
    with pytest.raises(SourceError, match="gone"):
        materialize(made, micros(at(0)), micros(at(48)))
    ends = {made.ledger.covered(made.table(view).id)[-1].end for view in (ONE, OTHER)}
    assert ends == {micros(at(48))}
    made.close()


def test_what_is_damaged_before_it_is_live_is_computed_again_beside_it(live):
    """It has gaps by then, since no run can write to it; `--again` takes it for no work of its."""
    made = again(live, TWO)
    backfill(made)
    damaged(made, TWO, "the folder is gone")
    made = again(live)
    for broken in (lambda one: materialize(one, micros(at(0)), micros(at(30))), backfill):
        with pytest.raises(CorruptData, match="--again --view history"):
            broken(made)
    backfill(made, views=["history"], again=True)
    released(made)
    assert answers(made) == [40.0, 60.0]
    made.close()


def test_a_lock_whose_damaged_table_is_not_applied_is_answered_again_once_registered(live):
    """Registering computes its version into a new table, and nobody is answered from the other."""
    lock = trained(live).lock
    register(live, lock, owner="ann")
    made = prepared(live, TWO)
    promote(made)
    made.close()
    damaged(live, ONE, "the folder is gone")
    made = again(live, now=NOW + 8 * DAY)
    register(made, lock, owner="ann")
    carried = {one.table for one in made.releases.alias("prod").warm}
    assert [table.generation for table in carried if table.data_id == ONE.data_id] == [1]
    assert answers(made, lock=lock) == [20.0, 30.0]
    made.close()
