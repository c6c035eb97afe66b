"""What a command does: it calls one job, and prints what that found or did.

Each module is loaded when a command of it runs, so that help comes at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featurestore.cli.run import building, history, locks, serving, training, versions

__all__ = ["building", "history", "locks", "serving", "training", "versions"]


def __getattr__(name: str) -> object:
    """Load a module when a command of it is called."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
