"""What a person probably meant."""

import pytest

from featurestore.model.names import suggest

CASES = [
    ("dely", ["delay", "seats"], "; did you mean 'delay'?"),
    ("zzz", ["b", "a", "b"], "; known are a, b"),
    ("zzz", [], ""),
    (
        "zzz",
        [f"n{n:02}" for n in range(12)],
        "; known are " + ", ".join(f"n{n:02}" for n in range(12)),
    ),
    (
        "zzz",
        [f"n{n:02}" for n in range(13)],
        "; known are " + ", ".join(f"n{n:02}" for n in range(12)) + ", …",
    ),
]


@pytest.mark.parametrize(("name", "known", "hint"), CASES)
def test_a_near_name_is_suggested_else_the_known_ones(name, known, hint):
    """One near name, else a dozen of those there are, else nothing."""
    assert suggest(name, known) == hint
