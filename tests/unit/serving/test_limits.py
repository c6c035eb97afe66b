"""What a server may be told to accept."""

import pytest

from featurestore.errors import InvalidRequest
from featurestore.serving.message.limits import Limits


@pytest.mark.parametrize("given", ["10m", -1, None, 1.5, 1 << 63])
def test_a_server_refuses_such_limits_before_it_starts(given):
    """Else every push would fail."""
    with pytest.raises(InvalidRequest, match=r"^limits\.skew: .* is no number of microseconds"):
        Limits(skew=given)


def test_a_lookup_too_large_is_refused_by_its_part():
    """Features and keys have limits of their own; what is as large as they say is fine."""
    limits = Limits(outputs=3, keys=10)
    limits.check(rows=5, outputs=3, views=2)
    with pytest.raises(InvalidRequest, match=r"^features: 4 asked for, at most 3 a call"):
        limits.check(rows=1, outputs=4, views=1)
    with pytest.raises(InvalidRequest, match=r"^entities: 6 rows of 2 stored views are 12 keys"):
        limits.check(rows=6, outputs=1, views=2)
