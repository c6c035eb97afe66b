"""What a look-up and a push answer, as plain values."""

from dataclasses import asdict
from typing import Any

from featurestore.model.time import moment
from featurestore.serving.pushed import PushResult
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


def pushed(found: PushResult) -> dict[str, Any]:
    """Give what a push came to; a refusal's row is null where it is about all of them."""
    return {
        "source": found.source,
        "to": found.to,
        "accepted": found.accepted,
        "refused": found.refused_rows,
        "refusals": found.refused.to_dicts(),
        "online": [
            {**asdict(one), "known_at": None if one.known_at is None else moment(one.known_at)}
            for one in found.online
        ],
        "offline": found.offline,
    }
