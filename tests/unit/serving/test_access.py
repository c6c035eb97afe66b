"""The laws of the access file: nobody unknown, nothing unsaid, no token told."""

from hashlib import sha256
from pathlib import Path

import pytest

from featurestore.errors import Forbidden, InvalidRequest, Unauthenticated
from featurestore.serving.process.access import Access, read_access

SECRET = "correct horse battery staple"
DIGEST = sha256(SECRET.encode()).hexdigest()
FILE = f"""
[callers.pricing]
tokens = ["{sha256(b"older").hexdigest()}", "{DIGEST}"]
subjects = ["pricing.example.org"]
services = ["late_*", "pace"]
features = ["plane:*"]
push = ["landings"]
describe = true

[callers.idle]
subjects = ["idle.example.org"]
"""


@pytest.fixture
def access(tmp_path: Path) -> Access:
    """Give the callers of the file above."""
    return read(tmp_path, FILE)


def read(folder: Path, text: str) -> Access:
    path = folder / "access.toml"
    path.write_text(text)
    return read_access(path)


@pytest.mark.parametrize("sent", [f"Bearer {SECRET}", f"bearer  {SECRET} ", "Bearer older"])
def test_a_token_names_its_caller(access, sent):
    """Each of a caller's tokens does, so that one can replace another."""
    assert access.who(sent, ()).name == "pricing"


def test_a_certificate_names_its_caller(access):
    """Any of its subjects does; a token that came along counts before it."""
    assert access.who(None, ["else", "idle.example.org"]).name == "idle"
    assert access.who("Bearer older", ["idle.example.org"]).name == "pricing"


@pytest.mark.parametrize(
    "sent",
    [None, "", "Bearer", "Bearer ", f"Basic {SECRET}", SECRET, f"Bearer {DIGEST}", "Bearer x"],
)
def test_nobody_else_is_let_in(access, sent):
    """Neither without a token nor with another, not even with what stands in the file."""
    with pytest.raises(Unauthenticated, match=r"^authorization: ") as caught:
        access.who(sent, ["elsewhere.example.org"] if sent is None else ["idle.example.org"])
    assert SECRET not in str(caught.value)


def test_what_is_not_said_is_denied(access):
    """A caller may use what its patterns match, whole names, and nothing else."""
    pricing, idle = access.who("Bearer older", ()), access.who(None, ["idle.example.org"])
    for name in ("late_v1", "pace"):
        pricing.check_service(name)
        with pytest.raises(Forbidden, match=r"callers\.idle\.services"):
            idle.check_service(name)
    for name in ("pace2", "xlate_v1", "PACE", "pace\n"):
        with pytest.raises(Forbidden, match=r"^feature_service: .*callers\.pricing\.services"):
            pricing.check_service(name)
    pricing.check_features(["plane:seats", "plane:x"])
    with pytest.raises(Forbidden, match=r"^features: 'planet:x'.*callers\.pricing\.features"):
        pricing.check_features(["plane:seats", "planet:x"])
    pricing.check_push("landings")
    with pytest.raises(Forbidden, match=r"callers\.pricing\.push"):
        pricing.check_push("landings2")
    pricing.check_describe()
    with pytest.raises(Forbidden, match=r"callers\.idle\.describe"):
        idle.check_describe()


BAD = {
    "no TOML": ("[callers", "is no TOML"),
    "nobody": ("", "callers: names nobody"),
    "another table": ("[caller.x]", "'caller' is not known here"),
    "no table": ("[callers]\nx = 1", r"callers\.x: is no table"),
    "a misspelt key": ("[callers.x]\nservice = []", r"callers\.x: has a key .* 'services'"),
    "a text for a list": (
        f'[callers.x]\nsubjects = ["x"]\nservices = "{SECRET}"',
        r"callers\.x\.services: is no list of strings",
    ),
    "a token in the clear": (
        f'[callers.x]\ntokens = ["{SECRET}"]',
        r"callers\.x\.tokens: one is no SHA-256",
    ),
    "nobody could be it": ('[callers.x]\nservices = ["*"]', "neither tokens nor subjects"),
    "two of one token": (
        f'[callers.x]\ntokens = ["{DIGEST}"]\n[callers.y]\ntokens = ["{DIGEST}"]',
        r"callers\.y: has a token or subject that another",
    ),
    "describe": ('[callers.x]\nsubjects = ["x"]\ndescribe = "no"', r"callers\.x\.describe: "),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_says_something_else_is_refused(case, tmp_path):
    """By its path and the place, without what may be a token."""
    text, said = BAD[case]
    with pytest.raises(InvalidRequest, match=said) as caught:
        read(tmp_path, text)
    assert SECRET not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    """A server that was told of one does not start open."""
    with pytest.raises(InvalidRequest, match="cannot be read as an access file"):
        read_access(tmp_path / "none.toml")
