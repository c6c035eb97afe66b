"""Materialization over a real Delta table and a real Redis-protocol server."""

from datetime import timedelta

import polars as pl
import pytest

from featurestore.errors import (
    Conflict,
    CorruptData,
    InvalidRequest,
    NotFound,
    NotMaterialized,
    OnlineDataMissing,
    SourceError,
    Unavailable,
)
from featurestore.jobs import materialize as jobs
from featurestore.jobs.backfill import backfill
from featurestore.jobs.promote import promote
from featurestore.jobs.publish import Published
from featurestore.jobs.rebuild import rebuild_online
from featurestore.model.time import BEGINNING, EVENT, REVISION, Interval, micros
from featurestore.storage.keys import canonical_keys
from featurestore.storage.rows import RowLayout, row_columns
from tests.repos import (
    DAY,
    NOW,
    SCHEMA,
    applied,
    at,
    dump,
    history,
    landings,
    offline_rows,
    opened,
    pace,
    released,
    source,
    write,
)
from tests.servers import client_of

DAY_MS = DAY // timedelta(milliseconds=1)
ROWS = landings(
    ("a", 1, None, 10.0, 3),
    ("a", 5, None, 20.0, 4),
    ("b", 2, 9, 30.0, None),
    ("b", 3, None, 40.0, 6),
    (None, 4, None, 50.0, 7),
)


@pytest.fixture
def workspace(tmp_path, online_url):
    """A repo of five source rows, applied; its Redis may hold other tests' projects."""
    made = applied(write(tmp_path / "repo", ROWS, name=tmp_path.name.replace("_", "-")), online_url)
    yield made
    made.close()


def run(workspace, start=0, end=24, **options):
    """Materialize from some hour to another."""
    return jobs.materialize(workspace, micros(at(start)), micros(at(end)), **options)


def stored(workspace, view=None):
    """Give the offline rows, sorted."""
    view = view or workspace.view("history")
    return offline_rows(workspace, view).sort("plane", EVENT)


def served(workspace, view=None):
    """Give the last delay that Redis holds for each plane."""
    view = view or workspace.view("history")
    table = workspace.table(view)
    planes = pl.DataFrame({"plane": ["a", "b", "c"]})
    keys = canonical_keys(planes, view.join_keys)
    (rows,) = workspace.online().read([(table.id, keys)])
    return RowLayout(columns=row_columns(view)).decode(rows).frame()["last_delay"].to_list()


def rewrite(workspace, *rows):
    """Replace the source's rows."""
    landings(*rows).write_parquet(workspace.config.root / "data" / "landings.parquet")


def test_a_run_stores_every_row_and_serves_the_newest(workspace):
    """Offline holds the interval's rows with their dtypes, Redis each key's newest row."""
    (outcome,) = run(workspace)
    frame = stored(workspace)
    assert frame["plane"].to_list() == ["a", "a", "b", "b"]
    assert frame.schema["seats"] == pl.UInt8
    assert frame["known_at"].to_list() == [at(1), at(5), at(9), at(3)]
    assert outcome.rows == 4
    assert served(workspace) == [20.0, 40.0, None]


def test_only_what_was_known_in_the_interval_is_stored(workspace):
    """An interval is over known-at: a row loaded later waits, both ends count."""
    run(workspace, 1, 5)
    assert stored(workspace)["last_delay"].to_list() == [10.0, 20.0, 40.0]
    run(workspace, 6, 9)
    assert stored(workspace)["last_delay"].to_list() == [10.0, 20.0, 30.0, 40.0]


def test_the_same_run_twice_changes_nothing(workspace):
    """A repeat leaves table, versions and Redis as they were."""
    run(workspace)
    before, version = stored(workspace), workspace.offline.version(*table(workspace))
    (again,) = run(workspace)
    assert not again.changed
    assert stored(workspace).equals(before)
    assert workspace.offline.version(*table(workspace)) == version


def table(workspace):
    """Give the view and its table."""
    view = workspace.view("history")
    return view, workspace.table(view)


def test_a_correction_with_the_same_times_wins(workspace):
    """A corrected row reaches training and Redis with a higher revision; a retry keeps it."""
    run(workspace)
    rewrite(workspace, ("a", 5, None, 99.0, 4), ("b", 3, None, 40.0, 6))
    run(workspace)
    run(workspace)
    frame = stored(workspace)
    assert frame["last_delay"].to_list() == [99.0, 40.0]
    assert frame[REVISION].to_list() == [1, 0]
    assert served(workspace) == [99.0, 40.0, None]


def test_a_removed_or_lowered_winner_is_repaired(workspace):
    """When a run removes a key's newest row, Redis falls back to what offline says."""
    run(workspace)
    rewrite(workspace, ("a", 1, None, 10.0, 3), ("c", 1, None, 7.0, 1))
    (outcome,) = run(workspace)
    assert served(workspace) == [10.0, None, 7.0]
    assert outcome.repaired == 2


def test_an_older_interval_never_overwrites_a_newer_row(workspace):
    """Loading history after the present leaves the present in Redis."""
    run(workspace, 4, 24)
    run(workspace, 0, 3)
    assert served(workspace)[0] == 20.0


def test_incremental_starts_at_the_watermark_less_settle(workspace):
    """A row stamped before the watermark but committed after is found within the settle span."""
    run(workspace, 0, 5)
    rewrite(
        workspace,
        *[("a", 1, None, 10.0, 3), ("a", 5, None, 20.0, 4), ("b", 3, None, 40.0, 6)],
        *[(None, 4, None, 50.0, 7), ("c", 4.5, None, 1.0, 1), ("c", 6, None, 2.0, 2)],
    )
    (outcome,) = jobs.materialize_incremental(workspace, micros(at(8)))
    assert outcome.interval == Interval(start=micros(at(4)), end=micros(at(8)))
    assert served(workspace) == [20.0, 40.0, 2.0]
    assert jobs.materialize_incremental(workspace, micros(at(7))) == ()


def test_the_first_incremental_starts_at_the_beginning(workspace):
    """A view that was never materialized takes all its source holds up to the end."""
    (outcome,) = jobs.materialize_incremental(workspace, micros(at(24)))
    assert outcome.interval.start == BEGINNING
    assert outcome.rows == 4


def test_an_interval_before_which_nothing_was_known_reaches_back_for_ever(workspace):
    """With no source row before START, the table is complete from the beginning."""
    run(workspace, 0, 5)
    run(workspace, 6, 24)
    assert workspace.ledger.covered(table(workspace)[1].id) == (
        Interval(start=BEGINNING, end=micros(at(5))),
        Interval(start=micros(at(6)) - 1, end=micros(at(24))),
    )


def test_a_source_that_lets_go_of_old_rows_takes_none_from_the_table(workspace):
    """A file that holds the last day only adds that day: what is materialized stays."""
    run(workspace)
    before = stored(workspace)
    rewrite(workspace, ("a", 30, None, 99.0, 3))
    (outcome,) = run(workspace, 24, 48)
    assert outcome.interval.start == micros(at(24)) - 1
    assert stored(workspace).filter(pl.col("known_at") < at(24)).equals(before)
    assert served(workspace) == [99.0, 40.0, None]


class Killed(Exception):
    """Stands for a process that dies at a stage."""


@pytest.mark.parametrize("stage", ["writing", "serving"])
def test_a_run_that_died_is_finished_by_the_next(workspace, stage):
    """Whatever stage a run dies at, running again gives the state of a run that lived."""

    def die(view, at_stage, rows):
        if at_stage == stage:
            raise Killed

    run(workspace, 0, 4)
    with pytest.raises(Killed):
        run(workspace, 4, 24, report=die)
    run(workspace, 4, 24)
    assert stored(workspace)["last_delay"].to_list() == [10.0, 20.0, 30.0, 40.0]
    assert served(workspace) == [20.0, 40.0, None]
    assert {r.state for r in workspace.ledger.runs()} == {"served"}


def test_a_commit_that_the_ledger_missed_is_adopted(workspace, monkeypatch):
    """A run killed between the table's commit and the ledger's row is recognized by its id."""

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(workspace.ledger, "commit_run", die)
        with pytest.raises(Killed):
            run(workspace)
    run(workspace)
    states = [r.state for r in workspace.ledger.runs()]
    assert states == ["served", "served"]
    assert served(workspace) == [20.0, 40.0, None]


def test_a_held_lease_refuses_a_second_run(workspace):
    """Two runs of one table at once: the second is told so and writes nothing."""
    run(workspace, 0, 4)
    name = f"table {table(workspace)[1].id}"
    now = workspace.clock()
    another = {"process": "", "note": "ann: materialize history"}
    workspace.ledger.lease(name, "another", now=now, until=now + 1_000_000, **another)
    with pytest.raises(Conflict, match=r"held by ann: materialize history \(until"):
        run(workspace, 4, 24)
    workspace.ledger.lease(name, "a third", now=now + 2_000_000, until=now + 3_000_000, **another)


def test_a_stale_writer_is_refused(workspace):
    """A replacement based on a version that is no longer the newest writes nothing."""
    run(workspace, 0, 4)
    view, its_table = table(workspace)
    base = workspace.offline.version(view, its_table)
    rows = stored(workspace).with_columns(bucket=pl.lit(0))
    interval = Interval(start=BEGINNING, end=micros(at(4)))
    workspace.offline.replace(view, its_table, interval, rows, base=base, run="one")
    with pytest.raises(Conflict, match="moved the table"):
        workspace.offline.replace(view, its_table, interval, rows, base=base, run="two")


def test_a_flipped_byte_is_a_named_error_and_never_a_number(workspace, online_url):
    """A data file that is not what was written is refused at first open."""
    run(workspace)
    folder = workspace.config.root / ".featurestore"
    (file,) = [p for p in folder.rglob("*.parquet") if "_delta_log" not in p.parts]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    again = applied(workspace.config.root, online_url)
    with pytest.raises(CorruptData, match=r"history: .*sha256 differs"):
        stored(again)
    again.close()


def test_a_writer_given_up_for_dead_is_refused_when_it_wakes(workspace):
    """Once a run is abandoned the table has moved on, so its late commit finds no base."""

    def die(*_, **__):
        raise Killed

    run(workspace, 0, 4)
    view, its_table = table(workspace)
    base, rows = workspace.offline.version(view, its_table), stored(workspace)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workspace.offline, "replace", die)
        with pytest.raises(Killed):
            run(workspace, 4, 24)
    run(workspace, 0, 4)
    assert "abandoned" in {r.state for r in workspace.ledger.runs()}
    interval = Interval(start=BEGINNING, end=micros(at(4)))
    late = rows.with_columns(bucket=pl.lit(0))
    with pytest.raises(Conflict, match="moved the table"):
        workspace.offline.replace(view, its_table, interval, late, base=base, run="late")
    assert stored(workspace).equals(rows)


def test_ties_are_broken_by_content_whatever_the_order(workspace):
    """Of rows equal in key and times one stays, the same one for any order of the source."""
    tied = [("a", 1, None, float(n), n) for n in range(20)]
    rewrite(workspace, *tied)
    run(workspace)
    first = stored(workspace)
    rewrite(workspace, *reversed(tied))
    (again,) = run(workspace)
    assert not again.changed
    assert first.height == 1


def test_a_view_without_entities_has_one_row(tmp_path, online_url):
    """An entity-less view is one key: its newest row is served, and repaired like any other."""
    view = history(join_keys={}, name="city")
    repo = write(tmp_path / "repo", ROWS, name=tmp_path.name.replace("_", "-"))
    workspace = applied(repo, online_url, view)
    run(workspace)
    table_id = workspace.table(view).id

    def newest():
        (rows,) = workspace.online().read([(table_id, canonical_keys(pl.DataFrame([{}]), ()))])
        return RowLayout(columns=row_columns(view)).decode(rows).frame()["last_delay"].to_list()

    assert newest() == [20.0]
    rewrite(workspace, ("a", 1, None, 10.0, 3))
    run(workspace)
    assert newest() == [10.0]
    workspace.close()


BAD_TIMES = {
    "end before start": (5, 1, "end .* is before start"),
    "end in the future": (0, 24 * 500, "is in the future"),
}


@pytest.mark.parametrize(("start", "end", "message"), BAD_TIMES.values(), ids=BAD_TIMES.keys())
def test_impossible_intervals_are_refused(workspace, start, end, message):
    """An interval that cannot be complete is refused before anything is read."""
    with pytest.raises(InvalidRequest, match=message):
        run(workspace, start, end)


def missing(repo):
    (repo / "data" / "landings.parquet").unlink()


def empty(repo):
    (repo / "data" / "landings.parquet").write_bytes(b"")


def lacking(repo):
    ROWS.drop("delay").write_parquet(repo / "data" / "landings.parquet")


def drifted(repo):
    ROWS.with_columns(pl.col("delay").cast(pl.Float32)).write_parquet(
        repo / "data" / "landings.parquet"
    )


def timeless(repo):
    ROWS.with_columns(at=pl.lit(None, SCHEMA["at"])).write_parquet(
        repo / "data" / "landings.parquet"
    )


BAD_SOURCES = {
    "missing": (missing, r"history\.source: data/landings\.parquet is not there"),
    "empty": (empty, r"history\.source: data/landings\.parquet cannot be read"),
    "lacking a column": (lacking, r"history\.source: column 'delay' is not in"),
    "of another dtype": (
        drifted,
        r"history\.source: column 'delay' of .* is Float32, and was float64 when history@",
    ),
    "with null times": (timeless, r"history\.source: 5 rows have no 'at'"),
}


@pytest.mark.parametrize(("spoil", "message"), BAD_SOURCES.values(), ids=BAD_SOURCES.keys())
def test_a_bad_source_is_named_and_nothing_is_lost(workspace, spoil, message):
    """A source that cannot be read is a named error; what was materialized stays."""
    run(workspace, 0, 4)
    before = stored(workspace)
    spoil(workspace.config.root)
    with pytest.raises(SourceError, match=message):
        run(workspace)
    assert stored(workspace).equals(before)


def test_a_view_that_is_unknown_or_computed_on_demand_is_refused(tmp_path, online_url):
    """Only applied views over sources can be materialized by name."""
    view = history()
    workspace = applied(write(tmp_path / "repo", ROWS), online_url, view, pace(view))
    with pytest.raises(NotFound, match="did you mean 'history'"):
        run(workspace, views=["histori"])
    with pytest.raises(InvalidRequest, match="pace: is computed at request time"):
        run(workspace, views=["pace"])
    workspace.close()


def test_local_times_become_utc_and_impossible_ones_are_refused(tmp_path, online_url):
    """Naive times are local times of the view's zone; skipped and repeated hours are refused."""
    naive = ROWS.head(1).with_columns(
        at=pl.lit("2013-07-01 12:00:00").str.to_datetime("%Y-%m-%d %H:%M:%S"),
        loaded=pl.lit(None, pl.Datetime("us")),
    )
    view = history(source=source(time_zone="Europe/Berlin"))
    workspace = applied(write(tmp_path / "repo", naive), online_url, view)
    jobs.materialize_incremental(workspace, micros(NOW))
    assert stored(workspace)[EVENT].dt.hour().to_list() == [10]
    for hour in ("2026-03-29 02:30:00", "2026-10-25 02:30:00"):
        naive.with_columns(at=pl.lit(hour).str.to_datetime("%Y-%m-%d %H:%M:%S")).write_parquet(
            workspace.config.root / "data" / "landings.parquet"
        )
        with pytest.raises(SourceError, match="store UTC upstream"):
            jobs.materialize_incremental(workspace, micros(NOW))
    workspace.close()


def test_promote_needs_every_view_materialized(workspace):
    """A release of what is not there is refused, and says which views."""
    with pytest.raises(NotMaterialized, match="history@"):
        promote(workspace)
    run(workspace)
    release = released(workspace)
    assert release.number == 1
    assert promote(workspace) == Published(release=release, fresh=False)
    assert workspace.online().alias("prod") == 1


def test_an_emptied_redis_is_rebuilt_byte_for_byte(workspace):
    """Rows, releases and aliases come back from offline and registry alone."""
    run(workspace)
    released(workspace)
    before = dump(workspace)
    client_of(workspace.redis_url()).flushall()
    with pytest.raises(OnlineDataMissing, match="rebuild-online"):
        served(workspace)
    rebuilt = rebuild_online(workspace)
    assert dump(workspace) == before
    assert (list(rebuilt.rows.values()), rebuilt.aliases) == ([2], {"prod": 1})


def lifetimes(workspace):
    """Give how long Redis keeps each row of the view's table, in milliseconds; -1 is for ever."""
    _, its_table = table(workspace)
    client = client_of(workspace.redis_url())
    ours = f"*/{workspace.config.project}/{its_table.id}/*"
    return {key: client.pttl(key) for key in client.scan_iter(ours)}


def reapplied(workspace, **changes):
    """Open the repo again with its view changed."""
    return applied(workspace.config.root, workspace.redis_url(), history(**changes))


@pytest.mark.parametrize("ttl", [30 * DAY, None])
def test_a_longer_ttl_loads_redis_before_it_goes_live(workspace, ttl):
    """Rows that a shorter ttl let go are back, and stay as long as the new one needs them."""
    run(workspace)
    released(workspace)
    longer = reapplied(workspace, ttl=ttl)
    first, *_ = lifetimes(workspace)
    client_of(longer.redis_url()).unlink(first)
    backfill(longer)
    released(longer)
    assert len(lifetimes(longer)) == 2
    assert {
        left == -1 if ttl is None else left > 29 * DAY_MS for left in lifetimes(longer).values()
    } == {True}
    longer.close()


def test_a_row_lives_as_long_as_the_longest_ttl_that_serves_it(workspace):
    """A shorter ttl takes no row from what is served, or may be again by a rollback."""
    long = reapplied(workspace, ttl=30 * DAY)
    run(long, 0, 4)
    released(long)
    short = reapplied(workspace, ttl=DAY)
    run(short, 0, 24)
    assert min(lifetimes(short).values()) > 29 * DAY_MS
    released(short)
    rewrite(workspace, ("a", 6, None, 1.0, 1))
    run(short, 6, 24)
    assert min(lifetimes(short).values()) > 29 * DAY_MS
    late = opened(workspace.config.root, workspace.redis_url(), now=NOW + 8 * DAY)
    rewrite(workspace, ("a", 7, None, 1.0, 1))
    run(late, 6, 24)
    assert min(lifetimes(late).values()) < 3 * DAY_MS
    for one in (long, short, late):
        one.close()


def test_promote_refuses_a_gap(workspace):
    """A table with an interval missing in its middle is not promoted; the gap is named."""
    run(workspace, 0, 4)
    run(workspace, 8, 24)
    with pytest.raises(NotMaterialized, match=r"gaps in history@\w+ from 2024-03-01 04:00:00 UTC"):
        promote(workspace)
    run(workspace, 4, 8)
    assert released(workspace).number == 1


def test_two_promotes_at_once_make_one_release(workspace):
    """The alias moves by compare-and-set: the slower of two promotes is refused."""
    run(workspace)
    release = released(workspace)
    with pytest.raises(Conflict, match="somebody else"):
        workspace.releases.publish(
            release, "prod", expected=None, action="promote", now=0, who="slow"
        )


def test_unreachable_redis_leaves_the_offline_commit_to_be_finished(workspace):
    """With Redis away the rows are committed offline; the next run serves them."""
    repo = workspace.config.root
    away = applied(repo, "redis://127.0.0.1:1/0")
    with pytest.raises(Unavailable):
        run(away)
    away.close()
    assert [r.state for r in workspace.ledger.runs()] == ["committed"]
    run(workspace)
    assert served(workspace) == [20.0, 40.0, None]
