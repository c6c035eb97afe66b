"""What registered locks are, as plain values."""

from typing import Any

from featurestore.cli.values.plain import when
from featurestore.jobs.locks import Kept
from featurestore.model.facts import Registered
from featurestore.model.lock import Lock


def kept(found: Kept) -> dict[str, Any]:
    """Give what registering a lock did."""
    return {
        "id": found.registered.id,
        "owner": found.registered.owner,
        "expires": when(found.registered.expires),
        "versions": versions(found.registered.lock),
        "warmed": found.warmed,
        "collected": found.collected,
    }


def registered(one: Registered, now: int) -> dict[str, Any]:
    """Give a registered lock: what it asks for, until when, and how it stands now."""
    return {
        "id": one.id,
        "owner": one.owner,
        "state": state(one, now),
        "service": one.lock.service,
        "features": [output.name for output in one.lock.outputs],
        "versions": versions(one.lock),
        "rows": one.lock.rows,
        "registered": when(one.registered),
        "expires": when(one.expires),
        "retired": when(one.retired),
    }


def state(one: Registered, now: int) -> str:
    """Say in a word how a lock stands at a moment."""
    if one.retired is not None:
        return "retired"
    return "registered" if one.holds(now) else "expired"


def versions(lock: Lock) -> list[str]:
    """Give the versions that a lock names."""
    return [f"{one.name}@{one.id[:12]}" for one in lock.views]
