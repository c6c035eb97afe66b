"""The README's blocks run as they stand."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(
    r"^```(?P<language>\w+)(?P<marks>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
CLI = [sys.executable, "-m", "featurestore.cli"]


def blocks(*marks):
    """Give (language, marks, body) of the README's blocks that carry one of the marks."""
    found = [m.groupdict() for m in BLOCK.finditer((ROOT / "README.md").read_text())]
    return [b for b in found if any(mark in b["marks"] for mark in marks)]


@pytest.fixture(scope="module")
def environ(tmp_path_factory):
    """An environment without settings of the machine, in which the package is found."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FEATURESTORE_")}
    return kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"}


@pytest.fixture(scope="module")
def repo(tmp_path_factory, environ):
    """A repo written from the README's files, over the example's landings."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "data").mkdir()
    shutil.copy(ROOT / "feature_repo/data/landings.parquet", folder / "data")
    for block in blocks("file="):
        (folder / block["marks"].split("file=")[1].strip()).write_text(block["body"])
    yield folder
    subprocess.run([*CLI, "online", "stop"], cwd=folder, env=environ, check=True)


def run(arguments, repo, environ, *, code=0):
    """Run a program in the repo to an exit code; its error output is the failure's text."""
    done = subprocess.run(
        arguments, cwd=repo, env=environ, check=False, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def test_the_readme_runs_from_top_to_bottom(repo, environ):
    """Every marked block runs in order, and the served answer is the training row's."""
    printed = []
    for block in blocks("run", "serve=", "edit="):
        if "serve=" in block["marks"]:
            printed.append(served(block, repo, environ))
        elif "edit=" in block["marks"]:
            edit(block, repo)
        elif block["language"] == "console":
            code = int(block["marks"].partition("exits=")[2] or 0)
            for line in block["body"].splitlines():
                command = shlex.split(line.removeprefix("$ "))
                assert command[0] == "featurestore"
                printed.append(run([*CLI, *command[1:]], repo, environ, code=code))
        else:
            printed.append(run([sys.executable, "-c", block["body"]], repo, environ))
    shown = iter(printed)
    for wanted in (
        "plane_history@", "prod now names release 1", "N14228", "PRESENT", "PRESENT",
        "was_late: expression changed", "Applied: 1 changed", "old = new",
        "prod now names release 2", "with the views of release 1", "of ann",
        "service lateness_v1  live in prod", "Nothing to collect",
    ):  # fmt: skip
        assert any(wanted in text for text in shown), f"{wanted} is not in what came after"


def edit(block, repo):
    """Change a file of the repo: a block's lines with a plus for those with a minus."""
    file = repo / block["marks"].partition("edit=")[2].strip()
    lines = block["body"].splitlines()
    old, new = (
        "\n".join(line[1:] for line in lines if line.startswith(sign)) for sign in ("-", "+")
    )
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def served(block, repo, environ):
    """Run a block against `featurestore serve` on a free port; a command prints what is shown."""
    named = block["marks"].split("serve=")[1].strip()
    server = subprocess.Popen(
        [*CLI, "serve", "--port", "0"], cwd=repo, env=environ, stdout=subprocess.PIPE, text=True
    )
    try:
        address = json.loads(server.stdout.readline())["address"]
        if block["language"] == "console":
            command, _, shown = block["body"].partition("\n")
            words = shlex.split(command.removeprefix("$ featurestore "))
            printed = run([*CLI, *words, "--address", address], repo, environ)
            assert [line.rstrip() for line in printed.splitlines()] == shown.splitlines()
            return printed
        assert named in block["body"]
        code = block["body"].replace(named, address)
        return run([sys.executable, "-c", code], repo, environ)
    finally:
        server.terminate()
        assert server.wait(timeout=20) == 0
        server.stdout.close()


def test_the_commands_of_the_first_screen_are_targets_of_the_makefile():
    """The README's make commands exist."""
    makefile = (ROOT / "Makefile").read_text()
    readme = (ROOT / "README.md").read_text()
    for target in re.findall(r"^\$ make (\w+)", readme, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
