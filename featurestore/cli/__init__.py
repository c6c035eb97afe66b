"""What a person types: thin commands that parse, call a job and render its answer.

May import every room. Its law: a command decides nothing; exit codes and `--json` say what the job
said.

`commands`, `versioning` and `options` are what the command line looks like and load nothing else,
so that help comes at once; the bodies are in `repo` (definitions and materialization), `versions`
(what is built beside what is live, and looked back on) and `online` (what needs Redis or a
server), each loaded when a command of it runs. What a command prints is in `render` for people and
in `values` for programs, that of `versions` in `versions_render` and `versions_values`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from featurestore.cli.commands import main

if TYPE_CHECKING:
    from featurestore.cli import online, repo, versions

__all__ = ["main", "online", "repo", "versions"]


def __getattr__(name: str) -> object:
    """Load the bodies of the commands when one is called."""
    if name not in ("online", "repo", "versions"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
