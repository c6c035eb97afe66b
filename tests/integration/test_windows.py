"""Windows from definition to answer: moving with time, fresh at once, sound or found out."""

from contextlib import contextmanager
from datetime import timedelta

import polars as pl
import pytest

from featurestore.errors import CorruptData
from featurestore.jobs.backfill import backfill
from featurestore.jobs.materialize import materialize_incremental
from featurestore.jobs.promote import promote
from featurestore.jobs.rebuild import rebuild_online
from featurestore.jobs.tables import DraftTables
from featurestore.jobs.verify import verify
from featurestore.model.catalog import Catalog
from featurestore.model.declare import Aggregate
from featurestore.model.documents import Projection
from featurestore.model.query import resolve
from featurestore.model.time import micros
from featurestore.storage.keys import canonical_keys, redis_keys, states_of
from featurestore.training import training_set
from tests.repos import (
    MICROSECOND,
    applied,
    at,
    dump,
    history,
    landings,
    notebook,
    released,
    served,
    source,
    write,
)
from tests.servers import client_of

DELAY = pl.col("delay")
ROWS = landings(
    ("a", 1, None, 10.0, 1),
    ("a", 5, None, 20.0, 2),
    ("a", 5, None, 40.0, 3),
    ("b", 6, None, -1.0, 4),
)
NOW = at(12)


def window(function, of=DELAY, length="6h", every="1h"):
    """Describe a function over a window."""
    return Aggregate(function=function, of=of, filter=None, length=length, every=every)


MOVING = {
    "flights": window("count", None),
    "delay_sum": window("sum"),
    "delay_mean": window("mean"),
    "worst": window("max", length="2h"),
}
NAMES = [f"history:{name}" for name in MOVING]
EMPTY = {"flights": 0, "delay_sum": 0.0, "delay_mean": None, "worst": None}


def moving(**changes):
    """Describe the repo's view: windows, and a row feature."""
    arguments = {
        "source": source(created_field=None, pushed=True),
        "features": {"last_delay": DELAY, **MOVING},
        "event_id": "seats",
        "settle": timedelta(hours=1),
        "ttl": timedelta(hours=3),
    }
    return history(**arguments | changes)


@contextmanager
def live(folder, url, view, rows=ROWS):
    """Make a repo whose view is live, up to eight o'clock; it is twelve."""
    repo = write(folder / "repo", rows, name=folder.name.replace("_", "-"))
    made = applied(repo, url, view, now=NOW)
    materialize_incremental(made, micros(at(8)))
    released(made)
    yield made
    made.close()


@pytest.fixture
def workspace(tmp_path, valkey):
    """A repo of windows over a source that does not say when rows were created."""
    with live(tmp_path, valkey.url, moving()) as made:
        yield made


@pytest.fixture
def stamped(tmp_path, valkey):
    """A repo of windows over a source that does."""
    with live(tmp_path, valkey.url, moving(source=source(pushed=True))) as made:
        yield made


def look_up(client, plane, hours, names=NAMES):
    """Look one plane's features up as of an hour; gives values by name, and the first status."""
    found = client.get_online_features(names, [{"plane": plane}], as_of=at(hours))
    values = found.to_dict()
    return {name: values[name][0] for name in MOVING}, found.statuses[found.names[0]][0]


def test_a_window_moves_when_no_event_comes(workspace):
    """Its tail goes on in steps: what left it counts no more, without any write."""
    before = dump(workspace)
    with served(workspace, now=NOW) as client:
        found = [look_up(client, "a", hours)[0]["flights"] for hours in (8, 8.9, 11, 11.9, 12)]
    assert found == [2, 2, 2, 2, 0]
    assert dump(workspace) == before


def test_windows_answer_for_everyone(workspace):
    """An unknown plane has no events, a null one no values; an empty window is 0 or null."""
    with served(workspace, now=NOW) as client:
        assert look_up(client, "nobody", 8) == (EMPTY, "NOT_FOUND")
        assert look_up(client, "b", 13.1) == (EMPTY, "PRESENT")
        assert look_up(client, None, 8) == (dict.fromkeys(MOVING), "NOT_FOUND")
        rows = pl.DataFrame({"plane": ["nobody", None]}).with_columns(event_timestamp=at(8))
    with notebook(workspace, now=NOW) as store:
        trained = store.get_historical_features(rows, NAMES).features
    assert trained.to_dicts() == [EMPTY, dict.fromkeys(MOVING)]


def test_no_ttl_ends_a_window(workspace):
    """A row too old for its features leaves the windows of its events as they are."""
    with served(workspace, now=NOW) as client:
        both = client.get_online_features(
            ["history:last_delay", "history:flights"], [{"plane": "a"}], as_of=at(10)
        )
        alone = client.get_online_features(["history:flights"], [{"plane": "a"}], as_of=at(10))
    assert (both.to_dict()["last_delay"], both.to_dict()["flights"]) == ([None], [2])
    assert both.statuses["last_delay"] == ["OUTSIDE_MAX_AGE"]
    assert alone.statuses["flights"] == ["PRESENT"]


def test_before_its_newest_event_a_window_is_not_told(workspace):
    """States hold what is known last: an earlier moment is answered by none of it."""
    with served(workspace, now=NOW) as client:
        found = client.get_online_features(
            NAMES, [{"plane": "a"}], as_of=at(5) - MICROSECOND
        ).to_dict()
        status = look_up(client, "a", 4)[1]
    assert {found[name][0] for name in MOVING} == {None}
    assert status == "NOT_YET_KNOWN"


def test_events_of_one_moment_all_count(workspace):
    """Two landings of one minute are two events: each has its own id."""
    with served(workspace, now=NOW) as client:
        found, _ = look_up(client, "a", 5)
    assert found == {"flights": 3, "delay_sum": 70.0, "delay_mean": 70 / 3, "worst": 40.0}


def test_a_correction_counts_once_and_a_repeat_not_at_all(stamped):
    """An event that is pushed again replaces itself, in windows as in training afterwards."""
    again = landings(("b", 6, None, 5.0, 4)).drop("loaded")
    more = landings(("b", 6.5, None, 7.0, 9)).drop("loaded")
    with notebook(stamped, now=NOW) as store, served(stamped, now=NOW) as client:
        for _ in range(2):
            assert store.push("landings", again).online[0].waiting == 0
            assert store.push("landings", more).accepted == 1
            assert look_up(client, "b", 12)[0] | {"worst": None} == {
                "flights": 2,
                "delay_sum": 12.0,
                "delay_mean": 6.0,
                "worst": None,
            }
        materialize_incremental(stamped, stamped.clock())
        rows = pl.DataFrame({"plane": ["a", "b"]}).with_columns(event_timestamp=at(12))
        trained = store.get_historical_features(rows, NAMES).features
        assert trained.to_dicts() == [look_up(client, plane, 12)[0] for plane in "ab"]
    assert verify(stamped).differences.is_empty()


def test_what_comes_too_late_for_a_window_waits_for_the_table(workspace):
    """Of an event before those kept one by one nobody can tell if it was counted: it is told."""
    late = landings(("a", 2, None, 100.0, 77)).drop("loaded")
    with notebook(workspace, now=NOW) as store, served(workspace, now=NOW) as client:
        result = store.push("landings", late)
        assert (result.accepted, result.online[0].waiting) == (1, 1)
        assert "too late for windows: come with materialization" in repr(result)
        alone = store.push("landings", late, to="online")
        assert (alone.online[0].waiting, alone.online[0].lost) == (1, 1)
        assert "1 too late for windows: are not in them; nothing will bring these" in repr(alone)
        assert look_up(client, "a", 8)[0]["delay_sum"] == 60.0
        materialize_incremental(workspace, workspace.clock())
        assert look_up(client, "a", 8)[0]["delay_sum"] == 160.0
    assert verify(workspace).differences.is_empty()


def test_what_was_pushed_since_is_no_difference(workspace):
    """Entities of which Redis knows more than their table are left out until it knows as much."""
    fresh = landings(("a", 11, None, 1.0, 50), ("new", 11, None, 2.0, 51)).drop("loaded")
    with notebook(workspace, now=NOW) as store:
        store.push("landings", fresh)
    assert verify(workspace).differences.is_empty()
    assert verify(workspace, everything=True).differences.is_empty()


def state_key(workspace, plane):
    """Give the Redis key of a plane's window state."""
    view = workspace.project().views[0]
    canonical = canonical_keys(pl.DataFrame({"plane": [plane]}), view.join_keys)
    table = states_of(workspace.table(view).id)
    return redis_keys(workspace.config.project, table, canonical)[0]


def test_a_lost_or_damaged_state_is_found_and_mended(workspace):
    """Verification compares windows with training; rebuilding brings every byte back."""
    redis, key, before = (
        client_of(workspace.redis_url()),
        state_key(workspace, "a"),
        dump(workspace),
    )
    redis.delete(key)
    assert set(verify(workspace).differences["feature"]) == {f"history__{n}" for n in MOVING}
    rebuild_online(workspace)
    assert dump(workspace) == before
    redis.set(key, before[key][:-1] + bytes([before[key][-1] ^ 1]))
    with (
        notebook(workspace, now=NOW) as store,
        pytest.raises(CorruptData, match=r"history.*stamp is not that of its bytes"),
    ):
        store.get_online_features(NAMES, [{"plane": "a"}])
    assert not verify(workspace).differences.is_empty()
    rebuild_online(workspace)
    assert dump(workspace) == before


def test_a_view_without_ids_counts_every_row(tmp_path, valkey):
    """Rows that are alike in everything are so many events, in training and in Redis."""
    rows = landings(*[("a", 5, None, 20.0, 2)] * 3, ("a", 5, None, 7.0, 2))
    asked = pl.DataFrame({"plane": ["a"]}).with_columns(event_timestamp=at(8))
    with (
        live(tmp_path, valkey.url, moving(event_id=None), rows) as made,
        notebook(made, now=NOW) as store,
        served(made, now=NOW) as client,
    ):
        found, _ = look_up(client, "a", 8)
        assert store.get_historical_features(asked, NAMES).features.to_dicts() == [found]
    assert found["flights"] == 4


def test_a_kept_window_is_compared_with_the_live_one(tmp_path, valkey):
    """A change beside windows, and windows beside what there was, are verified by what is kept."""
    plain = moving(features={"last_delay": DELAY}, event_id=None)
    changes = (
        moving(),
        moving(features={"last_delay": DELAY * 2, **MOVING}),
        moving(features={"last_delay": DELAY * 2, **MOVING, "least": window("min")}, ttl=None),
        plain,
    )
    with live(tmp_path, valkey.url, plain) as made, notebook(made, now=NOW) as store:
        for view in changes:
            applied(made.config.root, valkey.url, view, now=NOW).close()
            backfill(made)
            found = verify(made)
            assert found.differences.is_empty(), found.differences
            promote(made)
            names = [f"history:{one.name}" for one in view.features]
            rows = pl.DataFrame({"plane": ["a", "b"]}).with_columns(event_timestamp=at(8))
            trained = store.get_historical_features(rows, names).features
            vectors = store.get_online_features(names, entities=rows.select("plane"), as_of=at(8))
            assert pl.DataFrame(vectors.columns).equals(trained)


def test_a_wrong_input_of_a_kept_window_is_found(tmp_path, valkey):
    """Inputs that another version computed otherwise are named, by the column they are kept in."""
    with live(tmp_path, valkey.url, moving()) as made:
        path = made.config.root / "data" / "landings.parquet"
        ROWS.with_columns(delay=DELAY + 1).write_parquet(path)
        applied(made.config.root, valkey.url, moving(features={"worst": MOVING["worst"]}), now=NOW)
        backfill(made)
        wrong = verify(made).differences
    assert set(wrong["check"]) == {"old = new"}
    assert all(name.startswith("__in_") for name in wrong["feature"])


def test_a_view_object_is_tried_out_with_its_windows(tmp_path, valkey):
    """The notebook's loop computes windows from the source: no apply, no registry, no Redis."""
    with live(tmp_path, valkey.url, moving()) as made:
        tables = DraftTables(made.config.sources)
        view = moving(features={"share": window("mean", DELAY > 15, length="4h")})
        uses = [Projection(view="history", alias="history", features=("share",))]
        query = resolve(uses, Catalog(current={"history": view}))
        rows = pl.DataFrame({"plane": ["a", "a"], "event_timestamp": [at(5), at(9.5)]})
        found = training_set(rows, query, tables, project="tests", draft=True).features
    assert found["share"].to_list() == [2 / 3, 1.0]
