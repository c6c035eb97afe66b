"""Pushed rows over a real Redis, real Delta tables and real gRPC: read at once, and for ever."""

import json
import threading
from contextlib import contextmanager
from datetime import timedelta
from enum import Enum

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from featurestore.errors import (
    CorruptData,
    InvalidRequest,
    NotFound,
    NotMaterialized,
    OnlineDataMissing,
    Unavailable,
    Unsupported,
)
from featurestore.jobs import materialize as jobs
from featurestore.jobs.push import push
from featurestore.model.declare.windows import Aggregate
from featurestore.model.time import micros
from featurestore.serving.client.client import FeatureClient
from featurestore.serving.message.limits import Limits
from featurestore.serving.process.server import serve
from featurestore.serving.push.queue import queue
from featurestore.storage.pushed import NONE
from featurestore.storage.redis import OnlineStore
from tests.commands import environment, fits, run, words
from tests.repos import (
    DAY,
    HOUR,
    applied,
    at,
    dump,
    history,
    landings,
    notebook,
    offline_rows,
    opened,
    released,
    source,
    write,
)
from tests.servers import client_of, free_port

NOW = at(48)
ROWS = landings(("a", 1, None, 10.0, 3), ("b", 2, None, 30.0, None))
FRESH = landings(("a", 47, None, 99.0, 7), ("c", 46, None, 5.0, 1))
SEEN = Aggregate(function="count", of=None, filter=None, length="7d", every=None)


class PushMode(Enum):
    """As Feast spells it."""

    ONLINE = 1
    ONLINE_AND_OFFLINE = 3


def landed(**changes):
    """Describe the repo's view, of a source that rows are pushed to."""
    arguments = {"source": source(pushed=True, created_field=None), "ttl": 7 * DAY}
    return history(**arguments | changes)


def made(folder, url, *views, rows=ROWS, name=None):
    """Apply, materialize to an hour before now, and promote a repo's views."""
    project = name or folder.name.replace("_", "-")
    workspace = applied(write(folder / "repo", rows, name=project), url, *views, now=NOW)
    materialize(workspace, 40)
    released(workspace)
    return workspace


@pytest.fixture
def workspace(tmp_path, valkey):
    """A repo of two rows, materialized up to eight hours before now and promoted."""
    workspace = made(tmp_path, valkey.url, landed())
    yield workspace
    workspace.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory, valkey):
    """Such a repo for tests of what is refused, which mind no row that others left."""
    workspace = made(tmp_path_factory.mktemp("shared"), valkey.url, landed())
    yield workspace
    workspace.close()


def materialize(workspace, hours=48):
    """Bring every table to some hour."""
    return jobs.materialize_incremental(workspace, micros(at(hours)))


def delays(store, planes="abc", hours=48):
    """Look the planes' last delays up."""
    asked = {"plane": list(planes)}
    found = store.get_online_features(["history:last_delay"], entities=asked, as_of=at(hours))
    return found.to_dict()["last_delay"]


def trained(workspace, planes="abc", hours=48):
    """Give the planes' last delays as training reads them."""
    rows = pl.DataFrame({"plane": list(planes), "event_timestamp": [at(hours)] * len(planes)})
    with notebook(workspace, now=NOW) as store:
        found = store.get_historical_features(rows, ["history:last_delay"])
        return found.to_polars()["last_delay"].to_list()


def served(workspace, *, sink=True, limits=Limits(poll=0.05)):  # noqa: B008 - frozen
    """Start a server as its process does, and give it with its store."""
    project = workspace.config.project
    online = OnlineStore.connect(workspace.redis_url(), project=project)
    server = serve(
        online,
        project=project,
        clock=lambda: micros(NOW),
        limits=limits,
        sink=queue if sink else None,
    )
    return server, online


@contextmanager
def connected(workspace, **settings):
    """Give a client of a server over a repo's Redis."""
    server, online = served(workspace, **settings)
    with FeatureClient(server.address, timeout=10) as client:
        yield client
    server.stop(0)
    online.close()


@pytest.fixture
def client(workspace):
    """A client of a server over the repo's Redis."""
    with connected(workspace) as client:
        yield client


def test_a_pushed_row_is_looked_up_at_once_and_trained_on_once_materialized(workspace):
    """To both: lookups answer it now, the table has it from the next run on, with equal values."""
    with notebook(workspace, now=NOW) as store:
        found = store.push("landings", FRESH)
        assert (found.accepted, found.refused_rows) == (2, 0)
        assert found.offline == "committed as version 1 of the log of pushed rows"
        (table,) = found.online
        assert (table.version, table.rows, table.written) == (landed().version, 2, 2)
        assert delays(store) == [99.0, 30.0, 5.0]
    materialize(workspace)
    assert trained(workspace) == [99.0, 30.0, 5.0]
    with notebook(workspace, now=NOW) as store:
        assert delays(store) == [99.0, 30.0, 5.0]


def test_rows_pushed_offline_come_with_materialization(workspace):
    """To the log alone: no lookup sees them before the run that brings them."""
    with notebook(workspace, now=NOW) as store:
        before = dump(workspace)
        found = store.push("landings", FRESH, to="offline")
        assert found.online == ()
        assert dump(workspace) == before
        assert delays(store) == [10.0, 30.0, None]
        materialize(workspace)
        assert delays(store) == [99.0, 30.0, 5.0]
    assert trained(workspace) == [99.0, 30.0, 5.0]


def test_rows_pushed_online_stay_until_something_newer_comes(workspace):
    """To Redis alone: training never reads them; the mode may be Feast's."""
    with notebook(workspace, now=NOW) as store:
        assert store.push("landings", FRESH, to=PushMode.ONLINE).offline == "not asked for"
        assert delays(store) == [99.0, 30.0, 5.0]
        assert workspace.config.sources.log("landings").state()[0] == NONE
        with pytest.raises(InvalidRequest, match=r"'onlin' is no place .*did you mean 'online'"):
            store.push("landings", FRESH, to="onlin")


def test_the_same_rows_again_change_nothing(workspace):
    """Pushed twice, and landed in the file as well: one row each, the same everywhere."""
    push(workspace, "landings", FRESH)
    materialize(workspace)
    view = landed()
    rows, stored = offline_rows(workspace, view).sort("plane", "event_timestamp"), dump(workspace)
    again = push(workspace, "landings", FRESH)
    assert [one.written for one in again.online] == [0]
    assert dump(workspace) == stored
    path = workspace.config.root / "data/landings.parquet"
    pl.concat([ROWS, FRESH]).write_parquet(path)
    materialize(workspace)
    assert dump(workspace) == stored
    after = offline_rows(workspace, view).sort("plane", "event_timestamp")
    assert_frame_equal(after, rows)


def test_a_row_pushed_late_is_found_by_the_next_run(workspace):
    """A row that was known before the watermark changes the source's state: its piece is redone."""
    push(workspace, "landings", landings(("b", 39, None, 77.0, 1)), to="offline")
    late = landings(("b", 3, None, 44.0, 1), ("a", 0.5, None, 1.0, 1))
    push(workspace, "landings", late, to="offline")
    why = {one.why for one in jobs.due_incremental(workspace, micros(NOW))}
    assert why == {"new", "source changed"}
    materialize(workspace)
    assert trained(workspace, "ab", 4) == [10.0, 44.0]
    assert trained(workspace, "ab", 0.75) == [1.0, None]
    assert trained(workspace, "ab", 48) == [10.0, 77.0]
    assert not any(one.changed for one in materialize(workspace))


def test_an_older_row_never_replaces_a_newer_one(workspace):
    """Rows come in any order: the newest event answers, and the count says how many won."""
    push(workspace, "landings", FRESH)
    found = push(workspace, "landings", landings(("a", 46, None, 1.0, 1), ("a", 45, None, 2.0, 1)))
    assert (found.online[0].rows, found.online[0].written) == (2, 0)
    with notebook(workspace, now=NOW) as store:
        assert delays(store) == [99.0, 30.0, 5.0]


def test_what_is_known_later_waits_for_materialization(tmp_path, valkey):
    """A view's delay holds for pushed rows too: nothing is served before it is known."""
    workspace = made(tmp_path, valkey.url, landed(delay=2 * HOUR))
    found = push(workspace, "landings", landings(("a", 47, None, 99.0, 7), ("b", 45, None, 8.0, 7)))
    (table,) = found.online
    assert (table.rows, table.written, table.later) == (1, 1, 1)
    assert table.known_at == micros(at(49))
    assert "1 known only at 2024-03-03 01:00:00 UTC: come with materialization" in str(table)
    with notebook(workspace, now=NOW) as store:
        assert delays(store, "ab") == [10.0, 8.0]
    workspace.close()


@pytest.mark.filterwarnings("ignore::featurestore.training.training_set.WithheldWarning")
def test_a_pushed_row_became_known_when_it_arrived(tmp_path, valkey):
    """Where the source has a created column, the clock stamps rows without: the past stays."""
    rows = landings(("a", 1, 1, 10.0, 3))
    workspace = made(tmp_path, valkey.url, landed(source=source(pushed=True)), rows=rows)
    push(workspace, "landings", landings(("a", 20, None, 99.0, 7)).drop("loaded"))
    materialize(workspace)
    assert trained(workspace, "a", 47) == [10.0]
    assert trained(workspace, "a", 48) == [99.0]
    workspace.close()


def test_bad_rows_are_refused_and_good_ones_kept(shared):
    """Row by row, with reasons; what is kept is served and stored."""
    rows = pl.concat([FRESH, landings((None, 47, None, 1.0, 1), ("d", 60, None, 1.0, 1))])
    found = push(shared, "landings", rows)
    assert (found.accepted, found.refused_rows) == (2, 2)
    assert found.refused["row"].to_list() == [2, 3]
    shown = repr(found)
    assert "<PushResult landings: 2 rows accepted, 2 refused>" in shown
    assert "row 3, at: lies more than 10 minutes in the future" in shown
    wide = push(shared, "landings", rows, max_skew=10**12)
    assert wide.accepted == 3
    assert wide.online[0].later == 1


def test_a_row_that_a_feature_cannot_be_computed_of_is_found(tmp_path, valkey):
    """One poison row is refused with the feature's path; it never reaches the log."""
    view = landed(features={"last_delay": pl.col("delay").cast(pl.Int32, strict=True)})
    workspace = made(tmp_path, valkey.url, view)
    bad = landings(*((f"p{n}", 47, None, 1e12 if n in (3, 11) else n, 1) for n in range(20)))
    found = push(workspace, "landings", bad)
    assert found.refused["row"].to_list() == [3, 11]
    assert found.refused["at"].unique().to_list() == ["history"]
    assert "history.last_delay: cannot be computed" in found.refused["reason"][0]
    assert found.accepted == 18
    materialize(workspace)
    workspace.close()


def test_an_unknown_source_is_not_found(shared):
    """Sources are asked for by the PushSource's name; what is near is said."""
    with connected(shared) as client, notebook(shared, now=NOW) as store:
        for pushing in (client.push, store.push):
            with pytest.raises(NotFound, match=r"landngs: no view reads .* mean 'landings'"):
                pushing("landngs", FRESH)


def test_a_source_of_files_alone_takes_no_rows(tmp_path, valkey):
    """Rows are pushed to a PushSource: the way out is said."""
    workspace = made(tmp_path, valkey.url, history(ttl=None))
    with pytest.raises(NotFound, match="landings: is no PushSource; wrap it in PushSource"):
        push(workspace, "landings", FRESH)
    workspace.close()


def test_every_view_of_the_source_gets_the_rows_it_may(tmp_path, valkey):
    """Each table by its own expressions and filter; windows without an event id take none."""
    of = source(pushed=True, created_field=None)
    seats = history(name="seats", source=of, filter=pl.col("seats") > 5, ttl=None)
    counts = history(name="counts", source=of, features={"seen": SEEN}, ttl=None)
    repo = write(tmp_path / "repo", ROWS, name="many")
    workspace = applied(repo, valkey.url, landed(), seats, counts, now=NOW)
    materialize(workspace, 40)
    found = push(workspace, "landings", FRESH)
    assert found.accepted == 2
    assert found.refused.rows()[0][:2] == (None, "counts")
    assert {one.view: one.rows for one in found.online} == {"history": 2, "seats": 1}
    materialize(workspace)
    assert offline_rows(workspace, workspace.view("counts")).height == 2
    assert offline_rows(workspace, workspace.view("seats")).height == 1
    workspace.close()


def test_a_server_takes_rows_and_leaves_them_for_the_log(workspace, client):
    """Over gRPC: readable at once; materialization takes in what was queued, and only once."""
    found = client.push("landings", FRESH)
    assert (found.accepted, found.refused_rows, found.online[0].written) == (2, 0, 2)
    assert found.offline == "queued in Redis; the next materialization commits it to the log"
    assert delays(client) == [99.0, 30.0, 5.0]
    assert client.push("landings", FRESH[:1], to="offline").online == ()
    log = workspace.config.sources.log("landings")
    assert log.state()[0] == NONE
    materialize(workspace)
    assert workspace.online().queued("landings", most=9) == []
    version = log.state()[0]
    assert log.scan().collect().height == 3
    assert trained(workspace) == [99.0, 30.0, 5.0]
    materialize(workspace)
    assert log.state()[0] == version
    assert delays(client) == [99.0, 30.0, 5.0]


def test_a_push_from_a_notebook_takes_in_what_waits(workspace, client):
    """The log has rows in the order in which they came."""
    client.push("landings", FRESH[:1])
    push(workspace, "landings", FRESH[1:])
    log = workspace.config.sources.log("landings")
    assert log.scan().collect()["plane"].sort().to_list() == ["a", "c"]
    assert log.scan(1).collect()["plane"].to_list() == ["a"]


def test_a_server_tells_of_refusals(shared):
    """Reasons travel: by row, of the whole call, and no more than a hundred of them."""
    rows = landings(*(("a", 90 + n, None, 1.0, 1) for n in range(150)), ("b", 47, None, 3.0, 1))
    with connected(shared) as client:
        found = client.push("landings", rows)
        assert (found.accepted, found.refused_rows, found.refused.height) == (1, 150, 100)
        assert found.refused.row(0)[:2] == (0, "at")
        lacking = client.push("landings", rows.drop("seats"))
        assert lacking.accepted == 0
        assert lacking.offline == "nothing to keep"
        assert "view 'history' needs it" in lacking.refused["reason"][0]
        assert client.push("landings", {"plane": []}).accepted == 0


def test_a_server_takes_so_many_rows_at_a_time(shared):
    """An oversize batch keeps the first rows, and says so of the others."""
    with connected(shared, limits=Limits(poll=0.05, pushed_rows=1)) as client:
        found = client.push("landings", FRESH)
    assert (found.accepted, found.refused["row"].to_list()) == (1, [1])


def test_a_server_without_a_sink_pushes_online_only(shared):
    """Rows that nobody would keep are refused before anything is written."""
    client_of(shared.redis_url()).delete(f"fs1/{shared.config.project}/pushed/landings")
    with connected(shared, sink=False) as client:
        before = dump(shared)
        with pytest.raises(Unsupported, match="no way to hand rows on"):
            client.push("landings", FRESH)
        assert dump(shared) == before
        new = landings(("x", 47, None, 1.0, 1), ("y", 47, None, 1.0, 1))
        assert client.push("landings", new, to="online").online[0].written == 2


def test_without_redis_the_rows_are_safe_offline(workspace):
    """The log comes first: the error says that rows are there, and that a repeat is harmless."""
    away = opened(workspace.config.root, f"redis://127.0.0.1:{free_port()}/0", now=NOW)
    said = r"offline the rows are safe \(committed as version 1 .*does no harm"
    with pytest.raises(Unavailable, match=said):
        push(away, "landings", FRESH)
    away.close()
    push(workspace, "landings", FRESH)
    materialize(workspace)
    assert trained(workspace) == [99.0, 30.0, 5.0]


def test_a_table_that_is_not_in_redis_waits(workspace):
    """An emptied Redis is not written to: a table that is half there would lie."""
    view = landed()
    workspace.online().drop_table(workspace.table(view).id)
    found = push(workspace, "landings", FRESH)
    assert (found.online[0].missing, found.online[0].lost) == (True, 0)
    assert str(found.online[0]) == "not in Redis: run `featurestore rebuild-online`, or materialize"
    with notebook(workspace, now=NOW) as store, pytest.raises(OnlineDataMissing):
        delays(store)


def test_of_what_goes_online_only_nothing_is_brought(tmp_path, valkey):
    """A table that is missing, a moment to come: the answer says that those rows are nowhere."""
    workspace = made(tmp_path, valkey.url, landed(delay=2 * HOUR))
    rows = landings(("a", 47, None, 99.0, 7), ("b", 45, None, 8.0, 7))
    with connected(workspace) as client:
        found = push(workspace, "landings", rows, to="online")
        (later,) = found.online
        assert (later.written, later.later, later.lost) == (1, 1, 1)
        assert "1 known only at 2024-03-03 01:00:00 UTC: were not written; nothing will" in repr(
            found
        )
        assert client.push("landings", rows, to="online").online[0].lost == 1
        assert client.push("landings", rows).online[0].lost == 0
        workspace.online().drop_table(workspace.table(workspace.view("history")).id)
        gone = client.push("landings", rows, to="online")
    (missing,) = gone.online
    assert (missing.missing, missing.written, missing.lost) == (True, 0, 2)
    assert "were not written, and nothing will bring them; run `featurestore rebuild" in repr(gone)
    file = tmp_path / "rows.parquet"
    rows.write_parquet(file)
    repo, environ = workspace.config.root, environment(valkey.url)
    told = run("push", "landings", file, "--to", "online", repo=repo, environ=environ).stdout
    assert fits(told)
    assert "were not written, and nothing will bring them" in words(told)
    told = run("push", "landings", file, "--to", "online", "--json", repo=repo, environ=environ)
    (table,) = json.loads(told.stdout)["online"]
    assert (table["missing"], table["lost"]) == (True, 2)
    workspace.close()


@pytest.mark.parametrize("name", [None, 5, "", b"landings", ["landings"]])
def test_a_source_has_a_name(shared, name):
    """What can be none is refused in words, by a notebook as by a client."""
    with (
        notebook(shared, now=NOW) as store,
        pytest.raises(InvalidRequest, match="push_source_name: give the PushSource's name, not "),
    ):
        store.push(name, FRESH)


def test_nothing_goes_online_only_before_a_view_is_served(tmp_path, valkey):
    """It would be nowhere: the push is refused, and says what would take it."""
    repo = write(tmp_path / "repo", ROWS, name="unserved")
    bare = opened(repo, valkey.url, now=NOW)
    with pytest.raises(NotFound, match="unserved: nothing is applied yet; run `featurestore appl"):
        push(bare, "landings", FRESH)
    bare.close()
    workspace = applied(repo, valkey.url, landed(), now=NOW)
    with pytest.raises(NotMaterialized, match=r"landings: none of its views is served .*promo"):
        push(workspace, "landings", FRESH, to="online")
    assert push(workspace, "landings", FRESH).accepted == 2
    workspace.close()


def test_what_is_too_large_for_a_message_is_an_error_of_the_request(shared):
    """GRPC's limits hold for pushes, lookups and answers: each names its limit and the way out."""
    wide = {"plane": ["x" * 100] * 900}
    many = {"plane": [str(number) for number in range(9_000)]}
    asked = ["history:last_delay"]
    with connected(shared, limits=Limits(request_bytes=40_000, reply_bytes=60_000)) as client:
        took = r"request: is [0-9,]+ bytes, and the server at .* takes at most 40,000 a call; split"
        with pytest.raises(InvalidRequest, match=took):
            client.push("landings", wide)
        with pytest.raises(InvalidRequest, match=took):
            client.get_online_features(asked, entities=wide)
    told = r"server at .* sends at most 60,000 a call; ask"
    with (
        connected(shared, limits=Limits(reply_bytes=60_000)) as client,
        pytest.raises(InvalidRequest, match=told),
    ):
        client.get_online_features(asked, entities=many)
    told = r"this client takes at most 50,000 .*reply_bytes"
    with (
        connected(shared) as client,
        FeatureClient(client.address, reply_bytes=50_000, timeout=10) as small,
        pytest.raises(InvalidRequest, match=told),
    ):
        small.get_online_features(asked, entities=many)


def test_damage_in_the_queue_is_named_and_holds_up_nothing_else(workspace):
    """An entry that is no rows is an error with its way out; the tables are done all the same."""
    workspace.online().queue("landings", b"garbage")
    with pytest.raises(CorruptData, match=r"landings: entry .* remove it with XDEL"):
        materialize(workspace)
    assert workspace.ledger.covered(workspace.table(landed()).id)[-1].end == micros(NOW)
    client_of(workspace.redis_url()).delete(f"fs1/{workspace.config.project}/pushed/landings")


def test_pushed_rows_live_as_long_as_the_tables(workspace):
    """A pushed row gets the expiry that its table was loaded with."""
    push(workspace, "landings", landings(("z", 47, None, 1.0, 1)))
    client, table = client_of(workspace.redis_url()), workspace.table(landed()).id
    left = [client.pttl(key) for key in dump(workspace) if table.encode() in key and b"{" in key]
    assert len(left) == 3
    assert all(timedelta(days=7.9) < timedelta(milliseconds=one) <= 8 * DAY for one in left)


def test_pushes_and_runs_at_once_lose_nothing(workspace, client):
    """Servers, notebooks and a run push and read at the same time: every row is there then."""
    failed: list[BaseException] = []

    def many(call, start):
        try:
            for n in range(start, start + 5):
                call("landings", landings((f"p{n:02}", 47, None, float(n), 1)))
        except BaseException as error:  # noqa: BLE001 - told by the test
            failed.append(error)

    other = opened(workspace.config.root, workspace.redis_url(), now=NOW)
    threads = [
        threading.Thread(target=many, args=(client.push, 0)),
        threading.Thread(target=many, args=(client.push, 5)),
        threading.Thread(target=many, args=(lambda *a: push(other, *a), 10)),
    ]
    for thread in threads:
        thread.start()
    materialize(workspace)
    for thread in threads:
        thread.join()
    assert not failed
    materialize(workspace)
    planes = [f"p{n:02}" for n in range(15)]
    assert trained(workspace, planes) == [float(n) for n in range(15)]
    assert delays(client, planes) == [float(n) for n in range(15)]
    other.close()


def test_a_file_is_pushed_from_a_shell(workspace, valkey, tmp_path):
    """A table for a person, JSON for a program; exit 1 if a row was refused, the others are in."""
    environ, repo = environment(valkey.url), workspace.config.root
    good, bad = tmp_path / "good.parquet", tmp_path / "bad.parquet"
    FRESH.write_parquet(good)
    pl.concat([FRESH, landings(*((None, 47, None, 1.0, n) for n in range(12)))]).write_parquet(bad)
    shown = run("push", "landings", good, "--to", "online", repo=repo, environ=environ).stdout
    assert fits(shown)
    assert "landings: 2 rows accepted, 0 refused" in shown
    assert "2 of 2 rows are their keys' newest" in words(shown)
    shown = run("push", "landings", bad, repo=repo, environ=environ, code=1).stdout
    assert fits(shown)
    assert "committed as version 1 of the log" in words(shown)
    assert "and 2 more refusals" in shown
    told = run("push", "landings", bad, "--json", repo=repo, environ=environ, code=1).stdout
    found = json.loads(told)
    assert (found["accepted"], found["refused"], found["online"][0]["written"]) == (2, 12, 0)
    assert found["refusals"][0]["at"] == "plane"
    wrong = {
        ("landings", "none.parquet"): "none.parquet: cannot be read",
        ("landing", good): "did you mean 'landings'?",
        ("landings", good, "--to", "off"): "to: 'off' is no place for rows",
        ("landings", good, "--max-skew", "soon"): "--max-skew: 'soon' is no span of time",
    }
    for arguments, said in wrong.items():
        assert said in run("push", *arguments, repo=repo, environ=environ, code=1).stderr


def test_rows_that_lack_every_column_are_refused_by_every_view(tmp_path, online_url):
    """Also where a view has no keys; nanoseconds, as pandas has them, are moments."""
    city = landed(name="city", join_keys={}, features={"newest": pl.col("delay")})
    workspace = made(tmp_path, online_url, landed(), city)
    with notebook(workspace, now=NOW) as store:
        for nothing in ({}, {"plane": ["a"]}, pl.DataFrame()):
            assert store.push("landings", nothing).accepted == 0
        fresh = FRESH.with_columns(pl.col("at").dt.cast_time_unit("ns"))
        assert store.push("landings", fresh).accepted == 2
        naive = FRESH.with_columns(pl.col("at").dt.cast_time_unit("ns").dt.replace_time_zone(None))
        assert store.push("landings", naive).refused_rows == 0
    workspace.close()
