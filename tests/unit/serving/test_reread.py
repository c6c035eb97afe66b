"""The laws of files that are read again: what is broken changes nothing."""

import logging
from hashlib import sha256
from pathlib import Path

import pytest

from featurestore.errors import InvalidRequest, Unauthenticated
from featurestore.serving.process.reread import Reread, callers, certificates

CALLER = '[callers.{name}]\ntokens = ["{digest}"]\nservices = ["*"]\n'


def access(name: str) -> str:
    """Write the access of one caller, whose token is its name."""
    return CALLER.format(name=name, digest=sha256(name.encode()).hexdigest())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An access file of one caller."""
    path = tmp_path / "access.toml"
    path.write_text(access("one"))
    return path


def test_a_changed_file_is_in_force_at_the_next_look(file):
    """Not before; a token that is gone is not known then."""
    found = callers(file)
    file.write_text(access("other"))
    assert found.now.who("Bearer one", ()).name == "one"
    found.look()
    assert found.now.who("Bearer other", ()).name == "other"
    with pytest.raises(Unauthenticated):
        found.now.who("Bearer one", ())


@pytest.mark.parametrize(
    "broken", ["", "[callers", "[callers]", '[callers.x]\ntokens = ["secret"]', "x=" + "[" * 9999]
)
def test_a_broken_file_is_told_of_once_and_keeps_what_was(file, caplog, broken):
    """Also one that is empty, and one that is gone; nobody comes in by it."""
    found = callers(file)
    before = found.now
    for _ in range(2):
        file.write_text(broken)
        found.look()
        found.look()
    file.unlink()
    found.look()
    assert found.now is before
    told = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert len(told) == 2
    assert all("what was read before stays in force" in one.getMessage() for one in told)
    assert all(str(file) in one.getMessage() for one in told)
    assert "secret" not in caplog.text
    file.write_text(access("other"))
    found.look()
    assert found.now.who("Bearer other", ()).name == "other"


def test_a_file_that_is_being_written_waits_for_the_next_look(file):
    """What is read while the content changes is not used."""

    def read() -> str:
        found = file.read_text()
        if found == "half":
            file.write_text("whole")
        return found

    found = Reread([file], read)
    file.write_text("half")
    found.look()
    assert found.now != "half"
    found.look()
    assert found.now == "whole"


def test_what_cannot_be_read_at_first_is_refused(tmp_path):
    """As the files themselves say; without any there is nothing to look at."""
    assert callers(None) is None
    assert certificates(None, None, None) is None
    with pytest.raises(InvalidRequest, match="cannot be read as an access file"):
        callers(tmp_path / "none.toml")
    with pytest.raises(InvalidRequest, match="--tls-cert"):
        certificates(tmp_path / "none.pem", tmp_path / "none.key", None)
    fixed = Reread.fixed(1)
    fixed.look()
    assert fixed.now == 1
