"""The ledger over each database: tables, leases, runs and what they cover."""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from featurestore.errors import Conflict
from featurestore.model.documents import Table
from featurestore.model.pieces import Checked, Read
from featurestore.model.time import BEGINNING, Interval
from featurestore.storage.files import DataFile
from featurestore.storage.ledger import Ledger, Run, Verification
from tests.databases import opened
from tests.races import race

ANN = {"process": "", "note": "ann: materialize history"}
TABLE = Table(data_id="a" * 64, generation=0, buckets=4)
RUN = Run(
    id="r1",
    table_id=TABLE.id,
    view="history",
    version="v" * 64,
    interval=Interval(start=BEGINNING, end=10),
    source="s" * 64,
    rows=3,
    base_version=0,
    delta_version=None,
    state="writing",
    started=100,
)


@pytest.fixture
def ledger(engine):
    """The ledger of a project in it."""
    return Ledger(engine, "shop")


def test_the_newest_generation_of_a_table_counts(ledger):
    """A data id has no table, then its first, then its newest."""
    assert ledger.table(TABLE.data_id) is None
    for generation in (0, 2, 1):
        ledger.add_table(replace(TABLE, generation=generation), now=1)
    assert ledger.table(TABLE.data_id) == replace(TABLE, generation=2)


def test_a_table_is_recorded_once(ledger):
    """Whoever comes second gets the table as the first recorded it."""
    assert ledger.add_table(TABLE, now=1) == TABLE
    assert ledger.add_table(replace(TABLE, buckets=8), now=2) == TABLE


def test_a_lease_is_held_by_one(ledger):
    """Another owner is refused until the lease expires; its own owner renews it."""
    ledger.lease("table x", "one", now=0, until=100, **ANN)
    ledger.lease("table x", "one", now=50, until=150, **ANN)
    for now in (51, 150):
        with pytest.raises(
            Conflict, match=r"table x: held by ann: materialize history \(until 1970"
        ):
            ledger.lease("table x", "two", now=now, until=now + 100, **ANN)
    ledger.lease("table x", "two", now=151, until=251, **ANN)
    with pytest.raises(Conflict):
        ledger.lease("table x", "one", now=152, until=252, **ANN)


def test_a_lease_is_given_back_by_its_owner_only(ledger):
    """A run that lost its lease does not free another's."""
    ledger.lease("table x", "one", now=0, until=100, **ANN)
    ledger.release_lease("table x", "two")
    with pytest.raises(Conflict):
        ledger.lease("table x", "two", now=1, until=100, **ANN)
    ledger.release_lease("table x", "one")
    ledger.lease("table x", "two", now=1, until=100, **ANN)


def test_leases_of_other_names_and_projects_are_apart(engine, ledger):
    """A lease says nothing about another table or project."""
    ledger.lease("table x", "one", now=0, until=100, **ANN)
    ledger.lease("table y", "two", now=0, until=100, **ANN)
    Ledger(engine, "shop2").lease("table x", "two", now=0, until=100, **ANN)


def test_of_takers_at_once_one_gets_the_lease(ledger, registry_url, tmp_path):
    """Many processes that ask at the same moment: one holds it, the rest are told so."""

    def take(owner):
        with opened(registry_url, tmp_path) as engine:
            Ledger(engine, "shop").lease("table x", owner, now=0, until=100, **ANN)

    ends = race([partial(take, str(number)) for number in range(6)])
    assert ends.count(None) == 1
    assert sum(isinstance(end, Conflict) for end in ends) == 5
    (winner,) = [str(number) for number, end in enumerate(ends) if end is None]
    ledger.lease("table x", winner, now=1, until=101, **ANN)


@pytest.fixture
def living():
    """A process that waits until it is killed."""
    code = "import sys; from featurestore.storage.process import this_process as p; print(p()); "
    code += "sys.stdout.flush(); sys.stdin.read()"
    env = {"PATH": "", "PYTHONPATH": str(Path(__file__).parents[2])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], env=env, text=True, **pipes) as process:
        yield process
        process.kill()


def test_the_lease_of_a_killed_process_is_taken_at_once(ledger, living):
    """A job that was killed can be run again without waiting; a living one is waited for."""
    holder = {"process": living.stdout.readline().strip(), "note": "bob: backfill history"}
    ledger.lease("table x", "bob", now=0, until=100, **holder)
    with pytest.raises(Conflict, match=r"table x: held by bob: backfill history \(until 1970"):
        ledger.lease("table x", "ann", now=1, until=101, **ANN)
    living.kill()
    living.wait()
    ledger.lease("table x", "ann", now=2, until=102, **ANN)
    with pytest.raises(Conflict, match="held by ann: materialize history"):
        ledger.lease("table x", "bob", now=3, until=103, **holder)


def test_of_takers_over_at_once_one_gets_the_lease(ledger, living, registry_url, tmp_path):
    """The lease of the dead goes to exactly one of those who wait for it."""
    holder = living.stdout.readline().strip()
    ledger.lease("table x", "dead", now=0, until=100, process=holder, note="dead")
    living.kill()
    living.wait()

    def take(owner):
        with opened(registry_url, tmp_path) as engine:
            Ledger(engine, "shop").lease("table x", owner, now=1, until=101, **ANN)

    ends = race([partial(take, str(number)) for number in range(6)])
    assert ends.count(None) == 1
    assert sum(isinstance(end, Conflict) for end in ends) == 5


def test_a_run_is_told_from_announcement_to_service(ledger):
    """Each step of a run is in the ledger; only a committed one covers its interval."""
    ledger.start_run(RUN)
    assert ledger.runs() == (RUN,)
    assert ledger.covered(TABLE.id) == ()
    ledger.commit_run(RUN, 1, [DataFile(path="bucket=0/x.parquet", checksum="c" * 64)])
    committed = replace(RUN, state="committed", delta_version=1)
    assert ledger.runs() == (committed,)
    assert ledger.covered(TABLE.id) == (RUN.interval,)
    ledger.end_run(RUN, "served", now=200, served=2, repaired=1)
    ended = replace(committed, state="served", finished=200, served=2, repaired=1)
    assert ledger.runs() == (ended,)
    assert ledger.covered(TABLE.id) == (RUN.interval,)
    assert ledger.checksums(TABLE.id) == {"bucket=0/x.parquet": "c" * 64}


def read(start, end, digest="d"):
    """Give what a run read of an interval."""
    return Read(interval=Interval(start=start, end=end), rows=end - start, digest=digest)


def test_pieces_stand_as_the_newest_committed_run_read_them(ledger):
    """What a run announced counts once it is committed; what it cut of older pieces is unknown."""
    reads = [read(0, 5), read(5, 10)]
    ledger.start_run(RUN, reads)
    assert ledger.pieces(TABLE.id) == ()
    ledger.commit_run(RUN, 1, ())
    assert [one.read for one in ledger.pieces(TABLE.id)] == reads
    later = replace(RUN, id="r2", interval=Interval(start=7, end=20), source="other", started=1)
    silent = replace(RUN, id="r3", interval=Interval(start=30, end=40))
    for run, what in ((later, [read(7, 20, "e")]), (silent, ())):
        ledger.start_run(run, what)
        ledger.commit_run(run, 2, ())
    assert [(_span(one), one.read, one.source, one.number) for one in ledger.pieces(TABLE.id)] == [
        ((0, 5), reads[0], RUN.source, 1),
        ((5, 7), None, RUN.source, 1),
        ((7, 20), read(7, 20, "e"), "other", 2),
        ((30, 40), None, RUN.source, 3),
    ]


def _span(piece):
    return piece.interval.start, piece.interval.end


def test_what_was_checked_is_kept_for_a_table(ledger):
    """The newest check of a table stands; another generation has none."""
    ledger.add_table(TABLE, now=1)
    ledger.add_table(replace(TABLE, generation=1), now=1)
    assert ledger.checked(TABLE) is None
    for checked in (Checked(source="one", number=1), Checked(source="two", number=2)):
        ledger.check(TABLE, checked)
        assert ledger.checked(TABLE) == checked
    assert ledger.checked(replace(TABLE, generation=1)) is None


def test_a_run_is_committed_once(ledger):
    """A run that was given up for dead and finished by another is told so when it wakes."""
    ledger.start_run(RUN)
    files = [DataFile(path="bucket=0/x.parquet", checksum="c" * 64)]
    ledger.commit_run(RUN, 1, files)
    ledger.end_run(RUN, "served", now=200)
    with pytest.raises(Conflict, match="outlived its lease"):
        ledger.commit_run(RUN, 1, files)
    assert ledger.runs()[0].state == "served"


def test_an_abandoned_run_covers_nothing(ledger):
    """What never reached the table is in the ledger, but not in what is complete."""
    ledger.start_run(RUN)
    ledger.end_run(RUN, "abandoned", now=200)
    assert ledger.covered(TABLE.id) == ()
    assert ledger.runs()[0].state == "abandoned"


def test_runs_stand_oldest_first_and_by_table(ledger):
    """The ledger reads like a log; a table's runs stand as they came, whatever clocks said."""
    other = replace(RUN, id="r0", table_id="b" * 16 + ".0", started=50)
    for run in (RUN, other, replace(RUN, id="r2", started=99)):
        ledger.start_run(run)
    assert [run.id for run in ledger.runs()] == ["r0", "r2", "r1"]
    assert [run.id for run in ledger.runs(TABLE.id)] == ["r1", "r2"]


def test_what_is_covered_is_merged(ledger):
    """Runs that touch make one interval; a gap stays a gap."""
    for number, (start, end) in enumerate([(20, 30), (0, 10), (10, 15), (12, 18)]):
        run = replace(RUN, id=str(number), interval=Interval(start=start, end=end))
        ledger.start_run(run)
        ledger.commit_run(run, number, ())
    assert ledger.covered(TABLE.id) == (
        Interval(start=0, end=18),
        Interval(start=20, end=30),
    )


def test_projects_in_one_database_do_not_see_each_other(engine, ledger):
    """Tables and runs belong to a project, whatever their ids."""
    ledger.add_table(TABLE, now=1)
    ledger.start_run(RUN)
    other = Ledger(engine, "shop2")
    assert (other.table(TABLE.data_id), other.runs(), other.covered(TABLE.id)) == (None, (), ())
    assert other.add_table(replace(TABLE, buckets=1), now=1).buckets == 1


def test_a_collected_table_is_given_no_more(ledger):
    """The newest that was not collected counts; what was collected waits to be dropped, once."""
    first, second = (replace(TABLE, generation=number) for number in (0, 1))
    other = replace(TABLE, data_id="b" * 64)
    for table in (other, second, first):
        ledger.add_table(table, now=1)
    assert ledger.tables() == (first, second, other)
    assert [ledger.collect_table(second, now=now) for now in (2, 3)] == [True, False]
    assert ledger.table(TABLE.data_id) == first
    assert (ledger.tables(), ledger.collected()) == ((first, other), (second,))
    ledger.drop_table(first, now=3)
    assert ledger.tables() == (first, other)
    ledger.collect_table(first, now=4)
    assert ledger.table(TABLE.data_id) is None
    ledger.drop_table(second, now=5)
    assert ledger.collected() == (first,)
    assert ledger.collect_table(replace(TABLE, generation=9), now=6) is False


def test_a_generation_is_never_used_again(ledger):
    """A new table is one past all there ever were, also collected and dropped ones."""
    assert ledger.next_table(TABLE.data_id).id == TABLE.id
    for generation in (0, 1):
        table = ledger.next_table(TABLE.data_id)
        assert table == replace(TABLE, generation=generation, buckets=1)
        ledger.add_table(table, now=1)
        ledger.collect_table(table, now=2)
        ledger.drop_table(table, now=3)
    assert ledger.next_table(TABLE.data_id) == Table(data_id=TABLE.data_id, generation=2)
    with pytest.raises(Conflict, match="was made and collected by somebody else; run it again"):
        ledger.add_table(TABLE, now=4)


def test_verifications_stand_oldest_first(engine, ledger):
    """What was found of a table is kept as it was told."""
    found = [
        Verification(
            table_id=TABLE.id,
            version="v" * 64,
            delta_version=number,
            watermark=2**52,
            checked=10**10,
            mismatches=number,
            at=5 - number,
            who="ann",
        )
        for number in range(3)
    ]
    for one in found:
        ledger.add_verification(one)
    assert ledger.verifications() == tuple(found)
    assert Ledger(engine, "shop2").verifications() == ()


def test_a_table_was_written_when_it_was_last_worked_on(engine, ledger):
    """Made, a run begun, a run ended: the latest of them."""
    assert ledger.written() == {}
    ledger.add_table(TABLE, now=7)
    assert ledger.written() == {TABLE.id: 7}
    ledger.start_run(RUN)
    assert ledger.written() == {TABLE.id: 100}
    ledger.commit_run(RUN, 1, ())
    ledger.end_run(RUN, "served", now=150)
    ledger.start_run(replace(RUN, id="r2", started=120))
    assert ledger.written() == {TABLE.id: 150}
    assert Ledger(engine, "shop2").written() == {}


def test_projects_of_one_registry_know_their_own_checksums_alone(engine):
    """Equal definitions have equal table ids, and every table's log files are named alike."""
    log = "_delta_log/00000000000000000001.json"
    for name, run, checksum in (("shop", "r1", "a" * 64), ("stock", "r2", "b" * 64)):
        ledger = Ledger(engine, name)
        ledger.start_run(replace(RUN, id=run))
        ledger.commit_run(replace(RUN, id=run), 1, [DataFile(path=log, checksum=checksum)])
    assert Ledger(engine, "shop").checksums(TABLE.id) == {log: "a" * 64}
    assert Ledger(engine, "stock").checksums(TABLE.id) == {log: "b" * 64}
