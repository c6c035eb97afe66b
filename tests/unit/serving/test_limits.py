"""What a server may be told to accept."""

import pytest

from featurestore.errors import InvalidRequest
from featurestore.serving.limits import Limits


@pytest.mark.parametrize("given", ["10m", -1, None, 1.5, 1 << 63])
def test_a_server_refuses_such_limits_before_it_starts(given):
    """Else every push would fail."""
    with pytest.raises(InvalidRequest, match=r"^limits\.skew: .* is no number of microseconds"):
        Limits(skew=given)
