"""Documents over each database: round trips, compare-and-set, sudden death."""

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from featurestore.errors import Conflict, CorruptData, InvalidRequest, NotFound
from featurestore.model.documents import Expression, Spelling, dump
from featurestore.model.identity import identified, spelled
from featurestore.storage import sql
from featurestore.storage.documents import Entry
from featurestore.storage.registry import Head, Registry
from featurestore.storage.releases import Releases
from tests.databases import opened
from tests.declared import pace, release, shop, view
from tests.races import race

HISTORY = view()
LONGER = view(ttl=timedelta(days=9))
ONE, TWO = shop(HISTORY, pace()), shop(LONGER, pace())


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
def test_of_appliers_at_once_one_wins_and_nothing_is_lost(engine, registry_url, tmp_path, expected):
    """Many at the same moment: one effect, the rest told so, and the head is the winner's."""
    registry = Registry(engine, "shop")
    if expected is not None:
        registry.apply(ONE, expected=None, now=0, who="first")
    projects = [shop(view(ttl=timedelta(days=n))) for n in range(1, 6)]

    def apply(mine):
        with opened(registry_url, tmp_path) as another:
            return Registry(another, "shop").apply(mine, expected=expected, now=1, who="x")

    ends = race([partial(apply, mine) for mine in projects])
    (winner,) = [end.project for end in ends if isinstance(end, Head)]
    assert sum(isinstance(end, Conflict) for end in ends) == 4
    assert registry.head().project == winner
    assert registry.versions("history")[-1:] == (winner.views[0],)
    assert len(registry.versions("history")) == (1 if expected is None else 2)


def test_appliers_of_two_projects_at_once_both_succeed(engine, registry_url, tmp_path):
    """A busy database is waited for: another project's apply is no conflict."""
    names = [f"shop{n}" for n in range(5)]

    def apply(name):
        with opened(registry_url, tmp_path) as another:
            mine = Registry(another, name)
            return [
                mine.apply(shop(HISTORY, name=name), expected=revision, now=1, who="x").revision
                for revision in (None, 0, 1)
            ]

    assert race([partial(apply, name) for name in names]) == [[0, 1, 2]] * len(names)
    assert {Registry(engine, name).head().revision for name in names} == {2}


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


def test_a_killed_apply_leaves_the_old_head(registry, registry_url, tmp_path):
    """SIGKILL at every statement and at the commit: all of the old state, until all of the new."""
    registry.apply(ONE, expected=None, now=1, who="me")
    (tmp_path / "two.json").write_text(dump(TWO))
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DIE, str(tmp_path), registry_url],
        env={"PATH": "", "PYTHONPATH": str(Path(__file__).parents[2])},
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


def test_every_action_is_noted(engine, registry, releases):
    """Who did what, when, in order."""
    registry.apply(ONE, expected=None, now=1, who="ann", commit="c" * 40)
    releases.publish(release(1), "prod", expected=None, action="promote", now=2, who="bob")
    registry.note("verify", "all equal", now=3, who="cat", commit="f" * 40)
    assert registry.audit() == (
        Entry(at=1, who="ann", commit="c" * 40, action="apply", detail="revision 0"),
        Entry(at=2, who="bob", commit=None, action="promote", detail="prod → release 1"),
        Entry(at=3, who="cat", commit="f" * 40, action="verify", detail="all equal"),
    )
    assert Registry(engine, "shop2").audit() == ()


def test_a_document_that_was_spoilt_is_corrupt(engine, registry):
    """Stored text that is no document is a named error, not a half-read one."""
    registry.apply(ONE, expected=None, now=1, who="me")
    for body in ("{", "[]", '{"name":"shop"}'):
        with engine.begin() as connection:
            connection.execute(sa.update(sql.HEADS).values(body=body))
        with pytest.raises(CorruptData, match="registry: a stored document is not as it was writ"):
            registry.head()


def tamper(engine, table, **values):
    """Change what is stored, as somebody with the database's password could."""
    with engine.begin() as connection:
        connection.execute(sa.update(table).values(**values))


def test_a_document_whose_id_does_not_fit_is_corrupt(engine, registry):
    """Content that was changed under its id is named with its version, wherever it is read."""
    registry.apply(shop(HISTORY), expected=None, now=1, who="me")
    longer = replace(HISTORY, ttl=7)
    tamper(engine, sql.HEADS, body=dump(shop(longer)))
    named = rf"{HISTORY.version}.id no longer matches its content; restore the registry"
    with pytest.raises(CorruptData, match=named):
        registry.head()
    tamper(engine, sql.DOCUMENTS, body=dump(longer))
    for read in (partial(registry.versions, "history"), registry.all_versions):
        with pytest.raises(CorruptData, match=named):
            read()
    tamper(engine, sql.DOCUMENTS, body=dump(LONGER))
    with pytest.raises(CorruptData, match=rf"{HISTORY.version}.id no longer"):
        registry.versions("history")


def test_a_version_is_found_by_the_start_of_its_id(registry):
    """Four digits will do where they are one's own; what is not found is told with what is."""
    registry.apply(ONE, expected=None, now=1, who="me")
    registry.apply(TWO, expected=0, now=2, who="me")
    for one in (HISTORY, LONGER):
        for digits in (4, 12, 64):
            assert registry.version("history", one.id[:digits]) == one
    known = f"registered are {HISTORY.version}, {LONGER.version}"
    with pytest.raises(NotFound, match=f"history@0000: no version has this id; {known}"):
        registry.version("history", "0000")
    with pytest.raises(NotFound, match=r"histry: no registered view .*did you mean 'history'\?"):
        registry.version("histry", "0000")
    with pytest.raises(NotFound):
        registry.version("pace", HISTORY.id)
    for wrong in ("", "abc", "ABCD", "%%%%", "0" * 65, "7f3g"):
        with pytest.raises(InvalidRequest, match="write 4 or more of the hex digits"):
            registry.version("history", wrong)


def test_a_digest_that_several_versions_share_is_ambiguous(engine, registry):
    """Nobody is given one of two at random."""
    twins = {}
    for ttl in range(1, 5000):
        one = identified(replace(HISTORY, ttl=ttl))
        twin = twins.setdefault(one.id[:4], one)
        if twin is not one:
            break
    registry.apply(shop(twin), expected=None, now=1, who="me")
    registry.apply(shop(one), expected=0, now=2, who="me")
    with pytest.raises(InvalidRequest, match=f"could be {twin.version}, {one.version}; write more"):
        registry.version("history", one.id[:4])


def test_all_versions_are_given_by_id(registry):
    """Every view's, batch and on demand, oldest first."""
    registry.apply(ONE, expected=None, now=1, who="me")
    registry.apply(TWO, expected=0, now=2, who="me")
    assert list(registry.all_versions().values())[2:] == [LONGER]
    assert registry.all_versions() == {one.id: one for one in (HISTORY, pace(), LONGER)}


def respelled(plane, dialect):
    """Give a view as a Polars of another dialect would write it, under the id it has."""
    foreign = Expression(spellings=(Spelling(dialect=dialect, data=dialect.encode()),))
    return replace(
        plane,
        features=tuple(replace(one, expression=foreign) for one in plane.features),
        filter=plane.filter and foreign,
    )


def test_spellings_are_beside_identity(engine, registry):
    """What was recorded of a version comes with it wherever it is read, under the same ids."""
    registry.apply(ONE, expected=None, now=1, who="me")
    new, newer = (respelled(HISTORY, dialect) for dialect in ("polars-9.8", "polars-9.9"))
    whole = spelled(HISTORY, [new, newer])
    registry.add_spelling(new, dialect="polars-9.8", evidence="equal", now=2, who="ann")
    registry.add_spelling(newer, dialect="polars-9.9", evidence="equal", now=3, who="ann")
    for _ in range(2):
        registry.add_spelling(whole, dialect="polars-9.9", evidence="again", now=4, who="ann")
    assert [len(one.expression.spellings) for one in whole.features] == [3, 3]
    assert registry.versions("history") == (whole,)
    assert registry.version("history", HISTORY.id) == registry.all_versions()[HISTORY.id] == whole
    assert registry.head().project.views == (whole, pace())
    assert [(one.action, one.detail) for one in registry.audit()[1:]] == [
        ("spell", f"{HISTORY.version} in polars-9.8: equal"),
        ("spell", f"{HISTORY.version} in polars-9.9: equal"),
    ]


def test_a_spelling_is_of_a_registered_version_and_whole(registry):
    """An unknown version, or one with an expression left out, is refused; nothing is written."""
    registry.apply(ONE, expected=None, now=1, who="me")
    new = respelled(HISTORY, "polars-9.9")
    terms = {"dialect": "polars-9.9", "evidence": "equal", "now": 2, "who": "ann"}
    with pytest.raises(NotFound):
        registry.add_spelling(replace(new, id="0" * 64), **terms)
    half = replace(new, features=new.features[:1])
    with pytest.raises(
        InvalidRequest, match=rf"{HISTORY.version}: features\.seats has no bytes of"
    ):
        registry.add_spelling(half, **terms)
    assert registry.versions("history") == (HISTORY,)
    assert len(registry.audit()) == 1


def test_a_spelling_at_once_is_recorded_once(registry, registry_url, tmp_path):
    """Of many who record the same, all are content and one is written."""
    registry.apply(ONE, expected=None, now=1, who="me")
    new = respelled(HISTORY, "polars-9.9")

    def add():
        with opened(registry_url, tmp_path) as another:
            mine = Registry(another, "shop")
            mine.add_spelling(new, dialect="polars-9.9", evidence="equal", now=2, who="x")

    assert race([add] * 4) == [None] * 4
    assert registry.versions("history") == (spelled(HISTORY, [new]),)
    assert len(registry.audit()) == 2


def test_a_tampered_spelling_is_corrupt(engine, registry):
    """Bytes of another dialect under a changed identity are not merged in."""
    registry.apply(ONE, expected=None, now=1, who="me")
    new = respelled(HISTORY, "polars-9.9")
    registry.add_spelling(new, dialect="polars-9.9", evidence="equal", now=2, who="ann")
    tamper(engine, sql.SPELLINGS, body=dump(new))
    with pytest.raises(CorruptData, match=rf"{HISTORY.version}.features.last_delay.id no longer"):
        registry.head()


def test_a_value_the_database_does_not_take_is_refused(engine, registry):
    """A NUL in a name: an error of the store where the database refuses it."""
    if engine.dialect.name == "sqlite":
        registry.note("verify", "nul \0", now=1, who="me")
        return
    with pytest.raises(InvalidRequest, match=r"does not take a value.*nothing was written"):
        registry.note("verify", "nul \0", now=1, who="me")
