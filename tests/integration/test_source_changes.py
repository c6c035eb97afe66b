"""A source that changes after it was read: found by its state and pieces, computed again, served.

Real Parquet files, folders and globs, real Delta tables, a real Redis-protocol server.
"""

from pathlib import Path

import polars as pl
import pytest

from featurestore import FeatureStore
from featurestore.errors import Conflict, FeatureStoreError
from featurestore.jobs import due as dues
from featurestore.jobs import materialize as jobs
from featurestore.jobs.compute import feature_rows
from featurestore.jobs.rebuild import rebuild_online
from featurestore.model.time import BEGINNING, EVENT, KNOWN, REVISION, Interval, micros
from featurestore.storage.view_source import ViewSource
from tests.repos import applied, at, dump, history, landings, offline_rows, opened, source, write
from tests.servers import client_of

DAYS = 8
PLANES = ("a", "b", "c")
FEATURES = {"last_delay": pl.col("delay"), "was_late": pl.col("delay") > 15}


def rows():
    """Give a row per plane and day, at different hours."""
    return landings(
        *[
            (plane, 24 * day + hour, None, float(10 * day + hour), 1)
            for day in range(DAYS)
            for hour, plane in enumerate(PLANES)
        ]
    )


def as_file(root, frame):
    """Write one file."""
    frame.write_parquet(root / "data" / "landings.parquet")


def by_day(root, frame):
    """Write a file a day, as a daily job does; files that stay the same are left alone."""
    folder = root / "data" / "days"
    folder.mkdir(exist_ok=True)
    for (day,), part in frame.group_by(pl.col("at").dt.date()):
        file = folder / f"{day}.parquet"
        if not file.exists() or not pl.read_parquet(file).equals(part):
            part.write_parquet(file)


def as_delta(root, frame):
    """Write a Delta table's next version."""
    there = (root / "data" / "table").exists()
    stored = frame.with_columns(pl.col("seats").cast(pl.Int16))
    stored.write_delta(root / "data" / "table", mode="overwrite" if there else "error")


SOURCES = {
    "file": ("data/landings.parquet", "parquet", as_file),
    "folder": ("data/days", "parquet", by_day),
    "glob": ("data/days/*.parquet", "parquet", by_day),
    "delta": ("data/table", "delta", as_delta),
}


def of_kind(kind, tmp_path, url):
    """Open a repo whose view reads a kind of source; gives what rewrites it too."""
    path, written_as, rewrite = SOURCES[kind]
    repo = write(tmp_path / "repo", rows(), name=tmp_path.name.replace("_", "-"))
    rewrite(repo, rows())
    made = history(source=source(path=path, format=written_as), features=FEATURES)
    workspace = applied(repo, url, made)
    return workspace, lambda frame: rewrite(repo, frame)


@pytest.fixture
def workspace(tmp_path, valkey):
    """A repo over one file."""
    made, _ = of_kind("file", tmp_path, valkey.url)
    yield made
    made.close()


def to(workspace, days, **options):
    """Materialize to the end of some day."""
    return jobs.materialize_incremental(workspace, micros(at(24 * days)), **options)


def table(workspace):
    """Give the view and its table."""
    view = workspace.view("history")
    return view, workspace.table(view)


def stored(workspace, *without):
    """Give the offline rows, sorted."""
    return offline_rows(workspace, table(workspace)[0]).sort("plane", EVENT).drop(*without)


def version(workspace):
    """Give the table's Delta version."""
    return workspace.offline.version(*table(workspace))


def expected(workspace):
    """Give what a table that is made at once from the source as it is now holds."""
    view, its_table = table(workspace)
    (covered,) = workspace.ledger.covered(its_table.id)
    made = feature_rows(view, workspace.config.sources, covered)
    return made.sort("plane", EVENT).select(stored(workspace, REVISION).columns)


def rebuilt(workspace):
    """Give what Redis holds after it was emptied and rebuilt."""
    client_of(workspace.redis_url()).flushall()
    rebuild_online(workspace)
    return dump(workspace)


def late(frame):
    """A row of day 1 arrives that nothing says is late; it is nobody's newest."""
    return pl.concat([frame, landings(("a", 24 + 9, None, 99.0, 1))])


def corrected(frame):
    """A value of day 3 was wrong."""
    return frame.with_columns(pl.col("delay").replace(30.0, -1.0))


def removed(frame):
    """A row of day 5 should never have been."""
    return frame.filter(pl.col("delay") != 51.0)


@pytest.mark.parametrize("kind", SOURCES)
def test_only_the_days_that_changed_are_computed_again(tmp_path, valkey, kind):
    """Late, corrected and removed rows are found without being told of; other days stay as is."""
    workspace, rewrite = of_kind(kind, tmp_path, valkey.url)
    for day in (1, 3, 4, 7):
        to(workspace, day)
    before, at_first = stored(workspace), version(workspace)
    rewrite(late(corrected(removed(rows()))))
    new, *again = to(workspace, DAYS - 1)
    assert [(one.why, one.changed, one.rows) for one in again] == [
        ("source changed", True, 4),
        ("source changed", True, 3),
        ("source changed", True, 2),
    ]
    assert [one.interval for one in again] == [
        Interval(start=micros(at(24)) - 1, end=micros(at(48)) - 1),
        Interval(start=micros(at(72)) - 1, end=micros(at(95))),
        Interval(start=micros(at(120)) - 1, end=micros(at(144)) - 1),
    ]
    assert (new.why, new.changed) == ("new", False)
    assert stored(workspace, REVISION).equals(expected(workspace))
    other_days = pl.col(KNOWN).dt.day().is_in([1, 3, 5, 7, 8])
    assert stored(workspace).filter(other_days).equals(before.filter(other_days))
    assert version(workspace) == at_first + 3
    assert [one.why for one in to(workspace, DAYS - 1)] == ["new"]
    assert dump(workspace) == rebuilt(workspace)
    workspace.close()


def test_a_newest_row_that_was_corrected_or_removed_is_repaired_in_redis(workspace):
    """Each key's newest row lies in some old day; Redis follows it down and away."""
    last = rows().filter(pl.col("at") < at(24 * 3))
    as_file(workspace.config.root, last)
    to(workspace, DAYS)
    days = pl.col("at").dt.truncate("1d")
    as_file(workspace.config.root, last.filter((pl.col("plane") != "a") | (days < at(24))))
    _, again = to(workspace, DAYS)
    assert (again.why, again.repaired) == ("source changed", 1)
    assert dump(workspace) == rebuilt(workspace)


def test_an_old_row_that_cannot_be_computed_holds_up_nothing_new(tmp_path, valkey):
    """What became known since is served; the error stays until the row is mended."""
    repo = write(tmp_path / "repo", rows(), name=tmp_path.name.replace("_", "-"))
    view = history(features={"last_delay": pl.col("delay").cast(pl.Int32)})
    workspace = applied(repo, valkey.url, view)
    to(workspace, 4)
    bad = rows().with_columns(pl.col("delay").replace(30.0, 1e30))
    for _ in range(2):
        as_file(repo, bad)
        with pytest.raises(FeatureStoreError, match="last_delay"):
            to(workspace, 5)
    assert stored(workspace)[KNOWN].max() == at(24 * 5)
    as_file(repo, corrected(rows()))
    _, again = to(workspace, 5)
    assert again.why == "source changed"
    assert stored(workspace, REVISION).equals(expected(workspace))
    workspace.close()


def refuse(*_):
    """Stand for reading what need not be read."""
    raise AssertionError


def test_an_unchanged_source_is_not_looked_at(workspace, monkeypatch):
    """Its state says that every older piece is what was read; nothing is written either."""
    to(workspace, 5)
    before = version(workspace), dump(workspace)
    with monkeypatch.context() as patch:
        patch.setattr(ViewSource, "fingerprint", refuse)
        (new,) = to(workspace, 5)
    assert not new.changed
    assert (version(workspace), dump(workspace)) == before


def test_what_was_found_right_is_not_looked_at_again(workspace, monkeypatch):
    """A file that was written again with the same rows is read once, and no run is made of it."""
    to(workspace, 5)
    as_file(workspace.config.root, rows().reverse())
    assert [one.why for one in to(workspace, 5)] == ["new"]
    with monkeypatch.context() as patch:
        patch.setattr(ViewSource, "fingerprint", refuse)
        to(workspace, 6)


def test_a_run_of_a_part_says_nothing_of_the_rest(workspace):
    """After START END over one day of a changed source, the other day's change is still found."""
    to(workspace, 6)
    frame = rows().with_columns(pl.when(plane="b").then(-5.0).otherwise("delay").alias("delay"))
    as_file(workspace.config.root, frame)
    jobs.materialize(workspace, micros(at(48)), micros(at(72)))
    assert "source changed" in [one.why for one in to(workspace, 6)]
    assert stored(workspace, REVISION).equals(expected(workspace))


def test_what_the_source_let_go_of_stays(workspace):
    """A file that holds the last days only takes none of the older ones from the table."""
    to(workspace, 6)
    before = stored(workspace)
    kept = rows().filter(pl.col("at") >= at(24 * 4))
    as_file(workspace.config.root, kept)
    to(workspace, 6)
    assert stored(workspace).equals(before)
    as_file(workspace.config.root, kept.filter(pl.col("at") != at(24 * 5)))
    _, again = to(workspace, 6)
    assert again.interval == Interval(start=micros(at(120)) - 1, end=micros(at(143)))
    assert stored(workspace).height == before.height - 1


@pytest.mark.parametrize("first", [24 * 6 + 1, 24 * 7 + 2, 24 * DAYS])
def test_what_the_source_let_go_of_of_late_stays_too(workspace, first):
    """A file of this hour only, or one with no row yet, takes none of the settle span's rows."""
    to(workspace, 6)
    before = stored(workspace)
    assert before.filter(pl.col(EVENT) == at(24 * 6)).height == 1
    as_file(workspace.config.root, rows().filter(pl.col("at") >= at(first)))
    for _ in range(2):
        to(workspace, DAYS)
        found = stored(workspace)
        assert found.filter(pl.col(EVENT) <= at(24 * 6)).equals(before)
        assert found.height == before.height + rows().filter(pl.col("at") >= at(first)).height
        assert dump(workspace) == rebuilt(workspace)


class Killed(Exception):
    """Stands for a process that dies."""


def dying(nth, at_stage="writing"):
    """Give a report that dies when the n-th run is about to write, or comes to another stage."""
    left = [nth]

    def report(view, stage, rows):
        left[0] -= stage == at_stage
        if not left[0]:
            raise Killed

    return report


def test_a_long_interval_is_several_runs_and_a_kill_loses_one(workspace, monkeypatch):
    """What was interrupted goes on from the watermark; the table is as if made at once."""
    monkeypatch.setattr(dues, "BYTES_PER_RUN", 6 * 88)
    with pytest.raises(Killed):
        to(workspace, DAYS, report=dying(3))
    assert [one.rows for one in workspace.ledger.runs()] == [7, 6]
    done = to(workspace, DAYS)
    assert [one.why for one in done] == ["new"] * 2
    assert done[0].interval.start > micros(at(24 * 3))
    assert stored(workspace, REVISION).equals(expected(workspace))
    assert dump(workspace) == rebuilt(workspace)


def test_a_killed_run_is_finished_though_its_source_holds_nothing_now(workspace):
    """What was committed is served, where the source leaves nothing to compute again."""
    with pytest.raises(Killed):
        to(workspace, 6, report=dying(1, "serving"))
    before = stored(workspace)
    as_file(workspace.config.root, rows().clear())
    assert to(workspace, 6) == ()
    assert [one.state for one in workspace.ledger.runs()] == ["served"]
    assert stored(workspace).equals(before)
    assert dump(workspace) == rebuilt(workspace)


def test_start_end_is_cut_too_and_may_be_repeated(workspace, monkeypatch):
    """A repeat computes all of its runs again and changes nothing."""
    monkeypatch.setattr(dues, "BYTES_PER_RUN", 6 * 88)
    made = jobs.materialize(workspace, micros(at(0)), micros(at(24 * DAYS)))
    assert len(made) == 4
    assert made[0].interval.start == BEGINNING
    again = jobs.materialize(workspace, micros(at(0)), micros(at(24 * DAYS)))
    assert [one.changed for one in again] == [False] * 4
    assert stored(workspace, REVISION).equals(expected(workspace))


def test_a_dry_run_tells_what_would_run_and_writes_nothing(workspace):
    """Intervals, reasons and rows as the run then has them; registry and Redis stay as they are."""
    registry = Path(workspace.registry._engine.url.database)
    before = registry.read_bytes()
    (first,) = jobs.due_incremental(workspace, micros(at(24 * 5)))
    assert (first.table, first.why, first.interval.start) == (None, "never run", BEGINNING)
    assert (registry.read_bytes(), workspace._online) == (before, None)
    assert not list((workspace.config.root / ".featurestore").rglob("*.parquet"))
    assert [one.rows for one in to(workspace, 5)] == [first.rows]
    as_file(workspace.config.root, removed(corrected(rows())))
    before = registry.read_bytes()
    told = jobs.due_incremental(workspace, micros(at(24 * 6)))
    assert [(one.why, one.rows) for one in told] == [("new", 3), ("source changed", 3)]
    assert registry.read_bytes() == before
    done = to(workspace, 6)
    assert [(one.why, one.rows, one.interval) for one in done] == [
        (one.why, one.rows, one.interval) for one in told
    ]
    assert jobs.due_incremental(workspace, micros(at(24))) == ()


def test_a_dry_run_needs_no_redis(workspace):
    """It asks no online store, and waits for nobody's lease."""
    to(workspace, 2)
    name = f"table {table(workspace)[1].id}"
    now = workspace.clock()
    ann = {"process": "", "note": "ann: materialize history"}
    workspace.ledger.lease(name, "ann", now=now, until=now + 10_000_000, **ann)
    away = opened(workspace.config.root, "redis://127.0.0.1:1/0")
    (one,) = jobs.due(away, micros(at(0)), micros(at(24)))
    assert (one.why, one.rows, one.interval.end) == ("asked for", 4, micros(at(24)))
    with pytest.raises(Conflict):
        to(workspace, 3)
    away.close()


def test_the_store_tells_what_is_due(workspace, valkey):
    """`dry_run` gives what would run, in notebooks too."""
    environ = {"FEATURESTORE_REDIS_URL": valkey.url}
    with FeatureStore(workspace.config.root, environ=environ) as store:
        (one,) = store.materialize(at(0), at(24), dry_run=True)
        (other,) = store.materialize_incremental(at(24), dry_run=True)
        assert repr(one).startswith("<Due history@")
        assert repr(one).endswith("the beginning to 2024-03-02 00:00:00 UTC, never run, 4 rows>")
        assert one == other
        assert store.materialize_incremental(at(24))[0].rows == 4


def test_a_source_that_moves_while_it_is_read_is_looked_at_again(workspace, monkeypatch):
    """A run whose source was written meanwhile records no state, and the next finds the change."""
    scan = ViewSource.scan

    def moving(self, interval):
        found = scan(self, interval)
        as_file(workspace.config.root, corrected(rows()))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(ViewSource, "scan", moving)
        to(workspace, 6)
    assert [one.source for one in workspace.ledger.runs()] == [""]
    _, again = to(workspace, 6)
    assert again.why == "source changed"
    assert stored(workspace, REVISION).equals(expected(workspace))
