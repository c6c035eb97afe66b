"""What a look-up answers, as plain values."""

from typing import Any

from featurestore.serving.response import OnlineResponse


def looked_up(found: OnlineResponse) -> dict[str, Any]:
    """Give an answer as plain values: lists by name, one item per row."""
    return {
        "release": found.release,
        "as_of": found.as_of,
        "versions": found.versions,
        "features": found.to_dict(),
        "statuses": found.statuses,
        "event_times": found.event_times,
    }
