"""The registry over a real SQLite file: round trips, compare-and-set, sudden death."""

import re
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from featurestore.errors import (
    Conflict,
    CorruptData,
    InvalidRequest,
    NotFound,
    Unavailable,
    Unsupported,
)
from featurestore.model.declare import project, service
from featurestore.model.documents import LiveView, Release, Table, dump
from featurestore.storage import sql
from featurestore.storage.registry import Registry
from featurestore.storage.releases import Releases
from featurestore.storage.sql import open_engine
from tests.declared import pace, use, view

URL = "sqlite:///data/registry.db"
HISTORY = view()
LONGER = view(ttl=timedelta(days=9))


def shop(*views, name="shop"):
    """Describe a project with a service over its first view."""
    named = {v.name: v for v in views}
    model = service(name="model", projections=[use(views[0])], views=named)
    return project(name=name, views=views, services=[model])


ONE, TWO = shop(HISTORY, pace()), shop(LONGER, pace())


def release(number, view=HISTORY):
    """Describe a release of one view."""
    table = Table(data_id=view.data_id, generation=0)
    live = (LiveView(view=view, table=table, watermark=5),)
    return Release(project="shop", number=number, views=live, services=(), created=number)


@pytest.fixture
def engine(tmp_path):
    """A new registry database."""
    opened = open_engine(URL, root=tmp_path)
    yield opened
    opened.dispose()


@pytest.fixture
def registry(engine):
    """The registry of a project in it."""
    return Registry(engine, "shop")


@pytest.fixture
def releases(engine):
    """The releases of the same project."""
    return Releases(engine, "shop")


def count(engine, table):
    """Count a table's rows."""
    with engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table))


def test_what_is_applied_is_read_back_equal(registry):
    """A head holds the whole project, its revision and its moment."""
    assert registry.head() is None
    registry.apply(ONE, expected=None, now=7, who="me")
    head = registry.head()
    assert (head.project, head.revision, head.applied) == (ONE, 0, 7)
    assert registry.apply(TWO, expected=0, now=8, who="me").revision == 1
    assert registry.head().project == TWO


def test_every_version_of_a_view_stays(registry):
    """A version is written once and found for ever, oldest first."""
    registry.apply(ONE, expected=None, now=1, who="me")
    registry.apply(TWO, expected=0, now=2, who="me")
    registry.apply(ONE, expected=1, now=3, who="me")
    assert registry.versions("history") == (HISTORY, LONGER)
    assert registry.versions("pace") == (pace(),)
    assert registry.versions("nobody") == ()


@pytest.mark.parametrize("expected", [None, 0, 2])
def test_a_head_that_moved_is_a_conflict_and_nothing_is_written(engine, registry, expected):
    """Compare-and-set: with another revision than the head's, no document is left behind."""
    registry.apply(ONE, expected=None, now=1, who="me")
    registry.apply(ONE, expected=0, now=2, who="me")
    before = count(engine, sql.DOCUMENTS)
    with pytest.raises(Conflict, match="apply: somebody else did so first and nothing was wri"):
        registry.apply(TWO, expected=expected, now=3, who="me")
    assert registry.head().project == ONE
    assert count(engine, sql.DOCUMENTS) == before
    assert count(engine, sql.AUDIT) == 2


@pytest.mark.parametrize("expected", [None, 0])
def test_of_appliers_at_once_one_wins_and_nothing_is_lost(tmp_path, expected):
    """Many at the same moment: one effect, the rest told so, and the head is the winner's."""
    engine = open_engine(URL, root=tmp_path)
    if expected is not None:
        Registry(engine, "shop").apply(ONE, expected=None, now=0, who="first")
    projects = [shop(view(ttl=timedelta(days=n))) for n in range(1, 6)]
    won, refused = [], []
    ready = threading.Barrier(len(projects))

    def apply(mine):
        opened = open_engine(URL, root=tmp_path)
        ready.wait()
        try:
            Registry(opened, "shop").apply(mine, expected=expected, now=1, who="x")
        except Conflict:
            refused.append(mine)
        else:
            won.append(mine)
        finally:
            opened.dispose()

    appliers = [threading.Thread(target=apply, args=(one,)) for one in projects]
    for one in appliers:
        one.start()
    for one in appliers:
        one.join()
    registry = Registry(engine, "shop")
    (winner,) = won
    assert len(refused) == 4
    assert registry.head().project == winner
    assert registry.versions("history")[-1:] == (winner.views[0],)
    assert len(registry.versions("history")) == (1 if expected is None else 2)
    engine.dispose()


def test_appliers_of_two_projects_at_once_both_succeed(tmp_path):
    """A busy database is waited for: another project's apply is no conflict."""
    open_engine(URL, root=tmp_path).dispose()
    failed = []
    names = [f"shop{n}" for n in range(5)]
    ready = threading.Barrier(len(names))

    def apply(name):
        opened = open_engine(URL, root=tmp_path)
        mine = Registry(opened, name)
        ready.wait()
        try:
            for revision in (None, 0, 1):
                mine.apply(shop(HISTORY, name=name), expected=revision, now=1, who="x")
        except (Conflict, Unavailable) as error:
            failed.append(error)
        finally:
            opened.dispose()

    appliers = [threading.Thread(target=apply, args=(name,)) for name in names]
    for one in appliers:
        one.start()
    for one in appliers:
        one.join()
    engine = open_engine(URL, root=tmp_path)
    assert failed == []
    assert {Registry(engine, name).head().revision for name in names} == {2}
    engine.dispose()


DIE = '''
"""Apply again and again, each time in a child that is killed at another statement."""
import os, signal, sys
from pathlib import Path
import sqlalchemy as sa
from featurestore.model.documents import Project, load
from featurestore.storage.registry import Registry
from featurestore.storage.releases import Releases
from featurestore.storage.sql import open_engine

root = Path(sys.argv[1])
project = load((root / "two.json").read_text(), Project)


def child(last):
    engine = open_engine(sys.argv[2], root=root)
    seen = 0

    def die(*_):
        nonlocal seen
        seen += 1
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)

    for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
        sa.event.listen(engine, name, die)
    Registry(engine, "shop").apply(project, expected=0, now=9, who="dying")
    os._exit(0)


for last in range(1, 1000):
    pid = os.fork()
    if pid == 0:
        child(last)
    _, status = os.waitpid(pid, 0)
    engine = open_engine(sys.argv[2], root=root)
    registry = Registry(engine, "shop")
    print(last, status, registry.head().revision, len(registry.versions("history")), flush=True)
    engine.dispose()
    if status == 0:
        break
'''


def test_a_killed_apply_leaves_the_old_head(tmp_path):
    """SIGKILL at every statement and at the commit: all of the old state, until all of the new."""
    engine = open_engine(URL, root=tmp_path)
    Registry(engine, "shop").apply(ONE, expected=None, now=1, who="me")
    engine.dispose()
    (tmp_path / "two.json").write_text(dump(TWO))
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DIE, str(tmp_path), URL],
        env={"PATH": "", "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        check=True,
        text=True,
        timeout=120,
    ).stdout.splitlines()
    *killed, survived = [tuple(map(int, line.split()))[1:] for line in told]
    assert len(killed) > 8
    assert set(killed) == {(9, 0, 1)}
    assert survived == (0, 1, 2)


def test_projects_in_one_database_do_not_see_each_other(engine, registry, releases):
    """`prod` and `nonprod` share a database and nothing else."""
    registry.apply(ONE, expected=None, now=1, who="me")
    releases.publish(release(1), "prod", expected=None, action="promote", now=1, who="me")
    other = Registry(engine, "shop2")
    assert (other.head(), other.versions("history")) == (None, ())
    apart = Releases(engine, "shop2")
    assert (apart.aliases(), apart.next_release(), apart.moves()) == ({}, 1, ())
    with pytest.raises(NotFound):
        apart.release(1)


def test_a_release_is_read_back_equal(releases):
    """A release is immutable and found by number or by alias."""
    assert releases.next_release() == 1
    releases.publish(release(1), "prod", expected=None, action="promote", now=1, who="me")
    assert releases.release(1) == release(1) == releases.alias("prod")
    assert releases.next_release() == 2


def test_an_alias_moves_by_compare_and_set(engine, releases):
    """From where it was said to be, or not at all; a refused promote leaves no release."""
    releases.publish(release(1), "prod", expected=None, action="promote", now=1, who="me")
    releases.publish(release(2), "prod", expected=1, action="promote", now=2, who="me")
    for number, expected in ((3, 1), (3, None), (3, 9), (2, 2)):
        with pytest.raises(Conflict, match="promote: somebody else did so first"):
            releases.publish(
                release(number), "prod", expected=expected, action="promote", now=3, who="me"
            )
    assert releases.aliases() == {"prod": 2}
    assert count(engine, sql.RELEASES) == 2
    releases.publish(release(3), "staging", expected=None, action="promote", now=4, who="me")
    assert releases.aliases() == {"prod": 2, "staging": 3}


def test_of_promoters_at_once_one_moves_the_alias(tmp_path):
    """Many at the same moment: one release, one move, the rest told so."""
    engine = open_engine(URL, root=tmp_path)
    won, refused = [], []
    ready = threading.Barrier(5)

    def promote(number):
        opened = open_engine(URL, root=tmp_path)
        mine = replace(release(1), created=number)
        ready.wait()
        try:
            Releases(opened, "shop").publish(
                mine, "prod", expected=None, action="promote", now=1, who="x"
            )
        except Conflict:
            refused.append(mine)
        else:
            won.append(mine)
        finally:
            opened.dispose()

    promoters = [threading.Thread(target=promote, args=(number,)) for number in range(5)]
    for one in promoters:
        one.start()
    for one in promoters:
        one.join()
    assert len(refused) == 4
    assert won == [Releases(engine, "shop").alias("prod")]
    engine.dispose()


def test_an_unknown_alias_or_release_says_what_is_known(releases):
    """The error suggests a near name and the command that makes one."""
    releases.publish(release(1), "prod", expected=None, action="promote", now=1, who="me")
    with pytest.raises(NotFound, match=r"prd: no alias has this name; did you mean 'prod'\?; run"):
        releases.alias("prd")
    with pytest.raises(NotFound, match="release 9: there is no such release of shop"):
        releases.release(9)


def test_every_action_is_noted(engine, registry, releases):
    """Who did what, when, in order."""
    registry.apply(ONE, expected=None, now=1, who="ann")
    releases.publish(release(1), "prod", expected=None, action="promote", now=2, who="bob")
    with engine.connect() as connection:
        notes = connection.execute(sa.select(sql.AUDIT).order_by(sql.AUDIT.c.id)).all()
    assert [(n.project, n.at, n.who, n.action, n.detail) for n in notes] == [
        ("shop", 1, "ann", "apply", "revision 0"),
        ("shop", 2, "bob", "promote", "prod → release 1"),
    ]


def test_a_database_is_made_with_its_folder_and_indexes(tmp_path):
    """A relative SQLite path starts at the repo; opening twice changes nothing."""
    for _ in range(2):
        engine = open_engine("sqlite:///deep/down/r.db", root=tmp_path)
        found = sa.inspect(engine)
        assert {t.name for t in sql.META.sorted_tables} <= set(found.get_table_names())
        assert "ix_fs_runs_table_id" in {i["name"] for i in found.get_indexes("fs_runs")}
        engine.dispose()
    assert (tmp_path / "deep/down/r.db").is_file()


def test_openers_at_once_make_one_database(tmp_path):
    """Processes that first touch the registry at once all find it."""
    failed = []
    ready = threading.Barrier(6)

    def make():
        ready.wait()
        try:
            open_engine(URL, root=tmp_path).dispose()
        except Unavailable as error:
            failed.append(error)

    makers = [threading.Thread(target=make) for _ in range(6)]
    for one in makers:
        one.start()
    for one in makers:
        one.join()
    assert failed == []


BAD_URLS = {
    "no URL": ("registry.db", InvalidRequest, "registry.path: not a database URL"),
    "an unknown database": ("nosuch://x/y", Unavailable, "registry: nosuch://x/y cannot be opened"),
    "a driver that is not there": (
        "postgresql+psycopg2://ann:canary@h/db",
        Unsupported,
        "registry: postgresql+psycopg2://ann:***@h/db needs a database driver",
    ),
}


@pytest.mark.parametrize(("url", "error", "message"), BAD_URLS.values(), ids=BAD_URLS.keys())
def test_a_database_that_cannot_be_opened_is_named_without_its_secret(
    tmp_path, url, error, message
):
    """The error says which database and why, and never the password."""
    with pytest.raises(error, match=re.escape(message)) as caught:
        open_engine(url, root=tmp_path)
    assert "canary" not in str(caught.value)


def test_a_file_that_is_no_database_is_unavailable(tmp_path):
    """A registry file with other content is refused, and left as it is."""
    (tmp_path / "r.db").write_bytes(b"not a database, but long enough" * 40)
    with pytest.raises(Unavailable, match=r"r\.db cannot be opened: .*not a database"):
        open_engine("sqlite:///r.db", root=tmp_path)
    assert (tmp_path / "r.db").read_bytes().startswith(b"not a database")


def test_a_database_that_goes_away_is_unavailable(tmp_path, engine, registry):
    """An outage while working is the store's own error, not the driver's."""
    registry.apply(ONE, expected=None, now=1, who="me")
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE fs_heads"))
    with pytest.raises(Unavailable, match=r"registry: sqlite:///.*registry\.db does not answer"):
        registry.head()


def test_a_document_that_was_spoilt_is_corrupt(engine, registry):
    """Stored text that is no document is a named error, not a half-read one."""
    registry.apply(ONE, expected=None, now=1, who="me")
    for body in ("{", "[]", '{"name":"shop"}'):
        with engine.begin() as connection:
            connection.execute(sa.update(sql.HEADS).values(body=body))
        with pytest.raises(CorruptData, match="registry: a stored document is not as it was writ"):
            registry.head()
