"""What verifications on record prove: a failure falls to what asked as much, a pass to a change."""

from dataclasses import replace

import pytest

from featurestore.jobs.proof.standing import standing
from featurestore.model.time import Interval
from featurestore.storage.ledger import Run, Verification
from tests.declared import view

VIEW = view()
TABLE = f"{VIEW.data_id[:16]}.0"
PAIR = (VIEW.id, TABLE)
PASS = Verification(
    table_id=TABLE,
    version=VIEW.id,
    delta_version=3,
    watermark=1_000,
    checked=9,
    mismatches=0,
    at=1,
    who="ann",
    alias="prod",
    candidate=True,
)
ALL = replace(PASS, everything=True)
LIVE = replace(PASS, candidate=False)
ALONE = replace(LIVE, alias="")
STAGING = replace(PASS, alias="staging")


def failed(one):
    """Give the same verification with a difference."""
    return replace(one, mismatches=1)


def read(*records, runs=()):
    """Read a record."""
    return standing(records, runs, {VIEW.id: VIEW})


PASSES = {
    "nothing": ((), set()),
    "a candidate": ((PASS,), {"prod"}),
    "what is live, or alone, is proven by itself": ((LIVE, ALONE), {""}),
    "each alias for itself": ((PASS, STAGING), {"prod", "staging"}),
    "a pass takes its own failure away": ((failed(PASS), PASS), {"prod"}),
    "the sample does not, what all failed": ((failed(ALL), PASS), set()),
    "all do, what a sample failed": ((failed(PASS), ALL), {"prod"}),
    "another alias does not": ((failed(PASS), STAGING), {"staging"}),
    "what is live does not, what a candidate failed": ((failed(PASS), LIVE), {""}),
    "a candidate does, what failed live": ((failed(LIVE), PASS), {"prod"}),
    "the table alone does not": ((PASS, failed(LIVE), ALONE), {""}),
    "a table that failed alone is proven nowhere": ((PASS, STAGING, failed(ALONE)), set()),
    "and whoever passes takes that away": ((failed(ALONE), STAGING), {"staging"}),
    "two failures need both": ((failed(ALL), failed(STAGING), STAGING), {"staging"}),
}


@pytest.mark.parametrize(("records", "aliases"), PASSES.values(), ids=PASSES)
def test_a_failure_stands_until_as_much_was_asked_and_passed(records, aliases):
    """By alias, as a candidate or as it is live, of all entities or some."""
    assert read(*records).passed == {(*PAIR, alias) for alias in aliases}


def test_what_failed_is_told_by_alias():
    """A failure by itself counts everywhere, one of an alias there only."""
    found = read(failed(STAGING))
    assert (found.wrong(PAIR, "staging"), found.wrong(PAIR, "prod")) == (True, False)
    assert read(failed(ALONE)).wrong(PAIR, "prod")
    assert read(PASS).ever == {PAIR}
    assert read(PASS, failed(STAGING)).ever == frozenset()


def run(start, version):
    """Give a run that changed a table from some moment on."""
    return Run(
        id="r",
        table_id=TABLE,
        view=VIEW.name,
        version=VIEW.id,
        interval=Interval(start=start, end=start + 10),
        source="",
        rows=1,
        base_version=version - 1,
        delta_version=version,
        state="served",
        started=2,
    )


def test_a_pass_falls_to_a_run_that_changed_what_was_compared():
    """New rows do not count, nor the youngest, within the settle span; nor what came before."""
    old = 1_000 - VIEW.settle
    for start, version, stands in ((old - 1, 4, False), (old, 4, True), (old - 1, 3, True)):
        found = read(PASS, runs=(run(start, version),))
        assert (found.passed == {(*PAIR, "prod")}) is stands
        assert found.ever == {PAIR}
