"""The command line as a person and a scheduler meet it, over one repo that is applied once."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from datetime import datetime
from shutil import copytree

import polars as pl
import pytest

from featurestore import FeatureStore
from featurestore.jobs.workspace import Workspace
from tests.commands import CLI, ROOT, environment, fits
from tests.commands import run as command
from tests.locks import locked
from tests.repos import applied, at, landings, write
from tests.servers import free_port

DEFINITIONS = """
from datetime import timedelta

import polars as pl
from feast import Entity, FeatureService, Field, FileSource, RequestSource, ValueType
from feast.types import Float64

from featurestore.definitions import FeatureView, OnDemandFeatureView

plane = Entity(name="plane", join_keys=["plane"], value_type=ValueType.STRING)
landings = FileSource(name="landings", path="data/landings.parquet", timestamp_field="at")

history_of_every_plane = FeatureView(
    name="history_of_every_plane",
    entities=[plane],
    source=landings,
    ttl=timedelta(days=7),
    features={
        "last_delay": pl.col("delay"),
        "was_later_than_anybody_had_expected": (pl.col("delay") * 2 - 1).round(1) > 15,
        "seats": pl.col("seats"),
    },
)
# In a list, as Feast takes every view at a module's top level for a definition.
uses = [history_of_every_plane.with_name(name) for name in ("first_plane", "second_plane")]
uses[1] = uses[1].with_join_key_map({"plane": "other_plane"})
trip = RequestSource(name="trip", schema=[Field(name="miles", dtype=Float64)])
pace = OnDemandFeatureView(
    name="pace",
    sources=[history_of_every_plane, trip],
    features={"per_mile": pl.col("last_delay") / pl.col("miles")},
)
model = FeatureService(name="model", features=[*uses, pace])
"""
ROWS = landings(("a", 1, None, 10.0, 3), ("a", 5, None, 20.0, 4), ("b", 2, None, 30.0, None))
VIEW = "history_of_every_plane"


@pytest.fixture(scope="module")
def environ(valkey):
    """The environment of every command."""
    return environment(valkey.url)


@pytest.fixture(scope="module")
def run(environ):
    """Run a command in a repo to its end; asserts its exit code, gives its output."""

    def call(*arguments, repo, code=0, **variables):
        return command(*arguments, repo=repo, environ=environ | variables, code=code)

    return call


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A repo of definitions and data, never applied."""
    repo = write(tmp_path_factory.mktemp("cli") / "repo", ROWS, name="cli_shop")
    (repo / "definitions.py").write_text(DEFINITIONS)
    return repo


@pytest.fixture(scope="module")
def plans(fresh, run):
    """The documents a program gets from plan, apply and plan again, in that order."""
    before = run("plan", "--json", repo=fresh, code=2).stdout
    done = run("apply", repo=fresh).stdout
    after = run("plan", "--json", repo=fresh).stdout
    return json.loads(before), done, json.loads(after)


@pytest.fixture(scope="module")
def shop(fresh, plans):
    """The repo once it is applied."""
    return fresh


@pytest.fixture(scope="module")
def outcomes(shop, run):
    """What materializing the shop printed for programs, and again for people."""
    first = run("materialize", "2024-03-01", "2024-03-02", "--json", repo=shop).stdout
    return json.loads(first), run("materialize", "2024-03-01", "2024-03-02", repo=shop).stdout


def test_a_dry_run_tells_what_would_be_computed(bare, run):
    """Each run with its reason and rows; nothing is written, and no server is started."""
    told = json.loads(run("materialize-incremental", "--dry-run", "--json", repo=bare).stdout)
    assert [(one["view"], one["table"], one["start"], one["why"]) for one in told] == [
        ("history", None, None, "never run")
    ]
    text = run("materialize", "2024-03-01", "2024-03-02", "--dry-run", repo=bare).stdout
    assert re.search(r"history@\w{12}, a new table:", text)
    assert re.search(r"the beginning to 2024-03-02 00:00 +3 +never run", text)
    assert fits(text)
    assert "Nothing was materialized yet" in run("runs", repo=bare).stdout
    asked = run(
        "materialize", "2024-03-01", "2024-03-02", "-v", "nothing", "--dry-run", repo=bare, code=1
    )
    assert "nothing: no applied view has this name" in asked.stderr


def test_runs_tell_what_was_materialized(shop, outcomes, run):
    """Newest first: when, from which state of the source, how many rows, how long."""
    newest, first = json.loads(run("runs", "--json", repo=shop).stdout)
    assert (newest["state"], newest["changed"], first["changed"]) == ("served", False, True)
    assert newest["source"] == first["source"] is not None
    assert (first["rows"], first["served"], first["repaired"]) == (3, 2, 0)
    assert 0 < first["seconds"] < 60
    assert json.loads(run("runs", "--view", VIEW, "--limit", "1", "--json", repo=shop).stdout) == [
        newest
    ]
    assert (
        len(json.loads(run("runs", "--table", first["table"][:6], "--json", repo=shop).stdout)) == 2
    )
    text = run("runs", repo=shop).stdout
    assert fits(text)
    for done in ("unchanged", "2 served"):
        line = rf"[\d.]+s, {done} .* to 2024-03-02 00:00 +{first['source'][:8]}"
        assert re.search(line, text)
    assert "no view has this name" in run("runs", "--view", "nothing", repo=shop, code=1).stderr
    assert "no run wrote to" in run("runs", "--table", "nothing", repo=shop, code=1).stderr


@pytest.fixture(scope="module")
def promoted(shop, outcomes, run):
    """What promoting the shop printed for programs, once it is verified."""
    assert json.loads(run("verify", "--json", repo=shop).stdout)["equal"]
    return json.loads(run("promote", "--json", repo=shop).stdout)


@pytest.fixture
def bare(tmp_path, valkey):
    """A repo whose view is applied without feast, and never materialized."""
    repo = write(tmp_path / "bare", ROWS, name=f"bare-{os.getpid()}-{time.monotonic_ns()}")
    applied(repo, valkey.url).close()
    return repo


def test_plan_says_what_apply_will_do_and_apply_leaves_nothing_to_do(plans):
    """Everything is new before, nothing after; exit 2 says so to programs."""
    before, done, after = plans
    assert {(c["name"], c["what"], c["kind"]) for c in before["changes"]} == {
        (VIEW, "view", "additive"),
        ("pace", "view", "additive"),
        ("model", "service", "additive"),
    }
    assert before["revision"] is None
    assert before["id"].startswith("prod:-.-.")
    assert [step["step"] for step in before["steps"]] == [
        *["register"] * 3,
        *["backfill", "verify", "promote"],
    ]
    assert after["id"] == before["id"].replace("-", "0", 1)
    assert f"Plan {after['id']}." in done
    assert "Applied: 3 changed." in done
    assert fits(done)
    assert [c["kind"] for c in after["changes"]] == ["none"] * 3


def test_an_edit_is_planned_with_its_reason(shop, outcomes, run, tmp_path):
    """A changed argument, which Polars does not print, and a changed ttl are told by path.

    What it breaks and how values move is told too, and a plan that was overtaken is not applied.
    """
    repo = copytree(shop, tmp_path / "edited")
    edited = DEFINITIONS.replace("round(1)", "round(2)").replace("days=7", "days=8")
    (repo / "definitions.py").write_text(edited)
    with closing(Workspace.open(repo)) as workspace:
        name = "was_later_than_anybody_had_expected"
        registered = locked(workspace.view(VIEW), name, project="cli_shop")
        workspace.releases.register_lock(registered, now=0, who="alice")
    text = run("plan", "--sample", repo=repo, code=3).stdout
    words = " ".join(text.split())
    assert f"{VIEW}.was_later_than_anybody_had_expected: expression changed:" in words
    assert "in an argument that is not printed" in words
    assert f"{VIEW}.ttl: 7d → 8d" in words
    assert "touches services model" in words
    assert f"breaks lock {registered.id[:12]} of alice" in words
    assert "Breaking for 1 registered lock." in words
    assert "3 rows known from 2024-03-01" in words
    assert "`featurestore apply` registers them" in words
    assert fits(text)
    said = run("apply", "--plan", "prod:7.7.00000000", repo=repo, code=5).stderr
    assert "apply: prod moved from release 7" in said


def test_a_materialization_reports_to_programs_and_twice_changes_nothing(outcomes):
    """Moments are ISO 8601, an interval from the beginning is null; the second run is unchanged."""
    (outcome,), again = outcomes
    assert outcome["view"] == VIEW
    assert (outcome["rows"], outcome["served"], outcome["changed"]) == (3, 2, True)
    assert outcome["start"] is None
    assert datetime.fromisoformat(outcome["end"]).isoformat() == "2024-03-02T00:00:00+00:00"
    assert "unchanged" in again
    assert fits(again)


def test_promoting_twice_keeps_the_release(shop, promoted, run):
    """A second promote of the same tables makes no release."""
    assert promoted["new"]
    assert promoted["views"][0]["complete_up_to"] == "2024-03-02T00:00:00Z"
    again = run("promote", repo=shop).stdout
    assert f"prod already names release {promoted['release']}." in again
    assert fits(again)


def test_list_and_describe_fit_a_terminal_and_parse(shop, promoted, run):
    """Versions stay whole in tables of 80 columns; the same comes as JSON."""
    listed = run("list", repo=shop).stdout
    found = json.loads(run("list", "--json", repo=shop).stdout)
    version = found["views"][0]["version"]
    assert f"{VIEW}@{version[:12]}" in listed
    assert found["views"][0]["complete_up_to"] == "2024-03-02T00:00:00Z"
    assert [s["name"] for s in found["services"]] == ["model"]
    shown = [listed, *(run("describe", name, repo=shop).stdout for name in (VIEW, "pace", "model"))]
    assert all(map(fits, shown))
    view = json.loads(run("describe", VIEW, "--json", repo=shop).stdout)
    assert (view["version"], view["ttl"]) == (version, 7 * 86_400)
    assert view["keys"] == [{"name": "plane", "dtype": "string"}]
    service = json.loads(run("describe", "model", "--json", repo=shop).stdout)
    assert [c["name"] for c in service["entities"]] == ["plane", "other_plane"]
    assert service["request_data"] == [{"name": "miles", "dtype": "float64"}]
    assert [f["name"] for f in service["features"]][3] == "second_plane:last_delay"


@pytest.fixture
def address(shop, promoted, environ):
    """Where `featurestore serve` listens; it says so on both outputs and ends with exit code 0."""
    with subprocess.Popen(
        [*CLI, "serve", "--port", "0"],
        cwd=shop,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            said = json.loads(server.stdout.readline())
            yield said["address"]
        finally:
            server.send_signal(signal.SIGTERM)
            _, log = server.communicate(timeout=30)
    assert server.returncode == 0
    assert f"SERVING release {promoted['release']}" in log
    assert f"listening on {said['address']}, project cli_shop: SERVING" in log
    assert "stopping" in log


def test_a_served_row_is_shown_with_status_and_event_time(shop, address, run):
    """One look-up on a running server: a table for a person, lists for a program."""
    asked = [
        *("get-online", "plane=a", "other_plane=z", "miles=4", "--service", "model"),
        *("--address", address, "--as-of", "2024-03-02"),
    ]
    text = run(*asked, repo=shop).stdout
    assert fits(text)
    assert re.search(r"^ +last_delay +20 +PRESENT +2024-03-01 05:00:00", text, re.MULTILINE)
    assert re.search(r"^ +last_delay +null +NOT_FOUND *$", text, re.MULTILINE)
    found = json.loads(run(*asked, "--json", repo=shop).stdout)
    assert found["as_of"] == "2024-03-02T00:00:00Z"
    assert found["features"]["pace__per_mile"] == [5.0]
    assert found["statuses"]["second_plane__seats"] == ["NOT_FOUND"]
    assert found["event_times"]["first_plane__seats"] == ["2024-03-01T05:00:00Z"]
    nan = json.loads(
        run(*[w.replace("miles=4", "miles=nan") for w in asked], "--json", repo=shop).stdout
    )
    assert nan["features"]["pace__per_mile"] == ["NaN"]


def test_a_lock_is_looked_up_in_the_place_of_a_service(shop, address, run, environ, tmp_path):
    """The lock's outputs, under its names; a service beside it, or neither, is a usage error."""
    spine = pl.DataFrame({"plane": ["a"], "miles": [4.0], "event_timestamp": [at(6)]})
    with FeatureStore(shop, environ=environ) as store:
        made = store.get_historical_features(spine, [f"{VIEW}:seats", "pace:per_mile"])
    file = tmp_path / "lock.json"
    file.write_text(made.lock.to_json())
    asked = ["get-online", "plane=a", "miles=4", "--address", address, "--as-of", "2024-03-02"]
    found = json.loads(run(*asked, "--lock", str(file), "--json", repo=shop).stdout)
    assert (found["features"]["seats"], found["features"]["per_mile"]) == ([4], [5.0])
    assert (
        f"lock {made.lock.id[:12]}, release" in run(*asked, "--lock", str(file), repo=shop).stdout
    )
    for words in ([], ["--lock", str(file), "--service", "model"]):
        done = run(*asked, *words, repo=shop, code=2)
        assert "exactly one of --service and --lock" in done.stderr
    done = run(*asked, "--lock", str(shop / "feature_store.yaml"), repo=shop, code=1)
    assert "is no lock" in done.stderr


def test_a_wrong_look_up_says_what_is_wrong(shop, address, run):
    """Unknown services and columns, values of another dtype and words without '=' are named."""
    for words, message in {
        ("plane=a", "--service", "modle"): "did you mean 'model'?",
        ("plain=a", "--service", "model"): "plain: the service asks for no such column; did you",
        ("miles=far", "--service", "model"): "miles: 'far' is no float64",
        ("a", "--service", "model"): "'a': is not COLUMN=VALUE",
        ("plane=a", "plane=b", "--service", "model"): "plane: comes twice",
        ("plane=a", "--service", "model", "--as-of", "noon"): "--as-of: 'noon' is no ISO 8601",
    }.items():
        done = run("get-online", *words, "--address", address, repo=shop, code=1)
        assert message in done.stderr
        assert done.stdout == ""


def test_a_taken_port_ends_the_server_with_one_line(shop, address, environ):
    """The port is named, the exit code says unreachable, and gRPC adds nothing of its own."""
    command = [*CLI, "serve", "--port", address.rpartition(":")[2]]
    for words in ([], ["--workers", "2", "--metrics", "0"]):
        done = subprocess.run(
            [*command, *words], cwd=shop, env=environ, check=False, capture_output=True, text=True
        )
        assert done.returncode == 6
        assert f"error: {address}: cannot listen there; choose a free port" in done.stderr
        assert "add_port" not in done.stderr


def test_a_server_needs_no_standard_output(shop, address, environ):
    """Where it came closed, the server starts as far as it can all the same."""
    command = [*CLI, "serve", "--port", address.rpartition(":")[2]]
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    done = subprocess.run(
        closed, cwd=shop, env=environ, check=False, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 6
    assert f"error: {address}: cannot listen there" in done.stderr


@pytest.mark.parametrize(("port", "bound"), [("70000", "than or equal to 65535"), ("-1", "to 0 ")])
def test_a_port_that_is_none_is_refused(run, tmp_path, port, bound):
    """It is not taken for another one, whose number is left when its upper bits are gone."""
    said = run("serve", "--port", port, repo=tmp_path, code=2)
    assert bound in said.stderr


def test_a_server_for_others_wants_tls_or_a_word(shop, promoted, environ):
    """Beyond this machine nobody is served in the clear by mistake."""
    command = [*CLI, "serve", "--host", "0.0.0.0", "--port", "0", "--log-json"]
    done = subprocess.run(
        command, cwd=shop, env=environ, check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "--host: 0.0.0.0 is reached from other machines" in done.stderr


def test_redis_is_rebuilt_from_offline(shop, promoted, run, valkey):
    """What Redis lost comes back, and the rows that came back are counted."""
    with valkey.client() as client:
        client.flushall()
    found = json.loads(run("rebuild-online", "--json", repo=shop).stdout)
    assert list(found["rows"].values()) == [2]
    assert found["aliases"] == {"prod": promoted["release"]}
    assert fits(run("rebuild-online", repo=shop).stdout)


def refused(*words, code=1):
    """Make a case of a command that ends with an exit code and a message."""
    *command, message = words
    return pytest.param(command, code, message, id="-".join(command)[:40])


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        refused("describe", "histroy", "no applied view or service has this name; did you mean"),
        refused("materialize", "2024-03-02", "2024-03-01", "is before start 2024-03-02"),
        refused("materialize", "2024-03-01", "9999-01-01", "is in the future"),
        refused("materialize", "2024-03-01", "noon", "END: 'noon' is no ISO 8601 moment; write"),
        refused("materialize-incremental", "--view", "histroy", "did you mean 'history'?"),
        refused("materialize", "2024-03-01", "Missing argument 'END'", code=2),
        refused("plna", "No such command 'plna'", code=2),
        refused("promote", "promote: not materialized are history@", code=4),
        refused("verify", "verify: not materialized are history@", code=4),
        refused("verify", "--live", "prod: no alias has this name"),
        refused("show", "histry", "did you mean 'history'?"),
        refused("backfill", "--again", "again needs the views to compute again"),
        refused("lock", "register", "model.json", "Missing option '--owner'", code=2),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_exit_code(bare, run, command, code, message):
    """Each refusal has its code, says why on standard error and prints nothing on the other."""
    done = run(*command, repo=bare, code=code)
    assert message in done.stderr
    assert done.stdout == ""


def test_without_a_repo_or_before_apply_the_way_out_is_said(tmp_path, run):
    """A folder without a repo names --repo; a repo that was never applied names apply."""
    assert "name one with --repo" in run("list", repo=tmp_path, code=1).stderr
    write(tmp_path / "new", ROWS)
    words = ("list", "--repo", str(tmp_path / "new"))
    assert "run `featurestore apply`" in run(*words, repo=tmp_path, code=1).stderr


def test_a_held_lease_ends_with_5(bare, run, valkey):
    """A second run of a table is told to come again."""
    with_lease = applied(bare, valkey.url)
    view = with_lease.view("history")
    run("materialize", "2024-03-01", "2024-03-01T02:00", repo=bare)
    table, now = with_lease.table(view), time.time_ns() // 1000
    with_lease.ledger.lease(
        f"table {table.id}", "another", now=now, until=now + 60_000_000, process="", note="ann"
    )
    with_lease.close()
    run("materialize", "2024-03-01", "2024-03-02", repo=bare, code=5)


def test_what_is_unreachable_ends_with_6(shop, promoted, run):
    """Redis and the server: the address is named, a password never."""
    url = f"redis://:hunter2@127.0.0.1:{free_port()}/0"
    done = run("promote", repo=shop, code=6, FEATURESTORE_REDIS_URL=url)
    assert "online_store.connection_string, or FEATURESTORE_REDIS_URL" in done.stderr
    assert "hunter2" not in done.stderr
    address = f"127.0.0.1:{free_port()}"
    done = run("get-online", "-s", "model", "--address", address, repo=shop, code=6)
    assert f"server at {address}: cannot be reached; check that `featurestore serve`" in done.stderr


def test_a_missing_source_ends_with_7(bare, run):
    """The view and the path are named."""
    (bare / "data" / "landings.parquet").unlink()
    done = run("materialize", "2024-03-01", "2024-03-02", repo=bare, code=7)
    assert "history.source: data/landings.parquet is not there" in done.stderr


def test_the_embedded_server_is_reported_and_stopped(bare, run):
    """Status and stop say what is, for people and programs; a run starts the server it needs."""
    none = {"FEATURESTORE_REDIS_URL": ""}
    assert json.loads(run("online", "status", "--json", repo=bare, **none).stdout) == {
        "running": False
    }
    run("materialize", "2024-03-01", "2024-03-02", repo=bare, **none)
    try:
        found = json.loads(run("online", "status", "--json", repo=bare, **none).stdout)
        assert found["running"]
        assert found["address"] in run("online", "status", repo=bare, **none).stdout
    finally:
        stopped = run("online", "stop", repo=bare, **none).stdout
    assert stopped == "stopped\n"
    assert json.loads(run("online", "stop", "--json", repo=bare, **none).stdout) == {
        "stopped": False
    }


def test_a_process_ends_with_the_exit_code_of_its_error(bare, environ):
    """What `main` says is what a scheduler sees of the process."""
    done = subprocess.run(
        [*CLI, "promote"], cwd=bare, env=environ, check=False, capture_output=True, text=True
    )
    assert done.returncode == 4
    assert done.stderr.startswith("error: promote: not materialized")


def test_help_needs_no_store():
    """Help, which a person waits for, loads neither Polars nor a database nor gRPC."""
    code = "import sys, featurestore.cli; print(*sys.modules, sep='\\n')"
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    heavy = ("polars", "numpy", "sqlalchemy", "redis", "grpc", "deltalake", "feast")
    assert [name for name in heavy if name in listed] == []


def test_every_command_explains_itself_in_80_columns(run, tmp_path):
    """Each command's help names its arguments and fits."""
    commands = re.findall(r"^│ ([a-z-]+) ", run("--help", repo=tmp_path).stdout, re.MULTILINE)
    assert "get-online" in commands
    for name in ("materialize", "get-online", "serve", "describe", "verify", "collect", "diff"):
        text = run(name, "--help", repo=tmp_path).stdout
        assert f"Usage: featurestore {name}" in text
        assert fits(text)
