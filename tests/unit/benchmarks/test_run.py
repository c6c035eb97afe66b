"""The benchmarks run, compare answers first, and write what they measured; sizes are tiny here."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import featurestore

ROOT = Path(featurestore.__file__).resolve().parent.parent
SIDES = {
    "training": {"ours", "ours, pandas", "ours, draft", "DuckDB ASOF", "Polars join_asof"},
    "views": {"ours", "DuckDB ASOF, one statement", "DuckDB ASOF, five"},
    "skew": {"ours", "DuckDB ASOF", "ours, one hot key", "DuckDB ASOF, one hot key"},
    "large": {"ours"},
    "executors": {"ours, local", "ours, Ray"},
    "cold": {"ours"},
    "materialize": {"ours", "Polars + MSET"},
    "serving": {
        "ours",
        "bare handler",
        "bare handler on asyncio",
        "without",
        "with an on-demand view",
        "1 worker",
        "2 workers",
        "one server",
        "6-node cluster",
    },
    "serving-profile": {
        *("parse", "keys", "command", "socket", "replies", "rows", "statuses", "on-demand"),
        *("encode", "metrics", "rest", "sum of stages", "whole call", "ours", "bare handler"),
        *("1 x 50", "100 x 50", "2 views", "100 mixed", "1 derived", "100 derived"),
    },
    "versions": {
        "promote, a call",
        "promote, a command",
        "rollback, a call",
        "rollback, a command",
    },
    "windows": {"ours", "DuckDB frames", "DuckDB range join"},
    "windows-length": {"ours"},
    "windows-lookup": {
        "plain",
        "windowed",
        "in Redis: row and window state",
        "its raw events, packed",
    },
    "windows-push": {"one event, then a lookup", "batches of 100"},
}


def run(*arguments):
    """Run the benchmarks' command; Feast, which takes long to import, is left out by name."""
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "run.py", "--tiny", "--without-feast", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


RAY = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=RAY if name == "executors" else ()) for name in SIDES]
)
def test_a_benchmark_compares_answers_and_writes_medians(name, tmp_path):
    """Each prints 80 columns, and its JSON has checks, the setting, and a median per sample."""
    done = run(name, "--repeats", "1", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    tables, rest = done.stdout.rsplit("took", 1)
    assert rest.splitlines()[0].endswith(f"{name}.json")
    lines = [*tables.splitlines(), *rest.splitlines()[1:]]
    assert max(map(len, lines)) <= 80
    report = json.loads((tmp_path / f"{name}.json").read_text())
    assert report["checks"]
    assert report["failed"] == {}
    assert all("left out" in goal["why"] for goal in report["goals"] if goal["value"] is None)
    assert "took_seconds" in report
    assert report["setting"]["cores"] >= 1
    assert report["setting"]["versions"]["polars"]
    cases = [case for table in report["tables"] for case in table["cases"]]
    assert {re.split(r", \d", case["name"])[0] for case in cases} == SIDES[name]
    for case in cases:
        assert case["samples"].keys() == case["medians"].keys()
        assert all(len(values) == report["repeats"] == 1 for values in case["samples"].values())


def test_an_unknown_benchmark_is_refused_by_name():
    """A name that is no benchmark ends the run before anything is measured."""
    done = run("speed")
    assert done.returncode == 2
    assert "unknown: speed" in done.stderr
