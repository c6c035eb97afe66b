"""Documents survive JSON unchanged, and malformed JSON is refused."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.model.declare import project, service
from featurestore.model.documents import (
    Expression,
    Info,
    LiveView,
    Project,
    Release,
    Source,
    Spelling,
    Table,
    View,
    dump,
    load,
)
from tests.declared import pace, source, use, view

HISTORY = view(source=source(field_mapping=(("dep", "delay"),), created_field="loaded"))
MODEL = service(
    name="model", projections=[use("history", "h", plane="tail")], views={"history": HISTORY}
)
SHOP = project(name="shop", views=[HISTORY, pace()], services=[MODEL])
TABLE = Table(data_id=HISTORY.data_id, generation=3, buckets=8)
RELEASE = Release(
    project="shop",
    number=7,
    views=(LiveView(view=HISTORY, table=TABLE, watermark=-5), LiveView(view=pace())),
    services=(MODEL,),
    created=1,
)
INFOS = st.builds(
    Info,
    description=st.text(),
    owner=st.text(),
    tags=st.lists(st.tuples(st.text(), st.text()), max_size=3).map(tuple),
)
EXPRESSIONS = st.builds(
    Expression,
    spellings=st.lists(
        st.builds(Spelling, dialect=st.text(), data=st.binary()), min_size=1, max_size=3
    ).map(tuple),
)


@pytest.mark.parametrize("document", [HISTORY, pace(), MODEL, SHOP, RELEASE, TABLE])
def test_a_document_survives_json(document):
    """What is written is read back equal, and written again to the same text."""
    text = dump(document)
    again = load(text, type(document))
    assert again == document
    assert dump(again) == text
    assert load(text.encode(), type(document)) == document


@given(INFOS, EXPRESSIONS)
def test_any_text_and_any_bytes_survive_json(info, expression):
    """Descriptions of any alphabet and expression bytes of any value come back exact."""
    assert load(dump(info), Info) == info
    assert load(dump(expression), Expression) == expression


def test_equal_documents_give_equal_text():
    """Sorted keys, no spaces: text can be compared and hashed."""
    assert dump(view()) == dump(view())
    assert list(json.loads(dump(HISTORY))) == sorted(json.loads(dump(HISTORY)))


def test_equal_views_are_one_key():
    """What is remembered of a view is found again with another copy of its document."""
    copy = load(dump(HISTORY), View)
    assert copy is not HISTORY
    assert {HISTORY: "known"}[copy] == "known"


def edited(**changes):
    """Give the history view's JSON with some fields changed; None drops one."""
    plain = json.loads(dump(HISTORY)) | changes
    return json.dumps({k: v for k, v in plain.items() if v != "drop"})


MALFORMED = {
    "no JSON": ("{", View),
    "another shape": ("[]", View),
    "a missing field": (edited(name="drop"), View),
    "an extra field": (edited(surprise=1), View),
    "an unknown kind": (edited(kind="stream"), View),
    "a number that is none": (edited(delay="soon"), View),
    "an extra field deep down": (edited(source={**json.loads(dump(source())), "x": 1}), View),
    "an unknown format": (
        json.dumps({**json.loads(dump(source())), "format": "pickle"}),
        Source,
    ),
    "another document": (dump(TABLE), Project),
}


@pytest.mark.parametrize(("text", "kind"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_text_is_a_value_error(text, kind):
    """Text that is not the document is refused, never half read."""
    with pytest.raises(ValueError, match=r".+"):
        load(text, kind)


def test_a_malformed_document_is_named_by_its_path():
    """The message says which field of which document is wrong."""
    with pytest.raises(ValueError, match=r"^View: .*kind"):
        load(edited(kind="stream"), View)


MISTYPED = {
    "$.delay": ("7", 7.0, 1.5, True, None),
    "$.name": (7, None, True, ["history"]),
    "$.ttl": ("7", 1.5, False),
    "$.event_id": (7,),
    "$.source.pushed": (1, "no", None),
    "$.features": ("history", {}, 7, None),
    "$.features[0].reads[0].dtype": (64,),
    "$.features[0].expression.spellings[0].data": (7, None),
    "$.source.field_mapping[0]": ("ab", ["a"], ["a", "b", "c"]),
    "$.source.field_mapping[0][1]": (2,),
}
CASES = [(path, value) for path, values in MISTYPED.items() for value in values]


@pytest.mark.parametrize(("path", "value"), CASES, ids=str)
def test_a_field_of_another_type_is_refused_by_its_path(path, value):
    """Nothing is read as what it is not: no text as a number, no number as text, no 1 as true."""
    plain = json.loads(dump(HISTORY))
    *above, last = (int(one) if one.isdecimal() else one for one in re.findall(r"\w+", path))
    place = plain
    for one in above:
        place = place[one]
    place[last] = value
    with pytest.raises(ValueError, match=rf"^View: .* @ {re.escape(path)}$"):
        load(json.dumps(plain), View)


def test_ids_as_people_see_them():
    """Versions carry twelve digits, tables sixteen and their generation."""
    assert HISTORY.version == f"history@{HISTORY.id[:12]}"
    assert TABLE.id == f"{HISTORY.data_id[:16]}.3"


def test_a_feature_is_found_by_name_or_not():
    """An unknown feature is None, not an error."""
    assert HISTORY.feature("seats") == HISTORY.features[1]
    assert HISTORY.feature("seat") is None
