"""Compaction: fewer files, the same answers; and what vacuuming leaves."""

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from featurestore.errors import Conflict, CorruptData, InvalidRequest, NotMaterialized
from featurestore.jobs.compact import SOURCE, compact
from featurestore.jobs.leases import leased
from featurestore.jobs.locks import register, retire
from featurestore.jobs.materialize import materialize, materialize_incremental
from featurestore.jobs.verify import verify
from featurestore.jobs.workspace import Workspace
from featurestore.model.time import BUCKET, EVENT, PERIOD, micros
from featurestore.storage.compaction import crowded, in_groups, rewrite
from tests.commands import environment, fits
from tests.commands import run as command
from tests.repos import (
    NOW,
    applied,
    at,
    dump,
    history,
    in_buckets,
    landings,
    notebook,
    offline_rows,
    opened,
    released,
    write,
)

PLANES = "abcdefgh"
ROWS = landings(
    *(
        (plane, hour, None, float(hour + n), hour)
        for n, plane in enumerate(PLANES)
        for hour in range(24)
    )
)
ONE = history(settle=timedelta(0))
SPINE = pl.DataFrame(
    {"plane": [*PLANES, "z"] * 3, EVENT: [at(hour) for hour in (3.5, 11, 24) for _ in range(9)]}
)


@pytest.fixture
def workspace(tmp_path, valkey, project):
    """A repo whose table was written by six runs, in four buckets and by days."""
    made = applied(write(tmp_path / "repo", ROWS, name=project), valkey.url, ONE)
    in_buckets(made, ONE, 4, period=12 * 3_600_000_000)
    for hour in range(4, 28, 4):
        materialize_incremental(made, micros(at(hour)))
    yield made
    made.close()


def trained(workspace, **options):
    """Give a training set of the table."""
    with notebook(workspace) as store:
        return store.get_historical_features(SPINE, ["history:last_delay"], **options)


def files(workspace):
    """Give the data files in the table's folder."""
    return set(Path(workspace.offline.path(ONE, workspace.table(ONE))).rglob("part-*.parquet"))


def test_compacting_changes_files_and_nothing_else(workspace):
    """Rows, training sets, coverage and Redis are as they were; a second time there is no more."""
    table = workspace.table(ONE)
    before, rows, redis = (
        trained(workspace).to_polars(),
        offline_rows(workspace, ONE),
        dump(workspace),
    )
    lock, covered = trained(workspace).lock, workspace.ledger.covered(table.id)
    version = workspace.offline.version(ONE, table)
    (done,) = compact(workspace)
    assert done.before > done.after == 8
    assert (done.removed, workspace.offline.version(ONE, table)) == (0, version + 1)
    assert trained(workspace).to_polars().equals(before)
    order = ["plane", EVENT]
    assert offline_rows(workspace, ONE).sort(order).equals(rows.sort(order))
    assert workspace.ledger.covered(table.id) == covered
    assert dump(workspace) == redis
    assert trained(workspace, lock=None).lock.views[0].data == f"{table.id}/{version + 1}"
    with notebook(workspace) as store:
        assert store.get_historical_features(SPINE, lock=lock).to_polars().equals(before)
    assert verify(workspace, everything=True).differences.is_empty()
    (again,) = compact(workspace)
    assert (again.before, again.after) == (8, 8)
    assert workspace.offline.version(ONE, table) == version + 1


def test_a_compacted_table_lies_by_key_and_time(workspace):
    """Each partition is one file, sorted, and reading by bucket finds all rows."""
    table = workspace.table(ONE)
    periods = workspace.offline.listed(ONE, table)[PERIOD].unique().sort().to_list()
    assert crowded(workspace.offline, ONE, table) == {BUCKET: [0, 1, 2, 3], PERIOD: periods}
    compact(workspace)
    assert crowded(workspace.offline, ONE, table) == {}
    listed = workspace.offline.listed(ONE, table)
    assert listed["rows"].sum() == ROWS.height
    assert listed.select("bucket", "known_period").is_unique().all()
    for file in listed["file"]:
        found = pl.read_parquet(file, hive_partitioning=False)
        assert found.equals(found.sort("plane", EVENT))


def test_a_period_that_nobody_wrote_to_stays_as_it_is(workspace):
    """The files of a new period become one a bucket; those of older ones are not read again."""
    compact(workspace)
    table = workspace.table(ONE)
    old = set(workspace.offline.listed(ONE, table)["file"])
    rows = ROWS
    for hour in (30, 31):
        more = landings(*((plane, hour, None, 1.0, 1) for plane in PLANES))
        rows = pl.concat([rows, more])
        write(workspace.config.root, rows, name=workspace.config.project)
        materialize_incremental(workspace, micros(at(hour)))
    (done,) = compact(workspace)
    now = workspace.offline.listed(ONE, table)
    assert old < set(now["file"])
    assert (done.before, done.after, now.height) == (16, 12, 12)
    assert offline_rows(workspace, ONE).height == rows.height
    assert verify(workspace, everything=True).differences.is_empty()


def test_what_one_table_cannot_do_keeps_no_other_from_it(workspace):
    """Beside a run, and beside a collection, all others are compacted."""
    other = history(name="another", settle=timedelta(0))
    both = applied(workspace.config.root, workspace.redis_url(), ONE, other)
    for hour in (4, 8):
        materialize_incremental(both, micros(at(hour)), views=["another"])
    with (
        leased(both, both.table(other), "somebody", why="materialize"),
        pytest.raises(Conflict, match="held by"),
    ):
        compact(both)
    assert crowded(both.offline, ONE, both.table(ONE)) == {}
    table, version = both.table(other), both.offline.version(other, both.table(other))

    def report(name, stage, rows):
        if name == "another":
            both.ledger.collect_table(table, now=both.clock())

    with pytest.raises(Conflict, match="was collected meanwhile"):
        compact(both, report=report)
    assert both.offline.version(other, table) == version
    both.close()


def test_a_table_without_a_run_has_nothing_to_compact(workspace):
    """One that was recorded, and whose first run never came, keeps no other from it."""
    other = history(name="another")
    again = applied(workspace.config.root, workspace.redis_url(), ONE, other)
    again.ledger.add_table(again.ledger.next_table(other.data_id), now=again.clock())
    assert [one.view.name for one in compact(again)] == ["history"]
    again.close()


def test_a_lease_that_is_lost_while_rows_are_written_is_said_so(workspace):
    """Not as damage of the table, which stays at its version."""
    table, turns = workspace.table(ONE), iter(range(3))

    def hold():
        if next(turns) == 2:
            raise Conflict("somebody else holds the lease")

    version, places = (
        workspace.offline.version(ONE, table),
        crowded(workspace.offline, ONE, table),
    )
    with pytest.raises(Conflict, match="somebody else holds the lease"):
        rewrite(
            workspace.offline, ONE, table, places, base=version, run="r", checksums={}, hold=hold
        )
    assert workspace.offline.version(ONE, table) == version


def test_runs_go_on_over_a_compacted_table(workspace):
    """A correction of an old piece and a new day find their place; then all is right."""
    compact(workspace)
    changed = ROWS.with_columns(
        pl.when(pl.col("at") == at(5)).then(-1.0).otherwise("delay").alias("delay")
    )
    later = landings(("a", 30, None, 7.0, 1), ("z", 31, None, 8.0, 2))
    root = workspace.config.root
    write(root, pl.concat([changed, later]), name=workspace.config.project)
    materialize_incremental(workspace, micros(at(36)))
    found = offline_rows(workspace, ONE)
    assert found.height == ROWS.height + 2
    assert found.filter(pl.col(EVENT) == at(5))["last_delay"].unique().to_list() == [-1.0]
    compact(workspace)
    assert verify(workspace, everything=True).differences.is_empty()
    released(workspace)
    compact(workspace)
    assert verify(workspace, live=True, everything=True).differences.is_empty()


def test_a_verification_stands_after_compacting(workspace):
    """No row changed, so what was verified may still be promoted."""
    verify(workspace)
    compact(workspace)
    assert released(workspace).views[0].view == ONE


def test_vacuuming_keeps_what_registered_locks_name(workspace, tmp_path):
    """Their training sets stay exact; other old versions are gone, and say so."""
    first = trained(workspace)
    register(workspace, first.lock, owner="ann")
    seen = []
    for more in (100, 200):
        moved = ROWS.with_columns(pl.col("delay") + more)
        write(workspace.config.root, moved, name=workspace.config.project)
        materialize(workspace, micros(at(0)), micros(at(24)))
        seen.append(trained(workspace).lock)
    compact(workspace)
    now = opened(workspace.config.root, workspace.redis_url(), now=NOW)
    there = files(workspace)
    (young,) = compact(now, vacuumed=True)
    assert young.removed == 0
    assert files(workspace) == there
    environ = {"FEATURESTORE_RETENTION_DAYS": "0", "FEATURESTORE_REDIS_URL": workspace.redis_url()}
    with_none = Workspace.open(workspace.config.root, environ=environ, clock=now.clock)
    (done,) = compact(with_none, vacuumed=True)
    assert done.removed > 0
    assert len(files(workspace)) == len(there) - done.removed
    with notebook(workspace) as store:
        locked = store.get_historical_features(SPINE, lock=first.lock)
        assert locked.to_polars().equals(first.to_polars())
        with pytest.raises(NotMaterialized, match=r"vacuumed.*as_locked=False"):
            store.get_historical_features(SPINE, lock=seen[0])
    assert register(workspace, seen[0], owner="bob").collected == (ONE.version,)
    assert register(workspace, first.lock, owner="ann").collected == ()
    assert verify(workspace, everything=True).differences.is_empty()
    retire(workspace, first.lock.id)
    assert compact(with_none, vacuumed=True)[0].removed > 0
    assert compact(with_none, vacuumed=True)[0].removed == 0
    with notebook(workspace) as store, pytest.raises(NotMaterialized, match="vacuumed"):
        store.get_historical_features(SPINE, lock=first.lock)
    assert len(files(workspace)) == 8
    now.close()
    with_none.close()


def test_a_lock_registered_while_a_table_is_compacted_keeps_its_data(workspace):
    """What to keep is asked for when files are removed, not when the job began."""
    first = trained(workspace)
    moved = ROWS.with_columns(pl.col("delay") + 100)
    write(workspace.config.root, moved, name=workspace.config.project)
    materialize(workspace, micros(at(0)), micros(at(24)))
    environ = {"FEATURESTORE_RETENTION_DAYS": "0", "FEATURESTORE_REDIS_URL": workspace.redis_url()}
    at_once = Workspace.open(workspace.config.root, environ=environ, clock=workspace.clock)

    def report(name, stage, rows):
        if stage == "compacting":
            register(workspace, first.lock, owner="ann")

    compact(at_once, vacuumed=True, report=report)
    with notebook(workspace) as store:
        locked = store.get_historical_features(SPINE, lock=first.lock)
        assert locked.to_polars().equals(first.to_polars())
    at_once.close()


def test_a_training_set_asked_for_before_a_vacuum_says_so(workspace):
    """Files that a vacuum took before they were read are no damage, and need no backfill."""
    asked = trained(workspace)
    compact(workspace)
    now = opened(workspace.config.root, workspace.redis_url(), now=NOW)
    environ = {"FEATURESTORE_RETENTION_DAYS": "0", "FEATURESTORE_REDIS_URL": workspace.redis_url()}
    with_none = type(now).open(workspace.config.root, environ=environ, clock=now.clock)
    (done,) = compact(with_none, vacuumed=True)
    assert done.removed > 0
    with pytest.raises(NotMaterialized, match=r"vacuumed.*read the table as it is now"):
        asked.to_polars()
    assert trained(workspace).to_polars().height == SPINE.height
    now.close()
    with_none.close()


def test_a_compaction_that_dies_is_finished_by_the_next_job(workspace, monkeypatch):
    """Whether it died before its commit or after, the table is whole and the next run goes on."""
    table, rows = workspace.table(ONE), ROWS

    def dies(*_, **__):
        raise KeyboardInterrupt

    for hour, write_of in ((23.5, "commit_run"), (23.6, "end_run")):
        rows = pl.concat([rows, landings(*((plane, hour, None, hour, 1) for plane in PLANES))])
        write(workspace.config.root, rows, name=workspace.config.project)
        materialize_incremental(workspace, micros(at(24)))
        before = trained(workspace).to_polars()
        with monkeypatch.context() as patch:
            patch.setattr(workspace.ledger, write_of, dies)
            with pytest.raises(KeyboardInterrupt):
                compact(workspace)
        assert trained(workspace).to_polars().equals(before)
        materialize_incremental(workspace, micros(at(24)))
        states = {run.state for run in workspace.ledger.runs(table.id)}
        assert states <= {"served", "abandoned"}
        assert trained(workspace).to_polars().equals(before)
    assert SOURCE in {run.source for run in workspace.ledger.runs(table.id)}
    assert verify(workspace, everything=True).differences.is_empty()


def test_a_compaction_waits_for_nobody_and_reads_nothing_rotten(workspace):
    """Beside a run it is refused; a flipped byte is named before anything is written."""
    table = workspace.table(ONE)
    with leased(workspace, table, "other", why="materialize"), pytest.raises(Conflict):
        compact(workspace)
    file = min(files(workspace))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    workspace.offline.distrust()
    version = workspace.offline.version(ONE, table)
    with pytest.raises(CorruptData, match="is not what was written"):
        compact(workspace)
    assert workspace.offline.version(ONE, table) == version


def test_the_command_says_what_it_did(workspace, valkey):
    """Files before and after, within a terminal's width; a strange view is refused."""
    environ = environment(valkey.url)
    said = command("compact", repo=workspace.config.root, environ=environ).stdout
    assert fits(said)
    assert ONE.version in said
    with pytest.raises(InvalidRequest, match="no table is of a view of this name"):
        compact(workspace, views=["histori"])
    runs = command("runs", repo=workspace.config.root, environ=environ).stdout
    assert fits(runs)
    assert "compacted" in runs
    assert "9999" not in runs
    as_json = command("runs", "--json", repo=workspace.config.root, environ=environ).stdout
    assert '"start": null' in as_json
    told = command("compact", "--vacuum", "--json", repo=workspace.config.root, environ=environ)
    assert '"files_after": 8' in told.stdout


@pytest.mark.parametrize(("buckets", "periods"), [(0, 0), (1, 0), (200, 0), (200, 7), (3, 900)])
def test_many_partitions_are_rewritten_some_at_a_time(buckets, periods):
    """Groups hold every partition once, and few at a time: a bucket's periods stay together."""
    places = {"bucket": list(range(buckets))} if buckets else {}
    places |= {"known_period": list(range(periods))} if periods else {}
    groups = list(in_groups(places))
    assert [bucket for group in groups for bucket in group["bucket"]] == list(range(buckets))
    for group in groups:
        assert group.get("known_period", []) == places.get("known_period", [])
        assert len(group["bucket"]) == 1 or len(group["bucket"]) * max(1, periods) <= 64
