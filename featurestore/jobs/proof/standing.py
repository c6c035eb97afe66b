"""What the verifications on record prove now: which passed and still stand, and which failed.

A failure stands until a verification passes that asked at least as much: for the same alias, as
deeply, and of all entities if it was of all.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from featurestore.model.documents import View
from featurestore.storage.ledger import Run, Verification

Pair = tuple[str, str]
"""A version and a table, by id; the table of what is computed on request is empty."""
Triple = tuple[str, str, str]
"""The same with the alias that it was asked for; empty: of the table alone, or as it is live."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What stands: `passed` for promotion to an alias (empty: beside it); `failed`, by whom asked.

    `ever` are those that passed once and have no failure since, if rows were corrected since or
    not.
    """

    passed: frozenset[Triple]
    failed: frozenset[Triple]
    ever: frozenset[Pair]

    def wrong(self, pair: Pair, alias: str) -> bool:
        """Say whether a failure speaks against a version and table in an alias."""
        return (*pair, alias) in self.failed or (*pair, "") in self.failed


def standing(
    records: Sequence[Verification], runs: Sequence[Run], versions: Mapping[str, View]
) -> Standing:
    """Read the record, oldest first."""
    pending: dict[Pair, list[Verification]] = {}
    newest: dict[Triple, Verification] = {}
    for one in records:
        pair = (one.version, one.table_id)
        if one.mismatches:
            pending.setdefault(pair, []).append(one)
        else:
            pending[pair] = [f for f in pending.get(pair, ()) if not _covers(one, f)]
            newest[(*pair, one.alias if one.candidate else "")] = one
    failed = frozenset((*pair, one.alias) for pair, found in pending.items() for one in found)
    passed = frozenset(_passed(newest, failed, runs, versions))
    ever = frozenset(triple[:2] for triple in newest if not pending[triple[:2]])
    return Standing(passed=passed, failed=failed, ever=ever)


def _covers(passed: Verification, failed: Verification) -> bool:
    """Say whether a verification asked at least what another one failed."""
    if failed.everything and not passed.everything:
        return False
    return not failed.alias or (
        failed.alias == passed.alias and (passed.candidate or not failed.candidate)
    )


def _passed(
    newest: Mapping[Triple, Verification],
    failed: frozenset[Triple],
    runs: Sequence[Run],
    versions: Mapping[str, View],
) -> Iterator[Triple]:
    """Give what passed, if no run changed rows since that were known when it was made.

    Save the youngest: those within the view's settle span are expected to move.
    """
    of: dict[str, list[Run]] = {}
    for run in runs:
        of.setdefault(run.table_id, []).append(run)
    for (version, table, alias), one in newest.items():
        settle = versions[version].settle if version in versions else 0
        wrong = {(version, table, ""), (version, table, alias)} & failed
        if not wrong and not any(_undoes(run, one, settle) for run in of.get(table, ())):
            yield version, table, alias


def _undoes(run: Run, passed: Verification, settle: int) -> bool:
    changed = run.delta_version is not None and run.delta_version > passed.delta_version
    return changed and run.interval.start < passed.watermark - settle
