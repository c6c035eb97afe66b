"""Unit tests of rows kept in the process: for how long, how many, and read once for all."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from featurestore.errors import DeadlineExceeded, InvalidRequest, Unavailable
from featurestore.serving.process.cache import Cache


class Table:
    """A reader over a dict that counts what it is asked for, and may be made to wait or fail."""

    def __init__(self, **rows):
        self.rows = {key.encode(): value for key, value in rows.items()}
        self.asked = []
        self.open = threading.Event()
        self.open.set()
        self.broken = False

    def __call__(self, wanted, *, timeout):
        """Give rows once it is open."""
        assert timeout is None or timeout > 0
        self.asked.append([(table, list(keys)) for table, keys in wanted])
        assert self.open.wait(10)
        if self.broken:
            raise Unavailable("away")
        return [[self.rows.get(key) for key in keys] for _, keys in wanted]


def test_what_is_fresh_is_not_read_again():
    """Rows come from the reader once, those that are not there too; null keys have none."""
    table = Table(a=b"1", b=b"2")
    cache = Cache(table, entries=10, age=100)
    wanted = [("t", [b"a", None, b"c", b"a"]), ("u", [b"b"])]
    assert cache.read(wanted) == [[b"1", None, None, b"1"], [b"2"]]
    assert cache.read(wanted) == [[b"1", None, None, b"1"], [b"2"]]
    assert cache.read([("t", [b"b", b"a"])]) == [[b"2", b"1"]]
    assert table.asked == [[("t", [b"a", b"c"]), ("u", [b"b"])], [("t", [b"b"])]]
    assert cache.read([]) == []


def test_what_is_old_is_read_again(monkeypatch):
    """A row counts for its age from the moment that it was asked for."""
    now = [0.0]
    monkeypatch.setattr("featurestore.serving.process.cache.monotonic", lambda: now[0])
    table = Table(a=b"1")
    cache = Cache(table, entries=10, age=5)
    for at, value, times in ((0.0, b"1", 1), (4.9, b"1", 1), (5.0, b"3", 2), (9.0, b"3", 2)):
        now[0] = at
        table.rows[b"a"] = b"1" if at < 5 else b"3"
        assert cache.read([("t", [b"a"])]) == [[value]]
        assert len(table.asked) == times


def test_no_more_rows_are_kept_than_there_is_room_for():
    """The oldest go first, and a call may want more than are kept."""
    table = Table(**{str(n): b"%d" % n for n in range(9)})
    cache = Cache(table, entries=3, age=100)
    keys = [b"%d" % n for n in range(9)]
    assert cache.read([("t", keys)]) == [keys]
    assert len(cache) == 3
    cache.read([("t", keys[6:])])
    assert len(table.asked) == 1
    cache.read([("t", keys[5:6])])
    cache.read([("t", keys[7:])])
    assert len(table.asked) == 2


def test_one_call_reads_for_all_who_wait():
    """Calls for a row that is on its way get it from there, and read only the rest."""
    table = Table(a=b"1", b=b"2")
    cache = Cache(table, entries=10, age=100)
    table.open.clear()
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(cache.read, [("t", [b"a"])])
        while not table.asked:
            pass
        others = [pool.submit(cache.read, [("t", [b"b", b"a"])]) for _ in range(6)]
        while len(table.asked) < 2:
            pass
        table.open.set()
        assert first.result() == [[b"1"]]
        assert all(one.result() == [[b"2", b"1"]] for one in others)
    assert sorted(table.asked) == [[("t", [b"a"])], [("t", [b"b"])]]


def test_a_call_that_fails_fails_alone():
    """Who waits for its rows reads them anew; what failed is not kept."""
    table = Table(a=b"1")
    cache = Cache(table, entries=10, age=100)
    table.broken = True
    table.open.clear()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.read, [("t", [b"a"])])
        while not table.asked:
            pass
        second = pool.submit(cache.read, [("t", [b"a"])])
        table.open.set()
        for one in (first, second):
            with pytest.raises(Unavailable):
                one.result()
    table.broken = False
    assert cache.read([("t", [b"a"])]) == [[b"1"]]


def test_who_waits_for_others_keeps_the_own_deadline():
    """Rows on their way that do not come in time are an error of this call."""
    table = Table(a=b"1")
    cache = Cache(table, entries=10, age=100)
    table.open.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(cache.read, [("t", [b"a"])])
        while not table.asked:
            pass
        with pytest.raises(DeadlineExceeded, match="another call"):
            cache.read([("t", [b"a"])], timeout=0.01)
        table.open.set()
        assert first.result() == [[b"1"]]


@pytest.mark.parametrize(("entries", "age"), [(0, 1.0), (-1, 1.0), (5, 0.0), (5, float("nan"))])
def test_a_cache_that_keeps_nothing_is_refused(entries, age):
    """There is a way to have none: to leave it out."""
    with pytest.raises(InvalidRequest, match="leave the cache out"):
        Cache(Table(), entries=entries, age=age)
