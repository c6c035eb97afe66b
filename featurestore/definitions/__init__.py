"""What users write, on top of Feast: views of Polars expressions, and the loader of a repo.

May import the engine, the model, feast and pandas. Its law: no user code runs in a process that
serves, trains or keeps books; a repo is imported in child processes, and documents come back.

`load` gives a repo's documents and is free of feast. `FeatureView`, `OnDemandFeatureView`, `Window`
and what turns such objects into documents in process, `document` and `projections`, import feast
when they are first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from featurestore.definitions.loader import load

if TYPE_CHECKING:
    from featurestore.definitions.on_demand import OnDemandFeatureView
    from featurestore.definitions.reading import projections
    from featurestore.definitions.repo import document
    from featurestore.definitions.views import FeatureView
    from featurestore.definitions.windows import Window

__all__ = ["FeatureView", "OnDemandFeatureView", "Window", "document", "load", "projections"]

_HOMES = {
    "FeatureView": "featurestore.definitions.views",
    "OnDemandFeatureView": "featurestore.definitions.on_demand",
    "Window": "featurestore.definitions.windows",
    "document": "featurestore.definitions.repo",
    "projections": "featurestore.definitions.reading",
}


def __getattr__(name: str) -> object:
    """Load feast only when a definition is asked for: this is its one door."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
