"""The ingest job killed again and again, and Redis under it: no event is lost, none counts twice.

A stream is written to all the time. Processes read it, at random moments one is killed, or the
server with the stream and the online store is, and started again on its append-only file.
"""

import json
import random
import subprocess
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import polars as pl
import pytest
import redis

from featurestore.jobs.materialize import materialize_incremental
from featurestore.jobs.verify import verify
from featurestore.jobs.workspace import Workspace, system_clock
from featurestore.model.declare import Aggregate, batch_view
from featurestore.model.documents import Source
from featurestore.model.time import moment, normalize_schema
from tests.commands import CLI, environment
from tests.oracle import Event, alike, answer, covered
from tests.repos import applied, notebook, released, write
from tests.servers import BINARIES, available, free_port, wait_until

pytestmark = pytest.mark.filterwarnings("ignore::featurestore.training.WithheldWarning")

SECOND = 1_000_000
KEYS = ("a", "b", "c")
MOMENT = pl.Datetime("us", "UTC")
SCHEMA = {
    "plane": pl.String(),
    "at": MOMENT,
    "loaded": MOMENT,
    "n": pl.Int64(),
    "x": pl.Float64(),
    "id": pl.Int64(),
}


def window(function, of, minutes):
    """Describe a window."""
    return Aggregate(
        function=function,
        of=None if of is None else pl.col(of),
        filter=None,
        length=timedelta(minutes=minutes),
        every=timedelta(seconds=30),
    )


WINDOWS = {
    "rows": (None, window("count", None, 120)),
    "recent": (None, window("count", None, 10)),
    "sum_n": ("n", window("sum", "n", 120)),
    "sum_x": ("x", window("sum", "x", 10)),
}
VIEW = batch_view(
    name="history",
    join_keys={"plane": "string"},
    source=Source(
        name="landings",
        path="data/landings.parquet",
        format="parquet",
        timestamp_field="at",
        created_field="loaded",
        columns=normalize_schema(SCHEMA),
        pushed=True,
    ),
    features={"last": pl.col("n"), **{name: made for name, (_, made) in WINDOWS.items()}},
    event_id="id",
)


# With `everysec` a server may answer up to two seconds before it writes, if its disk is busy.
FILE = ("--appendonly", "yes", "--appendfsync", "always")


class Killable:
    """A server on a port of its own, on an append-only file: it can be killed and come back."""

    def __init__(self, folder):
        self._folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self):
        """Start it, and wait until it has read its file."""
        options = ("--bind", "127.0.0.1", "--port", str(self.port), "--save", "")
        self._process = subprocess.Popen(
            [str(BINARIES[available()[0]]), *options, *FILE],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )
        wait_until(self._answers)

    def _answers(self):
        try:
            with redis.Redis(port=self.port, protocol=2) as client:
                return client.ping()
        except redis.RedisError:
            return False

    def holds(self):
        """Give the ids of the events that the stream has: what a server loses nobody can take."""
        with redis.Redis(port=self.port, protocol=2, decode_responses=True) as client:
            found = [fields for _, fields in client.xrange("landings")]
        return {int(one["id"] if "id" in one else json.loads(one["json"])["id"]) for one in found}

    def kill(self):
        """Kill it."""
        self._process.kill()
        self._process.wait()


@dataclass
class Producer:
    """Writes events to the stream, some of them twice, for as long as it is told to."""

    port: int
    rng: random.Random
    sent: list[Event] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self):
        """Write until told to end; what the server did not answer to is written again."""
        with redis.Redis(port=self.port, protocol=2, retry=None) as client:
            while not self.ended.wait(0.01):
                for event in [self.event() for _ in range(5)]:
                    for _ in range(1 + (self.rng.random() < 0.1)):
                        self.send(client, event)

    def send(self, client, event):
        """Write an event for good."""
        values = {"plane": event.key, "at": moment(event.event).isoformat(), "id": event.number}
        row = values | {"n": event.inputs["n"], "x": event.inputs["x"]}
        fields = row if event.number % 2 else {"json": json.dumps(row)}
        while True:
            try:
                client.xadd("landings", fields)
            except redis.RedisError:
                self.ended.wait(0.02)
            else:
                return

    def event(self):
        """Give the next event, a little in the past."""
        now = system_clock()
        event = Event(
            key=self.rng.choice(KEYS),
            event=now - self.rng.randrange(900 * SECOND),
            created=None,
            revision=0,
            number=len(self.sent) + 1,
            inputs={
                None: True, "n": self.rng.randint(-9, 9), "x": self.rng.choice([0.1, -2.5, 1e9]),
            },
        )  # fmt: skip
        self.sent.append(event)
        return event


@contextmanager
def ingesting(repo, url, *options):
    """Run the job in a process of its own until the block ends; that kills it if it still runs."""
    process = subprocess.Popen(
        [*CLI, "ingest", "landings", "--stream", "landings", "--json", *options],
        cwd=repo,
        env=environment(url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def pause(rng, longest):
    """Let a random time pass, in which whatever runs goes on."""
    threading.Event().wait(rng.uniform(0, longest))


def test_every_event_counts_once_whatever_is_killed(tmp_path):
    """Served and trained windows are those of the events that were sent; online is offline."""
    rng, server = random.Random(5), Killable(tmp_path)
    environ = environment(server.url)
    try:
        first = pl.DataFrame(schema=SCHEMA)
        repo = write(tmp_path / "repo", first, name="ingested")
        workspace = applied(repo, server.url, VIEW)
        workspace.clock = system_clock
        materialize_incremental(workspace, system_clock())
        released(workspace)
        workspace.close()
        producer = Producer(port=server.port, rng=random.Random(7))
        thread = threading.Thread(target=producer.run)
        thread.start()
        few = ("--batch", "25", "--wait", "5ms")
        for dies, options in (
            ("job", few),
            ("server", few),
            ("job", (*few, "--materialize", "300ms")),
            ("server", (*few, "--materialize", "300ms")),
            ("job", few),
        ):
            with ingesting(repo, server.url, *options) as process:
                assert process.stdout.readline(), process.stderr.read()
                pause(rng, 0.7)
                if dies == "server":
                    server.kill()
                    pause(rng, 0.3)
                    server.start()
                    # It goes on by itself, and is killed later.
                    assert process.stdout.readline()
                    pause(rng, 0.5)
                    assert process.poll() is None
        producer.ended.set()
        thread.join()
        assert server.holds() == {one.number for one in producer.sent}
        drained = subprocess.run(
            [*CLI, "ingest", "landings", "--stream", "landings", "--until-empty"],
            cwd=repo, env=environ, check=True, capture_output=True, text=True,
        )  # fmt: skip
        assert ", 0 refused" in drained.stdout
        assert "pending" not in drained.stdout.splitlines()[-1]
        workspace = Workspace.open(repo, environ=environ)
        with closing(workspace):
            compare(workspace, producer.sent)
    finally:
        server.kill()


def compare(workspace, sent):
    """Materialize, prove that online is offline, and count by hand."""
    served(workspace, sent, system_clock(), "served, as pushed")
    materialize_incremental(workspace, system_clock())
    assert verify(workspace).differences.is_empty()
    now = system_clock()
    served(workspace, sent, now, "served, materialized")
    materialize_incremental(workspace, now)
    with notebook(workspace, now=moment(now)) as store:
        rows = pl.DataFrame({"plane": KEYS}).with_columns(
            event_timestamp=pl.lit(moment(now)).cast(MOMENT)
        )
        found = store.get_historical_features(rows, names()).to_polars()
        check(found, sent, now, "trained")


def served(workspace, sent, now, where):
    """Compare what lookups answer."""
    with notebook(workspace, now=moment(now)) as store:
        asked = {"plane": list(KEYS)}
        found = store.get_online_features(names(), entities=asked, as_of=moment(now))
        check(pl.DataFrame(found.columns), sent, now, where)


def names():
    """Name the windows."""
    return [f"history:{name}" for name in WINDOWS]


def check(found, sent, now, where):
    """Compare windows with those of the oracle, by brute force."""
    assert len(sent) > 100
    for name, (of, _) in WINDOWS.items():
        one = VIEW.feature(name).window
        for key, value in zip(KEYS, found[name], strict=True):
            rows = covered(sent, key, now, one, delay=0, versions=True)
            told, within = answer(one, [event.inputs[of] for event in rows])
            assert alike(value, told, within), (where, name, key, value, told)
