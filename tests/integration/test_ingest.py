"""Events of a real Redis stream, taken by consumer groups and pushed: none lost, none twice."""

import json
import threading
from contextlib import closing, contextmanager

import polars as pl
import pytest

from featurestore.errors import InvalidRequest, NotFound, Unavailable
from featurestore.jobs.ingest import Pace, ingest
from featurestore.jobs.materialize import materialize_incremental
from featurestore.jobs.workspace import system_clock
from featurestore.model.declare import Aggregate
from featurestore.model.schema import Column
from featurestore.model.time import micros, moment
from featurestore.storage import stream
from featurestore.storage.stream import RedisStream
from tests.commands import environment, fits, run
from tests.repos import applied, at, history, landings, notebook, released, source, write
from tests.servers import available, running, wait_until

NOW = at(48)
SCHEMA = {"plane": "string", "at": "datetime", "delay": "float64", "id": "int64"}
SEEN = Aggregate(function="count", of=None, filter=None, length="1d", every="1h")
DRAIN = Pace(until_empty=True, wait=0.001)


@pytest.fixture(scope="module", params=available())
def server(request, tmp_path_factory):
    """Each server that is installed, in turn."""
    with running(request.param, tmp_path_factory.mktemp(request.param)) as server:
        yield server


def view(**changes):
    """Describe a view that counts events by their id."""
    of = source(
        pushed=True,
        created_field=None,
        columns=tuple(Column(name=name, dtype=dtype) for name, dtype in SCHEMA.items()),
    )
    features = {"last_delay": pl.col("delay"), "seen": SEEN}
    return history(**{"source": of, "event_id": "id", "features": features} | changes)


@pytest.fixture
def workspace(tmp_path, server):
    """A repo of one row, materialized and promoted."""
    rows = landings(("a", 1, None, 10.0, 3)).select("plane", "at", "delay", id=pl.lit(0, pl.Int64))
    repo = write(tmp_path / "repo", rows, name=tmp_path.name.replace("_", "-"))
    workspace = applied(repo, server.url, view(), now=NOW)
    materialize_incremental(workspace, micros(at(40)))
    released(workspace)
    yield workspace
    workspace.close()


@pytest.fixture
def client(server, workspace):
    """A plain client of the server with the stream."""
    with server.client() as client:
        yield client


@pytest.fixture
def name(tmp_path):
    """A stream that no other test has."""
    return f"{tmp_path.name}:landings"


@contextmanager
def reader(server, name, consumer="one", *, idle=60.0):
    """Give a consumer of the stream."""
    found = RedisStream.connect(
        server.url, stream=name, group="g", consumer=consumer, idle=idle, wait=1.0
    )
    with closing(found):
        yield found


def drained(workspace, consumer, **changes):
    """Ingest until the stream is empty; give the progress, what was reported and what was told."""
    reported, told = [], []
    arguments = {"pace": DRAIN, "stop": threading.Event()} | changes
    done = ingest(
        workspace, "landings", consumer, report=reported.append, tell=told.append, **arguments
    )
    return done, reported, told


def event(number, plane="a", hours=47.0, delay=1.0):
    """Give an event's fields."""
    return {"plane": plane, "at": at(hours).isoformat(), "delay": delay, "id": number}


def send(client, name, *events):
    """Add events to the stream; give their ids."""
    return [client.xadd(name, one) for one in events]


def seen(workspace, planes="a"):
    """Look up how many events the planes had in a day."""
    with notebook(workspace, now=NOW) as store:
        asked = {"plane": list(planes)}
        found = store.get_online_features(["history:seen"], entities=asked, as_of=NOW)
        return found.to_dict()["seen"]


def test_a_stream_is_drained(workspace, server, client, name):
    """As fields or as JSON, in batches; what came is looked up at once, and trained on later."""
    send(client, name, *(event(n) for n in range(1, 25)))
    send(client, name, {"json": json.dumps(event(25, "b", delay=0.1))}, event(25, "b", delay=0.1))
    with reader(server, name) as consumer:
        pace = Pace(until_empty=True, wait=0.001, batch=10)
        done, reported, told = drained(workspace, consumer, pace=pace)
    assert (done.batches, done.total_rows, done.total_refused) == (3, 26, 0)
    assert [one.entries for one in reported if one.entries] == [10, 10, 6]
    assert reported[0].lag.entries == 16
    assert (done.lag.entries, done.lag.pending, done.lag.seconds) == (0, 0, 0.0)
    assert told == []
    assert seen(workspace, "ab") == [24, 1]
    materialize_incremental(workspace, micros(NOW))
    assert seen(workspace, "ab") == [24, 1]
    with notebook(workspace, now=NOW) as store:
        rows = pl.DataFrame({"plane": ["a", "b"], "event_timestamp": [NOW, NOW]})
        found = store.get_historical_features(rows, ["history:seen", "history:last_delay"])
        assert found.to_polars()["seen"].to_list() == [24, 1]
        assert found.to_polars()["last_delay"].to_list() == [1.0, 0.1]


def test_what_is_refused_is_kept_beside_the_stream(workspace, server, client, name):
    """With its fields, its id and every reason; it does not come again, and the rest is taken."""
    ids = send(
        client, name,
        event(1), event("x"), {"at": at(47).isoformat(), "id": "2"}, event(3, hours=60),
        {"json": "["}, event(4), {"plane": b"\xff"},
    )  # fmt: skip
    with reader(server, name) as consumer:
        done, _, _ = drained(workspace, consumer)
    assert (done.total_rows, done.total_refused) == (2, 5)
    assert done.lag.pending == 0
    kept = [fields for _, fields in client.xrange(f"{name}:refused")]
    assert [one[b"refused:id"] for one in kept] == [ids[1], ids[2], ids[3], ids[4], ids[6]]
    reasons = [one[b"refused:reason"].decode() for one in kept]
    assert reasons[0] == "id: is no int64, which the source has"
    assert reasons[1].startswith("plane: is null: a row of view 'history' without it")
    assert reasons[2].startswith("at: lies more than 10 minutes in the future")
    assert reasons[3] == "json: is no JSON object of the source's columns"
    assert "plane: is no string" in reasons[4]
    assert kept[0][b"id"] == b"x"
    assert kept[4][b"plane"] == b"\xff"
    assert seen(workspace) == [2]


def test_consumers_of_a_group_share_a_stream(workspace, server, client, name):
    """Each entry goes to one of them, both get some, and all is counted once."""
    send(client, name, *(event(n) for n in range(1, 41)))
    with reader(server, name) as one, reader(server, name, "two") as two:
        few = Pace(batches=1, wait=0.001, batch=15)
        first, _, _ = drained(workspace, one, pace=few)
        second, _, _ = drained(workspace, two, pace=few)
        third, _, _ = drained(workspace, one)
    assert (first.total_rows, second.total_rows, third.total_rows) == (15, 15, 10)
    assert {one["name"]: one["pending"] for one in client.xinfo_consumers(name, "g")} == {
        b"one": 0,
        b"two": 0,
    }
    assert seen(workspace) == [40]


def test_what_a_dead_consumer_had_taken_is_taken_over(workspace, server, client, name):
    """By one of its own name at once, by another after a while; neither loses or counts twice."""
    send(client, name, *(event(n) for n in range(1, 31)))
    with reader(server, name, "dead") as dead:
        assert len(dead.take(12, 0.001).ids) == 12
    with reader(server, name, "dead") as back:
        assert back.take(5, 0.001).ids == dead_ids(client, name)[:5]
    with reader(server, name, "patient") as other:
        done, _, _ = drained(workspace, other)
        assert (done.total_rows, done.lag.pending) == (18, 12)
        assert done.lag.seconds > 0
    with reader(server, name, "other", idle=0.001) as other:
        wait_until(lambda: client.xpending_range(name, "g", "-", "+", 9)[0]["time_since_delivered"])
        done, _, _ = drained(workspace, other)
        assert (done.total_rows, done.lag.pending) == (12, 0)
    assert seen(workspace) == [30]


def dead_ids(client, name):
    """Give the ids of what a consumer had taken and did not do."""
    return [one["message_id"].decode() for one in client.xpending_range(name, "g", "-", "+", 99)]


def test_an_entry_that_was_cut_off_before_it_was_done_is_told(workspace, server, client, name):
    """Whoever trims a stream too early finds the ids among what was refused."""
    send(client, name, *(event(n) for n in range(1, 5)))
    with reader(server, name) as dead:
        dead.take(3, 0.001)
    gone = dead_ids(client, name)[:2]
    client.xdel(name, gone[0])
    with reader(server, name) as back:
        done, _, _ = drained(workspace, back)
    assert (done.total_rows, done.total_refused) == (3, 1)
    with reader(server, name) as dead:
        send(client, name, event(9), event(10))
        lost = dead.take(1, 0.001).ids[0]
        client.xdel(name, lost)
    with reader(server, name, "other", idle=0.001) as other:
        done, _, _ = drained(workspace, other)
    assert (done.total_rows, done.total_refused) == (1, 1)
    kept = [fields for _, fields in client.xrange(f"{name}:refused")]
    assert [one[b"refused:id"].decode() for one in kept] == [gone[0], lost]
    assert b"was removed from the stream" in kept[0][b"refused:reason"]


class Torn:
    """A consumer whose acknowledgement never arrives, the first time."""

    def __init__(self, consumer):
        self._consumer = consumer
        self.failures = 1

    def take(self, most, wait):
        """Take entries."""
        return self._consumer.take(most, wait)

    def lag(self):
        """Give the lag."""
        return self._consumer.lag()

    def done(self, batch, refused):
        """Fail, then pass it on."""
        if self.failures:
            self.failures -= 1
            raise Unavailable("the stream went away")
        self._consumer.done(batch, refused)


def test_a_push_whose_acknowledgement_fails_counts_once(workspace, server, client, name):
    """It is said again; and where the process dies before that, pushed again."""
    send(client, name, event(1), event(2))
    with reader(server, name) as consumer:
        with pytest.raises(Unavailable):
            drained(workspace, Torn(consumer), pace=Pace(until_empty=True, patience=0.0))
        assert seen(workspace) == [2]
    with reader(server, name) as consumer:
        done, _, told = drained(workspace, Torn(consumer))
    assert (done.total_rows, done.lag.pending) == (2, 0)
    assert told == ["the stream went away; trying again in 0.1 s"]
    assert seen(workspace) == [2]


def test_what_no_waiting_mends_ends_at_once(workspace, server, client, name, tmp_path):
    """An unknown source, a key that is no stream, a view that counts every row as an event."""
    client.set(name, "text")
    with reader(server, name) as consumer:
        with pytest.raises(InvalidRequest, match="refused the call"):
            drained(workspace, consumer)
        with pytest.raises(NotFound, match="did you mean 'landings'"):
            ingest(
                workspace, "landing", consumer,
                pace=DRAIN, stop=threading.Event(), report=print, tell=print,
            )  # fmt: skip
        counts = view(event_id=None)
        other = applied(write(tmp_path / "two", landings(), name="two"), server.url, counts)
        with closing(other), pytest.raises(InvalidRequest, match="add event_id to a view"):
            drained(other, consumer)
    with pytest.raises(InvalidRequest, match="not a Redis URL"):
        RedisStream.connect("http://x", stream="s", group="g", consumer="c", idle=1.0, wait=1.0)


def test_a_group_that_is_lost_is_made_again(workspace, server, client, name):
    """From the stream's first entry on: what was counted before counts no more than once."""
    send(client, name, event(1))
    with reader(server, name) as consumer:
        drained(workspace, consumer)
        client.xgroup_destroy(name, "g")
        assert consumer.lag().entries == 0
        send(client, name, event(2))
        done, _, _ = drained(workspace, consumer)
    assert done.total_rows == 2
    assert seen(workspace) == [2]


def test_a_frozen_server_is_waited_for(workspace, server, client, name, monkeypatch):
    """Nothing is lost by a reply that came too late: what it had comes first."""
    monkeypatch.setattr(stream, "_TIMEOUT", -0.95)
    send(client, name, event(1))
    with reader(server, name) as consumer:
        assert consumer.take(9, 0.001) is not None
        with server.frozen(), pytest.raises(Unavailable, match="cannot be reached"):
            consumer.take(9, 0.001)
        assert consumer.take(9, 0.001).ids == dead_ids(client, name)


def test_tables_are_brought_up_to_date_on_the_way(workspace, server, client, name):
    """At the pace that is asked for: the table has what was pushed."""
    send(client, name, event(1), event(2))
    clock = iter(range(micros(NOW), micros(NOW) + 10**9, 10**6))
    workspace.clock = lambda: next(clock)
    pace = Pace(until_empty=True, wait=0.001, materialize=1)
    with reader(server, name) as consumer:
        drained(workspace, consumer, pace=pace)
    table = workspace.table(workspace.view("history"))
    assert max(one.end for one in workspace.ledger.covered(table.id)) > micros(NOW)


def test_the_command_says_how_it_goes(workspace, server, client, name, tmp_path):
    """A line for each batch within 80 columns, JSON lines for programs, metrics for Prometheus."""
    now = moment(system_clock())
    send(client, name, *({**event(n), "at": now.isoformat()} for n in range(1, 1501)), event("x"))
    environ = environment(server.url)
    metrics = tmp_path / "ingest.prom"
    words = ("ingest", "landings", "--stream", name, "--until-empty", "--metrics-file", metrics)
    repo = workspace.config.root
    said = run(*words, repo=repo, environ=environ)
    lines = said.stdout.splitlines()
    assert fits(said.stdout)
    assert lines[0].split() == [
        "UTC",
        "rows",
        "rows/s",
        "refused",
        "to",
        "come",
        "pending",
        "behind",
    ]
    assert lines[1].split()[1] == "1,000"
    told = " ".join(map(str.strip, lines[3:]))
    assert f"landings: 1,500 rows taken, 1 refused, kept in the stream {name}:refused" in told
    assert f'rows_total{{source="landings",stream="{name}",group="featurestore"}} 1500' in (
        metrics.read_text()
    )
    assert "featurestore_ingest_entries_behind" in metrics.read_text()
    send(client, name, {**event(2000), "at": now.isoformat()})
    said = run(*words, "--json", "--from", "redis-stream", repo=repo, environ=environ)
    (line,) = map(json.loads, said.stdout.splitlines())
    assert (line["rows"], line["refused"], line["lag"]["pending"]) == (1, 0, 0)
    run(*words[:4], "--from", "kafka", repo=repo, environ=environ, code=2)
    run(*words[:4], "--wait", "2m", repo=repo, environ=environ, code=1)
    bad = ("--metrics-file", tmp_path / "none" / "x")
    run(*words[:4], *bad, repo=repo, environ=environ, code=1)
    gone = ("--url", "redis://127.0.0.1:1/0", "--patience", "1ms")
    run(*words[:4], *gone, repo=repo, environ=environ, code=6)
