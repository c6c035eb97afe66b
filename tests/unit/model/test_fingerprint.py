"""Laws of identity's encoding."""

from hypothesis import given
from hypothesis import strategies as st

from featurestore.model.fingerprint import digest, encode

PARTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4).map(tuple),
    max_leaves=12,
)


def typed(part: object) -> object:
    """Tell True from 1, which Python calls equal."""
    if isinstance(part, tuple):
        return tuple(typed(one) for one in part)
    return (type(part).__name__, part)


@given(PARTS, PARTS)
def test_different_parts_have_different_bytes(left, right):
    """The encoding is injective: equal bytes only for equal parts of equal types."""
    assert (encode(left) == encode(right)) == (typed(left) == typed(right))


def test_parts_cannot_run_into_each_other():
    """Neighbours keep their borders: ("a", "bc") is not ("ab", "c")."""
    assert digest("x", "a", "bc") != digest("x", "ab", "c")


def test_the_kind_is_part_of_the_identity():
    """Equal content of two kinds has two ids."""
    assert digest("frame", "a") != digest("feature", "a")


def test_the_digest_is_what_it_always_was():
    """A golden value: changing the scheme would orphan every stored version."""
    assert digest("golden", 1, "a", b"b", None, True, ("t",)) == (
        "3bb9f2946da38019be3b07896d5231d4f643f3eb7340f5791a280016c3d46eba"
    )
