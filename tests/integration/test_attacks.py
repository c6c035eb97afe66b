"""What a hostile user tried: nothing wrong is answered, nothing breaks, nothing secret shows."""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import grpc
import pandas as pd
import polars as pl
import pytest

from featurestore.definitions.loader import project_name
from featurestore.errors import (
    Conflict,
    CorruptData,
    FeatureStoreError,
    InvalidDefinition,
    InvalidRequest,
    NotMaterialized,
    SourceError,
    Unavailable,
)
from featurestore.jobs import materialize as jobs
from featurestore.jobs.config import read_config
from featurestore.jobs.promote import promote
from featurestore.jobs.rebuild import rebuild_online
from featurestore.jobs.tables import StoredTables
from featurestore.jobs.workspace import Workspace
from featurestore.model.catalog import Catalog
from featurestore.model.declare import batch_view, on_demand_view
from featurestore.model.documents import Projection, Release, dump, load
from featurestore.model.identity import identified
from featurestore.model.query import references, resolve
from featurestore.model.time import micros, normalize_schema
from featurestore.serving.answer.brought import COLUMNS
from featurestore.serving.answer.requests import REFERENCES
from featurestore.serving.client.asking import request_message
from featurestore.serving.client.client import FeatureClient
from featurestore.serving.message import twin
from featurestore.serving.message.limits import SERVICE, Limits
from featurestore.serving.process.server import serve
from featurestore.storage.redis import OnlineStore
from featurestore.training import training_set
from tests.repos import (
    DAY,
    HOUR,
    SCHEMA,
    applied,
    at,
    history,
    landings,
    offline_rows,
    pace,
    released,
    source,
    write,
)
from tests.servers import wait_until

ROWS = landings(("a", 1, None, 10.0, 3), ("a", 5, None, 20.0, 4), ("b", 3, None, 40.0, 6))


@pytest.fixture
def repo(tmp_path, project):
    """Write a repo of three source rows under a project's name of its own."""
    return write(tmp_path / "repo", ROWS, name=project)


@pytest.fixture
def using(repo, valkey):
    """Apply views to the repo and give its workspace; all are closed in the end."""
    opened = []

    def open_with(*views):
        opened.append(applied(repo, valkey.url, *views))
        return opened[-1]

    yield open_with
    for workspace in opened:
        workspace.close()


def run(workspace, start=0, end=24):
    """Materialize from some hour to another."""
    return jobs.materialize(workspace, micros(at(start)), micros(at(end)))


def train(workspace, wanted, entity_df=None):
    """Give the features of entity rows, by default of three planes at one moment."""
    views = Catalog(current={view.name: view for view in workspace.project().views})
    if entity_df is None:
        entity_df = pl.DataFrame({"plane": ["a", "b", "z"], "event_timestamp": [at(6)] * 3})
    query = resolve(references(wanted, views), views)
    tables = StoredTables(workspace)
    return training_set(entity_df, query, tables, project=workspace.config.project).features


def expiries(workspace, valkey):
    """Give how many whole days the project's rows in Redis still live."""
    with valkey.client() as client:
        found = client.scan_iter(match=f"{{*fs1/{workspace.config.project}/*")
        return {client.pttl(key) // 86_400_000 for key in found}


def test_a_view_of_literals_has_a_value_for_every_entity_row(using):
    """A feature that reads nothing loses no training row."""
    view = history()
    constant = on_demand_view(
        name="constant",
        sources=[(view, Projection(view="history", alias="history"))],
        features={"one": pl.lit(1.5)},
    )
    workspace = using(view, constant)
    run(workspace)
    assert train(workspace, ["constant:one"])["one"].to_list() == [1.5] * 3
    mixed = train(workspace, ["history:seats", "constant:one"])
    assert mixed.rows() == [(4, 1.5), (6, 1.5), (None, 1.5)]


def test_a_table_that_no_run_filled_is_not_materialized(using, repo):
    """A first run that failed leaves a table without rows, which is an error and no number."""
    workspace = using()
    ROWS.with_columns(delay=pl.lit("late")).write_parquet(repo / "data" / "landings.parquet")
    with pytest.raises(FeatureStoreError):
        run(workspace)
    nobody = pl.DataFrame(schema={"plane": pl.String, "event_timestamp": pl.Datetime("us")})
    with pytest.raises(NotMaterialized, match="no table"):
        train(workspace, ["history:seats"], nobody)


@pytest.mark.parametrize("column", ["at", "loaded"])
def test_a_time_that_became_a_number_is_refused(using, repo, column):
    """Seconds since 1970 in a column that held datetimes are not taken for microseconds."""
    workspace = using()
    moved = ROWS.with_columns(pl.col(column).dt.epoch("s"))
    moved.write_parquet(repo / "data" / "landings.parquet")
    with pytest.raises(SourceError, match=f"column '{column}' .* not a datetime"):
        jobs.materialize(workspace, 0, micros(at(24)))


def test_a_naive_datetime_key_is_a_local_time_of_the_sources_zone(using, repo):
    """A join key names the same moment as the feature made of the same column."""
    noon = datetime(2024, 3, 1, 12)  # noqa: DTZ001 - naive is the point
    frame = pl.DataFrame({"slot": [noon], "at": [noon], "delay": [1.0]})
    frame.write_parquet(repo / "data" / "landings.parquet")
    view = history(
        join_keys={"slot": "datetime"},
        source=source(
            columns=normalize_schema(frame.schema),
            created_field=None,
            time_zone="America/New_York",
        ),
        features={"same": pl.col("slot")},
    )
    workspace = using(view)
    run(workspace)
    rows = offline_rows(workspace, view)
    assert (
        rows["slot"].to_list() == rows["same"].to_list() == [datetime(2024, 3, 1, 17, tzinfo=UTC)]
    )


def test_a_refused_alias_writes_nothing(using):
    """A promote to a name no alias may have leaves the registry as it was, and rebuilds work."""
    workspace = using()
    run(workspace)
    with pytest.raises(InvalidRequest, match="alias name"):
        promote(workspace, "prod x")
    assert workspace.releases.aliases() == {}
    assert rebuild_online(workspace).aliases == {}


def test_a_ttl_that_grew_before_the_first_promote_keeps_its_rows(using, valkey):
    """Rows written under a shorter ttl are written again before a longer one goes live."""
    run(using(history(ttl=HOUR)))
    workspace = using(history(ttl=100 * DAY))
    released(workspace)
    assert expiries(workspace, valkey) == {100}


def test_rows_live_as_long_as_the_release_in_use_reads_them(using, valkey):
    """A shorter ttl that is applied but not promoted does not shorten what prod serves."""
    workspace = using(history(ttl=100 * DAY))
    run(workspace, 0, 2)
    released(workspace)
    run(using(history(ttl=HOUR)), 2, 24)
    assert expiries(workspace, valkey) == {100}


@dataclass(frozen=True)
class Overtaken(OnlineStore):
    """A store on whose first copy of a release somebody else promotes meanwhile."""

    meanwhile: list

    def put_release(self, number, text, **options):
        """Let the others go first."""
        if self.meanwhile:
            self.meanwhile.pop()()
        OnlineStore.put_release(self, number, text, **options)


def test_a_promote_that_was_overtaken_does_not_move_redis_back(using):
    """However two promotes interleave, Redis names in the end what SQL names."""
    workspace = using(history())
    run(workspace)
    online = workspace.online()
    other = using(history())

    def overtake():
        with_pace = using(history(), pace(history()))
        assert released(with_pace).number == 2

    workspace._online = Overtaken(
        project=online.project, where="here", nodes=online.nodes, meanwhile=[overtake]
    )
    released(workspace)
    assert workspace.releases.aliases() == {"prod": 2}
    assert other.online().alias("prod") == 2


@pytest.mark.parametrize("name", ["*", "^.*$", "^a$", "a\0b"])
def test_a_name_that_means_several_columns_is_refused(name):
    """Names that Polars expands, or Arrow cuts, are neither features nor join keys."""
    with pytest.raises(InvalidDefinition, match="cannot be the name of one column"):
        history(features={name: pl.col("delay")})
    columns = normalize_schema({name: pl.String(), **SCHEMA})
    with pytest.raises(InvalidDefinition, match="cannot be the name of one column"):
        history(join_keys={name: "string"}, source=source(columns=columns))


@pytest.mark.parametrize("name", ["plane", "at", "loaded", "flight"])
def test_another_column_behind_a_key_time_or_id_is_another_version(name):
    """What field_mapping reads as a key, a time or an event id is part of the identity."""
    columns = normalize_schema({**SCHEMA, "flight": pl.Int64()})

    def view(**changes):
        return batch_view(
            name="history",
            join_keys={"plane": "string"},
            source=source(columns=columns, **changes),
            features={"last": pl.col("delay")},
            event_id="flight",
        )

    ids = {view().data_id, *(view(field_mapping=((old, name),)).data_id for old in ("x", "y"))}
    assert len(ids) == 3
    assert view(field_mapping=((name, name),)).data_id in ids
    assert view(field_mapping=(("x", "seats"),)).data_id in ids


def test_pandas_frames_with_what_polars_cannot_hold_are_refused_by_name():
    """Columns of one name or of unknown dtypes are an error of ours, not of a library."""
    catalog = Catalog(current={"history": history()})
    query = resolve(references(["history:seats"], catalog), catalog)
    moments = pd.to_datetime(["2024-03-01 06:00+02:00"])
    frame = pd.DataFrame({"plane": ["a"], "event_timestamp": moments, "own": moments})
    for bad in (pd.concat([frame, frame[["own"]]], axis=1), frame.assign(own=[1j])):
        with pytest.raises(InvalidRequest, match="entity_df: "):
            training_set(bad, query, None, project="shop")


CANARY = "s3cr3tc4n4ry"


@pytest.mark.parametrize("sign", ["/", "#", "?", "/@"])
def test_a_password_with_a_sign_that_ends_the_host_never_shows(sign):
    """A Redis URL whose password was not escaped is refused without repeating any of it."""
    with pytest.raises(InvalidRequest, match="not a Redis URL") as caught:
        OnlineStore.connect(f"redis://:12{sign}{CANARY}@127.0.0.1:1/0", project="shop")
    assert "12" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("line", ['"redis://:{}@h', "*{}", "{}: b: c"])
def test_broken_yaml_is_told_by_its_line_and_not_by_its_text(tmp_path, monkeypatch, line):
    """A secret filled in from the environment does not come back in a parser's message."""
    monkeypatch.setenv("SECRET", CANARY)
    text = f"project: shop\nonline_store:\n  connection_string: {line.format('${SECRET}')}\n"
    (tmp_path / "feature_store.yaml").write_text(text)
    for read in (lambda: read_config(tmp_path, {"SECRET": CANARY}), lambda: project_name(tmp_path)):
        with pytest.raises(InvalidDefinition, match=r"line \d") as caught:
            read()
        assert CANARY not in str(caught.value)
        assert caught.value.__suppress_context__


def test_a_registry_in_a_folder_that_cannot_be_made_is_unavailable(tmp_path):
    """A path that cannot be created is an error of the store that names it."""
    (tmp_path / "file").write_text("")
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    environ = {"FEATURESTORE_REGISTRY": "sqlite:///file/registry.db"}
    with pytest.raises(Unavailable, match="cannot be made"):
        Workspace.open(tmp_path, environ=environ).registry.head()


@pytest.fixture
def served(using):
    """Serve the repo's views; gives the workspace, the server and a client."""
    workspace = using(history(), pace(history()))
    run(workspace)
    released(workspace)
    project = workspace.config.project
    server = serve(workspace.online(), project=project, limits=Limits(poll=0.02))
    with FeatureClient(server.address, timeout=20) as client:
        yield workspace, server, client
    server.stop(0)


def call(server, message):
    """Send a message as it is and give the status code and details of its refusal."""
    with grpc.insecure_channel(server.address) as channel:
        method = channel.unary_unary(f"/{SERVICE}/GetOnlineFeatures", None, None)
        with pytest.raises(grpc.RpcError) as caught:
            method(message.SerializeToString(), timeout=20)
    return caught.value.code(), caught.value.details()


def test_junk_in_redis_is_an_error_that_a_server_recovers_from(served, valkey):
    """Whatever stands where a release or alias should, the server keeps watching, on the last."""
    workspace, server, client = served
    alias, release = (
        f"fs1/{workspace.config.project}/{kind}" for kind in ("alias/prod", "release")
    )
    junk = [b"\xff", b"null", b"[]", b'{"views":3}', b"[" * 100_000, b"", b'"\\ud800"']
    planted = [(str(70 + number).encode(), text) for number, text in enumerate(junk)]
    with valkey.client() as redis:
        good = redis.get(alias)
        for number, text in [*planted, (b"9" * 5000, None), (b"-1", None)]:
            if text is not None:
                redis.set(f"{release}/{number.decode()}", text)
            redis.set(alias, number)
            wait_until(lambda: server.standing.trouble is not None)
            found = client.get_online_features(
                ["history:seats"], entities={"plane": ["a"]}, as_of=at(6)
            )
            assert found.columns[0].to_list() == [4]
            redis.set(alias, good)
            wait_until(lambda: server.standing.trouble is None)


def forged(live):
    """Give a changed view the ids of its content, as one does who knows how they are made."""
    view = identified(live.view)
    return replace(live, view=view, table=replace(live.table, data_id=view.data_id))


def test_a_release_whose_ids_do_not_fit_is_not_loaded(served, valkey):
    """A view in Redis was changed under its id: the server names it and answers from the last."""
    workspace, server, client = served
    alias, release = (
        f"fs1/{workspace.config.project}/{kind}" for kind in ("alias/prod", "release")
    )
    with valkey.client() as redis:
        text = redis.get(f"{release}/{redis.get(alias).decode()}")
        redis.set(f"{release}/77", re.sub(rb'"ttl":\d+', b'"ttl":7', text))
        redis.set(alias, b"77")
    wait_until(lambda: server.standing.trouble is not None)
    assert re.search(r"history@\w+\.id no longer matches", str(server.standing.trouble))
    found = client.get_online_features(["history:seats"], entities={"plane": ["a"]}, as_of=at(6))
    assert (found.release, found.columns[0].to_list()) == (1, [4])


def test_a_release_of_unknown_dtypes_is_data_loss_and_not_a_crash(served, valkey):
    """A planted dtype is refused by the request that meets it, with a status of its own."""
    workspace, server, _ = served
    alias, release = (
        f"fs1/{workspace.config.project}/{kind}" for kind in ("alias/prod", "release")
    )
    with valkey.client() as redis:
        text = redis.get(f"{release}/{redis.get(alias).decode()}")
        planted = load(text.replace(b"float64", b"floatXX"), Release)
        redis.set(f"{release}/77", dump(replace(planted, views=(forged(planted.views[0]),))))
        redis.set(alias, b"77")
    message, _ = request_message(["history:last_delay"], entities={"plane": ["a"]})
    wait_until(lambda: "floatXX" in dump(server.standing.state.release))
    code, _ = call(server, message)
    assert code is grpc.StatusCode.DATA_LOSS


def test_lists_of_a_request_have_a_limit(served):
    """Tens of thousands of columns or references are refused before they are read."""
    _, server, _ = served
    columns, _ = request_message(["history:seats"], entities={"plane": ["a"]})
    for number in range(COLUMNS):
        columns.entities.add().name = f"plane{number}"
    code, details = call(server, columns)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith(f"entities: {COLUMNS + 1} sent")
    many, _ = request_message(["history:seats"] * (REFERENCES + 1), entities={"plane": ["a"]})
    code, details = call(server, many)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert details.startswith("features: ")


def test_an_error_that_quotes_megabytes_still_arrives(served):
    """A message too long for metadata is cut, and keeps its status."""
    _, server, _ = served
    code, details = call(
        server, twin.GetOnlineFeaturesRequest(count=1, feature_service="\N{OLD KEY}" * 500_000)
    )
    assert code is grpc.StatusCode.NOT_FOUND
    assert details.startswith("feature_service: release")


def test_two_registries_never_mix_rows_in_one_redis(using, tmp_path, valkey):
    """A second repo of a project's name, or one that lost its registry, is told so."""
    workspace = using()
    run(workspace)
    project = workspace.config.project
    twin_repo = write(tmp_path / "twin", landings(("a", 1, None, 11.0, 3)), name=project)
    twin_store = applied(twin_repo, valkey.url)
    with pytest.raises(Conflict, match="never wrote"):
        run(twin_store)
    assert twin_store.ledger.runs() == ()
    twin_store.close()


def test_a_rotten_registry_document_is_corrupt_data(using):
    """What a registry holds is data: if it cannot be read, that is an error of the store."""
    registry = using().registry
    with registry._engine.begin() as connection:
        connection.exec_driver_sql("update fs_heads set body = '{}'")
    with pytest.raises(CorruptData, match="registry: a stored document"):
        registry.head()


def test_a_ttl_beyond_ten_thousand_years_means_no_bound(using, valkey):
    """The longest ttl is no overflow anywhere on the way."""
    workspace = using(history(ttl=timedelta.max))
    run(workspace)
    released(workspace)
    assert expiries(workspace, valkey) == {-1}
