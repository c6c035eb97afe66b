"""A cluster and a set of sentinels lose a primary under load: errors while nobody serves, then all.

Never a value that is wrong, never a row that is said not to be there, no call past its deadline.
"""

import threading
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import pytest

from featurestore.errors import OnlineDataMissing, Unavailable
from featurestore.storage.cluster import slot_of
from featurestore.storage.redis import OnlineStore
from tests.faults.broken import Lateness, ended, watched
from tests.faults.punctual import punctual
from tests.servers import client_of, running_cluster, wait_until

TABLE = "7f3a9c1e04b2aa10.0"
KEYS = [b"k%d" % number for number in range(200)]
ROWS = [b"row of %s" % key for key in KEYS]
DEADLINE = 0.25


class Load:
    """Readers that ask without pause, what they were told, and how often they were refused."""

    def __init__(self, store, scene):
        self.store, self.scene = store, scene
        self.wrong, self.failed = [], 0
        self.served = 0
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]

    @contextmanager
    def on(self):
        for one in self._threads:
            one.start()
        try:
            yield self
        finally:
            self._ended.set()
            for one in self._threads:
                one.join()

    def _run(self):
        at = 0
        while not self._ended.is_set():
            at = (at + 7) % 180
            try:
                with self.scene.timing(DEADLINE, lambda: None):
                    (found,) = self.store.read([(TABLE, KEYS[at : at + 20])], timeout=DEADLINE)
            except Unavailable:
                self.failed += 1
                self._ended.wait(0.01)
            except OnlineDataMissing as error:
                self.wrong.append(error)
            else:
                self.served += 1
                if found != ROWS[at : at + 20]:
                    self.wrong.append(found)


def fresh(folder):
    """Make a folder for one more play."""
    return Path(mkdtemp(dir=folder))


def filled(url):
    """Give a store of rows, each of which names its key."""
    store = OnlineStore.connect(url, project="prod", timeout=2.0)
    store.put(TABLE, KEYS, ROWS)
    store.mark(TABLE)
    return store


def serves(store):
    """Say whether all rows are read."""
    try:
        return store.read([(TABLE, KEYS)], timeout=DEADLINE) == [ROWS]
    except Unavailable:
        return False


def writes(store):
    """Say whether a row is written."""
    try:
        store.within(DEADLINE).put(TABLE, [KEYS[0]], [ROWS[0]])
    except Unavailable:
        return False
    return True


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_cluster_that_loses_a_primary(tmp_path, how):
    """Its replica takes over; meanwhile only what it had fails, and in time."""

    def play(scene):
        folder = fresh(tmp_path)
        with running_cluster(folder, replicas=1) as cluster:
            store = filled(cluster.url)
            lost = cluster.servers[0]
            with cluster.servers[3].client() as replica:
                wait_until(lambda: replica.info("replication")["master_link_status"] == "up")
                with lost.client() as primary:
                    primary.execute_command("WAIT", 1, 2000)
                with Load(store, scene).on() as load:
                    wait_until(lambda: load.served > 20)
                    if how == "killed":
                        ended(lost)
                        wait_until(lambda: load.failed)
                        wait_until(lambda: serves(store), seconds=20)
                    else:
                        with lost.frozen():
                            wait_until(lambda: load.failed)
                            wait_until(lambda: serves(store), seconds=20)
                    assert replica.info("replication")["role"] == "master"
                    before = load.served
                    wait_until(lambda: load.served > before + 20)
                    wait_until(lambda: writes(store))
            store.close()
        assert not load.wrong

    punctual(play)


def test_slots_that_move_are_read_where_they_are(tmp_path):
    """A server that sends calls elsewhere is followed, and asked no more than it must be."""

    def play(scene):
        folder = fresh(tmp_path)
        with running_cluster(folder) as cluster:
            store = filled(cluster.url)
            one, two, _ = cluster.servers
            with one.client() as first, two.client() as second:
                names = [each.execute_command("CLUSTER MYID").decode() for each in (first, second)]
                moving = sorted({slot_of(key) for key in keys_in(first)})
                moving = [slot for slot in moving if len(rows_of(first, slot)) > 1][:3]
                with Load(store, scene).on() as load:
                    for slot in moving:
                        second.execute_command(f"CLUSTER SETSLOT {slot} IMPORTING {names[0]}")
                        first.execute_command(f"CLUSTER SETSLOT {slot} MIGRATING {names[1]}")
                        keys = rows_of(first, slot)
                        first.execute_command(
                            "MIGRATE", "127.0.0.1", two.port, "", 0, 5000, "KEYS", *keys
                        )
                        wait_until(lambda: serves(store))
                        for client in (second, first):
                            client.execute_command(f"CLUSTER SETSLOT {slot} NODE {names[1]}")
                    before = load.served
                    wait_until(lambda: load.served > before + 20)
                assert serves(store)
                wait_until(lambda: serves(store))
            store.close()
        assert moving
        assert not load.wrong

    punctual(play)


def keys_in(client):
    """Give the keys of rows that a server has."""
    return [key for key in client.scan_iter(count=10_000) if b"marker" not in key]


def rows_of(client, slot):
    """Give all keys of a slot."""
    return client.execute_command("CLUSTER GETKEYSINSLOT", slot, 1000)


def test_a_server_of_a_cluster_that_comes_back_empty_is_told_from_unknown_entities(tmp_path):
    """Its slots' markers went with its rows; what the others have is served."""
    with running_cluster(tmp_path) as cluster:
        store = filled(cluster.url)
        with cluster.servers[1].client() as client:
            there = keys_in(client)
            client.flushall()
        gone = [key for key in KEYS if any(one.endswith(b"/" + key) for one in there)]
        kept = [key for key in KEYS if key not in gone]
        assert gone
        with pytest.raises(OnlineDataMissing, match="rebuild-online"):
            store.read([(TABLE, gone[:1])])
        with pytest.raises(OnlineDataMissing, match="rebuild-online"):
            store.read([(TABLE, KEYS)])
        assert store.read([(TABLE, kept)]) == [[b"row of %s" % key for key in kept]]
        assert not store.is_marked(TABLE)
        assert store.expiries([TABLE]) == {}
        store.close()


@pytest.mark.parametrize("how", ["killed", "frozen", "asked to"])
def test_sentinels_that_lose_their_primary(tmp_path, how):
    """New connections go to the new primary; the old one, back, is not written to."""

    def play(scene):
        folder = fresh(tmp_path)
        with watched(folder) as (servers, url):
            store = filled(f"{url}/shop")
            with servers[0].client() as primary:
                primary.execute_command("WAIT", 2, 5000)
            with Load(store, scene).on() as load:
                wait_until(lambda: load.served > 20)
                if how == "killed":
                    ended(servers[0])
                elif how == "asked to":
                    with sentinel_of(url) as sentinel:
                        sentinel.execute_command("SENTINEL FAILOVER", "shop")
                else:
                    with servers[0].frozen():
                        wait_until(lambda: elsewhere(url, servers[0]), seconds=20)
                        wait_until(lambda: serves(store), seconds=20)
                wait_until(lambda: elsewhere(url, servers[0]), seconds=20)
                wait_until(lambda: writes(store) and serves(store), seconds=20)
                before = load.served
                wait_until(lambda: load.served > before + 20)
            store.put(TABLE, [b"after"], [b"row"])
            assert store.read([(TABLE, [b"after"])]) == [[b"row"]]
            store.close()
        assert not load.wrong

    punctual(play)


def test_a_demoted_primary_refuses_once_and_is_left(tmp_path):
    """READONLY is said to whoever writes; the next call asks the sentinels again."""
    with watched(tmp_path) as (servers, url):
        store = filled(f"{url}/shop")
        with servers[0].client() as primary:
            primary.execute_command("REPLICAOF", "127.0.0.1", servers[1].port)
            with pytest.raises(Unavailable, match=r"cannot do the call now \(READONLY\)|reached"):
                store.put(TABLE, [b"new"], [b"row"])
            assert not store.nodes.idle
            primary.execute_command("REPLICAOF", "NO", "ONE")
        wait_until(lambda: writes(store), seconds=20)
        store.close()


def test_sentinels_that_hang_or_know_nothing_cost_the_deadline(tmp_path):
    """The others are asked; when none knows, it is said in time."""
    with watched(tmp_path) as (_, url):
        filled(f"{url}/shop").close()
        dead = url.replace("//", "//127.0.0.1:1,", 1)
        store = OnlineStore.connect(f"{dead}/shop", project="prod", timeout=2.0)
        assert serves(store)
        store.close()
        store = OnlineStore.connect(f"{url}/other", project="prod", timeout=2.0)
        lateness = Lateness()
        for _ in range(3):
            with lateness.of(DEADLINE), pytest.raises(Unavailable, match="cannot be reached"):
                store.within(DEADLINE).ping()
        lateness.judge()
        store.close()


@contextmanager
def sentinel_of(url):
    """Give a client of the first sentinel."""
    first = url.removeprefix("redis+sentinel://").split(",", maxsplit=1)[0]
    with client_of(f"redis://{first}") as client:
        yield client


def elsewhere(url, server):
    """Say whether the sentinels name another primary than this server."""
    with sentinel_of(url) as client:
        told = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", "shop")
    return int(told[1]) != server.port
