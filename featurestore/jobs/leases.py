"""Leases: what one process does to a table, or to the releases, no other does at the same time."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import Table
from featurestore.storage.documents import Turn
from featurestore.storage.process import this_process

LEASE = 600_000_000
"""How long a lease holds without renewal, microseconds; a dead process on this machine has none."""


def table_lease(table: Table) -> str:
    """Give the name of a table's lease."""
    return f"table {table.id}"


@contextmanager
def leased(
    workspace: Workspace, table: Table, owner: str, *, why: str
) -> Iterator[Callable[[], None]]:
    """Hold a table's lease for the length of a block; gives what renews it.

    `why` tells whom it keeps waiting what is done, as in "materialize plane_history".

    Raises:
        Conflict: another owner holds it; the message says who, and why.
    """
    with held(workspace, table_lease(table), owner, why=why) as renew:
        yield renew


@contextmanager
def arranging(workspace: Workspace, why: str) -> Iterator[Turn]:
    """Hold what only one process may do at a time: to arrange releases, locks and collection.

    Gives the turn that what is written depends on: who outlives its lease writes nothing.

    Raises:
        Conflict: another process is at it; the message says who, and why.
    """
    turn = Turn(lease="releases", owner=secrets.token_hex(16))
    with held(workspace, turn.lease, turn.owner, why=why):
        yield turn


@contextmanager
def held(workspace: Workspace, name: str, owner: str, *, why: str) -> Iterator[Callable[[], None]]:
    """Hold a lease by name for the length of a block; gives what renews it.

    Raises:
        Conflict: another owner holds it; the message says who, and why.
    """
    note, process = f"{workspace.who}: {why}", this_process()

    def renew() -> None:
        now = workspace.clock()
        workspace.ledger.lease(name, owner, now=now, until=now + LEASE, process=process, note=note)

    renew()
    try:
        yield renew
    finally:
        workspace.ledger.release_lease(name, owner)
