"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

VERSIONS = "Versions"
HISTORY = "What there is, and was"
SERVING = "Serving"
TRAINING = "Training"

HERE = Path()
DEFAULT_ADDRESS = "127.0.0.1:6571"

Repo = Annotated[
    Path,
    typer.Option(
        "--repo",
        "-r",
        envvar="FEATURESTORE_REPO",
        metavar="FOLDER",
        show_default="here",
        help="The feature repo.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Limit = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="So many; default 20, with --json all.")
]
Views = Annotated[
    list[str] | None,
    typer.Option("--view", "-v", metavar="VIEW", help="Only this view; may be repeated."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be computed, and why; writes nothing.")
]
Towards = Annotated[
    str, typer.Option("--alias", metavar="NAME", help="The alias that the steps lead to.")
]
Alias = Annotated[str, typer.Option("--alias", "-a", metavar="NAME", help="The alias to move.")]
