"""Pinned versions and locks in training, over real Delta tables and a real registry."""

from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from featurestore.errors import InvalidRequest, NotFound, NotMaterialized
from featurestore.jobs.collect import collect as remove
from featurestore.jobs.locks import register, retire
from featurestore.jobs.materialize import materialize, materialize_incremental
from featurestore.model.time import micros
from tests.repos import DAY, NOW, applied, at, history, landings, notebook, pace, released, write

ROWS = [("a", 1, None, 10.0, 3), ("a", 5, None, 20.0, 4), ("b", 2, 9, 30.0, None)]
SPINE = pl.DataFrame(
    {"plane": ["a", "b", "c", "a"], "event_timestamp": [at(6), at(10), at(6), at(2)], "miles": 2.0}
)
ALL = {
    "last_delay": pl.col("delay"),
    "was_late": pl.col("delay") > 15,
    "seats": pl.col("seats"),
}
OLD = history()
NEW = history(features=ALL | {"last_delay": pl.col("delay") * 100})
MORE = history(features=ALL | {"more": pl.col("delay") + 1}, ttl=timedelta(hours=1))
ASKED = ["history:last_delay", "history:seats", "pace:per_mile"]
BOTH = [f"history@{OLD.id[:6]}:last_delay", "history:last_delay"]


@pytest.fixture
def repo(tmp_path):
    """A repo of three source rows."""
    return write(tmp_path / "repo", landings(*ROWS), name=tmp_path.name.replace("_", "-"))


@pytest.fixture
def opened(repo, valkey):
    """Apply views to the repo, one state after the other, and materialize them to some hour."""
    workspaces = []

    def move(*views, hours=24):
        workspaces.append(applied(repo, valkey.url, *views))
        if hours:
            materialize(workspaces[-1], micros(at()), micros(at(hours)))
        return workspaces[-1]

    yield move
    for one in workspaces:
        one.close()


def train(workspace, *args, **options):
    """Give the training set that a notebook builds."""
    with notebook(workspace) as store:
        return store.get_historical_features(SPINE, *args, **options)


def correct(repo):
    """Let the source say other things of the same hours."""
    rows = [(plane, hour, None, delay + 1, 9) for plane, hour, _, delay, _ in ROWS]
    landings(*rows).write_parquet(repo / "data" / "landings.parquet")


def collect(workspace, view):
    """Mark the table of a version as collected."""
    assert workspace.ledger.collect_table(workspace.table(view), now=workspace.clock())


def test_versions_of_one_view_can_be_mixed(opened):
    """A pin reads the table of its own version, by any digest prefix of four digits or more."""
    opened(OLD)
    workspace = opened(NEW)
    found = train(workspace, BOTH, full_feature_names=True)
    pinned, current = f"{BOTH[0].partition(':')[0]}__last_delay", "history__last_delay"
    assert found.features[pinned].to_list() == [20.0, 30.0, None, 10.0]
    assert found.features[current].to_list() == [2000.0, 3000.0, None, 1000.0]
    assert [(one.id, one.data[:16]) for one in found.lock.views] == [
        (OLD.id, OLD.data_id[:16]),
        (NEW.id, NEW.data_id[:16]),
    ]
    with pytest.raises(InvalidRequest, match="pass full_feature_names=True"):
        train(workspace, BOTH)
    with pytest.raises(NotFound, match="history@0000 is not here; the view is at"):
        train(workspace, ["history@0000:seats"])


def test_an_old_on_demand_version_reads_the_upstream_it_was_declared_with(opened):
    """A pinned computation finds its inputs by feature id."""
    opened(OLD, pace(OLD))
    workspace = opened(NEW, pace(NEW))
    pin = f"pace@{pace(OLD).id[:8]}"
    found = train(workspace, [f"{pin}:per_mile", "pace:per_mile"], full_feature_names=True)
    assert found.features[f"{pin}__per_mile"].to_list() == [10.0, 15.0, None, 5.0]
    assert found.features["pace__per_mile"].to_list() == [1000.0, 1500.0, None, 500.0]
    again = train(workspace, lock=found.lock)
    assert_frame_equal(again.features, found.features)
    assert again.lock == found.lock


@pytest.mark.parametrize("now", [NEW, MORE, OLD], ids=["breaking", "additive", "same"])
def test_a_training_set_is_rebuilt_equal_whatever_came_since(repo, opened, tmp_path, now):
    """Frame and lock are equal after a correction, a later materialization and another version."""
    first = train(opened(OLD, pace(OLD)), ASKED)
    correct(repo)
    opened(OLD, pace(OLD), hours=30)
    workspace = opened(now, pace(now), hours=30)
    path = tmp_path / "model.lock.json"
    path.write_text(first.lock.to_json())
    for lock in (first.lock, path, str(path)):
        again = train(workspace, lock=lock)
        assert_frame_equal(again.to_polars(), first.to_polars())
        assert again.lock == first.lock
    retrained = train(workspace, lock=path, as_locked=False)
    assert retrained.features["last_delay"].to_list() == [21.0, 31.0, None, 11.0]
    assert [one.id for one in retrained.lock.views] == [one.id for one in first.lock.views]
    assert retrained.lock.views[0].data != first.lock.views[0].data
    assert_frame_equal(train(workspace, lock=retrained.lock).to_polars(), retrained.to_polars())


def test_a_registered_lock_is_rebuilt_after_corrections_and_a_collect(repo, opened):
    """What nobody needs goes; what the lock names stays until it is retired, though it is old."""
    workspace = opened(OLD, pace(OLD))
    first = train(workspace, ASKED)
    released(workspace)
    register(workspace, first.lock, owner="ann")
    opened(MORE, pace(MORE))
    workspace = opened(NEW, pace(NEW))
    released(workspace)
    correct(repo)
    materialize(workspace, micros(at()), micros(at(30)))
    workspace.clock = lambda: micros(NOW + 8 * DAY)
    assert [one.view.id for one in remove(workspace).tables] == [MORE.id]
    materialize_incremental(workspace, micros(at(48)))
    again = train(workspace, lock=first.lock)
    assert_frame_equal(again.to_polars(), first.to_polars())
    assert again.lock == first.lock
    retrained = train(workspace, lock=first.lock, as_locked=False)
    assert retrained.features["last_delay"].to_list() == [21.0, 31.0, None, 11.0]
    retire(workspace, first.lock.id)
    assert [one.view.id for one in remove(workspace).tables] == []
    workspace.clock = lambda: micros(NOW + 16 * DAY)
    assert [one.view.id for one in remove(workspace).tables] == [OLD.id]
    with pytest.raises(NotMaterialized, match=r"are gone; .*as_locked=False"):
        train(workspace, lock=first.lock)


def test_a_lock_keeps_its_ttl_and_as_known(opened):
    """What was asked of known-at and age is not asked again."""
    opened(MORE)
    workspace = opened(OLD, hours=0)
    pin = f"history@{MORE.id[:12]}:last_delay"
    first = train(workspace, [pin], as_known=False, allow_stale=True)
    assert first.features["last_delay"].to_list() == [20.0, None, None, 10.0]
    again = train(workspace, lock=first.lock)
    assert_frame_equal(again.features, first.features)
    assert again.lock == first.lock


def test_rows_that_the_locked_data_do_not_cover_are_refused(repo, opened):
    """A lock's data do not grow: the way out reads the tables as they are now."""
    lock = train(opened(OLD), ["history:seats"]).lock
    grown = landings(*ROWS, ("a", 30, None, 40.0, 5))
    grown.write_parquet(repo / "data" / "landings.parquet")
    workspace = opened(OLD, hours=48)
    later = SPINE.with_columns(pl.lit(at(40)).alias("event_timestamp"))
    with notebook(workspace) as store:
        with pytest.raises(NotMaterialized, match="as_locked=False") as caught:
            store.get_historical_features(later, lock=lock)
        assert OLD.version in str(caught.value)
        assert len(store.get_historical_features(later, lock=lock, as_locked=False)) == len(later)


def test_locked_data_that_are_gone_are_said_to_be(opened):
    """A collected table is never read, nor silently replaced by another."""
    workspace = opened(OLD)
    lock = train(workspace, ["history:seats"]).lock
    collect(workspace, OLD)
    with pytest.raises(NotMaterialized, match=r"are gone; .*as_locked=False"):
        train(workspace, lock=lock)


def test_without_its_own_table_a_version_is_read_from_one_that_holds_its_features(opened):
    """Equal feature ids are equal features; the lock names the table that was truly read."""
    opened(OLD)
    workspace = opened(MORE)
    collect(workspace, OLD)
    pin = f"history@{OLD.id[:8]}"
    first = train(workspace, [f"{pin}:last_delay"])
    assert first.features["last_delay"].to_list() == [20.0, 30.0, None, 10.0]
    assert [(one.id, one.ttl, one.data[:16]) for one in first.lock.views] == [
        (OLD.id, OLD.ttl, MORE.data_id[:16])
    ]
    assert_frame_equal(train(workspace, lock=first.lock).features, first.features)


def test_a_lock_with_other_data_than_its_versions_is_refused(opened):
    """A data version is checked before anything is read by it."""
    workspace = opened(NEW)
    other = train(workspace, ["history:last_delay"]).lock.views[0].data
    workspace = opened(OLD)
    lock = train(workspace, ["history:last_delay"]).lock
    (one,) = lock.views
    for data, told in (
        (other, "is no table with the features of"),
        ("../../etc/0", "names no table and version"),
        (f"{'0' * 16}.0/1", "is no table with the features of"),
    ):
        bad = replace(lock, views=(replace(one, data=data),))
        with pytest.raises(InvalidRequest, match=r"lock\.views\[0\]\.data: .*" + told):
            train(workspace, lock=bad)
    future = replace(lock, views=(replace(one, data=f"{OLD.data_id[:16]}.0/999"),))
    with pytest.raises(NotMaterialized, match="are gone"):
        train(workspace, lock=future)


def test_a_lock_that_means_nothing_here_is_refused(opened):
    """Other projects' locks, drafts, unregistered versions; and what a lock says already."""
    workspace = opened(OLD)
    lock = train(workspace, ["history:seats"]).lock
    (one,) = lock.views
    none = replace(lock, views=(replace(one, id="0" * 64),))
    for given, error, told in (
        (replace(lock, project="other"), InvalidRequest, "lock.project: is 'other'"),
        (replace(lock, draft=True), InvalidRequest, "never registered"),
        (none, NotFound, r"lock\.views\[0\]\.id: history@000000000000"),
    ):
        with pytest.raises(error, match=told):
            train(workspace, lock=given)
    for args, options in ((["history:seats"], {}), (None, {"as_known": False})):
        with pytest.raises(InvalidRequest, match="lock: says which features are answered"):
            train(workspace, args, lock=lock, **options)
    with pytest.raises(InvalidRequest, match="none asked for"):
        train(workspace)


def test_the_store_looks_a_lock_up_in_process(opened):
    """The same lock answers online what it answered in training."""
    workspace = opened(OLD, pace(OLD))
    first = train(workspace, ASKED)
    released(workspace)
    rows = SPINE.select("plane", "miles").unique(maintain_order=True)
    with notebook(workspace, now=at(10)) as store:
        found = store.get_online_features(lock=first.lock, entities=rows)
        assert found.to_polars().select(first.features.columns).rows() == [
            (20.0, 4, 10.0),
            (30.0, None, 15.0),
            (None, None, None),
        ]
        with pytest.raises(InvalidRequest, match="none asked for"):
            store.get_online_features(entities=rows)
