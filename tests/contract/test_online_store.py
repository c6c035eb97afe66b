"""What the online store promises, over every server that is installed, and over a cluster."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings

from featurestore.errors import (
    Conflict,
    CorruptData,
    InvalidRequest,
    OnlineDataMissing,
    Unavailable,
)
from featurestore.model.schema import Column
from featurestore.storage.keys import canonical_keys, pushed_of, redis_keys, states_of
from featurestore.storage.redis import KEYS_PER_SCRIPT, OnlineStore
from featurestore.storage.rows import HEADER_BYTES, RowLayout
from featurestore.storage.server import SCRIPTS_PER_PIPELINE
from featurestore.storage.states import HEAD_BYTES, NUMBERS_AT
from tests.property.test_rows import bits, frames, stamps
from tests.servers import ClusterServers, Server, available, free_port, running, running_cluster

TABLE, OTHER = "7f3a9c1e04b2aa10.0", "7f3a9c1e04b2aa10.1"
LAYOUT = RowLayout((Column(name="x", dtype="int64"),))
FRESH = count()


def row(x: int, *, event: int = 0, created: int | None = None, revision: int = 0) -> bytes:
    """Pack one row."""
    times = (pl.Series([event], dtype=pl.Int64), pl.Series([created], dtype=pl.Int64))
    return LAYOUT.encode(pl.DataFrame({"x": [x]}), *times, revision)[0]


def dump(server: Server | ClusterServers) -> dict[bytes, bytes]:
    """Give all that a server holds, byte for byte."""
    found: dict[bytes, bytes] = {}
    for one in server.servers if isinstance(server, ClusterServers) else [server]:
        with one.client() as client, client.pipeline(transaction=False) as pipeline:
            keys = list(client.scan_iter(count=10_000))
            for key in keys:
                pipeline.dump(key)
            found |= zip(keys, pipeline.execute(), strict=True)
    return found


@pytest.fixture(scope="module", params=[*available(), "cluster"])
def online_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server | ClusterServers]:
    """Run, in turn, each server that is installed, and a cluster."""
    place = tmp_path_factory.mktemp(request.param)
    one = running_cluster(place) if request.param == "cluster" else running(request.param, place)
    with one as server:
        yield server


@pytest.fixture
def store(online_url: str, project: str) -> Iterator[OnlineStore]:
    """Give an empty project with one marked table."""
    online = OnlineStore.connect(online_url, project=project, timeout=2.0)
    online.mark(TABLE)
    yield online
    online.close()


def test_rows_read_back_in_the_order_asked(store: OnlineStore) -> None:
    """Each key gets its own row, in place; absent and null keys get None; tables do not mix."""
    store.mark(OTHER)
    assert store.put(TABLE, [b"a", b"b"], [row(1), row(2)]) == 2
    assert store.put(OTHER, [b"a"], [row(3)]) == 1
    wanted = [(TABLE, [b"b", None, b"zz", b"a", b"b"]), (OTHER, [b"b", b"a"]), (TABLE, [None])]
    assert store.read(wanted) == [[row(2), None, None, row(1), row(2)], [None, row(3)], [None]]
    assert store.read([]) == []
    assert store.read([(TABLE, [])]) == [[]]


def test_many_rows_are_written_in_pieces(store: OnlineStore) -> None:
    """More rows than a script, and than a pipeline, takes all arrive."""
    keys = pl.DataFrame({"k": range(KEYS_PER_SCRIPT * SCRIPTS_PER_PIPELINE + 7)})
    canonical = list(filter(None, canonical_keys(keys, (Column(name="k", dtype="int64"),))))
    rows = LAYOUT.encode(keys.rename({"k": "x"}), stamps(keys.height), None, 0)
    assert store.put(TABLE, canonical, rows) == keys.height
    assert store.put(TABLE, canonical, rows) == 0
    assert store.read([(TABLE, canonical)]) == [rows]
    assert store.count(TABLE) == keys.height


def test_batches_arrive_as_their_rows_do(store: OnlineStore) -> None:
    """Batches of any size, in any order and again, are written as one would be."""
    keys = [f"k{number}".encode() for number in range(40)]
    rows = [row(number, event=number) for number in range(40)]
    batches = [(keys[at : at + 3], rows[at : at + 3]) for at in range(0, 40, 3)]
    assert store.put_all(TABLE, iter([])) == 0
    assert store.put_all(TABLE, iter([*batches, ([], [])])) == 40
    assert store.put_all(TABLE, iter(batches[::-1])) == 0
    assert store.read([(TABLE, keys)]) == [rows]


def test_what_fails_in_a_batch_is_raised(store: OnlineStore) -> None:
    """An error of a batch that is made, or sent, comes out; what came before it is written."""

    def batches() -> Iterator[tuple[list[bytes], list[bytes]]]:
        yield [b"a"], [row(1)]
        raise CorruptData("a file is gone")

    with pytest.raises(CorruptData, match="a file is gone"):
        store.put_all(TABLE, batches())
    assert store.read([(TABLE, [b"a"])]) == [[row(1)]]
    with pytest.raises(ValueError, match="one length"):
        store.put_all(TABLE, iter([([b"a"], [])] * 5))


def test_an_older_row_never_overwrites_a_newer_one(store: OnlineStore) -> None:
    """Whichever comes first, the greater (event, created, revision) stays."""
    older = [
        (row(9, event=-5), row(1, event=3)),
        (row(9, event=255), row(1, event=256)),
        (row(9, created=None), row(1, created=-7)),
        (row(9, created=4), row(1, created=5)),
        (row(9, created=5, revision=127), row(1, created=5, revision=128)),
        (row(1), row(2)),
        (LAYOUT.tombstones(stamps(1), None, 0)[0], row(0)),
    ]
    for number, (low, high) in enumerate(older):
        up, down = f"up{number}".encode(), f"down{number}".encode()
        assert store.put(TABLE, [up], [low]) == 1
        assert store.put(TABLE, [up], [high]) == 1
        assert store.put(TABLE, [down], [high]) == 1
        assert store.put(TABLE, [down], [low]) == 0
        assert store.read([(TABLE, [up, down])]) == [[high, high]]


def test_a_correction_with_the_same_times_wins(store: OnlineStore) -> None:
    """A corrected row with equal event and created times arrives by its higher revision."""
    store.put(TABLE, [b"k"], [row(9, event=1, created=1, revision=0)])
    corrected = row(2, event=1, created=1, revision=1)
    assert store.put(TABLE, [b"k"], [corrected]) == 1
    assert store.read([(TABLE, [b"k"])]) == [[corrected]]


def test_concurrent_writers_leave_the_greatest_row(store: OnlineStore) -> None:
    """Writers in any order, at once and repeating themselves, end at the newest row per key."""
    shuffle = random.Random(7)
    keys = [f"k{number}".encode() for number in range(20)]
    written = [(key, row(event * 31 % 7, event=event)) for key in keys for event in range(-4, 12)]
    shares = [shuffle.sample(written, len(written)) for _ in range(6)]

    def write(share: list[tuple[bytes, bytes]]) -> None:
        for at in range(0, len(share), 40):
            part = share[at : at + 40]
            store.put(TABLE, [key for key, _ in part], [value for _, value in part])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, shares))
    greatest = [max(value for key, value in written if key == one) for one in keys]
    assert store.read([(TABLE, keys)]) == [greatest]


def test_a_replay_is_a_no_op(store: OnlineStore, online_server: Server) -> None:
    """Writing the same rows again, in another order, changes no byte of the server."""
    with online_server.client() as client:
        client.flushall()
    keys = [f"k{number}".encode() for number in range(50)]
    rows = [row(number, event=number) for number in range(50)]
    store.put(TABLE, keys, rows)
    before = dump(online_server)
    assert store.put(TABLE, keys[::-1], rows[::-1]) == 0
    assert dump(online_server) == before


def test_an_expiry_is_as_long_as_the_longest_writer_needs(
    store: OnlineStore, online_server: Server
) -> None:
    """A repeat prolongs an expiry and never shortens it; without one a row stays for good."""
    (key,) = redis_keys(store.project, TABLE, [b"k"])
    with online_server.client() as client:
        store.put(TABLE, [b"k"], [row(1)], expire_ms=50_000)
        assert 40_000 < client.pttl(key) <= 50_000
        store.put(TABLE, [b"k"], [row(1)], expire_ms=90_000)
        assert 80_000 < client.pttl(key) <= 90_000
        store.put(TABLE, [b"k"], [row(1)], expire_ms=10_000)
        assert 70_000 < client.pttl(key) <= 90_000
        store.repair(TABLE, [b"k"], [row(1)[:HEADER_BYTES]], [row(0)])
        assert 70_000 < client.pttl(key) <= 90_000
        store.put(TABLE, [b"k"], [row(0)])
        assert client.pttl(key) == -1
        store.put(TABLE, [b"k"], [row(0)], expire_ms=10_000)
        assert client.pttl(key) == -1


def test_a_repair_replaces_only_what_still_stands(store: OnlineStore) -> None:
    """A winner that a correction took back goes; a row that moved on stays."""
    keys = [b"lowered", b"removed", b"moved", b"absent"]
    old = [row(5, event=9), row(6, event=9), row(7, event=9), row(8, event=9)]
    store.put(TABLE, keys[:3], old[:3])
    store.put(TABLE, [b"moved"], [row(1, event=10)])
    headers = [value[:HEADER_BYTES] for value in old]
    new = [row(4, event=2), None, row(4, event=2), row(4, event=2)]
    assert store.repair(TABLE, keys, headers, new) == 2
    expected = [row(4, event=2), None, row(1, event=10), None]
    assert store.read([(TABLE, keys)]) == [expected]
    assert store.repair(TABLE, keys, headers, new) == 0


def test_lists_of_other_lengths_are_refused(store: OnlineStore) -> None:
    """Keys and rows that do not pair up write nothing."""
    with pytest.raises(ValueError, match="one length"):
        store.put(TABLE, [b"a", b"b"], [row(1)])
    with pytest.raises(ValueError, match="one length"):
        store.repair(TABLE, [b"a"], [], [row(1)])
    assert store.count(TABLE) == 0


def test_scripts_are_sent_again_when_the_server_forgot_them(
    store: OnlineStore, online_server: Server
) -> None:
    """A restarted server does not know the scripts; nobody notices."""
    for number in range(2):
        with online_server.client() as client:
            client.script_flush()
        assert store.put(TABLE, [b"k"], [row(number)]) == 1
        assert store.move_alias("prod", number or None, number + 1)


@pytest.mark.parametrize(
    ("kept", "dropped"), [("nonprod", "prod"), ("prod-2", "prod"), ("prod", "prod-2")]
)
def test_dropping_a_table_touches_nothing_else(
    online_server: Server, kept: str, dropped: str
) -> None:
    """Rows of other projects and tables, whose names and keys look alike, stay byte for byte."""
    if isinstance(online_server, ClusterServers) and kept != "nonprod":
        pytest.skip("a cluster has so many markers that one pair of names is enough")
    with online_server.client() as client:
        client.flushall()
    keys = [b"a", b"*", b"[a-z]", b"?", b"fs1/prod/" + TABLE.encode() + b"/a", b"\xff\0\n"]
    one = OnlineStore.connect(online_server.url, project=kept)
    two = OnlineStore.connect(online_server.url, project=dropped)
    for online, table in ((one, TABLE), (one, OTHER), (two, OTHER)):
        online.put(table, keys, [row(1)] * len(keys))
        online.mark(table)
    with online_server.client() as client:
        client.set(f"{{0123456789abcdef}}fs1/{dropped}/{TABLE}/forged", b"not ours")
    two.put_release(1, "{}")
    before = dump(online_server)
    two.put(TABLE, keys, [row(2)] * len(keys))
    two.mark(TABLE)
    assert two.drop_table(TABLE) == len(keys)
    assert dump(online_server) == before
    assert not two.is_marked(TABLE)
    assert one.read([(TABLE, keys)]) == [[row(1)] * len(keys)]
    one.close()
    two.close()


def test_the_memory_of_rows_is_that_of_those_which_are_there(store: OnlineStore) -> None:
    """Each row counts with its key and what the server adds; a key without a row counts nothing."""
    store.put(TABLE, [b"a", b"b"], [row(1), row(2)])
    found = store.memory(TABLE, [b"a", b"z", b"b"])
    assert len(found) == 2
    assert min(found) > len(row(1))
    assert store.memory(TABLE, []) == []


@pytest.mark.parametrize("name", ["pr*d", "*", "pro?", "[a-z]", "prod/", ""])
def test_a_project_of_glob_characters_is_refused(online_url: str, name: str) -> None:
    """A name that could reach others' keys is no project."""
    with pytest.raises(InvalidRequest, match="project name"):
        OnlineStore.connect(online_url, project=name)


def test_an_emptied_server_is_told_from_an_unknown_entity(
    store: OnlineStore, online_server: Server
) -> None:
    """An unknown entity is None; a table whose marker is gone is an error that says rebuild."""
    store.put(TABLE, [b"k"], [row(1)])
    assert store.read([(TABLE, [b"unknown"])]) == [[None]]
    with pytest.raises(OnlineDataMissing, match=rf"{OTHER}.*rebuild"):
        store.read([(TABLE, [b"k"]), (OTHER, [b"k"])])
    with online_server.client() as client:
        client.flushall()
    with pytest.raises(OnlineDataMissing, match="rebuild"):
        store.read([(TABLE, [b"k"])])
    assert not store.is_marked(TABLE)


def test_a_release_is_written_once(store: OnlineStore) -> None:
    """The same document again is nothing; another under its number is refused."""
    assert store.release(1) is None
    store.put_release(1, '{"é": 1}')
    store.put_release(1, '{"é": 1}')
    with pytest.raises(Conflict, match=r"release\.1"):
        store.put_release(1, "{}")
    assert store.release(1) == '{"é": 1}'


def test_a_damaged_copy_is_replaced_while_it_is_still_there(
    store: OnlineStore, online_server: Server
) -> None:
    """Whatever bytes a release or alias has, they are expected as they stand, or left alone."""
    for damage in (b"\xff", b""):
        with online_server.client() as client:
            client.set(f"fs1/{store.project}/release/1", damage)
            client.set(f"fs1/{store.project}/alias/prod", damage)
        with pytest.raises(Conflict, match=r"release\.1"):
            store.put_release(1, "{}", instead=b"other")
        assert not store.move_alias("prod", b"other", 1)
        with pytest.raises(CorruptData, match="run `featurestore rebuild-online`"):
            store.alias("prod")
        assert (store.release_copy(1), store.alias_copy("prod")) == (damage, damage)
        store.put_release(1, "{}", instead=damage)
        assert store.move_alias("prod", damage, 1)
        assert (store.release(1), store.alias("prod")) == ("{}", 1)


def test_who_holds_a_table_may_replace_rows_that_look_newer(store: OnlineStore) -> None:
    """Damaged bytes may be greater than any row's; only `anyway` replaces them."""
    store.put(TABLE, [b"k"], [b"\xff" + row(9)[1:]])
    assert store.put(TABLE, [b"k"], [row(1)]) == 0
    assert store.put(TABLE, [b"k"], [row(1)], anyway=True) == 1
    assert store.put(TABLE, [b"k"], [row(1)], anyway=True) == 0
    store.mark(TABLE)
    assert store.read([(TABLE, [b"k"])]) == [[row(1)]]


def test_an_alias_moves_by_compare_and_set(store: OnlineStore, online_server: Server) -> None:
    """Of two that expect the same release, one moves the alias."""
    assert store.alias("prod") is None
    assert not store.move_alias("prod", 1, 2)
    assert store.move_alias("prod", None, 9)
    assert not store.move_alias("prod", None, 2)
    with ThreadPoolExecutor(4) as pool:
        moved = list(pool.map(lambda to: store.move_alias("prod", 9, to), range(10, 18)))
    assert sum(moved) == 1
    assert store.alias("prod") == 10 + moved.index(True)
    assert store.alias("staging") is None
    with pytest.raises(InvalidRequest, match="alias name"):
        store.alias("a/b")
    with online_server.client() as client:
        client.set(f"fs1/{store.project}/alias/broken", "x1")
    with pytest.raises(CorruptData, match=r"alias\.broken"):
        store.alias("broken")


def held(store: OnlineStore, keys: list[bytes]) -> list[list[bytes | None]]:
    """Give window states, and what was pushed to them."""
    return [store.values(of(TABLE), keys) for of in (states_of, pushed_of)]


def test_nothing_of_nothing_is_nothing(store: OnlineStore) -> None:
    """Every call that takes keys takes none, too."""
    assert store.drop_releases([]) == 0
    assert store.drop_table(TABLE) == 0
    assert store.put(TABLE, [], []) == 0
    assert store.values(TABLE, []) == []
    assert store.read([]) == []
    assert store.repair(TABLE, [], [], []) == 0
    assert store.expiries([]) == {}
    store.prolong(TABLE, [], expire_ms=None)


def test_states_are_written_where_nothing_was_pushed_meanwhile(store: OnlineStore) -> None:
    """A state is written whatever it was, but only with the pushed events that its writer saw."""
    keys = [b"new", b"taken", b"same", b"moved", b"away"]
    store.put(pushed_of(TABLE), keys[1:], [b"1:a", b"1:b", b"2:c", b"1:d"])
    store.put(states_of(TABLE), keys[1:], [b"s"] * 4)
    expected = [None, None, b"1:", b"1:", b"1:"]
    new = [(b"S1", None), (b"S2", None), (b"S3", b"3:s"), (b"S4", b"3:m"), (None, None)]
    written = store.put_states(TABLE, keys, expected, new)
    assert written == [True, False, True, False, True]
    states, pushed = held(store, keys)
    assert states == [b"S1", b"s", b"S3", b"s", None]
    assert pushed == [None, b"1:a", b"3:s", b"2:c", None]
    assert store.put_states(TABLE, [], [], []) == []
    with pytest.raises(ValueError, match="shorter"):
        store.put_states(TABLE, [b"a"], [None], [])


def test_what_is_pushed_needs_what_was_read(store: OnlineStore) -> None:
    """It is written where both the state and what was pushed before begin as its writer saw."""
    keys = [b"new", b"same", b"built", b"pushed", b"gone"]
    store.put(states_of(TABLE), keys[1:4], [b"1:s"] * 3)
    store.put(pushed_of(TABLE), keys[1:4], [b"1:p", b"1:p", b"2:p"])
    expected = [(None, None), (b"1:", b"1:"), (b"0:", b"1:"), (b"1:", b"1:"), (b"1:", None)]
    written = store.put_pushed(TABLE, keys, expected, [b"P"] * 5)
    assert written == [True, True, False, False, False]
    states, pushed = held(store, keys)
    assert states == [None, b"1:s", b"1:s", b"1:s", None]
    assert pushed == [b"P", b"P", b"1:p", b"2:p", None]
    whole = [(b"1:s, and more than there is", b"P")]
    assert store.put_pushed(TABLE, [b"same"], whole, [b"x"]) == [False]
    assert store.put_pushed(TABLE, [b"same"], [(b"1:s", b"P")], [None]) == [True]
    assert held(store, [b"same"]) == [[b"1:s"], [None]]
    with pytest.raises(ValueError, match="one length"):
        store.put_pushed(TABLE, [b"a", b"b"], [(None, None)], [b"x"])


def test_fronts_are_what_a_push_reads_of_states(store: OnlineStore) -> None:
    """The head and as many numbers as it says; what is too short comes as it is."""
    head = bytes(NUMBERS_AT) + (2).to_bytes(4, "little")
    head += bytes(HEAD_BYTES - len(head))
    stored = [head + b"n" * 16 + b"records", bytes(HEAD_BYTES) + b"records", b"short"]
    store.put(states_of(TABLE), [b"two", b"none", b"short"], stored)
    store.put(pushed_of(TABLE), [b"none", b"lone"], [b"p", b"q"])
    fronts, pushed = store.fronts(TABLE, [b"two", b"none", b"short", b"lone", b"nobody"])
    assert fronts == [head + b"n" * 16, bytes(HEAD_BYTES), b"short", None, None]
    assert pushed == [None, b"p", None, b"q", None]
    assert store.fronts(TABLE, []) == ([], [])


def test_many_are_exchanged_in_pieces_and_in_place(
    store: OnlineStore, online_server: Server
) -> None:
    """More values than a pipeline takes: each answer is that of its key, after a restart too."""
    count = KEYS_PER_SCRIPT * SCRIPTS_PER_PIPELINE // 2 + 7
    keys = [b"k%d" % number for number in range(count)]
    store.put(pushed_of(TABLE), keys[::3], [b"x"] * len(keys[::3]))
    with online_server.client() as client:
        client.script_flush()
    written = store.put_pushed(TABLE, keys, [(None, None)] * count, keys)
    assert written == [number % 3 > 0 for number in range(count)]
    found = [key if number % 3 else b"x" for number, key in enumerate(keys)]
    assert held(store, keys) == [[None] * count, found]
    assert store.fronts(TABLE, keys) == ([None] * count, found)


def test_an_exchanged_value_lives_as_long_as_its_last_writer_says(
    store: OnlineStore, online_server: Server
) -> None:
    """Each write sets the expiry anew, or takes it away; one that is not written leaves it."""
    (key,) = redis_keys(store.project, pushed_of(TABLE), [b"k"])

    def put(expected: bytes | None, new: bytes, expire_ms: int | None = None) -> None:
        store.put_pushed(TABLE, [b"k"], [(None, expected)], [new], expire_ms=expire_ms)

    with online_server.client() as client:
        put(None, b"1", 50_000)
        assert 40_000 < client.pttl(key) <= 50_000
        put(b"2", b"3")
        assert 40_000 < client.pttl(key) <= 50_000
        put(b"1", b"3", 20_000)
        assert 10_000 < client.pttl(key) <= 20_000
        put(b"3", b"4")
        assert client.pttl(key) == -1


def test_of_two_that_exchange_at_once_none_is_lost(store: OnlineStore) -> None:
    """Writers that read, add and exchange, again where another was first, add up."""
    keys, writers, rounds = [b"one", b"two", b"three"], 4, 12

    def add(_: int) -> None:
        left = dict.fromkeys(keys, rounds)
        while left:
            asked = [*left]
            _, stored = store.fronts(TABLE, asked)
            new = [b"%d;" % (int((old or b"0;")[:-1]) + 1) for old in stored]
            expected = [(None, old) for old in stored]
            for key, done in zip(asked, store.put_pushed(TABLE, asked, expected, new), strict=True):
                left[key] -= done
            left = {key: more for key, more in left.items() if more}

    with ThreadPoolExecutor(writers) as pool:
        list(pool.map(add, range(writers)))
    assert held(store, keys) == [[None] * 3, [b"%d;" % (writers * rounds)] * 3]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames())
def test_every_dtype_survives_the_server(
    store: OnlineStore, drawn: tuple[RowLayout, pl.DataFrame]
) -> None:
    """Rows of every dtype come back from the server bit for bit."""
    layout, frame = drawn
    rows = layout.encode(frame, stamps(frame.height), None, 0)
    keys = [next(FRESH).to_bytes(8, "little") for _ in range(frame.height)]
    store.put(TABLE, keys, rows)
    (found,) = store.read([(TABLE, keys)])
    assert found == rows
    if layout.columns:
        assert bits(layout.decode(found).frame()) == bits(frame)


def test_a_frozen_server_is_unavailable_in_time_and_recovers(
    online_server: Server, project: str
) -> None:
    """A server that stalls costs one timeout, not a hang; afterwards all is as before."""
    online = OnlineStore.connect(online_server.url, project=project, timeout=0.2)
    online.mark(TABLE)
    online.put(TABLE, [b"k"], [row(1)])
    with online_server.frozen():
        for call in (online.ping, lambda: online.read([(TABLE, [b"k"])])):
            start = time.monotonic()
            with pytest.raises(Unavailable, match="cannot be reached"):
                call()
            assert time.monotonic() - start < 0.6
    assert online.read([(TABLE, [b"k"])]) == [[row(1)]]
    online.close()


def test_no_reply_is_read_for_another_call(online_server: Server, project: str) -> None:
    """A connection on which a call timed out is dropped: its late reply answers nobody."""
    online = OnlineStore.connect(online_server.url, project=project, timeout=0.05)
    keys = [f"k{number}".encode() for number in range(50)]
    patient = OnlineStore.connect(online_server.url, project=project)
    patient.mark(TABLE)
    patient.put(TABLE, keys, [row(number) for number in range(50)])
    late = 0
    with online_server.client() as client:
        for number in range(50):
            if number % 10 == 0:
                if isinstance(online_server, ClusterServers):
                    for node in client.get_primaries():
                        client.execute_command("CLIENT PAUSE", 120, target_nodes=node)
                else:
                    client.client_pause(120)
            try:
                assert online.read([(TABLE, [keys[number]])]) == [[row(number)]]
            except Unavailable:
                late += 1
    assert late > 0
    online.close()
    patient.close()


def test_a_server_that_is_not_there_is_unavailable(project: str) -> None:
    """The error names the address and hides user, password and options."""
    url = f"redis://user:s3cret@127.0.0.1:{free_port()}/0?client_name=s3cret"
    online = OnlineStore.connect(url, project=project, timeout=0.5)
    with pytest.raises(Unavailable, match=r"redis://127\.0\.0\.1:\d+/0") as caught:
        online.ping()
    shown = f"{caught.value!s} {caught.value.__cause__!s} {online!r}"
    assert "s3cret" not in shown


@pytest.mark.parametrize("url", ["", "http://127.0.0.1", "redis://h:port", "127.0.0.1:6379"])
def test_what_is_no_redis_url_is_refused(url: str) -> None:
    """The error shows how to write one."""
    with pytest.raises(InvalidRequest, match="write redis://host:port/db"):
        OnlineStore.connect(url, project="prod")


@pytest.mark.parametrize("name", available())
def test_a_full_server_refuses_and_keeps_what_it_has(name: str, tmp_path: Path) -> None:
    """Out of memory is an error without values in it; what was written before still reads."""
    with running(name, tmp_path, "--maxmemory", "4mb") as server:
        online = OnlineStore.connect(server.url, project="prod")
        online.mark(TABLE)
        online.put(TABLE, [b"first"], [row(1)])
        keys = [str(number).encode() for number in range(60_000)]
        rows = np.repeat(np.array([row(2)], object), len(keys)).tolist()
        with pytest.raises(Unavailable, match=r"refused the call \(OOM\)"):
            online.put(TABLE, keys, rows)
        assert online.read([(TABLE, [b"first"])]) == [[row(1)]]
        online.close()


def test_rows_for_the_log_wait_in_order_until_they_are_removed(store: OnlineStore) -> None:
    """A queue gives its oldest entries first, keeps what is not removed, and leaves no trace."""
    entries = [b"one", b"\x00\xff", b""]
    for entry in entries:
        store.queue("a source/*", entry)
    waiting = store.queued("a source/*", most=9)
    assert [entry for _, entry in waiting] == entries
    assert store.queued("a source/*", most=1) == waiting[:1]
    assert store.queued("other", most=9) == []
    store.unqueue("a source/*", [number for number, _ in waiting[:2]])
    assert store.queued("a source/*", most=9) == waiting[2:]
    for _ in range(2):
        store.unqueue("a source/*", [number for number, _ in waiting])
    store.unqueue("a source/*", [])
    assert store.call("EXISTS", store.key("pushed", "a source/*")) == 0


def test_how_long_rows_of_tables_are_kept_is_told_of_those_that_are_there(
    store: OnlineStore,
) -> None:
    """For ever, so many milliseconds, or nothing for a table that is not there."""
    assert store.expiries([TABLE, OTHER]) == {TABLE: None}
    store.mark(OTHER, expire_ms=1_000)
    assert store.expiries([OTHER, TABLE]) == {OTHER: 1_000, TABLE: None}
    assert store.expiries([]) == {}
