"""What several answers are made of, as plain values."""

from datetime import datetime
from typing import Any

from featurestore.model.documents import View
from featurestore.model.shown import feature_text
from featurestore.model.time import BEGINNING, Interval, moment


def interval(one: Interval) -> dict[str, Any]:
    """Give an interval: known after `start` (null: ever) up to and with `end`."""
    return {"start": when(one.start), "end": when(one.end)}


def texts(found: View) -> list[str]:
    """Give each feature's expression as people read it, and over which window it is taken."""
    return [feature_text(f, f"{found.name}.{f.name}") for f in found.features]


def when(us: int | None) -> datetime | None:
    """Give a moment for JSON; None for never, and for a start at the beginning of time."""
    return None if us is None or us <= BEGINNING else moment(us)
