"""Laws of the package as a whole: what it loads, what it names, what it never does."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import featurestore
from featurestore import errors

ROOT = Path(featurestore.__file__).parent
SOURCES = sorted(p for p in ROOT.rglob("*.py") if "proto" not in p.parts)
EXECUTING = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
ALLOWED_CALLS = {("model/expressions.py", "deserialize")}
CALLS = {"deserialize", "eval", "exec", "unsafe_load", "full_load"}


def loaded_by(code):
    """Give the top-level modules that a fresh process has after running some code."""
    report = f"{code}\nimport sys; print(*{{m.partition('.')[0] for m in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", report],
        cwd=ROOT.parent,
        check=True,
        capture_output=True,
        text=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import featurestore",
        "from featurestore import FeatureStore, FeatureClient",
        "import featurestore.cli",
    ],
)
def test_neither_feast_nor_pandas_is_loaded(code):
    """Importing the package, its public names or the command line costs no feast and no pandas."""
    assert loaded_by(code).isdisjoint({"feast", "pandas", "dask"})


def test_every_public_name_is_there():
    """`__all__` is complete: each name resolves, and every error of the store is among them."""
    for name in featurestore.__all__:
        assert getattr(featurestore, name).__name__ == name
    named = {n for n, kind in vars(errors).items() if isinstance(kind, type)}
    assert named <= set(featurestore.__all__)


def test_the_tree_in_the_errors_docstring_is_the_tree():
    """The exceptions' drawing names each class under its parent's indentation."""
    lines = [line for line in errors.__doc__.splitlines() if "──" in line]
    drawn = {line.split("── ")[1].split()[0]: line.index("── ") for line in lines}
    kinds = {n: k for n, k in vars(errors).items() if isinstance(k, type)}
    del kinds["FeatureStoreError"]
    assert set(drawn) == set(kinds)
    for name, kind in kinds.items():
        parent = kind.__mro__[1].__name__
        assert drawn[name] == 5 + (0 if parent == "FeatureStoreError" else 4), name


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_stored_is_ever_executed(path):
    """No module loads pickles or evaluates text; expression bytes enter by one walked door."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not {alias.name.partition(".")[0] for alias in node.names} & EXECUTING
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in EXECUTING
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            here = (str(path.relative_to(ROOT)), name)
            assert name not in CALLS or here in ALLOWED_CALLS, f"line {node.lineno}"
