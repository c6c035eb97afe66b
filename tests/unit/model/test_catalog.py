"""What a name, a pin and feature ids find among the versions that can answer."""

import re
from dataclasses import replace

import polars as pl
import pytest

from featurestore.errors import InvalidRequest, NotFound
from featurestore.model.catalog import Catalog
from tests.declared import view

OLD = view(features={"last_delay": pl.col("delay"), "seats": pl.col("seats")})
NEW = view(features={"last_delay": pl.col("delay") * 2, "seats": pl.col("seats")})
GONE = view("gone")
CATALOG = Catalog(current={"history": NEW}, others=(OLD, GONE, NEW))


def test_a_name_means_the_current_version():
    """Other versions are reached by a pin only."""
    assert CATALOG.named("history") is NEW
    with pytest.raises(NotFound, match="no view is called 'gone'"):
        CATALOG.named("gone")


def test_a_pin_means_the_version_whose_id_begins_so():
    """Four hex digits are enough, all sixty-four are fine; current and others alike."""
    for one in (OLD, NEW, GONE):
        for length in (8, 64):
            assert CATALOG.named(f"{one.name}@{one.id[:length]}") is one
    assert CATALOG.pinned("gone", GONE.id[:4]) is GONE


TWIN = replace(OLD, id=NEW.id[:8] + OLD.id[8:])
BAD_PINS = {
    "an unknown view": ("histori", "0000", NotFound, "no view is called 'histori'; did you mean"),
    "an unknown version": (
        "history",
        "0000",
        NotFound,
        f"history@0000 is not here; the view is at {NEW.version}",
    ),
    "no digits": ("history", "", InvalidRequest, "history@ names no version; write at least 4"),
    "three digits": ("history", NEW.id[:3], InvalidRequest, "write at least 4 of its hex digits"),
    "other signs": ("history", "*" * 8, InvalidRequest, "names no version"),
    "two versions": (
        "history",
        NEW.id[:8],
        InvalidRequest,
        f"may mean {NEW.version} or {TWIN.version}; write more digits",
    ),
}


@pytest.mark.parametrize(("name", "digest", "error", "told"), BAD_PINS.values(), ids=BAD_PINS)
def test_a_pin_that_names_no_one_version_is_refused(name, digest, error, told):
    """The message says what is wrong with it and what there is."""
    catalog = Catalog(current={"history": NEW}, others=(TWIN,))
    with pytest.raises(error, match=re.escape(told)):
        catalog.pinned(name, digest)


def test_features_are_found_in_the_current_version_first_then_in_their_own():
    """Equal feature ids are equal features: any version that has them all will do."""
    seats, delay = OLD.feature("seats").id, OLD.feature("last_delay").id
    third = view(features={"last_delay": pl.col("delay"), "more": pl.col("delay") + 1})
    catalog = Catalog(current={"history": NEW}, others=(third, OLD))
    assert catalog.holding("history", {seats}, own=OLD.id) is NEW
    assert catalog.holding("history", {delay}, own=OLD.id) is OLD
    assert catalog.holding("history", {delay}) is third
    assert catalog.holding("history", {delay, seats}) is OLD
    assert catalog.holding("history", {delay, "unknown"}) is None
    assert catalog.holding("gone", set()) is None
