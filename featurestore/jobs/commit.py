"""The git commit that a repo's definitions are checked out at, for the audit and for apply."""

import subprocess
from pathlib import Path
from shutil import which

DIRTY = "+dirty"
"""What follows a commit where the working tree said something else."""
_SECONDS = 10.0
_UNKNOWN = frozenset({1, 128})
"""Git's exit codes for "is no ancestor" and for "has no such commit"."""


def head_commit(root: Path) -> str | None:
    """Give the commit that is checked out, with `+dirty` if the repo's files differ from it.

    Files that git does not know count if they are Python: a registry beside them does not.
    None where there is no git, no commit yet, or no answer in time.
    """
    found = _git(root, "rev-parse", "--verify", "HEAD")
    if found is None or found.returncode:
        return None
    asked = (
        _git(root, "status", "--porcelain", "--untracked-files=no", "--", "."),
        _git(root, "ls-files", "--others", "--exclude-standard", "--", "*.py"),
    )
    clean = all(one is None or not one.stdout for one in asked)
    return found.stdout.strip() + ("" if clean else DIRTY)


def contains(root: Path, commit: str) -> bool | None:
    """Say whether what is checked out descends from a commit, or is it; None: git cannot say."""
    bare = commit.removesuffix(DIRTY)
    if head_commit(root) is None:
        return None
    found = _git(root, "merge-base", "--is-ancestor", "--end-of-options", bare, "HEAD")
    if found is None or found.returncode not in {0, *_UNKNOWN}:
        return None
    return found.returncode == 0


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    git = which("git")
    if git is None:
        return None
    try:
        return subprocess.run(  # noqa: S603 - git with words of our own, no shell
            [git, "-C", str(root), *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
