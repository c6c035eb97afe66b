"""What a training set looks like on a terminal."""

from pathlib import Path

from rich.markup import escape

from featurestore.cli.terminal import facts, out, table
from featurestore.model.words import count, size
from featurestore.training import TrainingSet
from featurestore.training.explain import Explanation


def written(made: TrainingSet, path: Path, lock: Path, seconds: float) -> None:
    """Print what was written, and of what it was made."""
    asked = made.lock
    features = count(len(asked.outputs), "feature")
    out.print(
        f"{count(len(made), 'row')} with {features}, in {seconds:.1f} s "
        f"({len(made) / max(seconds, 1e-9):,.0f} rows/s)\n"
    )
    withheld = sum(made.withheld.values())
    facts(
        {
            "rows": str(path),
            "lock": f"{lock} ({asked.id[:12]})",
            "withheld": f"{withheld:,} values that were not yet known",
        }
    )
    out.print()
    table(
        ["view", "data"],
        [(f"{one.name}@{one.id[:12]}", one.data or "computed on demand") for one in asked.views],
        whole=("view",),
    )
    out.print(f"\nKeep it for a model: featurestore lock register {escape(str(lock))} --owner NAME")


def explained(found: Explanation) -> None:
    """Print what would be read of each view."""
    out.print(f"{count(found.entity_rows, 'entity row')}, by {escape(found.executor)}\n")
    table(
        ["view", "features", "rows", "buckets", "reads", "prunes"],
        [
            (
                one.version,
                one.features,
                f"{one.rows:,}",
                one.buckets,
                f"{count(one.files, 'file')}, {size(one.bytes)}",
                f"{count(one.pruned, 'file')}, {size(one.pruned_bytes)}",
            )
            for one in found.views
        ],
        right=("features", "rows", "buckets"),
        whole=("view",),
    )
    for version in found.computed:
        out.print(f"{version} is computed of these columns and the entity rows")
