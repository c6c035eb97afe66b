"""Bad input to a notebook, a client and the command line: what is wrong, where, and the way out."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest

from featurestore import FeatureStore
from featurestore.cli import main
from featurestore.errors import (
    FeatureStoreError,
    InvalidRequest,
    NotFound,
    NotMaterialized,
    SourceError,
    Unavailable,
)
from featurestore.jobs.materialize import materialize
from featurestore.jobs.workspace import Workspace
from featurestore.model.time import micros
from featurestore.serving.client.client import FeatureClient
from tests.repos import (
    applied,
    at,
    history,
    landings,
    notebook,
    opened,
    pace,
    released,
    served,
    write,
)
from tests.servers import Server, free_port

ROWS = landings(("a", 1, None, 10.0, 3), ("b", 2, None, 20.0, 4))
MOMENT = pl.Datetime("us", "UTC")
SPINE = pl.DataFrame(
    {"plane": ["a"], "miles": [2.0], "event_timestamp": [at(5)]},
    schema_overrides={"event_timestamp": MOMENT},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A served repo, seen from a notebook and from a client."""

    workspace: Workspace
    store: FeatureStore
    client: FeatureClient

    def train(self, spine: Any = SPINE, features: Any = "model", **options: Any) -> Any:
        """Build a training set."""
        return self.store.get_historical_features(spine, features, **options)


@pytest.fixture(scope="module")
def world(online_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Serve a repo of one stored view and one on-demand view, materialized for a day."""
    view = history(ttl=timedelta(hours=3))
    name = f"bad-{uuid4().hex[:8]}"
    repo = write(tmp_path_factory.mktemp("bad") / "repo", ROWS, name=name)
    workspace = applied(repo, online_server.url, view, pace(view))
    materialize(workspace, micros(at(0)), micros(at(24)))
    released(workspace)
    with notebook(workspace) as store, served(workspace) as client:
        yield World(workspace=workspace, store=store, client=client)
    workspace.close()


Call = Callable[[World], object]

TRAINING: dict[str, tuple[Call, type[FeatureStoreError], str]] = {
    "unknown entity column": (
        lambda w: w.train(SPINE.rename({"plane": "plan"})),
        InvalidRequest,
        "entity_df: join key 'plane' of history is missing: .*; did you mean 'plan'?",
    ),
    "unknown service": (
        lambda w: w.train(features="modal"),
        NotFound,
        "features: no service is called 'modal'; did you mean 'model'?",
    ),
    "unknown view": (
        lambda w: w.train(features=["histor:seats"]),
        NotFound,
        "features: no view is called 'histor'; did you mean 'history'?",
    ),
    "unknown feature": (
        lambda w: w.train(features=["history:seat"]),
        NotFound,
        "history:seat: the view history@.* has no such feature; did you mean 'seats'?",
    ),
    "no features": (lambda w: w.train(features=[]), InvalidRequest, "features: none .*; "),
    "what is no feature": (
        lambda w: w.train(features=7),
        InvalidRequest,
        "features: int names no features; pass a service's name",
    ),
    "what is no feature in a list": (
        lambda w: w.train(features=[7]),
        InvalidRequest,
        "features: int is no reference, view or service; write 'view:feature'",
    ),
    "one feature twice": (
        lambda w: w.train(features=["history:seats", "history:seats"]),
        InvalidRequest,
        "features: history:seats and history:seats would both be called 'seats'; ",
    ),
    "wrong key dtype": (
        lambda w: w.train(SPINE.with_columns(plane=pl.lit(7))),
        InvalidRequest,
        "entity_df.plane: the key is declared string, .*",
    ),
    "missing timestamp": (
        lambda w: w.train(SPINE.drop("event_timestamp")),
        InvalidRequest,
        "entity_df: which column is the moment of a row\\? .*; name the one to use",
    ),
    "request data missing": (
        lambda w: w.train(SPINE.drop("miles")),
        InvalidRequest,
        "entity_df: request data 'miles' of pace is missing: there is no column 'miles'",
    ),
    "request data of another dtype": (
        lambda w: w.train(SPINE.with_columns(miles=pl.lit("far"))),
        InvalidRequest,
        "entity_df.miles: is String, but float64 is declared; ",
    ),
    "a moment after the watermark": (
        lambda w: w.train(SPINE.with_columns(event_timestamp=pl.lit(at(25), MOMENT))),
        NotMaterialized,
        (
            "history: history@.* is not materialized from .*; run `featurestore "
            "materialize-incremental 2024-03-02T01:00:00`, or pass allow_stale=True"
        ),
    ),
}
ONLINE: dict[str, tuple[dict[str, Any], type[FeatureStoreError], str]] = {
    "unknown service": (
        {"features": "modal", "entities": {"plane": ["a"]}},
        NotFound,
        "feature_service: .*'modal'.*; did you mean 'model'?",
    ),
    "unknown view": (
        {"features": ["histor:seats"], "entities": {"plane": ["a"]}},
        NotFound,
        "features: no view is called 'histor'; did you mean 'history'?",
    ),
    "unknown feature": (
        {"features": ["history:seat"], "entities": {"plane": ["a"]}},
        NotFound,
        "history:seat: .*; did you mean 'seats'?",
    ),
    "unknown entity column": (
        {"features": ["history:seats"], "entities": {"plan": ["a"]}},
        InvalidRequest,
        "entities.plane: missing; bring a column of string; did you mean 'plan'?",
    ),
    "wrong key dtype": (
        {"features": ["history:seats"], "entities": {"plane": [7]}},
        InvalidRequest,
        "entities.plane: the key is declared string, .*",
    ),
    "request data missing": (
        {"features": "model", "entities": {"plane": ["a"]}},
        InvalidRequest,
        "request_data.miles: missing; bring a column of float64",
    ),
    "request data of another length": (
        {"features": "model", "entities": {"plane": ["a"]}, "request_data": {"miles": [1.0, 2.0]}},
        InvalidRequest,
        "request_data: has 2 rows, the entities 1; bring one row",
    ),
    "no entities": (
        {"features": ["history:seats"], "entities": {"plane": pl.Series([], dtype=pl.String)}},
        InvalidRequest,
        "count: 0 entities asked for; send at least 1",
    ),
    "no entity rows": (
        {"features": ["history:seats"], "entity_rows": []},
        InvalidRequest,
        "entity_rows: is empty; bring at least one row",
    ),
    "too many entities": (
        {"features": ["history:seats"], "entities": {"plane": ["a"] * 10_001}},
        InvalidRequest,
        "count: 10001 entities asked for, at most 10000 a call; split the request",
    ),
}


@pytest.mark.parametrize(("call", "kind", "said"), TRAINING.values(), ids=TRAINING)
def test_a_training_set_that_cannot_be_says_why(
    world: World, call: Call, kind: type[FeatureStoreError], said: str
) -> None:
    """A notebook is told what does not fit, by its dotted path, and what to do."""
    with pytest.raises(kind, match=f"^{said}"):
        call(world)


@pytest.mark.parametrize(("asked", "kind", "said"), ONLINE.values(), ids=ONLINE)
def test_client_and_notebook_are_refused_alike(
    world: World, asked: dict[str, Any], kind: type[FeatureStoreError], said: str
) -> None:
    """A lookup over gRPC and one in process raise the same error with the same words."""
    told = set()
    for ask in (world.client.get_online_features, world.store.get_online_features):
        with pytest.raises(kind, match=f"^{said}") as caught:
            ask(**asked)
        told.add(str(caught.value))
    assert len(told) == 1
    good = world.client.get_online_features(["history:seats"], [{"plane": "a"}], as_of=at(2))
    assert good.to_dict()["seats"] == [3]


def test_an_unknown_alias_is_named(world: World) -> None:
    """A lookup in process may follow another alias, which must exist."""
    with pytest.raises(NotFound, match=r"^prd: no alias .*did you mean 'prod'.*promote"):
        world.store.get_online_features(["history:seats"], [{"plane": "a"}], alias="prd")


def test_a_moment_before_what_is_materialized_names_the_gap(
    tmp_path: Path, online_url: str, project: str
) -> None:
    """A table that starts late does not answer for the time before, but says what to run."""
    workspace = applied(write(tmp_path / "repo", ROWS, name=project), online_url)
    materialize(workspace, micros(at(1)) + 1, micros(at(24)))
    said = r"^history: .* is not materialized from 2024-02-23 05.* to 2024-03-01 01.*; run `featur"
    with notebook(workspace) as store, pytest.raises(NotMaterialized, match=said):
        store.get_historical_features(SPINE.drop("miles"), "model")
    workspace.close()


def test_nothing_applied_or_nothing_materialized_is_told_apart(
    tmp_path: Path, online_url: str, project: str
) -> None:
    """Each names the next command to run."""
    repo = write(tmp_path / "repo", ROWS, name=project)
    empty = opened(repo, online_url)
    with notebook(empty) as store, pytest.raises(NotFound, match=r"nothing is applied.*apply`"):
        store.get_historical_features(SPINE, ["history:seats"])
    workspace = applied(repo, online_url)
    with notebook(workspace) as store:
        with pytest.raises(NotMaterialized, match=r"^history: .*run `featurestore materialize"):
            store.get_historical_features(SPINE, ["history:seats"])
        with pytest.raises(NotMaterialized, match=r"^promote: not materialized are history@.*run"):
            store.promote()
        with pytest.raises(NotFound, match=r"^prod: no alias .*run `featurestore promote`"):
            store.get_online_features(["history:seats"], [{"plane": "a"}])
    empty.close()
    workspace.close()


def _without_file(repo: Path) -> None:
    (repo / "data" / "landings.parquet").unlink()


def _with_empty_file(repo: Path) -> None:
    (repo / "data" / "landings.parquet").write_bytes(b"")


def _without_column(repo: Path) -> None:
    ROWS.drop("seats").write_parquet(repo / "data" / "landings.parquet")


def _untouched(_: Path) -> None:
    pass


DAY = ("2024-03-01", "2024-03-02")
COMMANDS: dict[str, tuple[Callable[[Path], None], list[str], int, str]] = {
    "end before start": (
        _untouched,
        ["materialize", *reversed(DAY)],
        1,
        "materialize: end 2024-03-01 .* is before start 2024-03-02 .*; ",
    ),
    "no moment": (
        _untouched,
        ["materialize", "yesterday", DAY[1]],
        1,
        "START: 'yesterday' is no ISO 8601 moment; write 2013-09-01",
    ),
    "end in the future": (
        _untouched,
        ["materialize", DAY[0], "9000-01-01"],
        1,
        "materialize: end 9000-01-01 .* is in the future .*; ",
    ),
    "unknown view": (
        _untouched,
        ["materialize", *DAY, "--view", "histor"],
        1,
        "histor: no applied view has this name; did you mean 'history'?",
    ),
    "nothing to describe": (
        _untouched,
        ["describe", "modal"],
        1,
        "modal: no applied view or service has this name; did you mean 'model'?",
    ),
    "nothing materialized": (
        _untouched,
        ["promote"],
        4,
        "promote: not materialized are history@.*; run `featurestore backfill`",
    ),
    "source missing": (
        _without_file,
        ["materialize", *DAY],
        7,
        "history.source: data/landings.parquet is not there, .*; check the path",
    ),
    "source empty": (
        _with_empty_file,
        ["materialize", *DAY],
        7,
        "history.source: data/landings.parquet cannot be read as parquet: .*; write it again",
    ),
    "source lacks a column": (
        _without_column,
        ["materialize", *DAY],
        7,
        "history.source: column 'seats' is not in data/landings.parquet",
    ),
}


def command(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Run the command line in this process; give its exit code and what it tells a person."""
    monkeypatch.setattr("sys.argv", ["featurestore", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code, " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(("spoil", "arguments", "code", "said"), COMMANDS.values(), ids=COMMANDS)
def test_a_command_that_is_refused_exits_with_its_code(
    tmp_path: Path,
    valkey: Server,
    project: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    """The error goes to standard error in one piece, without a traceback."""
    repo = write(tmp_path / "repo", ROWS, name=project)
    applied(repo, valkey.url).close()
    spoil(repo)
    monkeypatch.setenv("FEATURESTORE_REDIS_URL", valkey.url)
    ended, told = command([*arguments, "--repo", str(repo)], monkeypatch, capsys)
    assert re.match(f"error: {said}", told), told
    assert ended == code


def test_a_command_without_redis_or_server_exits_as_unreachable(
    tmp_path: Path,
    project: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 6 says: try later; the address is named, a password is not."""
    repo = write(tmp_path / "repo", ROWS, name=project)
    applied(repo, "redis://127.0.0.1:1/0").close()
    monkeypatch.setenv("FEATURESTORE_REDIS_URL", "redis://:canary@127.0.0.1:1/0")
    ended, told = command(["materialize", *DAY, "--repo", str(repo)], monkeypatch, capsys)
    assert (ended, "canary" in told) == (6, False)
    assert "online_store: Redis at redis://127.0.0.1:1/0 cannot be reached" in told
    address = f"127.0.0.1:{free_port()}"
    asked = ["get-online", "plane=a", "--service", "model", "--address", address]
    ended, told = command(asked, monkeypatch, capsys)
    assert ended == 6
    assert address in told


def test_a_folder_that_is_no_repo_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without feature_store.yaml the way out is to name a repo."""
    ended, told = command(["list", "--repo", str(tmp_path)], monkeypatch, capsys)
    assert ended == 1
    assert "feature_store.yaml: is not there; run inside a feature repo" in told


def test_a_server_without_redis_passes_the_reason_on(tmp_path: Path, project: str) -> None:
    """It starts all the same; a caller reads which Redis it waits for, and what to check."""
    repo = write(tmp_path / "repo", ROWS, name=project)
    workspace = applied(repo, f"redis://127.0.0.1:{free_port()}/0")
    said = r"^online_store: Redis at redis://127\.0\.0\.1:\d+/0 cannot be reached .*; check that"
    with served(workspace) as client, pytest.raises(Unavailable, match=said):
        client.get_online_features(["history:seats"], [{"plane": "a"}])
    workspace.close()


def test_a_bad_source_in_a_notebook_is_a_source_error(
    tmp_path: Path, online_url: str, project: str
) -> None:
    """The facade passes a job's error on as it is."""
    workspace = applied(write(tmp_path / "repo", ROWS, name=project), online_url)
    _without_column(workspace.config.root)
    with notebook(workspace) as store:
        with pytest.raises(SourceError, match=r"^history\.source: column 'seats' is not in"):
            store.materialize(at(0), at(24))
        with pytest.raises(InvalidRequest, match="is before start"):
            store.materialize(at(24), at(0))
    workspace.close()
