"""What a person types: thin commands that parse, call a job and render its answer.

May import every room. Its law: a command decides nothing; exit codes and `--json` say what the job
said.

`commands` is what the command line looks like and loads nothing else, so that help comes at once;
the bodies are in `repo` (what needs the registry) and `online` (what needs Redis or a server),
each loaded when a command of it runs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from featurestore.cli.commands import main

if TYPE_CHECKING:
    from featurestore.cli import online, repo

__all__ = ["main", "online", "repo"]


def __getattr__(name: str) -> object:
    """Load the bodies of the commands when one is called."""
    if name not in ("online", "repo"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
