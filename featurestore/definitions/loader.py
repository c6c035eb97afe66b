"""Load a repo: import it in child processes and take over its documents.

This module imports neither feast nor user code, so it may be used from anywhere above this room.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from featurestore import errors
from featurestore.errors import FeatureStoreError, InvalidDefinition, Unsupported
from featurestore.model.documents import Project
from featurestore.model.documents import load as load_document

SEEDS = ("0", "1")
_LOADING = "FEATURESTORE_LOADING"
"""Set in the children: a repo that loads itself would start children without end."""
_TAIL = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Child:
    """One load of the repo, its answer and what its code printed, both on disk."""

    process: subprocess.Popen[bytes]
    answer: Path
    output: Path


def load(repo: Path, *, timeout: float = 180.0) -> Project:
    """Give the documents of all that a Feast repo defines.

    The repo is imported twice at once, in child processes with different hash seeds; both must
    give the same identities. What its code prints goes to standard error. `timeout` is in seconds.

    Raises:
        InvalidDefinition: the repo cannot be imported (with file and line), defines something that
            cannot be taken (all of it is listed), or does not mean the same in two processes.
        Unsupported: feast is not installed.
        SourceError: the one thing wrong is a source that is missing or cannot be read.
    """
    if os.environ.get(_LOADING):
        raise InvalidDefinition(
            f"{repo}: a module of the repo loads the repo while it is being loaded; put what runs "
            "it under `if __name__ == '__main__':`, or outside the repo"
        )
    if find_spec("feast") is None:
        raise Unsupported(
            "definitions are written on top of Feast, which is not installed here; run "
            "pip install 'featurestore[definitions]'"
        )
    root = repo.resolve()
    if not root.is_dir():
        raise InvalidDefinition(f"{repo}: no such folder; give the folder of a Feast repo")
    name = project_name(root)
    with (
        TemporaryDirectory(prefix="featurestore-") as folder,
        _children(name, root, Path(folder)) as children,
    ):
        for child in children:
            _wait(child, root, timeout)
        sys.stderr.write(children[0].output.read_text(errors="replace"))
        first, second = (_project(child, root) for child in children)
    if (moved := _difference(first, second)) is not None:
        raise InvalidDefinition(
            f"{moved}: two loads of the repo gave it different identities; it depends on the order "
            "of a set, the clock or randomness: write a sorted list or a constant"
        )
    return first


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
        # The parser's own message quotes the line, and with it a secret from the environment.
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" (line {mark.line + 1})"
        raise InvalidDefinition(f"feature_store.yaml: is not valid YAML{line}; mend it") from None
    if not isinstance(settings, dict) or not isinstance(settings.get("project"), str):
        raise InvalidDefinition("feature_store.yaml: no project is named; add `project: <name>`")
    return str(settings["project"])


@contextmanager
def _children(project: str, repo: Path, folder: Path) -> Iterator[tuple[_Child, ...]]:
    started: list[_Child] = []
    try:
        for seed in SEEDS:
            started.append(_start(project, repo, folder / seed, seed))  # noqa: PERF401 - each must be ended
        yield tuple(started)
    finally:
        for child in started:
            if child.process.poll() is None:
                os.killpg(child.process.pid, signal.SIGKILL)
                child.process.wait()


def _start(project: str, repo: Path, place: Path, seed: str) -> _Child:
    answer, output = place.with_suffix(".json"), place.with_suffix(".txt")
    command = [sys.executable, "-O", "-P", "-W", "ignore", "-m", "featurestore.definitions.child"]
    with output.open("wb") as printed:
        process = subprocess.Popen(  # noqa: S603 - our own module, under this interpreter
            [*command, project, str(repo), str(answer)],
            cwd=repo,
            env=_environment()
            | {"PYTHONPATH": _python_path(), "PYTHONHASHSEED": seed, _LOADING: "1"},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return _Child(process=process, answer=answer, output=output)


def _environment() -> dict[str, str]:
    """Give the children's environment, with a place of the user's own for bytecode.

    Installers compile for plain Python only: under -O all of feast would be compiled again for each
    load, two thirds of its time (measured, Python 3.11). The repo's own modules are never cached.
    """
    inherited = dict(os.environ)
    if "PYTHONPYCACHEPREFIX" not in inherited and (cache := _cache()) is not None:
        inherited.pop("PYTHONDONTWRITEBYTECODE", None)
        inherited["PYTHONPYCACHEPREFIX"] = str(cache)
    return inherited


def _cache() -> Path | None:
    """Give a folder that only this user can write to, or None where there is no home."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = home / "featurestore" / "bytecode"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat()
    except (OSError, RuntimeError):
        return None
    mine = owner.st_uid == os.getuid() and not owner.st_mode & 0o022
    return folder if mine else None


def _python_path() -> str:
    """Give the search path of this package and the caller's, absolute: the child moves."""
    package = Path(__file__).resolve().parents[2]
    given = map(os.path.abspath, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return os.pathsep.join([str(package), *(entry for entry in given if entry in sys.path)])


def _wait(child: _Child, repo: Path, timeout: float) -> None:
    try:
        child.process.wait(timeout)
    except subprocess.TimeoutExpired as error:
        raise InvalidDefinition(
            f"{repo.name}: importing it did not end within {timeout:g} s; definitions must not "
            f"wait for anything{_printed(child)}"
        ) from error


def _project(child: _Child, repo: Path) -> Project:
    if not child.answer.is_file():
        raise InvalidDefinition(
            f"{repo.name}: its code ended Python (exit code {child.process.returncode}) before it "
            f"was read; definitions must not exit{_printed(child)}"
        )
    answer = json.loads(child.answer.read_text())
    if "error" in answer:
        kind = getattr(errors, answer["error"]["kind"], InvalidDefinition)
        known = isinstance(kind, type) and issubclass(kind, FeatureStoreError)
        raise (kind if known else InvalidDefinition)(answer["error"]["message"])
    return load_document(answer["project"], Project)


def _printed(child: _Child) -> str:
    text = child.output.read_text(errors="replace").strip()
    return f"; it printed:\n{text[-_TAIL:]}" if text else ""


def _difference(first: Project, second: Project) -> str | None:
    """Give the dotted path of what differs between two loads, or None."""
    left, right = _identities(first), _identities(second)
    return next((path for path in left | right if left.get(path) != right.get(path)), None)


def _identities(project: Project) -> dict[str, object]:
    """Give what each definition is, the narrowest path first."""
    named: dict[str, object] = {}
    for view in project.views:
        named[f"{view.name}.filter"] = view.filter
        for feature in view.features:
            named[f"{view.name}.features.{feature.name}"] = feature.expression
    for view in project.views:
        named[view.name] = view.id
    for service in project.services:
        named[service.name] = service.id
    return named
