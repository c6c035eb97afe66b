"""Training sets as jobs make them: no entity rows, what is read, files, the command line."""

import json
import re
from datetime import timedelta

import polars as pl
import pytest

from featurestore.errors import InvalidRequest, NotMaterialized
from featurestore.jobs.locks import register
from featurestore.jobs.materialize import materialize
from featurestore.model.lock import Lock
from featurestore.model.time import EVENT, micros
from featurestore.training import WithheldWarning
from tests.commands import environment, fits
from tests.commands import run as command
from tests.repos import DAY, NOW, applied, at, history, landings, notebook, pace, write

ROWS = landings(
    ("a", 1, None, 10.0, 3),
    ("a", 5, None, 20.0, 4),
    ("b", 2, 9, 30.0, None),
    ("c", 30, None, 5.0, 1),
    ("d", 20, None, 5.0, 1),
)
ONE = history()
SPINE = pl.DataFrame({"plane": ["a", "b", "c", "a"], EVENT: [at(6), at(10), at(6), at(40)]})


@pytest.fixture
def workspace(tmp_path_factory, valkey, project):
    """A repo with two views, materialized in two runs up to the 40th hour."""
    repo = write(tmp_path_factory.mktemp("repo"), ROWS, name=project)
    made = applied(repo, valkey.url, ONE, pace(ONE), now=NOW + 2 * DAY)
    materialize(made, micros(at(0)), micros(at(12)))
    materialize(made, micros(at(12)), micros(at(40)))
    yield made
    made.close()


@pytest.fixture
def store(workspace):
    """The store of that repo."""
    with notebook(workspace, now=NOW + 2 * DAY) as store:
        yield store


@pytest.mark.parametrize(
    ("start", "end", "planes"),
    [
        (at(0), at(10), ["a", "b"]),
        (at(3), at(10), ["a"]),
        (at(0), at(8), ["a"]),
        (at(2), at(30), ["a", "b", "c", "d"]),
        (at(31), at(40), []),
        (at(5), at(5), ["a"]),
    ],
)
def test_without_entity_rows_those_seen_in_the_range_are_answered_at_its_end(
    store, start, end, planes
):
    """Both ends count; a row that was not yet known at the end has not been seen."""
    made = store.get_historical_features(
        features=["history:last_delay"], start_date=start, end_date=end
    )
    found = made.to_polars()
    assert found.columns == ["plane", EVENT, "last_delay"]
    assert found["plane"].to_list() == planes
    assert set(found[EVENT]) <= {end}
    again = store.get_historical_features(found.drop("last_delay"), ["history:last_delay"])
    assert again.to_polars().equals(found)
    assert again.lock == made.lock


def test_without_a_start_the_ttl_says_how_far_back_to_look(store):
    """As in Feast: the longest ttl before the end."""
    made = store.get_historical_features(features=["history:last_delay"], end_date=at(33))
    assert ONE.ttl == timedelta(days=7) // timedelta(microseconds=1)
    assert made.to_polars()["plane"].to_list() == ["a", "b", "c", "d"]


def test_a_call_without_entity_rows_is_refused_where_they_would_be_a_guess(store):
    """A range beside entity rows, a lock without them, and request data that nobody brings."""
    for asked, told in (
        ({"entity_df": SPINE, "features": ["history:seats"], "start_date": at(1)}, "leave them"),
        ({"features": ["history:seats"], "start_date": at(9), "end_date": at(1)}, "swap the two"),
        ({"features": ["pace:per_mile"], "end_date": at(9)}, "request data 'miles'"),
        ({"lock": "lock.json"}, "entity_df: is missing"),
    ):
        with pytest.raises(InvalidRequest, match=told):
            store.get_historical_features(**asked)
    with pytest.raises(NotMaterialized, match="history"):
        store.get_historical_features(features=["history:seats"], end_date=at(48))


def test_explain_says_what_is_read_and_what_no_entity_row_can_need(workspace, store):
    """From the log alone: files whose events are all too new, or older than the ttl, are pruned."""
    made = store.get_historical_features(SPINE.head(3), ["history:last_delay", "history:seats"])
    (view,) = made.explain().views
    assert (view.version, view.features, view.aliases) == (ONE.version, 2, ("history",))
    assert (view.files, view.pruned, view.rows) == (1, 1, 3)
    assert view.bytes > 0
    assert view.pruned_bytes > 0
    told = repr(made.explain())
    assert "3 entity rows, by LocalExecutor" in told
    assert "3 rows in 1 bucket" in told
    assert "reads 1 file" in told
    assert "prunes 1 file" in told
    assert view.data == made.lock.views[0].data
    both = store.get_historical_features(SPINE, ["history:last_delay"])
    assert both.explain().views[0].pruned == 0


def test_pruned_files_change_no_answer_and_no_count(workspace, store):
    """What known-at withheld is counted although the entity rows end before it became known."""
    asked = SPINE.filter(pl.col("plane") == "b").with_columns(pl.lit(at(8)).alias(EVENT))
    made = store.get_historical_features(asked, ["history:last_delay"])
    with pytest.warns(WithheldWarning, match="1 of 1 values"):
        assert made.to_polars()["last_delay"].to_list() == [None]
    assert made.withheld == {"history": 1}


def test_a_training_set_says_what_it_is_in_a_notebook(store):
    """Text and HTML name outputs, dtypes and versions before and after the join."""
    made = store.get_historical_features(SPINE, ["history:last_delay"])
    before, text = made._repr_html_(), repr(made)
    for told in (before, text):
        assert "4 rows: 2 own columns, 1 features" in told
        assert ONE.version in told
        assert "float64" in told
    made.to_polars()
    after = made._repr_html_()
    assert before != after
    assert "<details>" in after
    assert repr(made) == text


def test_what_is_read_is_settled_when_it_is_asked_for(workspace, store):
    """A correction that is materialized between the call and the join is not in it."""
    made = store.get_historical_features(SPINE, ["history:last_delay"])
    corrected = ROWS.with_columns(pl.col("delay") * 100)
    write(workspace.config.root, corrected, name=workspace.config.project)
    materialize(workspace, micros(at(0)), micros(at(40)))
    assert made.to_polars()["last_delay"].to_list() == [20.0, 30.0, None, 20.0]
    later = store.get_historical_features(SPINE, ["history:last_delay"])
    assert later.to_polars()["last_delay"].to_list() == [2000.0, 3000.0, None, 2000.0]
    assert made.lock != later.lock


@pytest.fixture
def run(workspace, valkey):
    """Runs a command in the repo."""
    environ = environment(valkey.url)

    def called(*words, code=0):
        return command(*words, repo=workspace.config.root, environ=environ, code=code)

    return called


def test_a_job_writes_a_training_set_and_its_lock(run, store, workspace, tmp_path):
    """The file holds what a notebook gets; the lock in it, and beside it, can be registered."""
    SPINE.write_parquet(tmp_path / "spine.parquet")
    asked = ("get-historical", "--entity-file", tmp_path / "spine.parquet")
    wanted = (*asked, "-f", "history:last_delay", "-f", "history:seats")
    out = tmp_path / "rows.parquet"
    said = run(*wanted, "--out", out, "--memory", "1GiB", "--workers", 1)
    assert "4 rows with 2 features" in said.stdout
    made = store.get_historical_features(SPINE, ["history:last_delay", "history:seats"])
    assert pl.read_parquet(out).equals(made.to_polars())
    lock = Lock.from_json((tmp_path / "rows.parquet.lock.json").read_text())
    assert lock == made.lock
    register(workspace, lock, owner="ann")
    assert [one.lock for one in workspace.releases.locks()] == [lock]
    again = tmp_path / "again.parquet"
    told = json.loads(
        run(*asked, "--lock", tmp_path / "rows.parquet.lock.json", "-o", again, "--json").stdout
    )
    assert pl.read_parquet(again).equals(made.to_polars())
    assert told["rows"] == 4
    assert told["lock_id"] == lock.id
    assert told["data"] == {"history": made.lock.views[0].data}


def test_a_job_says_what_it_would_read(run, tmp_path):
    """With --explain nothing is joined and nothing written."""
    SPINE.write_parquet(tmp_path / "spine.parquet")
    words = ("get-historical", "-e", tmp_path / "spine.parquet", "-f", "history:seats")
    said = run(*words, "--explain").stdout
    assert "4 entity rows" in said
    assert re.search(rf"{ONE.version} +1 +5 +1 +2 files", said), said
    assert fits("\n".join(said.splitlines()[1:]))
    found = json.loads(run(*words, "--explain", "--json").stdout)
    assert found["views"][0]["rows"] == 5
    assert [one.name for one in tmp_path.iterdir()] == ["spine.parquet"]


def test_entity_rows_may_be_a_folder_of_files(run, tmp_path):
    """As other jobs write them; of a folder that holds none it says so, not that it is missing."""
    words = ("get-historical", "-e", tmp_path / "spine", "-f", "history:seats", "--explain")
    (tmp_path / "spine").mkdir()
    assert "entity_df: cannot be read" in run(*words, code=1).stderr
    for part, rows in enumerate((SPINE[:1], SPINE[1:])):
        rows.write_parquet(tmp_path / "spine" / f"{part}.parquet")
    assert "4 entity rows" in run(*words).stdout


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("-f", "history:seats"), 2, "exactly one of --out and --explain"),
        (("--explain",), 2, "exactly one of --service, --feature and --lock"),
        (("-f", "history:seats", "-s", "model", "--explain"), 2, "exactly one of --service"),
        (("-e", "gone.parquet", "-s", "model", "--explain"), 1, "--entity-file: gone.parquet"),
        (("-f", "history:seats", "--start", "soon", "--explain"), 1, "--start: 'soon' is no"),
        (("-f", "history:seats", "--end", "2024-03-02", "-o", "no/x"), 1, "folder no is not there"),
        (("-f", "history:seats", "--memory", "lots", "--explain"), 1, "memory: 'lots' is no size"),
        (("-f", "history:seats", "--workers", "0", "--explain"), 1, "workers: 0 run nothing"),
        (("-f", "history:seats", "--end", "2024-05-02", "--explain"), 4, "is not materialized"),
    ],
)
def test_a_wrong_job_says_what_is_wrong(run, words, code, told):
    """Each has its exit code, and leaves nothing behind."""
    said = run("get-historical", *words, code=code)
    assert told in " ".join(said.stderr.replace("│", " ").split())
