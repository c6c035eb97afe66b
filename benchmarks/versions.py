"""Changing what is live: how soon a client sees a promotion or a rollback, and what a plan takes.

Nothing loads between a promotion and a rollback: both versions' rows are in Redis. A client looks
one entity up without pause, and the time is from the call (or from the command's start, imports
included) to the client's first reply with the other version's value. No peer offers the step.

A plan imports the repo twice, as it always does; beside it stands `feast plan` on the same repo.
"""

import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from shutil import which

import polars as pl
from columns import END, KEY, MOMENT, READINGS, START, names
from dataset import Size, latest, write_readings
from options import Options
from process import environment, gathered, redis_server
from report import Case, Measure, Report, Table, Unequal
from servers import served

from featurestore import FeatureClient, FeatureStore
from featurestore.jobs.workspace import Workspace
from featurestore.model.declare import batch_view, project, service
from featurestore.model.documents import Projection, Source, View
from featurestore.model.time import normalize_schema

SIZES = {
    "tiny": Size(rows=500, keys=500, features=2),
    "default": Size(rows=1_000_000, keys=1_000_000, features=5),
    "full": Size(rows=4_000_000, keys=4_000_000, features=5),
}
VIEWS = {"tiny": 3, "default": 100, "full": 300}
FEATURES = 10
PROJECT, VIEW, SERVICE = "bench", "readings", "model"
CONFIG = f"project: {PROJECT}\nprovider: local\nregistry: data/registry.db\n"
FEATURE = names(1)[0]
SECONDS = "seconds"

DEFINITIONS = """
import polars as pl
from feast import Entity, FeatureService, FileSource, ValueType
from featurestore.definitions import FeatureView

entity = Entity(name="one", join_keys=["key"], value_type=ValueType.INT64)
views = {{}}
for number in range({views}):
    source = FileSource(name=f"source_{{number}}", path="data/rows.parquet",
                        timestamp_field="happened")
    views[f"view_{{number}}"] = FeatureView(
        name=f"view_{{number}}", entities=[entity], source=source,
        features={{f"feature_{{at}}": pl.col("value") * at + number for at in range({features})}},
    )
globals().update(views)
service = FeatureService(name="all_of_them", features=[
    view.with_name(name) for name, view in views.items()
])
"""


def run(options: Options, folder: Path) -> Report:
    """Switch versions back and forth under a client's eyes, then plan a repo of many views."""
    size = SIZES[options.size]
    tables, checks = [], []
    with redis_server(folder / "online") as url:
        switched, check = _switches(options, folder, size, url)
        tables.append(switched)
        checks.append(check)
        if options.feast:
            tables.append(_plans(options, folder / "many", url))
    return Report(
        name="versions",
        size={"keys": size.keys, "features": size.features, "views": VIEWS[options.size]},
        repeats=options.repeats,
        tables=tuple(tables),
        checks=tuple(checks),
        notes=("a command is a process of its own; a server looks at its alias every 0.5 s",),
    )


def _switches(options: Options, folder: Path, size: Size, url: str) -> tuple[Table, str]:
    write_readings(folder, size)
    newest = latest(pl.read_parquet(folder / READINGS)).row(0, named=True)
    repo = folder / "repo"
    repo.mkdir()
    (repo / "feature_store.yaml").write_text(CONFIG, encoding="utf-8")
    variables = environment(FEATURESTORE_REDIS_URL=url)
    _apply(repo, variables, _view(folder, 1.0))
    samples: dict[str, list[dict[str, float]]] = defaultdict(list)
    with FeatureStore(repo, environ=variables) as store:
        store.materialize(START, END)
        store.verify()
        store.promote()
        _apply(repo, variables, _view(folder, 2.0))
        store.backfill()
        store.verify()
        command = ["-m", "featurestore.serving", "--project", PROJECT]
        with (
            served(command, url, folder / "server.log") as server,
            _watching(server.address, newest[KEY]) as seen,
        ):
            one, two = newest[FEATURE], newest[FEATURE] * 2
            _await(seen, one)
            for _ in range(options.repeats):
                samples["promote, a call"].append(_timed(seen, store.promote, two))
                samples["rollback, a call"].append(_timed(seen, store.rollback, one))
                for verb, value in (("promote", two), ("rollback", one)):
                    made = _timed(seen, partial(_command, repo, variables, verb), value)
                    samples[f"{verb}, a command"].append(made)
    others = {value for _, value in seen.replies} - {one, two}
    if others or seen.failed:
        raise Unequal(f"{len(others)} replies of neither version, {len(seen.failed)} failed calls")
    table = Table(
        title=f"Old value to new, as a client sees it: {size.keys:,} entities",
        measures=(Measure(name=SECONDS),),
        cases=tuple(Case(name=name, samples=gathered(made)) for name, made in samples.items()),
    )
    return table, f"{len(seen.replies):,} replies, each of one version whole; 0 calls failed"


def _view(folder: Path, times: float) -> View:
    file = folder / READINGS
    columns = normalize_schema(pl.read_parquet_schema(file))
    source = Source(
        name="readings_file",
        path=str(file),
        format="parquet",
        timestamp_field=MOMENT,
        columns=columns,
    )
    features = [column.name for column in columns if column.name not in (KEY, MOMENT)]
    exprs = {name: pl.col(name) * times for name in features}
    return batch_view(name=VIEW, join_keys={KEY: "int64"}, source=source, features=exprs)


def _apply(repo: Path, variables: dict[str, str], view: View) -> None:
    workspace = Workspace.open(repo, environ=variables)
    head = workspace.registry.head()
    use = Projection(view=VIEW, alias=VIEW)
    workspace.registry.apply(
        project(
            name=PROJECT,
            views=[view],
            services=[service(name=SERVICE, projections=[use], views={VIEW: view})],
        ),
        expected=head.revision if head else None,
        now=workspace.clock(),
        who="benchmark",
    )
    workspace.close()


class _Seen:
    """What a client saw, and when."""

    def __init__(self) -> None:
        self.replies: list[tuple[float, float]] = []
        self.failed: list[Exception] = []
        self.ended = threading.Event()

    def look(self, address: str, key: int) -> None:
        """Look one entity up without pause until the end."""
        asked = pl.DataFrame({KEY: [key]})
        with FeatureClient(address, timeout=5) as client:
            while not self.ended.is_set():
                try:
                    found = client.get_online_features(SERVICE, entities=asked, as_of=END)
                except Exception as error:  # noqa: BLE001 - counted, and named at the end
                    self.failed.append(error)
                else:
                    self.replies.append((time.perf_counter(), found.to_dict()[FEATURE][0]))


@contextmanager
def _watching(address: str, key: int) -> Iterator[_Seen]:
    seen = _Seen()
    thread = threading.Thread(target=seen.look, args=(address, key))
    thread.start()
    try:
        yield seen
    finally:
        seen.ended.set()
        thread.join()


def _await(seen: _Seen, value: float, patience: float = 30.0) -> float:
    """Wait until the newest reply has a value; gives when that reply came."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if seen.replies and seen.replies[-1][1] == value:
            return next(at for at, found in _last_stretch(seen.replies, value) if found == value)
        time.sleep(0.001)
    raise RuntimeError(f"the client never saw {value}; {seen.failed[-1:]}")


def _last_stretch(replies: list[tuple[float, float]], value: float) -> list[tuple[float, float]]:
    """Give the newest replies that all have one value, oldest first."""
    at = len(replies)
    while at and replies[at - 1][1] == value:
        at -= 1
    return replies[at:]


def _timed(seen: _Seen, step: Callable[[], object], value: float) -> dict[str, float]:
    began = time.perf_counter()
    step()
    return {SECONDS: _await(seen, value) - began}


def _command(repo: Path, variables: dict[str, str], *arguments: str) -> None:
    """Run a command of the command line; `plan` ends with 2 where there are changes."""
    done = subprocess.run(
        [sys.executable, "-m", "featurestore.cli", *arguments, "--repo", str(repo)],
        env=variables,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode not in ((0, 2) if arguments[0] == "plan" else (0,)):
        raise RuntimeError(f"{arguments}: {done.stderr[-2000:]}")


def _plans(options: Options, repo: Path, url: str) -> Table:
    """Time plans of a repo of many views: nothing applied yet, nothing changed, all changed."""
    views = VIEWS[options.size]
    (repo / "data").mkdir(parents=True)
    (repo / "feature_store.yaml").write_text(
        f"{CONFIG}offline_store:\n  type: file\nentity_key_serialization_version: 3\n",
        encoding="utf-8",
    )
    written = {"views": views, "features": FEATURES}
    (repo / "definitions.py").write_text(DEFINITIONS.format(**written), encoding="utf-8")
    moments = pl.Series("happened", [START]).cast(pl.Datetime("us", "UTC"))
    rows = pl.DataFrame([moments, pl.Series("key", [1]), pl.Series("value", [1.0])])
    rows.write_parquet(repo / "data" / "rows.parquet")
    variables = environment(FEATURESTORE_REDIS_URL=url)
    feast = which("feast", path=os.pathsep.join([str(Path(sys.executable).parent), os.defpath]))
    samples: dict[str, list[dict[str, float]]] = defaultdict(list)

    def plan(name: str) -> None:
        began = time.perf_counter()
        _command(repo, variables, "plan")
        samples[name].append({SECONDS: time.perf_counter() - began})

    for _ in range(options.repeats):
        plan("ours, nothing applied yet")
        if feast is not None:
            began = time.perf_counter()
            subprocess.run(
                [feast, "plan"], cwd=repo, env=variables, check=True, capture_output=True
            )
            samples["feast plan, nothing applied yet"].append(
                {SECONDS: time.perf_counter() - began}
            )
    _command(repo, variables, "apply")
    for _ in range(options.repeats):
        plan("ours, nothing changed")
    changed = DEFINITIONS.format(**written).replace("+ number", "+ number + 1")
    (repo / "definitions.py").write_text(changed, encoding="utf-8")
    for _ in range(options.repeats):
        plan("ours, every view changed")
    return Table(
        title=f"A plan of {views} views x {FEATURES} features, both loads of the repo included",
        measures=(Measure(name=SECONDS, digits=1),),
        cases=tuple(
            Case(
                name=name,
                samples=gathered(made),
                against="feast plan, nothing applied yet" if "yet" in name else None,
            )
            for name, made in samples.items()
        ),
    )
