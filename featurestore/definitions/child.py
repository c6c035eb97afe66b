"""The child process: import a repo's modules and write its documents, or what is wrong, to a file.

Run as `python -O -P -m featurestore.definitions.child REPO ANSWER` with the repo as working
directory. The answer is one JSON object, `{"project": …}` or `{"error": {"kind": …, "message":
…}}`; standard output and error are the user's.
"""

import importlib
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, TracebackType

import yaml
from feast.repo_operations import get_repo_files

from featurestore.definitions.refusals import KINDS
from featurestore.definitions.repo import read_project
from featurestore.errors import FeatureStoreError, InvalidDefinition
from featurestore.model.documents import dump


def main(repo: Path, answer: Path) -> None:
    """Import the repo and write its project document."""
    _quiet()
    sys.excepthook = partial(_report, repo, answer)
    sys.path.insert(0, str(repo))
    things = _things([_module(file, repo) for file in repo_files(repo)])
    project = read_project(project_name(repo), things, repo)
    answer.write_text(json.dumps({"project": dump(project)}))


def repo_files(repo: Path) -> list[Path]:
    """Give a repo's modules, sorted: what Feast would import, less the folder `tests`."""
    return [file for file in get_repo_files(repo) if file.relative_to(repo).parts[0] != "tests"]


def project_name(repo: Path) -> str:
    """Give the project's name from `feature_store.yaml`, environment variables filled in.

    Raises:
        InvalidDefinition: there is no such file, or it names no project.
    """
    file = repo / "feature_store.yaml"
    if not file.is_file():
        raise InvalidDefinition(
            f"{repo}: no feature_store.yaml is here; give the folder of a Feast repo"
        )
    try:
        settings = yaml.safe_load(os.path.expandvars(file.read_text()))
    except yaml.YAMLError as error:
        raise InvalidDefinition(f"feature_store.yaml: not valid YAML ({error})") from error
    if not isinstance(settings, dict) or not isinstance(settings.get("project"), str):
        raise InvalidDefinition("feature_store.yaml: no project is named; add `project: <name>`")
    return str(settings["project"])


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


def _report(
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
    place = next(_places(repo, error, trace), None)
    if place is not None:
        message = f"{place}: {message}"
    name = kind.__name__ if ours else InvalidDefinition.__name__
    answer.write_text(json.dumps({"error": {"kind": name, "message": message}}))


def _places(repo: Path, error: BaseException, trace: TracebackType | None) -> Iterator[str]:
    """Give `file.py:line` of the frames inside the repo, innermost first."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(trace)]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((error.filename, error.lineno))
    for filename, line in reversed(frames):
        path = Path(filename)
        if path.is_absolute() and path.is_relative_to(repo):
            yield f"{path.relative_to(repo)}:{line}"


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
