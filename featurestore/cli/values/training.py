"""Training sets, as plain values."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from featurestore.training import TrainingSet
from featurestore.training.explain import Explanation


def written(made: TrainingSet, out: Path, lock: Path, seconds: float) -> dict[str, Any]:
    """Give what was written, and of what it was made."""
    return {
        "rows": len(made),
        "out": str(out),
        "lock": str(lock),
        "lock_id": made.lock.id,
        "features": [one.name for one in made.lock.outputs],
        "versions": {one.name: one.id for one in made.lock.views},
        "data": {one.name: one.data for one in made.lock.views if one.data is not None},
        "withheld": made.withheld,
        "seconds": round(seconds, 3),
    }


def explained(found: Explanation) -> dict[str, Any]:
    """Give what would be read."""
    return asdict(found)
