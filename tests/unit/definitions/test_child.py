"""The child's answer to an error names the place in the repo, never one in a library."""

import json
from pathlib import Path

import pytest

from featurestore.definitions.child import repo_files, report
from featurestore.errors import InvalidExpression


def told(repo: Path, error: BaseException) -> dict[str, str]:
    report(repo, repo / "answer", type(error), error, error.__traceback__)
    return json.loads((repo / "answer").read_text())["error"]


def raised(source: str, file: Path) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - the cases raise different ones
        exec(compile(source, str(file), "exec"))
    return caught.value


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\nx.y", "a.py:2: AttributeError: 'int' object has no attribute 'y'"),
        ("def f(:", "a.py:1: SyntaxError: invalid syntax (a.py, line 1)"),
        ("import json\njson.loads('{')", "a.py:2: JSONDecodeError: "),
        ("def f():\n  1 / 0\nf()", "a.py:2: ZeroDivisionError: division by zero"),
    ],
)
def test_an_error_of_user_code_names_its_innermost_line(
    tmp_path: Path, source: str, message: str
) -> None:
    """Frames of libraries below the user's line do not hide it."""
    error = told(tmp_path, raised(source, tmp_path / "a.py"))
    assert error["kind"] == "InvalidDefinition"
    assert error["message"].startswith(message)


def test_an_error_of_the_store_keeps_its_kind(tmp_path: Path) -> None:
    """The caller raises the same class again; without a line of the repo it stays as it was."""
    assert told(tmp_path, InvalidExpression("v.features.a: no")) == {
        "kind": "InvalidExpression",
        "message": "v.features.a: no",
    }


def test_modules_are_those_of_feast_less_the_tests(tmp_path: Path) -> None:
    """Every Python file counts but packages' own, ignored ones and those in `tests`."""
    for name in (
        "b.py",
        "a.py",
        "sub/c.py",
        "sub/__init__.py",
        "tests/d.py",
        "old/e.py",
        ".venv/f.py",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".feastignore").write_text("old/  # not ours\n")
    assert [str(f.relative_to(tmp_path)) for f in repo_files(tmp_path)] == [
        "a.py",
        "b.py",
        "sub/c.py",
    ]
