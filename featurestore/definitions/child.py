"""The child process: import a repo's modules and write its documents, or what is wrong, to a file.

Run as `python -O -P -m featurestore.definitions.child PROJECT REPO ANSWER` in the folder REPO. The
answer is one JSON object, `{"project": …}` or `{"error": {"kind": …, "message":
…}}`; standard output and error are the user's.
"""

import importlib
import json
import logging
import sys
import traceback
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, TracebackType

from feast.repo_operations import get_repo_files

from featurestore.definitions.refusals import KINDS
from featurestore.definitions.repo import read_project
from featurestore.errors import FeatureStoreError, InvalidDefinition
from featurestore.model.documents import dump


def main(project: str, repo: Path, answer: Path) -> None:
    """Import the repo and write its project document."""
    _quiet()
    sys.excepthook = partial(report, repo, answer)
    sys.path.insert(0, str(repo))
    things = _things([_module(file, repo) for file in repo_files(repo)])
    answer.write_text(json.dumps({"project": dump(read_project(project, things, repo))}))


def repo_files(repo: Path) -> list[Path]:
    """Give a repo's modules, sorted: what Feast would import, less the folder `tests`."""
    return [file for file in get_repo_files(repo) if file.relative_to(repo).parts[0] != "tests"]


def _quiet() -> None:
    """Silence what Feast says of itself; it switched deprecation warnings on when imported."""
    warnings.resetwarnings()
    warnings.simplefilter("ignore")
    logging.getLogger("feast").setLevel(logging.ERROR)
    sys.dont_write_bytecode = True


def _module(file: Path, repo: Path) -> ModuleType:
    relative = file.relative_to(repo)
    module = importlib.import_module(".".join(relative.with_suffix("").parts))
    if Path(module.__file__ or "").resolve() != file:
        raise InvalidDefinition(
            f"{relative}: Python already has a module of this name ({module.__file__}); rename the "
            "file, or list it in .feastignore"
        )
    return module


def _things(modules: list[ModuleType]) -> list[object]:
    """Give each Feast object once, in the order of files and names."""
    found: dict[int, object] = {}
    for module in modules:
        for name in sorted(vars(module)):
            thing = getattr(module, name)
            if isinstance(thing, KINDS):
                found.setdefault(id(thing), thing)
    return list(found.values())


def report(
    repo: Path,
    answer: Path,
    kind: type[BaseException],
    error: BaseException,
    trace: TracebackType | None,
) -> None:
    """Write what is wrong, with the file and line of the repo that it comes from."""
    ours = isinstance(error, FeatureStoreError)
    message = str(error) if ours else f"{kind.__name__}: {error}"
    if not ours:
        traceback.print_exception(kind, error, trace)
    place = next(places(repo, error, trace), None)
    if place is not None:
        message = f"{place}: {message}"
    name = kind.__name__ if ours else InvalidDefinition.__name__
    answer.write_text(json.dumps({"error": {"kind": name, "message": message}}))


def places(repo: Path, error: BaseException, trace: TracebackType | None) -> Iterator[str]:
    """Give `file.py:line` of the frames inside the repo, innermost first."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(trace)]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((error.filename, error.lineno))
    for filename, line in reversed(frames):
        path = Path(filename)
        if path.is_absolute() and path.is_relative_to(repo):
            yield f"{path.relative_to(repo)}:{line}"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).resolve(), Path(sys.argv[3]))
