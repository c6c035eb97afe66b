"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

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
Views = Annotated[
    list[str] | None,
    typer.Option("--view", "-v", metavar="VIEW", help="Only this view; may be repeated."),
]
