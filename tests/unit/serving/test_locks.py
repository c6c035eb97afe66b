"""Locks on their way: read from files, sent by id, kept by who answers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from featurestore.errors import InvalidRequest, LockUnknown, NotFound
from featurestore.model.catalog import Catalog
from featurestore.model.lock import Lock
from featurestore.model.query import resolve
from featurestore.serving.client.asking import request_message
from featurestore.serving.client.client import FeatureClient
from featurestore.serving.message.locks import LOCK_BYTES, LockReference, Locks, read_lock
from tests.declared import use, view
from tests.locks import lock_of

VIEW = view()
LOCK = lock_of(resolve([use(VIEW)], Catalog(current={"history": VIEW})))
WHOLE = LockReference.of(LOCK)
BRIEF = LockReference(id=LOCK.id)


def test_a_lock_is_known_by_its_id_once_it_was_brought() -> None:
    """The document is needed the first time only."""
    locks = Locks("shop")
    with pytest.raises(LockUnknown, match=LOCK.id[:12]):
        locks.find(BRIEF)
    assert locks.find(WHOLE).lock == LOCK
    assert locks.find(BRIEF).lock == LOCK


def test_the_latest_locks_are_kept_and_no_more() -> None:
    """The one that was not used for longest goes first."""
    locks = Locks("shop", most=2)
    others = [LockReference.of(replace(LOCK, rows=rows)) for rows in (1, 2)]
    locks.find(WHOLE)
    locks.find(others[0])
    locks.find(BRIEF)
    locks.find(others[1])
    assert locks.find(BRIEF).lock == LOCK
    with pytest.raises(LockUnknown):
        locks.find(LockReference(id=others[0].id))


def document(**changes: object) -> bytes:
    """Give the lock's JSON with fields changed."""
    return json.dumps(json.loads(LOCK.to_json()) | changes).encode()


BAD = {
    "no JSON": (b"lock", "lock.document is no lock"),
    "no lock": (b"{}", "lock.document is no lock"),
    "no object": (b"[]", "lock.document is no lock"),
    "no text": (b"\xff", "lock.document is no lock"),
    "half a character": (document(service="\ud800"), "lock.document is no lock"),
    "too deep": (b"[" * 100_000, "lock.document is no lock"),
    "no number": (document(rows=float("inf")), "lock.document is no lock"),
    "text for a number": (document(rows="0"), r"expected int @ \$\.rows"),
    "a number for text": (document(spine=0), r"expected str @ \$\.spine"),
    "1 for true": (document(as_known=1), r"expected bool @ \$\.as_known"),
    "changed": (document(rows=7), "lock.document is no lock .*its id does not fit its content"),
    "another": (replace(LOCK, rows=7).to_json().encode(), "lock.id: is"),
    "too long": (b" " * (LOCK_BYTES + 1), f"at most {LOCK_BYTES} are taken"),
}


@pytest.mark.parametrize(("raw", "told"), BAD.values(), ids=BAD)
def test_what_is_not_the_lock_of_its_id_is_refused(raw: bytes, told: str) -> None:
    """A document is checked against its id before it is kept."""
    locks = Locks("shop")
    with pytest.raises(InvalidRequest, match=told):
        locks.find(LockReference(id=LOCK.id, document=raw))
    with pytest.raises(LockUnknown):
        locks.find(BRIEF)


def test_drafts_and_other_projects_locks_are_refused() -> None:
    """The reason is said."""
    with pytest.raises(InvalidRequest, match="never registered"):
        Locks("shop").find(LockReference.of(replace(LOCK, draft=True)))
    with pytest.raises(InvalidRequest, match="is 'shop', but this is 'prod'"):
        Locks("prod").find(WHOLE)


def test_a_lock_is_read_from_its_file(tmp_path: Path) -> None:
    """A path as text or as Path, or the lock itself."""
    file = tmp_path / "lock.json"
    file.write_text(LOCK.to_json())
    assert read_lock(file) == read_lock(str(file)) == read_lock(LOCK) == LOCK


def test_a_file_that_holds_no_lock_is_named(tmp_path: Path) -> None:
    """Missing, unreadable, no JSON, no lock: each says so, with the path."""
    for content in (b"\xff\x00", b"{", b"{}", b"[1]", b"null"):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(InvalidRequest, match=r"bad\.json' is no lock"):
            read_lock(tmp_path / "bad.json")
    with pytest.raises(NotFound, match=r"there is no file .*gone\.json"):
        read_lock(tmp_path / "gone.json")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_lock(tmp_path)
    with pytest.raises(InvalidRequest, match="int is no lock"):
        read_lock(3)  # type: ignore[arg-type]


def test_a_client_of_a_file_that_is_no_lock_is_not_made(tmp_path: Path) -> None:
    """The mistake shows where the client is made, not at its first call."""
    with pytest.raises(NotFound, match=Lock.__name__.lower()):
        FeatureClient("127.0.0.1:1", lock=tmp_path / "gone.json")


def test_features_beside_a_lock_are_refused() -> None:
    """A lock says what is answered and under which names; nothing is silently ignored."""
    for given in ({"features": "model"}, {"features": None, "full_feature_names": True}):
        with pytest.raises(InvalidRequest, match="a lock says what is answered"):
            request_message(**given, lock=WHOLE)
    with pytest.raises(InvalidRequest, match="none asked for"):
        request_message(None)
