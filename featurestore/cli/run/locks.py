"""Register, list and retire locks."""

from contextlib import closing
from pathlib import Path

from featurestore.cli import terminal
from featurestore.cli.run.typed import moment
from featurestore.cli.text import locks as text
from featurestore.cli.values import locks as values
from featurestore.jobs import locks as locking
from featurestore.jobs.workspace import Workspace
from featurestore.model.time import micros
from featurestore.serving.message.locks import read_lock


def register(repo: Path, file: Path, *, owner: str, expires: str | None, json: bool) -> None:
    """Register a lock."""
    until = None if expires is None else micros(moment(expires, "--expires"))
    lock = read_lock(file)
    with (
        closing(Workspace.open(repo)) as workspace,
        terminal.busy("making every alias able to answer the lock"),
    ):
        found = locking.register(workspace, lock, owner=owner, expires=until)
    if json:
        terminal.as_json(values.kept(found))
    else:
        text.kept(found)


def locks(repo: Path, *, everything: bool, json: bool) -> None:
    """List the registered locks."""
    with closing(Workspace.open(repo)) as workspace:
        found, now = workspace.releases.locks(), workspace.clock()
    listed = [one for one in found if everything or one.holds(now)]
    if json:
        terminal.as_json([values.registered(one, now) for one in listed])
    else:
        text.locks(listed, now, hidden=len(found) - len(listed))


def retire(repo: Path, lock_id: str, *, json: bool) -> None:
    """Let go of a lock."""
    with closing(Workspace.open(repo)) as workspace:
        found = locking.retire(workspace, lock_id)
    if json:
        terminal.as_json({"id": found.id, "owner": found.owner})
    else:
        text.retired(found)
