"""The command line of versions: one story of a repo, told by the commands of those who run it."""

import json
import os
import subprocess
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from featurestore.cli.text import history as history_text
from featurestore.jobs.materialize import materialize
from featurestore.model.lock import Lock
from featurestore.model.time import micros
from featurestore.storage.documents import Entry
from featurestore.storage.keys import canonical_keys, redis_keys
from tests.commands import CLI, Said, environment, fits, run, words
from tests.repos import applied, at, history, landings, notebook, opened, pace, served, write
from tests.servers import client_of

ROWS = landings(*((f"p{n % 5}", n, None, float(n), n % 9) for n in range(40)))
V1 = history()
V2 = history(features={"last_delay": pl.col("delay"), "was_late": pl.col("delay") > 30})
SPINE = pl.DataFrame({"plane": ["p1"], "miles": [2.0], "event_timestamp": [at(24)]})


@dataclass(frozen=True, slots=True)
class Shop:
    """A repo, and what its commands said in the order of the story."""

    repo: Path
    environ: dict[str, str]
    lock: Lock
    said: dict[str, Said] = field(default_factory=dict)

    def run(self, *arguments, code=0, **variables):
        """Run a command here."""
        return run(*arguments, repo=self.repo, environ=self.environ | variables, code=code)

    def json(self, *arguments, code=0, **variables):
        """Run a command here and read what it gives programs."""
        return json.loads(self.run(*arguments, "--json", code=code, **variables).stdout)

    def workspace(self):
        """Open the repo's stores."""
        return opened(self.repo, self.environ["FEATURESTORE_REDIS_URL"], now=datetime.now(UTC))


@pytest.fixture(scope="module")
def shop(tmp_path_factory, valkey):
    """V1 live and locked, V2 built beside it, promoted, and V1 brought back."""
    name = f"versions-{os.getpid()}-{time.monotonic_ns()}"
    repo = write(tmp_path_factory.mktemp("versions") / "repo", ROWS, name=name)
    with_v1 = applied(repo, valkey.url, V1, pace(V1), now=datetime.now(UTC))
    materialize(with_v1, micros(at(0)), micros(at(24)))
    with notebook(with_v1, now=datetime.now(UTC)) as store:
        lock = store.get_historical_features(SPINE, "model").lock
    with_v1.close()
    (repo / "model.json").write_text(lock.to_json())
    made = Shop(repo, environment(valkey.url), lock)
    made.said["verify"] = made.run("verify")
    made.said["promote"] = made.run("promote")
    until = datetime.now(UTC) + timedelta(days=400)
    made.said["register"] = made.run(
        *("lock", "register", "model.json", "--owner", "ann", "--expires", f"{until:%Y-%m-%d}")
    )
    applied(repo, valkey.url, V2, pace(V2), now=datetime.now(UTC)).close()
    made.said["refused"] = made.run("promote", code=4)
    made.said["backfill"] = made.run("backfill")
    made.said["backfill again"] = made.run("backfill")
    made.said["unverified"] = made.run("promote", code=4)
    made.said["verify v2"] = made.run("verify", "--all")
    made.said["promote v2"] = made.run("promote")
    made.said["rollback"] = made.run("rollback")
    assert all(fits(said.stdout) for said in made.said.values() if said.stdout)
    return made


def test_verify_says_what_each_law_compared(shop):
    """Every law with how much it compared; what could not be compared says why."""
    said = shop.said["verify"].stdout
    assert "offline = Redis:" in said
    assert "training = serving:" in said
    assert "Equal: " in said
    assert "`featurestore promote` can make them live in prod." in said
    kept = words(shop.said["verify v2"].stdout)
    assert f"old = new: {V2.version} 25 0" in kept
    found = shop.json("verify", "--live")
    assert found["equal"]
    assert found["versions"] == [V1.version, pace(V1).version]
    assert {check["differ"] for check in found["checks"]} == {0}


def test_what_is_not_verified_or_not_there_is_not_promoted(shop):
    """Each refusal names the version and the next command."""
    for step, command in (("refused", "backfill"), ("unverified", "verify")):
        said = words(shop.said[step].stderr)
        assert V2.version in said
        assert f"run `featurestore {command}` first; nothing was written" in said


def test_a_backfill_says_what_each_interval_is_and_ends(shop):
    """The new table covers what the live one does; a second run has nothing to do."""
    said = words(shop.said["backfill"].stdout)
    assert f"{V2.version}, table {V2.data_id[:16]}.0:" in said
    assert "the beginning to 2024-03-02 00:00 25 5" in said
    again = words(shop.said["backfill again"].stdout)
    assert again.startswith("Nothing to backfill: ")
    refused = shop.run("backfill", "--again", code=1)
    assert "name them" in refused.stderr


def test_promote_and_rollback_say_what_an_alias_names(shop):
    """A promotion makes a release; a rollback makes one more, of the views before."""
    assert "prod now names release 1." in shop.said["promote"].stdout
    assert V2.version in shop.said["promote v2"].stdout
    back = shop.said["rollback"].stdout
    assert "with the views of release " in back
    assert V1.version in back
    found = shop.json("rollback", "--to", "1")
    assert found["restores"] == 1
    assert found["views"][0]["version"] == V1.version
    assert "never named release 99" in shop.run("rollback", "--to", "99", code=1).stderr
    assert "did you mean 'prod'" in shop.run("rollback", "--alias", "prd", code=1).stderr


def test_a_value_that_differs_is_named_and_ends_with_8(shop):
    """A corrupted row in Redis is told by law, version, entity, feature and both values."""
    workspace = shop.workspace()
    keys = canonical_keys(pl.DataFrame({"plane": ["p3"]}), V1.join_keys)
    table = workspace.table(V1)
    (key,) = redis_keys(workspace.config.project, table.id, keys)
    client = client_of(workspace.redis_url())
    right = client.get(key)
    good = shop.json("verify", "--live", "--all")["checks"][0]
    client.set(key, right[:-2] + bytes([right[-2] ^ 1]) + right[-1:])
    try:
        said = shop.run("verify", "--live", "--all", code=8).stdout
        found = shop.json("verify", "--live", "--all", code=8)
        with served(workspace, now=datetime.now(UTC)) as server:
            address = server.address
            asked = shop.json("verify", "--address", address, "--all", code=8)
    finally:
        client.set(key, right)
        workspace.close()
    assert shop.json("verify", "--live", "--all")["equal"]
    assert fits(said)
    assert not found["equal"]
    features = {(one["law"], one["feature"]) for one in found["differences"]}
    wrong = found["differences"][0]
    assert (wrong["version"], wrong["entity"]) == (V1.version, "plane='p3'")
    for word in ("Not equal", "plane='p3'", wrong["feature"], wrong["expected"], wrong["found"]):
        assert word in said
    assert features >= {
        ("offline = Redis", wrong["feature"]),
        ("training = serving", f"history__{wrong['feature']}"),
    }
    assert {(one["law"], one["feature"]) for one in asked["differences"]} == features
    assert found["checks"][0] == good | {"differ": 1}


def test_a_lock_is_registered_listed_and_let_go(shop):
    """It says what it keeps and until when; a retired one is listed on request."""
    id_ = shop.lock.id
    assert f"{id_[:12]} registered, of ann" in words(shop.said["register"].stdout)
    assert "All it needs was there." in shop.said["register"].stdout
    listed = shop.run("lock", "list").stdout
    assert fits(listed)
    assert f"asks for model ({len(shop.lock.outputs)} features)" in words(listed)
    assert V1.version in listed
    (found,) = shop.json("lock", "list")
    assert (found["id"], found["owner"], found["state"]) == (id_, "ann", "registered")
    gone = shop.run("lock", "retire", id_[:6]).stdout
    assert f"Lock {id_[:12]} of ann is retired" in gone
    assert "No lock is registered." in shop.run("lock", "list").stdout
    (retired,) = shop.json("lock", "list", "--all")
    assert retired["state"] == "retired"
    assert "was retired 20" in shop.run("lock", "retire", id_[:6], code=1).stderr
    again = shop.json("lock", "register", "model.json", "--owner", "bob")
    assert (again["owner"], again["expires"], again["collected"]) == ("bob", None, [])


LOCKS = {
    "missing": (None, "there is no file 'other.json'"),
    "empty": ("", "is no lock"),
    "not JSON": ("lock: 1", "is no lock"),
    "another document": ('{"project": "shop"}', "is no lock"),
    "another project's": (
        lambda lock: replace(lock, project="x-shop").to_json(),
        "lock.project: is 'x-shop'",
    ),
    "changed": (
        lambda lock: lock.to_json().replace('"feature_id":"', '"feature_id":"f'),
        "is no lock (Lock: its id does not fit its content",
    ),
    "changed, and its id with it": (
        lambda lock: replace(
            lock, outputs=(replace(lock.outputs[0], feature_id="f"), *lock.outputs[1:])
        ).to_json(),
        "lock.outputs[0].feature_id: is not the id of history:last_delay",
    ),
}


@pytest.mark.parametrize(("text", "message"), LOCKS.values(), ids=LOCKS)
def test_what_is_no_lock_is_refused(shop, text, message):
    """A file that holds no lock of this project says why, and nothing is registered."""
    path = shop.repo / "other.json"
    path.unlink(missing_ok=True)
    if text is not None:
        path.write_text(text(shop.lock) if callable(text) else text)
    done = shop.run("lock", "register", "other.json", "--owner", "ann", code=1)
    assert message in words(done.stderr)
    assert done.stdout == ""
    past = ("lock", "register", "model.json", "--owner", "ann", "--expires", "2020-01-01")
    assert "which has passed" in shop.run(*past, code=1).stderr


def test_show_tells_what_has_become_of_a_version(shop):
    """Any registered version: its features with ids, states, tables, releases and locks."""
    said = shop.run("show", V1.version).stdout
    assert fits(said)
    one, two = shop.json("show", V1.version), shop.json("show", "history")
    assert [state["name"] for state in one["states"]] == [
        *("declared", "backfilled", "verified", "live"),
    ]
    assert two["version"] == V2.id
    assert [state["name"] for state in two["states"]][-1] == "warm"
    assert one["features"][0]["id"] == V1.features[0].id
    assert V1.features[0].id[:12] in said
    assert one["tables"][0]["intervals"] == [{"start": None, "end": "2024-03-02T00:00:00Z"}]
    assert one["locks"][0]["id"] == shop.lock.id
    assert one["releases"][0]["aliases"] == ["prod"]
    assert 1 in [release["number"] for release in one["releases"]]
    assert "locks" in shop.run("show", "pace").stdout
    assert "no version has this id" in shop.run("show", "history@0000", code=1).stderr


def test_diff_gives_reasons_down_to_the_feature(shop):
    """Two versions of a view, or two releases by number or alias."""
    between = shop.run("diff", V1.version, "history").stdout
    assert fits(between)
    assert "history.was_late: expression changed:" in words(between)
    assert "history.seats: removed" in words(between)
    two = next(n["number"] for n in shop.json("show", "history")["releases"])
    releases = shop.json("diff", str(two), "prod")
    (change,) = [c for c in releases["changes"] if c["name"] == "history"]
    assert (change["before"], change["after"]) == (V2.version, V1.version)
    assert "The same." in shop.run("diff", "prod", "prod").stdout
    for names, message in {
        ("prod", "history"): "one is a release and the other a version",
        ("history", "pace"): "are versions of two views",
        ("prd", "prod"): "did you mean 'prod'?",
        ("prod", "99"): "there is no such release",
        ("prod", "9" * 30): "no view, alias or release has this name",
    }.items():
        assert message in words(shop.run("diff", *names, code=1).stderr)


def test_lineage_is_drawn_and_given(shop):
    """From the source to the lock; a name keeps what is connected with it."""
    said = shop.run("lineage").stdout
    assert fits(said)
    for line in ("source landings", "view history", V1.version, "service model", "lock "):
        assert line in said
    whole, one = shop.json("lineage"), shop.json("lineage", shop.lock.id[:8])
    assert {node["kind"] for node in one["nodes"]} == {
        *("source", "view", "version", "service", "lock"),
    }
    assert len(one["nodes"]) < len(whole["nodes"])
    assert "did you mean 'model'?" in words(shop.run("lineage", "modl", code=1).stderr)


def test_the_log_tells_who_did_what_newest_first(shop):
    """All lines for programs; for people the newest, and how many are older."""
    entries = shop.json("log")
    assert [entry["at"] for entry in entries] == sorted((e["at"] for e in entries), reverse=True)
    assert {"apply", "promote", "rollback", "lock"} <= {entry["action"] for entry in entries}
    assert shop.json("log", "--limit", "2") == entries[:2]
    said = shop.run("log", "--limit", "2").stdout
    assert fits(said)
    assert f"{len(entries) - 2} older" in said


def test_list_says_what_is_live_where(shop):
    """The applied version is not live after the rollback; the on-demand view still is."""
    said = shop.run("list").stdout
    assert fits(said)
    live = {view["name"]: view["live_in"] for view in shop.json("list")["views"]}
    assert live == {"history": [], "pace": ["prod"]}


BYTES = os.fsdecode(b"a\xff")
TYPED = {
    "a new alias, backfilled": (("backfill", "--alias", "prd"), 0),
    "a new alias, verified": (("verify", "--alias", "prd"), 0),
    "an alias that is none": (("backfill", "--alias", "p d"), "alias name 'p d': use 1 to 64"),
    "a number for an alias": (("promote", "--alias", "7"), "alias name '7': use 1 to 64"),
    "bytes for an owner": (
        ("lock", "register", "model.json", "--owner", BYTES),
        r"'a\udcff': is not UTF-8",
    ),
    "bytes for a file": (("lock", "register", BYTES, "--owner", "ann"), "is not UTF-8"),
    "bytes for a repo": (("list", "--repo", BYTES), "is not UTF-8"),
    "bytes for a name": (("show", BYTES), "is not UTF-8"),
    "an owner of two lines": (
        ("lock", "register", "model.json", "--owner", "a\nb"),
        r"lock.owner: 'a\nb' is no name of at most 200",
    ),
    "nowhere": (("get-online", "--service", "model", "--address", ""), "address: is empty; give"),
    "nowhere to verify": (("verify", "--address", ""), "address: is empty; give"),
    "a short id": (("lock", "retire", "ab"), "give at least 4 digits"),
}


@pytest.mark.parametrize(("typed", "told"), TYPED.values(), ids=TYPED)
def test_a_slip_of_the_pen_is_told_in_one_line(shop, typed, told):
    """What cannot be meant is refused; a new alias is only remarked on, beside the answer."""
    if isinstance(told, str):
        done = shop.run(*typed, code=1)
        assert told in words(done.stderr)
        assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    else:
        done = shop.run(*typed, code=told)
        assert "prd is a new alias; known are: prod" in done.stderr


FOREVER = {"FEATURESTORE_RETENTION_DAYS": "36500"}


@pytest.fixture
def garbage(tmp_path, valkey):
    """A repo whose first version nobody needs, once the retention is over."""
    name = f"garbage-{os.getpid()}-{time.monotonic_ns()}"
    repo = write(tmp_path / "repo", ROWS, name=name)
    made = Shop(repo, environment(valkey.url) | {"FEATURESTORE_RETENTION_DAYS": "0"}, None)
    for view in (V1, V2):
        workspace = applied(repo, valkey.url, view, now=datetime.now(UTC))
        materialize(workspace, micros(at(0)), micros(at(24)))
        workspace.close()
        made.run("verify")
        made.run("promote")
    return made


def test_collect_shows_and_removes_only_when_told(garbage):
    """Away from a terminal it only shows; --yes removes; what stays says why."""
    shown = garbage.run("collect", "--details").stdout
    assert fits(shown)
    assert "Nothing was removed: 1 table and copies of 1 release may go" in words(shown)
    assert f"{V1.version} {V1.data_id[:16]}.0 25" in words(shown)
    assert "live in prod" in shown
    found = garbage.json("collect")
    assert not found["removed"]
    assert [one["version"] for one in found["tables"]] == [V1.version]
    assert found["kept"][0]["reasons"] == ["applied", "live in prod"]
    gone = garbage.run("collect", "--yes").stdout
    assert "Removed 1 table and copies of 1 release; kept: 1 table." in words(gone)
    assert garbage.json("collect")["tables"] == []
    assert "Nothing to collect; kept: 1 table." in garbage.run("collect", "--yes", **FOREVER).stdout
    assert garbage.json("show", V1.version)["states"][-1] == {
        "name": "cold",
        "why": "its data was collected",
    }


def test_collect_asks_on_a_terminal(garbage):
    """No means no."""
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [*CLI, "collect"], cwd=garbage.repo, env=garbage.environ, stdin=theirs, stdout=theirs
    ) as process:
        os.close(theirs)
        os.write(ours, b"n\n")
        process.wait(timeout=60)
        said = os.read(ours, 100_000).decode()
    os.close(ours)
    assert process.returncode == 0
    assert "Remove it? [y/N]" in said
    assert "Nothing was removed" in said
    assert garbage.json("collect")["tables"]


def test_a_table_that_was_never_made_is_collected(garbage):
    """A backfill that died between the ledger and the folder leaves nothing that stays for ever."""
    workspace = garbage.workspace()
    ledger, now = workspace.ledger, workspace.clock()
    made = ledger.add_table(ledger.next_table(V1.data_id), now=now - 1)
    workspace.close()
    shown = garbage.json("show", V1.version)["tables"][-1]
    assert (shown["table"], shown["rows"], shown["intervals"]) == (made.id, 0, [])
    gone = garbage.json("collect", "--yes")
    assert {one["table"]: one["rows"] for one in gone["tables"]}[made.id] == 0
    assert made.id not in {one["table"] for one in garbage.json("collect")["tables"]}


def test_a_load_that_lost_all_rows_is_told_aloud(garbage):
    """Computed again from an emptied source; a view named twice is computed once."""
    ROWS.clear().write_parquet(garbage.repo / "data" / "landings.parquet")
    again = ("backfill", "--again", "--view", "history", "--view", "history")
    said = garbage.run(*again).stdout
    assert fits(said)
    assert f"Empty: {V2.version} has 0 rows now, the one before had 25" in words(said)
    found = garbage.json("backfill", "--again", "--view", "history")
    assert {(one["table"], one["rows"], one["before"]) for one in found} == {
        (f"{V2.data_id[:16]}.2", 0, 25)
    }


def test_the_log_marks_what_no_commit_holds(capsys):
    """A checkout that was changed by hand has a plus."""
    entry = Entry(at=0, who="ann", commit=None, action="apply", detail="x")
    commits = ("0123456789ab+dirty", "abcdef0123456", None)
    history_text.log([replace(entry, commit=commit) for commit in commits], 9)
    said = words(capsys.readouterr().out)
    for told in ("ann 01234567+ apply", "ann abcdef01 apply", "ann - apply"):
        assert told in said
