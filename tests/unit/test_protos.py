"""The laws of the protos: generated code is fresh, and the lint catches what it should."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf import descriptor_pb2

SCRIPT = Path(__file__).parents[2] / "protos" / "generate.py"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_code_is_what_the_protos_give() -> None:
    """The check exits 0 and writes nothing."""
    found = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""
    assert found.returncode == 0


GOOD = """syntax = "proto3";
package featurestore.v1;
// A colour.
enum Colour {
  // Not said.
  COLOUR_UNSPECIFIED = 0;
}
// A thing.
message Thing {
  reserved 2;
  // Its name.
  string name = 1;
}
// Asks.
message AskRequest {}
// Answers.
message AskResponse {}
// Serves.
service Store {
  // Asks.
  rpc Ask(AskRequest) returns (AskResponse);
}
"""
FAULTS = {
    "package": ("package featurestore.v1", "package other.v1", "package 'other.v1'"),
    "message comment": ("// A thing.\n", "", "Thing: has no comment"),
    "field comment": ("  // Its name.\n", "", "Thing.name: has no comment"),
    "rpc comment": ("  // Asks.\n", "", "Store.Ask: has no comment"),
    "value comment": ("  // Not said.\n", "", "COLOUR_UNSPECIFIED: has no comment"),
    "field name": ("string name", "string theName", "Thing.theName: 'theName' is not spelled"),
    "prefix": ("COLOUR_UNSPECIFIED", "UNSPECIFIED", "does not begin with COLOUR_"),
    "zero": ("COLOUR_UNSPECIFIED", "COLOUR_RED", "must be COLOUR_UNSPECIFIED = 0"),
    "request": ("AskRequest", "Question", "must be called AskRequest"),
}


def _lint(text: str, directory: Path) -> list[str]:
    """Lint a file as the script does its own."""
    script = _script()
    home = directory / "featurestore" / "v1"
    home.mkdir(parents=True)
    (home / "one.proto").write_text(text)
    script.HERE = directory
    out = directory / "out"
    out.mkdir()
    descriptors: descriptor_pb2.FileDescriptorSet = script.compile_into(out)
    return list(script.lint(descriptors))


def test_a_clean_file_has_no_faults(tmp_path: Path) -> None:
    """The rules accept what keeps them."""
    assert _lint(GOOD, tmp_path) == []


@pytest.mark.parametrize(("old", "new", "fault"), FAULTS.values(), ids=FAULTS)
def test_each_breach_is_named(old: str, new: str, fault: str, tmp_path: Path) -> None:
    """A breach is reported with the path of what breaks the rule."""
    assert any(fault in found for found in _lint(GOOD.replace(old, new), tmp_path))
