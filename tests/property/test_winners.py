"""Which row of a key is its newest, and which winners a run takes back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.jobs.online import HEADER, lowered_winners
from featurestore.model.time import CREATED, EVENT, REVISION
from featurestore.storage.packed import latest
from featurestore.storage.rows import RowLayout
from tests.tables import make_view, stored

COMPOSITE = make_view(keys={"airport": "int8", "tailnum": "string"})
VIEWS = {"two keys": COMPOSITE, "no keys": make_view(keys={})}
SMALL = st.integers(-1, 2)
ROWS = st.lists(
    st.tuples(SMALL, st.sampled_from(["", "a"]), SMALL, st.none() | SMALL, st.integers(0, 1)),
    unique=True,
    max_size=20,
)


def framed(view, rows):
    """Give stored rows of (airport, tailnum, event, created, revision)."""
    names = ["airport", "tailnum", EVENT, CREATED, REVISION]
    given = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    keys = {name: given[name] for name in names[:2] if view.join_keys}
    return stored(
        view, keys | {name: given[name] for name in names[2:]} | {"value": [0] * len(rows)}
    )


def newest(view, frame):
    """Give each key's greatest header, one row after the other."""
    keys = frame.select(key.name for key in view.join_keys).rows() or [()] * frame.height
    headers = RowLayout(()).encode(frame, frame[EVENT], frame[CREATED], frame[REVISION])
    found = {}
    for key, header in zip(keys, headers, strict=True):
        found[key] = max(found.get(key, b""), header)
    return found


@pytest.mark.parametrize("keys", VIEWS)
@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_the_latest_row_has_the_greatest_header_of_its_key(keys, rows):
    """One row a key, in the order of keys, and as Redis compares them: null created is least."""
    view = VIEWS[keys]
    frame = framed(view, rows)
    found = latest(view, frame)
    expected = newest(view, frame)
    assert newest(view, found) == expected
    assert found.height == len(expected)
    assert found.select("airport", "tailnum").rows() == sorted(expected) if view.join_keys else True


@pytest.mark.parametrize("keys", VIEWS)
@settings(max_examples=60, deadline=None)
@given(before=ROWS, after=ROWS)
def test_a_winner_is_lowered_if_its_header_went_back(keys, before, after):
    """A winner that is gone, or now a lesser row, is found with the header that it had."""
    view = VIEWS[keys]
    was, now = (latest(view, framed(view, rows)) for rows in (before, after))
    found = lowered_winners(view, was, now)
    old, new = newest(view, was), newest(view, now)
    names = found.select(key.name for key in view.join_keys).rows() or [()] * found.height
    expected = {key: header for key, header in old.items() if new.get(key, b"") < header}
    assert dict(zip(names, found[HEADER], strict=True)) == expected
