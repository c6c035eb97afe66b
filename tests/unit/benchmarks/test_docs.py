"""The page of figures is written from what was measured."""

import sys

import pytest


@pytest.fixture
def record(benchmark, tmp_path):
    """A report written to JSON and read back."""
    goals, report = benchmark("goals"), benchmark("report")
    fast = goals.Goal(work="a join", figure="of DuckDB's time", must=1.0, reach=0.7)
    made = report.Report(
        name="training",
        size={"rows": 10},
        repeats=3,
        tables=(
            report.Table(
                title="A join",
                measures=(report.Measure(name="seconds", digits=1),),
                cases=(
                    report.Case(name="ours", samples={"seconds": (1.0, 3.0, 2.0)}, against="ours"),
                    report.Case(name="other", samples={"seconds": (4.0, 4.0, 4.0)}, against="ours"),
                ),
            ),
        ),
        checks=("ours = other",),
        notes=("by hand",),
        goals=(goals.Reached(goal=fast, value=0.5), goals.Reached(goal=fast, why="it fell over")),
        failed={"Ray": "not installed"},
    )
    return benchmark("docs").read(report.write(made, tmp_path, 1.0, "full"))


def test_figures_replace_what_stood_between_the_marks(benchmark, record):
    """Medians, ratios, goals with their verdicts, and the reason of what could not be measured."""
    docs = benchmark("docs")
    page = docs.written(f"# Title\n\n{docs.BEGIN}\nold\n{docs.END}\nrest\n", [record])
    lines = page.splitlines()
    assert lines[0] == "# Title"
    assert lines[-1] == "rest"
    assert "old" not in lines
    assert "| other | 4.0 | 2.00 |" in lines
    assert "| a join | of DuckDB's time | ≤ 1.00 | ≤ 0.70 | 0.50 | reached |" in lines
    assert "| a join | of DuckDB's time | ≤ 1.00 | ≤ 0.70 | none | short: it fell over |" in lines
    assert "- failed: Ray: not installed" in lines
    assert any(line.startswith("Measured on ") and "full sizes" in line for line in lines)
    assert docs.written(page, [record]) == page


def test_a_page_without_marks_is_refused(benchmark, record):
    """Nothing is written where it cannot be told what to replace."""
    with pytest.raises(ValueError, match="needs the marks"):
        benchmark("docs").written("# Title\n", [record])


def test_the_page_in_the_docs_has_the_marks(benchmark, record):
    """So that the command works on it."""
    docs = benchmark("docs")
    assert docs.written(docs.PAGE.read_text(), [record])


def test_windows_come_in_where_they_were_measured(benchmark, tmp_path, monkeypatch):
    """The page needs the figures of training; those of windows stand after them, if there are."""
    docs, report = benchmark("docs"), benchmark("report")
    page = tmp_path / "page.md"
    monkeypatch.setattr(sys, "argv", ["docs.py", "--from", str(tmp_path), "--page", str(page)])

    def wrote(name):
        made = report.Report(
            name=name, size={}, repeats=1, tables=(), checks=(f"of {name}",), notes=()
        )
        report.write(made, tmp_path, 1.0, "full")

    for name in docs.NAMES:
        wrote(name)
    for found in (docs.NAMES, (*docs.NAMES, "windows-push")):
        wrote(found[-1])
        page.write_text(f"{docs.BEGIN}\n{docs.END}\n")
        assert docs.main() == 0
        equal = [line for line in page.read_text().splitlines() if line.startswith("- equal: of ")]
        assert equal == [f"- equal: of {name}" for name in found]
