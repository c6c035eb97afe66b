"""The commands of `featurestore`: their arguments, help and exit codes."""

import sys
from collections.abc import Sequence

import typer

from featurestore import errors
from featurestore.cli import terminal
from featurestore.cli.commands import building, history, locks, serving, training, versions
from featurestore.cli.commands.options import VERSIONS

EXIT_CODES: tuple[tuple[type[errors.FeatureStoreError], int], ...] = (
    (errors.NotMaterialized, 4),
    (errors.OnlineDataMissing, 4),
    (errors.Conflict, 5),
    (errors.Unavailable, 6),
    (errors.SourceError, 7),
    (errors.CorruptData, 7),
    (errors.FeatureStoreError, 1),
)

app = typer.Typer(
    name="featurestore",
    help="A feature store where training and serving read the same number.",
    epilog=(
        "Exit codes: 0 done; 1 refused; 2 usage, or `plan` found changes; 3 `plan` "
        "found a change that breaks a registered lock; 4 not materialized, or "
        "not in Redis; 5 somebody else was first, run it again; 6 unreachable, try later; 7 bad "
        "source or data; 8 `verify` found values that are not equal."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for part in (building, versions):
    app.add_typer(part.app)
app.add_typer(locks.app, name="lock", rich_help_panel=VERSIONS)
for part in (history, training, serving):
    app.add_typer(part.app)


def main() -> None:
    """Run the command line; an error of the store ends it with its exit code."""
    try:
        _refuse_bytes(sys.argv[1:])
        app(prog_name="featurestore")
    except errors.FeatureStoreError as problem:
        terminal.error(problem)
        sys.exit(next(code for kind, code in EXIT_CODES if isinstance(problem, kind)))


def _refuse_bytes(words: Sequence[str]) -> None:
    """Refuse words that are no text, before they reach a database, a file's name or the screen."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise errors.InvalidRequest(
                f"{word!r}: is not UTF-8; write it in UTF-8, and rename what is called so"
            ) from error
