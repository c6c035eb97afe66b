"""Rows into a cluster of six servers, three of them replicas, and as many into a single one."""

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import polars as pl
import redis
from goals import Goal
from options import Options
from process import Failed
from report import Measure, Unequal
from servers import PROJECT
from sides import Goals, Measured, Sample, Side, in_turn

from featurestore.model.schema import Column
from featurestore.storage.forming import OPTIONS, PRIMARIES, form
from featurestore.storage.keys import canonical_keys, redis_keys
from featurestore.storage.launcher import embedded_binary
from featurestore.storage.redis import OnlineStore

ENTITIES = {"tiny": 3_000, "default": 100_000, "full": 1_000_000}
ONE, SIX = "one server", "6-node cluster"
ROWS, BYTES, TAKEN, BEHIND = "rows/s", "MB/s", "client's cores", "replicas after s"
RATES = (
    Measure(name=ROWS, digits=0),
    Measure(name=BYTES, digits=1),
    Measure(name=TAKEN),
    Measure(name=BEHIND),
)
_BATCH = 10_000
_A_DAY = 86_400_000
_PATIENCE = 60.0


def load_goals() -> Goals:
    """Give the figures of loading a cluster, which are reported."""
    work = "Serving: loading a 6-node cluster, 50 float32 a row"
    return {
        Goal(work=work, figure=ROWS, better="more", digits=0): lambda found: found.median(
            SIX, ROWS
        ),
        Goal(work=work, figure=f"of one server's {ROWS}", better="more"): (
            lambda found: found.ratio(SIX, ONE, ROWS)
        ),
    }


def loads(
    options: Options, folder: Path, url: str, table: str, keys: int
) -> tuple[Measured, Sequence[Side]]:
    """Load rows of a table of the store at the URL, over and over, into fresh servers each turn."""
    entities = ENTITIES[options.size]
    some = pl.DataFrame({"key": range(max(entities, keys))})
    named = canonical_keys(some, (Column(name="key", dtype="int64"),))
    canonical = [key for key in named if key is not None]
    with closing(OnlineStore.connect(url, project=PROJECT, timeout=_PATIENCE)) as store:
        held = [row for row in store.values(table, canonical[:keys]) if row is not None]
    if len(held) != keys:
        raise Unequal(f"{len(held)} rows in Redis of {keys} entities")
    rows = list(islice(cycle(held), entities))
    sides = [
        Side(
            name=name,
            run=partial(_loaded, count, folder, table, canonical[:entities], rows),
            against=ONE,
        )
        for name, count in ((ONE, 1), (SIX, 2 * PRIMARIES))
    ]
    said = f"{ONE}, {SIX}: all {entities:,} rows loaded are read back, byte for byte"
    return in_turn(sides, options.repeats, folder, lambda _: (said,)), sides


def _loaded(
    count: int,
    folder: Path,
    table: str,
    keys: Sequence[bytes],
    rows: Sequence[bytes],
    answer: Path,
) -> Sample:
    """Load rows into so many servers; give the rates, and when replicas had them all."""
    with (
        _running(folder / f"{answer.stem}-servers", count) as ports,
        closing(OnlineStore.connect(_url(ports), project=PROJECT, timeout=_PATIENCE)) as store,
    ):
        store.ping()
        batches = zip(_cut(keys), _cut(rows), strict=True)
        began, worked = time.perf_counter(), time.process_time()
        written = store.put_all(table, batches, expire_ms=_A_DAY)
        took, worked = time.perf_counter() - began, time.process_time() - worked
        behind = _followed(ports[PRIMARIES:], len(rows))
        if written != len(rows) or store.values(table, keys) != rows:
            raise Unequal(f"{count} servers: the rows read are not those that were written")
    sent = sum(map(len, rows)) + sum(map(len, redis_keys(PROJECT, table, keys)))
    found = {ROWS: len(rows) / took, BYTES: sent / took / 1e6, TAKEN: worked / took}
    return found | ({BEHIND: behind} if len(ports) > 1 else {})


def _cut(items: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    return (items[at : at + _BATCH] for at in range(0, len(items), _BATCH))


def _followed(replicas: Sequence[int], rows: int) -> float:
    """Wait until replicas have so many rows together; give how long that took, seconds."""
    began = time.monotonic()
    with ExitStack() as stack:
        nodes = [stack.enter_context(_client(port)) for port in replicas]
        while nodes and sum(int(node.dbsize()) for node in nodes) < rows:
            if time.monotonic() > began + _PATIENCE:
                raise Unequal(f"replicas have not all {rows} rows")
            time.sleep(0.005)
    return time.monotonic() - began


def _url(ports: Sequence[int]) -> str:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports[:PRIMARIES])
    return f"redis+cluster://{hosts}" if len(ports) > 1 else f"redis://{hosts}/0"


def _client(port: int) -> redis.Redis:
    return redis.Redis(port=port, protocol=2, socket_timeout=_PATIENCE)


@contextmanager
def _running(folder: Path, count: int) -> Iterator[list[int]]:
    """Run so many servers that keep nothing on disk, one cluster if they are several."""
    binary = embedded_binary()
    if binary is None:
        raise Failed("a cluster", "left out: the embedded Redis-protocol server is not installed")
    with ExitStack() as stack:
        places = [_started(stack, str(binary), folder / str(n), count > 1) for n in range(count)]
        if count > 1:
            try:
                form(places)
            except (OSError, redis.RedisError) as problem:
                raise Failed("a cluster", str(problem)) from None
        yield [port for port, _ in places]


def _started(stack: ExitStack, binary: str, folder: Path, clustered: bool) -> tuple[int, int]:
    """Start a server until the stack ends; give its port and its cluster port."""
    folder.mkdir(parents=True)
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        port, bus = one.getsockname()[1], two.getsockname()[1]
    more = (*OPTIONS, "--cluster-port", str(bus)) if clustered else ()
    settings = ("--bind", "127.0.0.1", "--port", str(port), "--logfile", "server.log")
    process = subprocess.Popen(
        [binary, *settings, "--save", "", "--appendonly", "no", *more],
        cwd=folder,
        stdin=subprocess.DEVNULL,
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    ends = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < ends:
        with suppress(redis.RedisError), _client(port) as client:
            client.ping()
            return port, bus
        time.sleep(0.01)
    raise Failed("a server", (folder / "server.log").read_text("utf-8"))
