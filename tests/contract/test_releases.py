"""Releases, aliases, moves and locks over each database; who publishes at once, and who wins."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from featurestore.errors import Conflict, CorruptData, InvalidRequest, NotFound
from featurestore.model.documents import Table, dump
from featurestore.model.facts import Move, Registered
from featurestore.model.lock import Lock
from featurestore.storage import sql
from featurestore.storage.documents import Author, Turn
from featurestore.storage.ledger import Ledger
from featurestore.storage.registry import Registry
from featurestore.storage.releases import Releases
from tests.declared import release

LOCK = Lock(
    project="shop",
    draft=False,
    outputs=(),
    lookups=(),
    views=(),
    dialect="polars-2.1",
    polars="2.1.0",
    spine="s" * 64,
    rows=3,
)
ANNS = Registered(id=LOCK.id, lock=LOCK, owner="ann", registered=1, expires=9)


@pytest.fixture
def releases(engine):
    """The releases of a project in it."""
    return Releases(engine, "shop")


def count(engine, table):
    """Count a table's rows."""
    with engine.connect() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table))


def publish(releases, number, expected, action="promote", *, alias="prod", restores=None):
    """Publish a release at the moment of its number."""
    made = release(number, restores=restores)
    releases.publish(made, alias, expected=expected, action=action, now=number, who="me")


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


def test_an_unknown_alias_or_release_says_what_is_known(releases):
    """The error suggests a near name and the command that makes one."""
    releases.publish(release(1), "prod", expected=None, action="promote", now=1, who="me")
    with pytest.raises(NotFound, match=r"prd: no alias has this name; did you mean 'prod'\?; run"):
        releases.alias("prd")
    with pytest.raises(NotFound, match="release 9: there is no such release of shop"):
        releases.release(9)


def test_every_move_says_where_a_rollback_goes(releases):
    """A promote goes back to what it replaced; a rollback and a warming as what they repeat did."""
    publish(releases, 1, None)
    publish(releases, 2, 1)
    publish(releases, 3, 2)
    publish(releases, 4, 3, "warm")
    publish(releases, 5, 4, "rollback", restores=2)
    publish(releases, 6, 5, "rollback", restores=1)
    publish(releases, 7, 6, "warm")
    publish(releases, 8, None, alias="staging")
    publish(releases, 9, 8, "warm", alias="staging")
    assert [(one.number, one.previous) for one in releases.moves()] == [
        (1, None),
        (2, 1),
        (3, 2),
        (4, 2),
        (5, 1),
        (6, None),
        (7, None),
        (8, None),
        (9, None),
    ]
    assert releases.moves()[4] == Move(alias="prod", number=5, previous=1, action="rollback", at=5)


def test_a_rollback_repeats_the_move_of_its_own_alias(releases):
    """Where another alias came from says nothing."""
    publish(releases, 1, None)
    publish(releases, 2, 1)
    publish(releases, 3, None, alias="staging")
    publish(releases, 4, 3, "rollback", alias="staging", restores=2)
    assert releases.moves()[-1].previous is None


def test_a_refused_move_leaves_no_trace(engine, releases):
    """No release, no move, no line of the audit."""
    publish(releases, 1, None)
    for action in ("promote", "rollback", "warm"):
        with pytest.raises(Conflict, match=f"{action}: somebody else did so first"):
            publish(releases, 2, 7, action, restores=1)
    assert [count(engine, table) for table in (sql.RELEASES, sql.MOVES, sql.AUDIT)] == [1, 1, 1]


def test_who_outlived_its_turn_writes_nothing(engine, releases):
    """Publishing, registering and collecting are refused once another process has the turn."""
    ledger, turn = Ledger(engine, "shop"), Turn(lease="releases", owner="late")
    table = ledger.add_table(Table(data_id="a" * 64, generation=0), now=1)
    who = Author(project="shop", now=2, who="me", commit=None)
    term = {"process": "", "note": ""}
    ledger.lease("releases", "late", now=0, until=1, **term)
    ledger.lease("releases", "next", now=2, until=9, **term)
    moved = {"expected": None, "action": "promote", "now": 2, "who": "me", "turn": turn}
    for write in (
        lambda: releases.publish(release(1), "prod", **moved),
        lambda: releases.register_lock(ANNS, now=2, who="me", turn=turn),
        lambda: ledger.collect_table(table, now=2, turn=turn, noted=(who, "it")),
    ):
        with pytest.raises(Conflict, match="outlived its lease and another one took its turn"):
            write()
    tables = (sql.RELEASES, sql.ALIASES, sql.MOVES, sql.LOCKS, sql.AUDIT)
    assert [count(engine, one) for one in tables] == [0] * 5
    assert ledger.tables() == (table,)


def test_a_release_of_a_collected_table_is_not_published(engine, releases):
    """It was given up after it was chosen: the alias stays where it is."""
    ledger = Ledger(engine, "shop")
    made = release(1)
    (live,) = (one for one in made.views if one.table is not None)
    ledger.collect_table(ledger.add_table(live.table, now=1), now=2)
    with pytest.raises(Conflict, match=r"was collected meanwhile; nothing was written"):
        releases.publish(made, "prod", expected=None, action="promote", now=3, who="me")
    assert (releases.aliases(), releases.releases()) == ({}, ())


def test_a_release_that_was_changed_is_corrupt(engine, releases):
    """A release whose view, table or number is not what was published is not given."""
    publish(releases, 1, None)
    (live,) = release(1).views
    wrong = {
        "history@0{12}.id": replace(live, view=replace(live.view, id="0" * 64)),
        f"{live.view.version}.table": replace(live, table=replace(live.table, data_id="0" * 64)),
    }
    bodies = {path: dump(replace(release(1), views=(one,))) for path, one in wrong.items()}
    bodies |= {"release 1 of shop": dump(release(2)), "a stored document is not": "{"}
    for path, body in bodies.items():
        with engine.begin() as connection:
            connection.execute(sa.update(sql.RELEASES).values(body=body))
        with pytest.raises(CorruptData, match=path):
            releases.release(1)


def test_collected_releases_are_counted_no_more_and_can_be_read(engine, releases):
    """Their documents and numbers stay; what an alias names is never collected."""
    for number in (1, 2, 3):
        publish(releases, number, number - 1 or None)
    releases.collect_releases([1], now=5, who="ann", commit="c" * 40)
    releases.collect_releases([1], now=6, who="ann")
    assert (releases.releases(), releases.next_release()) == ((2, 3), 4)
    assert releases.release(1) == release(1)
    with pytest.raises(Conflict, match="collect: prod names release 3; collect again without it"):
        releases.collect_releases([2, 3], now=7, who="ann")
    assert releases.releases() == (2, 3)
    lines = [one for one in Registry(engine, "shop").audit() if one.action == "collect"]
    assert [(one.at, one.commit, one.detail) for one in lines] == [(5, "c" * 40, "releases 1")]
    releases.collect_releases([], now=8, who="ann")


def test_a_lock_is_kept_with_its_terms(engine, releases):
    """Registered, registered again on other terms, retired, and back: every step is noted."""
    assert releases.locks() == ()
    releases.register_lock(ANNS, now=1, who="ann")
    assert releases.locks() == (ANNS,)
    bobs = replace(ANNS, owner="bob", expires=None, registered=2)
    releases.register_lock(bobs, now=2, who="bob")
    kept = replace(bobs, registered=1)
    assert releases.locks() == (kept,)
    for now in (3, 4):
        releases.retire_lock(LOCK.id, now=now, who="bob")
    assert releases.locks() == (replace(kept, retired=3),)
    releases.register_lock(ANNS, now=5, who="ann")
    assert releases.locks() == (ANNS,)
    assert [one.detail for one in Registry(engine, "shop").audit()] == [
        f"register {LOCK.id[:12]} of ann",
        f"register {LOCK.id[:12]} of bob",
        f"retire {LOCK.id[:12]}",
        f"register {LOCK.id[:12]} of ann",
    ]


def test_locks_stand_oldest_first(releases):
    """By the moment they were registered, whatever their ids."""
    made = [replace(LOCK, rows=number) for number in range(4)]
    for number, lock in enumerate(made):
        one = Registered(id=lock.id, lock=lock, owner="ann", registered=9 - number)
        releases.register_lock(one, now=1, who="ann")
    assert [one.lock.rows for one in releases.locks()] == [3, 2, 1, 0]


def test_a_lock_of_another_project_or_id_is_refused(releases):
    """What is registered is what was handed in, made here."""
    foreign = replace(LOCK, project="other")
    for wrong in (replace(ANNS, id="0" * 64), replace(ANNS, lock=foreign, id=foreign.id)):
        with pytest.raises(InvalidRequest, match="register it where it was made"):
            releases.register_lock(wrong, now=1, who="ann")
    assert releases.locks() == ()


def test_an_unknown_lock_cannot_be_retired(releases):
    """The error names a near id; nothing is noted."""
    releases.register_lock(ANNS, now=1, who="ann")
    with pytest.raises(NotFound, match=f"no such lock is registered; did you mean '{LOCK.id}'"):
        releases.retire_lock(LOCK.id[:-1], now=2, who="ann")
    with pytest.raises(NotFound):
        Releases(releases._engine, "other").retire_lock(LOCK.id, now=2, who="ann")


@pytest.mark.parametrize("body", ["{", "null", replace(LOCK, rows=4).to_json()])
def test_a_lock_that_was_changed_is_corrupt(engine, releases, body):
    """A registered lock answers for its bytes."""
    releases.register_lock(ANNS, now=1, who="ann")
    with engine.begin() as connection:
        connection.execute(sa.update(sql.LOCKS).values(body=body))
    with pytest.raises(CorruptData, match="registry: "):
        releases.locks()


RACE = '''
"""Publish a row of releases, each as soon as the one before stands; tell which ones were won."""
import sys
from pathlib import Path
from featurestore.errors import Conflict
from featurestore.storage.releases import Releases
from featurestore.storage.sql import open_engine
from tests.declared import release

url, root, me, rounds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
releases = Releases(open_engine(url, root=root), "shop")
print("ready", flush=True)
sys.stdin.readline()
for number in range(2, rounds + 2):
    while releases.aliases()["prod"] < number - 1:
        pass
    try:
        mine = release(number, created=me)
        releases.publish(
            mine, "prod", expected=number - 1, action="promote", now=number, who=str(me)
        )
    except Conflict:
        continue
    print(number, flush=True)
'''


def test_of_processes_that_publish_at_once_one_wins_each_number(releases, registry_url, tmp_path):
    """Of N processes exactly one moves the alias from each number, and the rest are told so."""
    publish(releases, 1, None)
    rounds, root = 5, str(Path(__file__).parents[2])
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, registry_url, str(tmp_path), str(me), str(rounds)],
            env={"PATH": "", "PYTHONPATH": root},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for me in range(3)
    ]
    assert [one.stdout.readline() for one in racers] == ["ready\n"] * 3
    for one in racers:
        one.stdin.write("\n")
        one.stdin.flush()
    told = [one.communicate(timeout=60)[0] for one in racers]
    assert [one.returncode for one in racers] == [0, 0, 0]
    won = {int(number): me for me, text in enumerate(told) for number in text.split()}
    assert sum(len(text.split()) for text in told) == rounds
    numbers = range(2, rounds + 2)
    assert {number: releases.release(number).created for number in numbers} == won
    assert [(m.number, m.previous) for m in releases.moves()[1:]] == [(n, n - 1) for n in numbers]
    assert releases.aliases() == {"prod": rounds + 1}
