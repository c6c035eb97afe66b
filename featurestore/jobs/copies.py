"""Redis' copies of releases and aliases: SQL is the truth, and a damaged copy is written anew.

One thing is never overwritten: a whole release that this registry never wrote. It is no damage but
the word of another registry of the same project's name, whose clients read it. So every command
refuses, promote and rollback before SQL is written, and rebuild-online too: the same mistake, a
Redis URL meant for another environment, would else put that environment's aliases where ours are.
"""

from featurestore.errors import Conflict, CorruptData, NotFound
from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import Release, dump
from featurestore.serving.answer.state import read_release

_DIGITS = 9
"""Of a release's number, at most: it is an integer of 32 bits in SQL."""


def follow_alias(workspace: Workspace, name: str) -> int:
    """Make an alias in Redis name the release that it names in SQL; gives the release's number.

    SQL is asked after Redis, and the move compares with what Redis said: whoever moves the alias
    meanwhile is followed, never undone. What is no release's number is replaced as well.

    Raises:
        NotFound: SQL has no such alias.
        Conflict: Redis holds another registry's document under the release's number.
    """
    releases, online = workspace.releases, workspace.online()
    while True:
        there = online.alias_copy(name)
        release = releases.alias(name)
        copy_release(workspace, release)
        if there == str(release.number).encode():
            return release.number
        online.move_alias(name, there, release.number)


def copy_release(workspace: Workspace, release: Release) -> None:
    """Make Redis hold a release as SQL has it, in place of a damaged copy.

    Raises:
        Conflict: another registry's document stands there.
    """
    online, text = workspace.online(), dump(release)
    there = online.release_copy(release.number)
    if there == text.encode():
        return
    _refuse(workspace, release.number, there)
    online.put_release(release.number, text, instead=there)


def refuse_foreign(workspace: Workspace, alias: str, number: int) -> None:
    """Refuse to publish a release's number where another registry of this name publishes.

    Raises:
        Conflict: that number, the one before, or what the alias names in Redis is not of this one.
    """
    online = workspace.online()
    named = online.alias_copy(alias) or b""
    known = int(named) if named.isdigit() and len(named) <= _DIGITS else number
    for one in {number - 1, number, known}:
        _refuse(workspace, one, online.release_copy(one))


def _refuse(workspace: Workspace, number: int, copy: bytes | None) -> None:
    """Refuse a whole document of this number that SQL never had; a copy of ours has our time."""
    try:
        found = None if copy is None else read_release(copy, project=workspace.config.project)
    except CorruptData:
        return
    if found is None or found.number != number:
        return
    try:
        ours = workspace.releases.release(number).created == found.created
    except NotFound:
        ours = False
    if not ours:
        online = workspace.online()
        raise Conflict(
            f"release {number}: Redis at {online.where} holds one of project '{online.project}' "
            "that this registry never wrote; give the project another name, or "
            "FEATURESTORE_REDIS_URL a database of its own (if this registry lost it, delete "
            f"fs1/{online.project}/release/{number} there, then run `featurestore rebuild-online`)"
        )
