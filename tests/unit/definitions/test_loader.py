"""Loading a repo runs its code elsewhere, twice, and brings back documents or one clear error."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from featurestore.definitions.loader import _environment, load
from featurestore.errors import InvalidDefinition

PLANES = '''\
"""Planes."""
import sys
import warnings

import polars as pl
from feast import Entity, FeatureService, FileSource, ValueType
from featurestore.definitions import FeatureView
from shared.carriers import CARRIERS

print("printed by the repo")
sys.__stdout__.write('{"project": "printed too"}')
warnings.warn("warned by the repo")
plane = Entity(name="plane", join_keys=["tailnum"], value_type=ValueType.STRING)
landings = FileSource(name="landings", path="data/landings.parquet", timestamp_field="landed_at")
history = FeatureView(
    name="history",
    entities=[plane],
    source=landings,
    features={"late": pl.col("arr_delay") > 15, "big": pl.col("carrier").is_in(CARRIERS)},
)
service = FeatureService(name="service", features=[history])
'''


@pytest.fixture
def planes(repo: Path) -> Path:
    (repo / "shared").mkdir()
    (repo / "shared" / "carriers.py").write_text('CARRIERS = ["AA", "UA"]\n')
    (repo / "planes.py").write_text(PLANES)
    return repo


def test_documents_come_back_and_noise_stays_outside(
    planes: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prints end on standard error once; ignored files and tests are not imported."""
    (planes / "scratch.py").write_text("raise SystemExit('ignored files are not imported')\n")
    (planes / ".feastignore").write_text("scratch.py\n")
    (planes / "tests").mkdir()
    (planes / "tests" / "test_planes.py").write_text("raise RuntimeError('nor are tests')\n")
    monkeypatch.chdir("/")
    monkeypatch.setenv("PROJECT", "trains")
    (planes / "feature_store.yaml").write_text("project: ${PROJECT}\n")
    project = load(Path(os.path.relpath(planes)))
    printed = capfd.readouterr()
    assert project.name == "trains"
    assert [v.name for v in project.views] == ["history"]
    assert [s.name for s in project.services] == ["service"]
    assert printed.out == ""
    assert printed.err.count("printed by the repo") == 1
    assert "Warning" not in printed.err
    assert not list(planes.rglob("__pycache__"))
    code = (
        "import sys; from pathlib import Path; from featurestore.definitions import FeatureView,"
        "document; import planes; print(document(planes.service, Path.cwd())[0].id)"
    )
    monkeypatch.chdir(planes)
    package = Path(sys.modules["featurestore"].__file__).parent.parent
    path = os.pathsep.join([str(planes), str(package)])
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.splitlines()[-1].endswith(project.views[0].id)


def test_importing_the_loader_imports_neither_feast_nor_pandas() -> None:
    """The process that loads a repo stays free of what its definitions need."""
    package = Path(sys.modules["featurestore"].__file__).parent.parent
    code = (
        "import sys, featurestore.definitions.loader; print({'feast', 'pandas'} & {*sys.modules})"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == "set()"


def test_an_error_in_the_repo_shows_its_file_and_line(planes: Path) -> None:
    """What user code raises comes back with the innermost place inside the repo."""
    (planes / "shared" / "carriers.py").write_text("\nCARRIERS = sorted(None)\n")
    with pytest.raises(InvalidDefinition, match=r"^shared/carriers\.py:2: TypeError: 'NoneType'"):
        load(planes)


def test_a_definition_that_follows_a_sets_order_is_refused(planes: Path) -> None:
    """A set of strings has another order in every process, so it cannot have one identity."""
    carriers = "CARRIERS = [*{'AA', 'UA', 'DL', 'WN', 'B6', 'EV', 'MQ', 'US'}]\n"
    (planes / "shared" / "carriers.py").write_text(carriers)
    with pytest.raises(InvalidDefinition, match=r"^history\.features\.big: two loads of the repo"):
        load(planes)


@pytest.mark.parametrize(
    ("written", "timeout", "said"),
    [
        ("import sys\nsys.exit(3)\n", 180.0, "its code ended Python (exit code 3)"),
        ("import time\ntime.sleep(600)\n", 0.5, "importing it did not end within 0.5 s"),
    ],
)
def test_a_repo_that_cannot_be_imported_says_why(
    repo: Path, written: str, timeout: float, said: str
) -> None:
    """Leaving and hanging are named, and no child outlives the call."""
    (repo / "broken.py").write_text(written)
    with pytest.raises(InvalidDefinition, match=re.escape(said)):
        load(repo, timeout=timeout)
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert str(repo) not in running.stdout


def test_a_folder_that_is_no_repo_is_refused(tmp_path: Path) -> None:
    """The way out is the folder of a Feast repo."""
    with pytest.raises(InvalidDefinition, match="no such folder"):
        load(tmp_path / "none")
    with pytest.raises(InvalidDefinition, match=r"no feature_store\.yaml is here"):
        load(tmp_path)


def test_a_file_named_like_a_module_of_python_is_refused(repo: Path) -> None:
    """Python would silently import its own module instead, and the definitions would be lost."""
    (repo / "json.py").write_text("raise RuntimeError('never imported')\n")
    with pytest.raises(InvalidDefinition, match=r"json\.py: Python already has a module"):
        load(repo)


def test_bytecode_is_kept_for_feast_and_never_for_the_repo(tmp_path):
    """The children compile feast once for all loads; the repo's modules are read anew each time."""
    cache = _environment().get("PYTHONPYCACHEPREFIX")
    assert cache is not None
    repo = tmp_path / "repo"
    repo.mkdir()
    (repo / "feature_store.yaml").write_text("project: shop\nprovider: local\n")
    (repo / "plane.py").write_text("made = 1\n")
    load(repo)
    assert list(Path(cache).rglob("feature_view.cpython-*.opt-1.pyc"))
    assert not (Path(cache) / repo.relative_to("/")).exists()


def test_a_repo_that_loads_itself_is_refused(planes: Path) -> None:
    """A script in the repo that applies it would start processes without end."""
    script = "from pathlib import Path\nfrom featurestore.definitions import load\n\nload(Path())\n"
    (planes / "script.py").write_text(script)
    with pytest.raises(InvalidDefinition, match="loads the repo while it is being loaded"):
        load(planes)
