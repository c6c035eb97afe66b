"""What feature stores have been seen to get wrong, each shown right from source file to answer.

Every test goes through the real path: Parquet, Delta, a real Redis-protocol server and, where it
concerns serving, a gRPC server over a socket.
"""

import random
import subprocess
import sys
import threading
from pathlib import Path

import polars as pl
import pytest

from featurestore import FeatureStore
from featurestore.errors import OnlineDataMissing
from featurestore.jobs.materialize import materialize
from featurestore.jobs.workspace import Workspace
from featurestore.model.time import micros
from featurestore.storage.keys import canonical_keys
from featurestore.storage.packed import latest, pack
from tests.repos import (
    HOUR,
    MICROSECOND,
    SCHEMA,
    applied,
    at,
    history,
    landings,
    notebook,
    offline_rows,
    opened,
    released,
    served,
    shop,
    source,
    write,
)

pytestmark = pytest.mark.filterwarnings("ignore::featurestore.training.WithheldWarning")
MOMENT = pl.Datetime("us", "UTC")


def live(repo: Path, url: str, frame: pl.DataFrame, project: str, *views) -> Workspace:
    """Write, apply, materialize a day and promote a repo."""
    workspace = applied(write(repo, frame, name=project), url, *views)
    materialize(workspace, micros(at(0)), micros(at(24)))
    released(workspace)
    return workspace


def rewrite(workspace: Workspace, frame: pl.DataFrame) -> None:
    """Replace the source's file and materialize the day again."""
    frame.write_parquet(workspace.config.root / "data" / "landings.parquet")
    materialize(workspace, micros(at(0)), micros(at(24)))


def trained(workspace: Workspace, *rows: tuple[str | None, object], **options) -> pl.DataFrame:
    """Give the training rows of (plane, moment) pairs, with a label that numbers them."""
    schema = {"plane": pl.String(), "event_timestamp": MOMENT}
    spine = pl.DataFrame(list(rows), schema=schema, orient="row").with_row_index("label")
    with notebook(workspace) as store:
        return store.get_historical_features(spine, "model", **options).to_polars()


def looked_up(workspace: Workspace, planes: list[str | None], as_of=None):
    """Give the served answer for some planes."""
    with served(workspace) as client:
        return client.get_online_features(
            "model", entities={"plane": planes}, as_of=as_of or at(24)
        )


def test_entity_rows_that_share_key_and_time_all_come_back(tmp_path, online_url, project):
    """Equal entity rows are not collapsed into one: each comes back, in its place."""
    workspace = live(tmp_path / "repo", online_url, landings(("a", 1, None, 7.0, 1)), project)
    rows = [("a", at(2)), ("a", at(2)), ("b", at(2)), ("a", at(2)), ("b", at(2))]
    made = trained(workspace, *rows)
    assert made["label"].to_list() == [0, 1, 2, 3, 4]
    assert made["last_delay"].to_list() == [7.0, 7.0, None, 7.0, None]
    workspace.close()


def test_entity_rows_with_only_future_or_expired_rows_stay(tmp_path, online_url, project):
    """An entity row for which nothing counts has nulls, and does not vanish."""
    rows = landings(("future", 10, None, 1.0, 1), ("expired", 1, None, 2.0, 2))
    workspace = live(tmp_path / "repo", online_url, rows, project, history(ttl=HOUR))
    made = trained(workspace, ("future", at(5)), ("expired", at(5)), (None, at(5)))
    assert made["label"].to_list() == [0, 1, 2]
    assert made["last_delay"].to_list() == [None, None, None]
    workspace.close()


def test_a_value_created_after_the_moment_is_not_returned(tmp_path, online_url, project):
    """A row loaded after t does not answer at t, though its event was before; later it does."""
    rows = landings(("a", 1, None, 1.0, 1), ("a", 2, 9, 99.0, 2))
    workspace = live(tmp_path / "repo", online_url, rows, project)
    asked = [("a", at(5)), ("a", at(9) - MICROSECOND), ("a", at(9))]
    assert trained(workspace, *asked)["last_delay"].to_list() == [1.0, 1.0, 99.0]
    by_event = trained(workspace, *asked, as_known=False)
    assert by_event["last_delay"].to_list() == [99.0, 99.0, 99.0]
    early, late = (looked_up(workspace, ["a"], moment) for moment in (at(5), at(9)))
    assert (early.statuses["last_delay"], early.to_dict()["last_delay"]) == (
        ["NOT_YET_KNOWN"],
        [None],
    )
    assert late.to_dict()["last_delay"] == [99.0]
    workspace.close()


def test_ties_resolve_by_created_time_then_always_the_same_way(tmp_path, online_url, project):
    """Of equal event times the last created counts; of equal both, the same row for any order."""
    rows = [("a", 1, 2 + n % 3, float(n), n) for n in range(30)] + [("a", 1, None, -1.0, 0)]
    workspace = live(tmp_path / "repo", online_url, landings(*rows), project)
    answers = set()
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        rewrite(workspace, landings(*rows))
        (trained_value,) = trained(workspace, ("a", at(24)))["last_delay"]
        answers.add((trained_value, *looked_up(workspace, ["a"]).to_dict()["last_delay"]))
    ((trained_value, served_value),) = answers
    assert trained_value == served_value
    assert trained_value % 3 == 2
    assert trained(workspace, ("a", at(3)))["last_delay"][0] % 3 == 1
    workspace.close()


def test_ttl_holds_online(tmp_path, online_url, project):
    """A row exactly ttl old is served; one microsecond later it is null and says why."""
    rows = landings(("a", 1, None, 1.0, 1))
    workspace = live(tmp_path / "repo", online_url, rows, project, history(ttl=HOUR))
    edge, after = at(2), at(2) + MICROSECOND
    found = looked_up(workspace, ["a"], edge)
    assert (found.statuses["seats"], found.to_dict()["seats"]) == (["PRESENT"], [1])
    found = looked_up(workspace, ["a"], after)
    assert (found.statuses["seats"], found.to_dict()["seats"]) == (["OUTSIDE_MAX_AGE"], [None])
    assert trained(workspace, ("a", edge), ("a", after))["seats"].to_list() == [1, None]
    workspace.close()


def test_an_unknown_entity_is_not_found(tmp_path, online_url, project):
    """An entity that was never stored is NOT_FOUND; one whose value is null is not that."""
    rows = landings(("a", 1, None, None, None), ("b", 1, None, 1.0, 1))
    workspace = live(tmp_path / "repo", online_url, rows, project)
    found = looked_up(workspace, ["a", "b", "nobody", "", None])
    expected = ["NULL_VALUE", "PRESENT", "NOT_FOUND", "NOT_FOUND", "NOT_FOUND"]
    assert found.statuses["last_delay"] == expected
    assert found.to_dict()["last_delay"] == [None, 1.0, None, None, None]
    assert found.event_times["last_delay"] == [at(1), at(1), None, None, None]
    workspace.close()


def test_a_corrected_row_with_the_same_event_time_reaches_redis(tmp_path, online_url, project):
    """A correction that keeps the event time, upward or downward, is served and trained on."""
    workspace = live(tmp_path / "repo", online_url, landings(("a", 1, None, 10.0, 1)), project)
    for delay in (99.0, -5.0, None, 10.0):
        rewrite(workspace, landings(("a", 1, None, delay, 1)))
        assert looked_up(workspace, ["a"]).to_dict()["last_delay"] == [delay]
        assert trained(workspace, ("a", at(24)))["last_delay"].to_list() == [delay]
    workspace.close()


def test_an_older_row_never_overwrites_a_newer_one(tmp_path, online_url, project):
    """While writers race with all rows of a day, no reader sees time run backward."""
    hours = [hour / 4 for hour in range(96)]
    rows = landings(*[("a", hour, None, hour, 1) for hour in hours])
    workspace = live(tmp_path / "repo", online_url, rows.head(1), project)
    with notebook(workspace) as store:
        view = store.list_feature_views()[0]
    table = workspace.table(view)
    rows.write_parquet(workspace.config.root / "data" / "landings.parquet")
    materialize(workspace, micros(at(0)), micros(at(24)))
    stored = offline_rows(workspace, view).sort("last_delay")
    packed = pack(view, stored)
    keys = canonical_keys(stored, view.join_keys)
    workspace.online().drop_table(table.id)
    workspace.online().put(table.id, keys[:1], packed[:1])
    workspace.online().mark(table.id)

    def write_all(seed: int) -> None:
        order = random.Random(seed).sample(range(len(packed)), len(packed))
        with_own = opened(workspace.config.root, online_url)
        for row in order:
            with_own.online().put(table.id, [keys[row]], [packed[row]])
        with_own.close()

    writers = [threading.Thread(target=write_all, args=(seed,)) for seed in range(6)]
    seen = []
    with served(workspace) as client:
        for writer in writers:
            writer.start()
        while any(writer.is_alive() for writer in writers):
            answer = client.get_online_features("model", entities={"plane": ["a"]}, as_of=at(24))
            seen.append(answer.to_dict()["last_delay"][0])
        for writer in writers:
            writer.join()
    assert seen == sorted(seen)
    assert looked_up(workspace, ["a"]).to_dict()["last_delay"] == [hours[-1]]
    assert latest(view, stored)["last_delay"].to_list() == [hours[-1]]
    workspace.close()


def test_an_older_interval_materialized_later_never_goes_back(tmp_path, online_url, project):
    """Backfilling the past after the present leaves the present served."""
    rows = landings(("a", 1, None, 1.0, 1), ("a", 20, None, 20.0, 1), ("b", 2, None, 2.0, 1))
    workspace = applied(write(tmp_path / "repo", rows, name=project), online_url)
    for start, end in ((18, 24), (0, 4), (4, 18)):
        materialize(workspace, micros(at(start)), micros(at(end)))
    released(workspace)
    assert looked_up(workspace, ["a", "b"]).to_dict()["last_delay"] == [20.0, 2.0]
    workspace.close()


def test_names_whose_32_bit_hashes_collide_read_their_own_values(tmp_path, online_url, project):
    """Two features whose names share a MurmurHash3 are stored apart, and in any company."""
    names = ("quantity_p95_90d_night", "tax_nunique_12h_weekday")
    view = history(
        name="customer_stats",
        features={names[0]: pl.col("delay"), names[1]: pl.col("delay") * -1},
    )
    rows = landings(("a", 1, None, 95.0, 1), ("b", 2, None, 12.0, 1))
    workspace = live(tmp_path / "repo", online_url, rows, project, view)
    expected = {names[0]: [95.0, 12.0], names[1]: [-95.0, -12.0]}
    found = looked_up(workspace, ["a", "b"]).to_dict()
    assert {name: found[name] for name in names} == expected
    made = trained(workspace, ("a", at(24)), ("b", at(24)))
    assert {name: made[name].to_list() for name in names} == expected
    with served(workspace) as client:
        for name in names:
            one = client.get_online_features(
                [f"customer_stats:{name}"], entities={"plane": ["a", "b"]}, as_of=at(24)
            )
            assert one.to_dict()[name] == expected[name]
    workspace.close()


def test_deleting_project_prod_leaves_nonprod(tmp_path, online_url, project):
    """Projects of equal views share a server, and what one deletes is its own alone."""
    names = (f"prod-{project}", f"nonprod-{project}", f"prod-{project}2")
    rows = landings(("a", 1, None, 1.0, 1), ("b", 1, None, 2.0, 1))
    prod, *others = (live(tmp_path / name, online_url, rows, name) for name in names)
    table = prod.table(history())
    assert {other.table(history()) for other in others} == {table}
    assert prod.online().drop_table(table.id) == 2
    with served(prod) as client, pytest.raises(OnlineDataMissing, match=r"prod-.*rebuild-online"):
        client.get_online_features("model", entities={"plane": ["a"]})
    for other in others:
        assert looked_up(other, ["a", "b"]).to_dict()["last_delay"] == [1.0, 2.0]
        assert other.online().drop_table(table.id) == 2
        other.close()
    prod.close()


APPLYING = """
import sys
from tests.repos import history, opened, shop
import polars as pl

repo, project = sys.argv[1:]
workspace = opened(repo, "redis://127.0.0.1:1/0")
print("ready", flush=True)
while True:
    head = workspace.registry.head()
    number = head.revision + 1
    view = history(features={"last_delay": pl.col("delay") + number})
    workspace.registry.apply(
        shop(view, name=project), expected=head.revision, now=number, who="test"
    )
    print(number, flush=True)
"""


def test_a_killed_apply_leaves_the_old_head_or_the_new_one(tmp_path, project):
    """Killed at random moments, the registry is never empty and never half of two applies."""
    repo = write(tmp_path / "repo", landings(), name=project)
    workspace = applied(repo, "redis://127.0.0.1:1/0", history(features={"x": pl.col("delay")}))
    rng, revisions = random.Random(5), [0]
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", APPLYING, str(repo), project],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        for _ in range(rng.randint(1, 4)):
            child.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(timeout=rng.uniform(0, 0.02))
        child.kill()
        child.wait()
        child.stdout.close()
        again = opened(repo, "redis://127.0.0.1:1/0")
        head = again.registry.head()
        assert head is not None
        (view,) = head.project.views
        if head.revision:
            assert head.applied == head.revision
            written = history(features={"last_delay": pl.col("delay") + head.revision})
            assert view == written
        registered = [one.id for one in again.registry.versions("history")]
        assert len(registered) == head.revision + 1
        assert view.id in registered
        revisions.append(head.revision)
        again.close()
    assert revisions == sorted(revisions)
    assert revisions[-1] >= 4
    workspace.close()


DEFINITIONS = """\
from datetime import timedelta

import polars as pl
from feast import Entity, FeatureService, FileSource, ValueType
from featurestore.definitions import FeatureView

plane = Entity(name="plane", join_keys=["plane"], value_type=ValueType.STRING)
landings = FileSource(name="landings", path="data/landings.parquet", timestamp_field="at")


def view(name, expression, *, source=landings, days=7):
    return FeatureView(
        name=name,
        entities=[plane],
        source=source,
        ttl=timedelta(days=days),
        features={"value": expression},
    )


expression = view("expression", pl.col("delay").round(1))
origin = view("origin", pl.col("delay"))
ttl = view("ttl", pl.col("delay"))
same = view("same", pl.col("delay"))
model = FeatureService(name="model", features=[expression, origin, ttl, same])
"""
EDITS = {
    'view("expression", pl.col("delay").round(1))': 'view("expression", pl.col("delay").round(2))',
    'view("origin", pl.col("delay"))': (
        'view("origin", pl.col("delay"), source=FileSource(name="elsewhere", '
        'path="data/landings.parquet", timestamp_field="at"))'
    ),
    'view("ttl", pl.col("delay"))': 'view("ttl", pl.col("delay"), days=8)',
    'same = view("same", pl.col("delay"))': '# a comment\nsame = view("same", (pl.col("delay")))',
}


def test_a_changed_expression_source_or_ttl_makes_a_new_version(tmp_path, project):
    """Without being asked; a comment and a pair of brackets make none, nor does applying twice."""
    repo = write(tmp_path / "repo", landings(("a", 1, None, 1.0, 1)), name=project)
    file = repo / "planes.py"
    file.write_text(DEFINITIONS)
    with FeatureStore(repo, environ={}) as store:
        store.apply()
        before = {view.name: view.id for view in store.list_feature_views()}
        edited = DEFINITIONS
        for old, new in EDITS.items():
            assert edited.count(old) == 1
            edited = edited.replace(old, new)
        file.write_text(edited)
        plan = store.apply()
        after = {view.name: view.id for view in store.list_feature_views()}
    moved = {name for name in before if before[name] != after[name]}
    assert moved == {"expression", "origin", "ttl"}
    kinds = {change.name: change.kind for change in plan.changed if change.what == "view"}
    assert kinds == {"expression": "breaking", "origin": "breaking", "ttl": "policy"}
    workspace = opened(repo, "redis://127.0.0.1:1/0")
    for name in moved:
        registered = [one.id for one in workspace.registry.versions(name)]
        assert sorted(registered) == sorted([before[name], after[name]])
    workspace.close()


def _one_file(repo: Path, frame: pl.DataFrame) -> None:
    frame.write_parquet(repo / "data" / "landings.parquet", row_group_size=10)


def _folder(repo: Path, frame: pl.DataFrame) -> None:
    (repo / "data" / "landings.parquet").unlink()
    for part in range(3):
        (repo / "data" / "landings.parquet").mkdir(exist_ok=True)
        piece = frame.slice(part * 10, 10)
        piece.write_parquet(repo / "data" / "landings.parquet" / f"{part}.parquet")


def _delta(repo: Path, frame: pl.DataFrame) -> None:
    (repo / "data" / "landings.parquet").unlink()
    for part in range(3):
        frame.slice(part * 10, 10).write_delta(repo / "data" / "landings.parquet", mode="append")


@pytest.mark.parametrize("lay_out", [_one_file, _folder, _delta])
def test_every_chunk_of_a_source_is_written(tmp_path, online_url, project, lay_out):
    """Thirty rows in three row groups, files or commits are thirty rows in both stores."""
    planes = [f"p{number}" for number in range(30)]
    rows = landings(*[(plane, 1, None, float(n), n) for n, plane in enumerate(planes)])
    repo = write(tmp_path / "repo", rows, name=project)
    lay_out(repo, rows)
    kind = "delta" if lay_out is _delta else "parquet"
    view = history(source=source(format=kind), features={"last_delay": pl.col("delay")})
    workspace = applied(repo, online_url, view)
    (outcome,) = materialize(workspace, micros(at(0)), micros(at(24)))
    released(workspace)
    assert (outcome.rows, outcome.served) == (30, 30)
    assert looked_up(workspace, planes).to_dict()["last_delay"] == [float(n) for n in range(30)]
    workspace.close()


def test_every_chunk_of_the_entity_rows_is_joined(tmp_path, online_url, project):
    """An Arrow table of three chunks gives all its rows, in order."""
    planes = [f"p{number}" for number in range(30)]
    rows = landings(*[(plane, 1, None, float(n), n) for n, plane in enumerate(planes)])
    workspace = live(tmp_path / "repo", online_url, rows, project)
    spine = pl.concat(
        [
            pl.DataFrame({"plane": planes[part : part + 10]}).with_columns(
                event_timestamp=pl.lit(at(24), MOMENT)
            )
            for part in (0, 10, 20)
        ],
        rechunk=False,
    ).to_arrow()
    assert spine.column("plane").num_chunks == 3
    with notebook(workspace) as store:
        made = store.get_historical_features(spine, "model").to_arrow()
    assert made.column("last_delay").to_pylist() == [float(n) for n in range(30)]
    workspace.close()


def test_a_source_without_a_row_is_no_error(tmp_path, online_url, project):
    """An empty table is materialized, promoted and served as what it is."""
    empty = pl.DataFrame(schema=SCHEMA)
    workspace = live(tmp_path / "repo", online_url, empty, project)
    assert looked_up(workspace, ["a"]).statuses["seats"] == ["NOT_FOUND"]
    assert trained(workspace, ("a", at(24)))["seats"].to_list() == [None]
    assert shop(name=project) == workspace.project()
    workspace.close()
