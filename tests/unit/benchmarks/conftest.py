"""Modules of the benchmarks, which are scripts beside each other and no package."""

import importlib
from pathlib import Path

import pytest

import featurestore

FOLDER = Path(featurestore.__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """Import a module of the benchmarks by its name."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module
