"""Running the command line in this process, as a person's shell would."""

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from featurestore.cli import main

ROOT = Path(__file__).parents[1]
CLI = [sys.executable, "-m", "featurestore.cli"]


@dataclass(frozen=True, slots=True)
class Said:
    """What a command printed."""

    stdout: str
    stderr: str


def environment(url):
    """Give an environment without the machine's settings, over a Redis-protocol server."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FEATURESTORE_")}
    return kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "80", "FEATURESTORE_REDIS_URL": url}


def run(*arguments, repo, environ, code=0):
    """Run a command in a repo to its end; asserts its exit code, gives its output."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["featurestore", *map(str, arguments)])
        patch.chdir(repo)
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == code, out.getvalue() + err.getvalue()
    return Said(out.getvalue(), err.getvalue())


def fits(text):
    """Say whether every line fits a terminal of 80 columns."""
    return max(map(len, text.splitlines())) <= 80


def words(text):
    """Give a text on one line: where it folds is the terminal's business."""
    return " ".join(text.split())
