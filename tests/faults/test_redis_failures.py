"""Whatever Redis does, a call ends by its deadline, with our error, and the next one works again.

Measured: a call with a timeout ends no later than 50 ms after it.
"""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from featurestore.errors import OnlineDataMissing, Unavailable
from featurestore.serving.process.server import Server
from featurestore.storage.nodes import One
from featurestore.storage.redis import OnlineStore
from tests.faults.broken import Lateness, Proxy, ended, proxied
from tests.releases import publish, release_of
from tests.servers import running, wait_until

TABLE = "7f3a9c1e04b2aa10.0"
DEADLINE = 0.2
KEYS = [b"k%d" % number for number in range(400)]
ROWS = [b"row of %s " % key * 20 for key in KEYS]


def filled(url, **options):
    """Give a store of rows, each of which names its key."""
    store = OnlineStore.connect(url, project="prod", **options)
    store.put(TABLE, KEYS, ROWS)
    store.mark(TABLE)
    return store


def read(store, timeout=2.0):
    """Read all rows."""
    return store.read([(TABLE, KEYS)], timeout=timeout)[0]


def fails(call, said="cannot be reached", *, deadline=DEADLINE):
    """Check that a call fails, each time again, and by its deadline."""
    lateness = Lateness()
    for _ in range(3):
        with lateness.of(deadline), pytest.raises(Unavailable, match=said):
            call()
    lateness.judge()


def test_a_frozen_server_costs_the_deadline_and_no_more(server):
    """Stopped as a stalled machine is: each call ends in time, old connection or new."""
    store = filled(server.url, timeout=5.0)
    for deadline in (0.02, DEADLINE):
        with server.frozen():
            late = r"cannot be reached \(TimeoutError\)"
            fails(lambda: read(store, deadline), late, deadline=deadline)  # noqa: B023
        assert read(store) == ROWS
    store.close()


@pytest.mark.parametrize("how", ["silent", "dribble", "late", "cut"])
def test_a_broken_network_costs_the_deadline_and_no_more(server, how):
    """Replies that do not come, come byte by byte, too late or in half; then all is well again."""
    filled(server.url).close()
    with proxied(server.port) as proxy:
        store = OnlineStore.connect(f"redis://127.0.0.1:{proxy.port}", project="prod", timeout=5.0)
        assert read(store) == ROWS
        for _ in range(2):
            proxy.how = how
            fails(lambda: read(store, DEADLINE))
            fails(lambda: store.within(0.05).put(TABLE, KEYS, ROWS), deadline=0.05)
            proxy.how = "well"
            assert read(store) == ROWS
        store.close()


def test_who_accepts_and_says_nothing_costs_the_deadline(tmp_path):
    """A new connection, its user's name and its first call all have one deadline."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        for url in (f"redis://u:p@127.0.0.1:{port}/3", f"rediss://127.0.0.1:{port}"):
            store = OnlineStore.connect(url, project="prod", timeout=5.0)
            fails(lambda: read(store, DEADLINE), r"cannot be reached \(TimeoutError\)")  # noqa: B023
            store.close()


def test_no_value_comes_under_another_key(server):
    """Under many readers and replies that are cut or late, what is read is right or an error."""
    filled(server.url).close()
    wrong, failed, right = [], [], []
    with proxied(server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        store = OnlineStore.connect(url, project="prod", timeout=0.1)

        def look(start):
            for at in range(start, start + 60):
                some = KEYS[at % 390 : at % 390 + 7]
                try:
                    (found,) = store.read([(TABLE, some)], timeout=0.1)
                except Unavailable:
                    failed.append(at)
                    continue
                (right if found == ROWS[at % 390 : at % 390 + 7] else wrong).append(at)

        def disturb():
            for number in range(40):
                proxy.how = Proxy.HOWS[number % len(Proxy.HOWS)]
                stop.wait(0.05)
            proxy.how = "well"

        stop = threading.Event()
        disturbing = threading.Thread(target=disturb)
        disturbing.start()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(look, range(0, 16 * 60, 60)))
        stop.set()
        disturbing.join()
        store.close()
    assert not wrong
    assert failed
    assert right


def test_a_killed_server_fails_at_once_and_serves_when_it_is_back(tmp_path):
    """Nobody waits for what is not there; back and empty, it is told from an unknown entity."""
    with running("valkey", tmp_path) as server:
        store = filled(server.url, timeout=5.0)
        ended(server)
        fails(lambda: read(store), deadline=0.0)
        with running("valkey", tmp_path, port=server.port):
            wait_until(lambda: answers(store))
            with pytest.raises(OnlineDataMissing, match="rebuild"):
                read(store)
            filled(server.url).close()
            assert read(store) == ROWS
        store.close()


def answers(store):
    """Say whether Redis answers."""
    try:
        store.within(DEADLINE).ping()
    except Unavailable:
        return False
    return True


def test_an_emptied_server_is_no_unknown_entity(server, client):
    """Rows that went are an error that says so; those that come back are read again."""
    store = filled(server.url)
    client.flushall()
    with pytest.raises(OnlineDataMissing, match="rebuild-online"):
        read(store)
    filled(server.url).close()
    assert read(store) == ROWS
    store.close()


def test_a_full_server_still_answers(tmp_path):
    """Writes are refused, in words; what is there is read; with room again writes work."""
    with running("valkey", tmp_path) as server, server.client() as client:
        store = filled(server.url)
        client.config_set("maxmemory", 1)
        fails(lambda: store.put(TABLE, [b"new"], [b"row"]), r"refused the call \(OOM\)")
        assert read(store) == ROWS
        client.config_set("maxmemory", 0)
        assert store.put(TABLE, [b"new"], [b"row"]) == 1
        store.close()


def test_what_redis_throws_away_is_told(tmp_path, caplog):
    """Else rows that are gone would be unknown entities, and nobody would know."""
    with running("valkey", tmp_path) as redis, redis.client() as client:
        store = OnlineStore.connect(redis.url, project="prod")
        publish(store, release_of(store, []))
        client.config_set("maxmemory-policy", "volatile-random")
        client.config_set("maxmemory", client.info("memory")["used_memory"] + (1 << 18))
        for number in range(400):
            client.set(f"another's {number}", bytes(4096), ex=3600)
        evicted = client.info("stats")["evicted_keys"]
        server = Server(store, project="prod").start()
        try:
            assert server.standing.evicted == evicted > 0
            assert f'featurestore_redis_evicted_keys{{worker="0"}} {evicted}' in server.metrics()
        finally:
            server.stop(0)
        (told,) = [one for one in caplog.records if one.levelname == "ERROR"]
        assert f"Redis threw {evicted} keys away" in told.getMessage()
        store.close()


def test_a_connection_that_failed_is_closed(server):
    """After a timeout nothing is left that could be used again."""
    store = filled(server.url, timeout=5.0)
    assert isinstance(store.nodes, One)
    with server.frozen():
        fails(lambda: read(store, DEADLINE))
    assert not store.nodes.idle
    assert read(store) == ROWS
    assert store.nodes.idle == 1
    store.close()
    assert not store.nodes.idle
