"""Where keys lie on a cluster."""

from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from featurestore.storage.cluster import SLOTS, slot_of, tags

KEYS = st.binary(max_size=12) | st.text("{}ab", max_size=8).map(str.encode)


@given(KEYS)
def test_a_key_lies_where_its_hash_tag_does(key):
    """The slot is that which servers compute, braces or none."""
    assert slot_of(key) == key_slot(key)


def test_each_slot_has_a_tag_that_lies_in_it():
    """A table's markers lie in all slots."""
    assert [key_slot(b"{" + tag + b"}fs1/x") for tag in tags()] == list(range(SLOTS))
