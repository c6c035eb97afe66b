"""The git commit of a repo, over real checkouts."""

import subprocess

import pytest

from featurestore.jobs.commit import contains, head_commit

ABSENT = "0123456789abcdef0123456789abcdef01234567"


def git(folder, *words):
    """Run git in a folder as somebody."""
    who = ["-c", "user.name=ann", "-c", "user.email=ann@example.org"]
    return subprocess.run(
        ["git", "-C", str(folder), *who, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(folder, text):
    """Commit a file of this text; give the commit."""
    (folder / "definitions.py").write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", text)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path):
    """A checkout without commits."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    return folder


def test_a_checkout_has_its_commit_and_a_moved_file_shows(checkout):
    """So does a new one; what the store writes, and files beside the folder, do not."""
    first = commit(checkout, "one")
    assert head_commit(checkout) == first
    (checkout / "definitions.py").write_text("two")
    assert head_commit(checkout) == f"{first}+dirty"
    commit(checkout, "one, and more")
    first = git(checkout, "rev-parse", "HEAD")
    (checkout / "data").mkdir()
    (checkout / "data" / "registry.db").write_text("written by the store")
    assert head_commit(checkout) == first
    (checkout / "new.py").write_text("a view that nobody committed")
    assert head_commit(checkout) == f"{first}+dirty"
    repo = checkout / "repo"
    repo.mkdir()
    assert head_commit(repo) == first


def test_a_folder_without_git_or_commits_has_no_commit(tmp_path, checkout, monkeypatch):
    """Nothing is known of it, which is no error."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for folder in (tmp_path, checkout, tmp_path / "absent"):
        assert head_commit(folder) is None
        assert contains(folder, ABSENT) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert head_commit(checkout) is None


def test_a_checkout_contains_its_history_and_nothing_else(checkout):
    """Another branch's commits, unknown ones and words that are none are not contained."""
    first = commit(checkout, "one")
    git(checkout, "checkout", "-qb", "side")
    side = commit(checkout, "side")
    git(checkout, "checkout", "-q", "-")
    second = commit(checkout, "two")
    assert contains(checkout, first) is True
    assert contains(checkout, f"{second}+dirty") is True
    for other in (side, ABSENT, "--all", "no such"):
        assert contains(checkout, other) is False
