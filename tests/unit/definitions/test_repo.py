"""A repo's objects become documents, or one error that names all that is wrong."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import feast
import polars as pl
import pytest
from feast.data_format import DeltaFormat
from feast.types import Array, Bytes, Float32, Float64, Int64, String, UnixTimestamp

from featurestore.definitions import FeatureView, OnDemandFeatureView, document
from featurestore.definitions.reading import projections
from featurestore.definitions.repo import read_project
from featurestore.errors import FeatureStoreError, InvalidDefinition, SourceError
from featurestore.model.documents import Project, Projection
from featurestore.model.schema import Column
from tests.objects import Bucket

PLANE = feast.Entity(name="plane", join_keys=["tailnum"], value_type=feast.ValueType.STRING)


def source(**changes: Any) -> feast.FileSource:
    given = {"name": "landings", "path": "data/landings.parquet", "timestamp_field": "landed_at"}
    return feast.FileSource(**(given | changes))


def ours(**changes: Any) -> FeatureView:
    given = {"name": "plane_history", "source": source(), "entities": [PLANE]}
    return FeatureView(**({"features": {"last_delay": pl.col("arr_delay")}} | given | changes))


def plain(*fields: tuple[str, Any], **changes: Any) -> feast.FeatureView:
    given = {"name": "plain", "source": source(), "entities": [PLANE]}
    schema = [feast.Field(name=name, dtype=dtype) for name, dtype in fields]
    return feast.FeatureView(**(given | {"schema": schema} | changes))


def read(repo: Path, *things: object) -> Project:
    return read_project("flights", [PLANE, *things], repo)


def test_settings_of_a_view_reach_its_document(repo: Path) -> None:
    """Every argument that Feast has no place for is in the document, durations in microseconds."""
    view = ours(
        source=feast.PushSource(
            name="landed",
            batch_source=source(
                created_timestamp_column="written", field_mapping={"written_at": "written"}
            ),
        ),
        filter=~pl.col("cancelled"),
        known_at="event",
        delay=timedelta(seconds=1),
        settle=timedelta(0),
        time_zone="America/New_York",
        event_id="number",
        ttl=timedelta(days=1),
        owner="ops",
        tags={"b": "2", "a": "1"},
    )
    (made,) = read(repo, view).views
    assert made.source is not None
    assert (made.source.name, made.source.pushed) == ("landed", True)
    assert (made.source.timestamp_field, made.source.created_field) == ("landed_at", "written")
    assert made.source.field_mapping == (("written_at", "written"),)
    assert made.source.time_zone == "America/New_York"
    assert (made.known_at, made.event_id) == ("event", "number")
    assert (made.delay, made.settle, made.ttl) == (1_000_000, 0, 86_400_000_000)
    assert [c.name for c in made.filter_reads] == ["cancelled"]
    assert (made.info.owner, made.info.tags) == ("ops", (("a", "1"), ("b", "2")))


def test_a_source_at_a_url_gives_its_columns(repo: Path, bucket: Bucket) -> None:
    """Not when the view is made, which waits for no network, but when the repo is read."""
    bucket.upload(repo / "data" / "landings.parquet", "raw/landings.parquet")
    local, there = (
        read(repo, ours(source=source(path=path))).views[0]
        for path in ("data/landings.parquet", f"{bucket.url}/raw/landings.parquet")
    )
    assert (there.id, there.data_id) == (local.id, local.data_id)
    assert there.source is not None
    assert there.source.path == f"{bucket.url}/raw/landings.parquet"


@pytest.mark.parametrize("columns", [None, {"landed_at": pl.Datetime("us"), "arr_delay": pl.Int8}])
def test_a_url_with_a_password_makes_no_document(repo: Path, columns: Any) -> None:
    """Whether the file is there to read or not: a document would keep the password."""
    handed = source(path="s3://ann:canary@bucket/x.parquet")
    with pytest.raises(FeatureStoreError, match="a URL keeps no password") as caught:
        read(repo, ours(source=handed, columns=columns))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("ttl", [None, timedelta(0)])
def test_no_ttl_and_a_ttl_of_zero_mean_no_bound(repo: Path, ttl: timedelta | None) -> None:
    """Feast's two spellings of "for ever" are one."""
    (made,) = read(repo, ours(ttl=ttl)).views
    assert made.ttl is None


def test_a_plain_view_is_its_columns(repo: Path) -> None:
    """The listed fields are the features, with the dtypes that the source holds."""
    view = plain(("tailnum", String), ("arr_delay", Float32), ("seats", Int64))
    (made,) = read(repo, view).views
    assert [(f.name, f.dtype) for f in made.features] == [
        ("arr_delay", "float64"),
        ("seats", "int16"),
    ]
    assert made.join_keys == (Column(name="tailnum", dtype="string"),)


def test_a_plain_view_without_a_schema_takes_what_feast_would_infer(repo: Path) -> None:
    """Keys, times and internal columns are no features; entity types come from the source."""
    path = repo / "data" / "small.parquet"
    pl.read_parquet(repo / "data" / "landings.parquet").drop("price").write_parquet(path)
    number = feast.Entity(name="number", value_type=feast.ValueType.UNKNOWN)
    view = plain(
        source=source(path=str(path), created_timestamp_column="written_at"), entities=[number]
    )
    (made,) = read(repo, number, view).views
    assert [f.name for f in made.features] == [
        "tailnum", "day", "arr_delay", "seats", "carrier", "cancelled",
    ]  # fmt: skip
    assert made.join_keys == (Column(name="number", dtype="int32"),)


def test_entities_may_be_none_or_several(repo: Path) -> None:
    """A view without entities has no join keys; with two it has both, sorted by name."""
    number = feast.Entity(name="number", value_type=feast.ValueType.INT64)
    none = ours(name="city", entities=None)
    two = ours(name="both", entities=[PLANE, number])
    both, city = read(repo, number, none, two).views
    assert city.join_keys == ()
    assert both.join_keys == (
        Column(name="number", dtype="int64"),
        Column(name="tailnum", dtype="string"),
    )


def test_a_service_keeps_order_uses_and_references(repo: Path) -> None:
    """Objects and `view:feature` names become projections in order; equal uses are joined."""
    view = ours(features={"a": pl.col("arr_delay"), "b": pl.col("seats")})
    other = view.with_name("other").with_join_key_map({"tailnum": "alternate"})
    service = feast.FeatureService(
        name="s", features=["plane_history:b", other[["b", "a"]], view[["a"]], other[["a"]]]
    )
    assert projections(service) == (
        Projection(view="plane_history", alias="plane_history", features=("b", "a")),
        Projection(
            view="plane_history",
            alias="other",
            join_key_map=(("tailnum", "alternate"),),
            features=("b", "a"),
        ),
    )
    (made,) = read(repo, view, service).services
    assert made.projections == projections(service)


def test_a_use_beside_its_view_is_not_a_second_definition(repo: Path) -> None:
    """A module may hold `view.with_name(…)` under a name of its own."""
    view = ours()
    assert len(read(repo, view, view.with_name("other"), view[["last_delay"]]).views) == 1


def test_objects_in_a_notebook_are_the_documents_of_the_repo(repo: Path) -> None:
    """A view or service object gives the same documents in process, on-demand views last."""
    view = ours()
    flight = feast.RequestSource(name="flight", schema=[feast.Field(name="miles", dtype=Float64)])
    pace = OnDemandFeatureView(
        name="pace",
        sources=[view.with_name("other"), flight],
        features={"pace": pl.col("other__last_delay") / pl.col("miles")},
    )
    service = feast.FeatureService(name="s", features=[pace, view[["last_delay"]]])
    history = document(view, repo)
    assert document(view[["last_delay"]], repo) == history
    both = document(service, repo)
    assert [v.name for v in both] == ["plane_history", "pace"]
    assert read(repo, view, pace, service).views == tuple(sorted(both, key=lambda v: v.name))


def test_a_plain_view_in_a_notebook_needs_its_key_in_the_schema(repo: Path) -> None:
    """Feast's view forgets its entities; the key's field stands in, else the way out is named."""
    (made,) = document(plain(("tailnum", String), ("arr_delay", Float64)), repo)
    assert made.join_keys == (Column(name="tailnum", dtype="string"),)
    with pytest.raises(InvalidDefinition, match="entity 'plane' is not known"):
        document(plain(("arr_delay", Float64)), repo)


def test_declared_columns_give_the_same_identity_as_the_file(repo: Path, tmp_path: Path) -> None:
    """`columns` stands in for the file, and must not contradict it."""
    columns = {"tailnum": pl.String, "landed_at": pl.Datetime("ms"), "arr_delay": pl.Float64}
    (declared,) = read(tmp_path / "elsewhere", ours(columns=columns)).views
    (found,) = read(repo, ours()).views
    assert declared.id == found.id
    (checked,) = read(repo, ours(columns=columns)).views
    assert checked.id == found.id
    with pytest.raises(InvalidDefinition, match=r"columns\.arr_delay: declared as Int64"):
        read(repo, ours(columns=columns | {"arr_delay": pl.Int64}))
    with pytest.raises(InvalidDefinition, match=r"columns\.arr_dely.*did you mean 'arr_delay'"):
        read(repo, ours(columns=columns | {"arr_dely": pl.Int64}))


BAD = {
    "no timestamp": (
        lambda: [ours(source=source(timestamp_field=""))],
        "plane_history.source.timestamp_field: the source 'landings' names none",
    ),
    "timestamp not there": (
        lambda: [ours(source=source(timestamp_field="landed"))],
        "did you mean 'landed_at'",
    ),
    "column not there": (
        lambda: [ours(features={"a": pl.col("arr_dely")})],
        (
            "plane_history.features.a: column 'arr_dely' is not in source 'landings'; did you mean "
            "'arr_delay'?"
        ),
    ),
    "field not there": (
        lambda: [plain(("arr_dely", Float64))],
        "schema.arr_dely: column 'arr_dely' is not in source 'landings'; did you mean 'arr_delay'?",
    ),
    "key not there": (
        lambda: [ours(entities=[feast.Entity(name="tail", value_type=feast.ValueType.STRING)])],
        "plane_history.entities.tail: column 'tail' is not in source 'landings'",
    ),
    "key of another dtype": (
        lambda: [ours(entities=[feast.Entity(name="tailnum", value_type=feast.ValueType.INT64)])],
        "plane_history.entities.tailnum: the entity says int64 but column 'tailnum'",
    ),
    "field of another kind": (
        lambda: [plain(("carrier", Int64))],
        "plain.schema.carrier: declared as Int64, but source 'landings' has string",
    ),
    "field of a type we do not keep": (
        lambda: [plain(("carrier", Array(Bytes)))],
        "plain.schema.carrier: Feast type Array(Bytes) is not kept",
    ),
    "time declared as a number": (
        lambda: [plain(("arr_delay", UnixTimestamp))],
        "plain.schema.arr_delay: declared as UnixTimestamp",
    ),
    "column of a dtype we do not keep": (
        lambda: [ours(features={"a": pl.col("price").cast(pl.Float64)})],
        "plane_history.features.a: column 'price' holds Decimal(precision=38, scale=2)",
    ),
    "inferred column of a dtype we do not keep": (
        lambda: [plain()],
        "plain.schema: column 'price' holds Decimal",
    ),
    "negative ttl": (lambda: [ours(ttl=timedelta(-1))], "plane_history.ttl: -1 day"),
    "no such rule": (lambda: [ours(known_at="later")], "plane_history.known_at: 'later'"),
    "two views of one name": (lambda: [ours(), ours(filter=pl.col("cancelled"))], "two views"),
    "two kinds of view of one name": (
        lambda: [
            view := ours(),
            OnDemandFeatureView(
                name=view.name, sources=[view], features={"a": pl.col("last_delay")}
            ),
        ],
        "plane_history: two views have this name",
    ),
    "two entities of one name": (
        lambda: [feast.Entity(name="plane", value_type=feast.ValueType.INT64)],
        "plane: two entities have this name",
    ),
    "two sources of one name": (
        lambda: [ours(), ours(name="b", source=source(field_mapping={"seats": "s"}))],
        "b.source: another source is called 'landings' too",
    ),
    "no file": (
        lambda: [ours(source=source(path="data/landing.parquet"))],
        "landings.path: data/landing.parquet is not there",
    ),
    "no delta table": (
        lambda: [ours(source=source(path="data/none", file_format=DeltaFormat()))],
        "landings.path: data/none is not there",
    ),
    "delta read as parquet": (
        lambda: [ours(source=source(path="data/delta"))],
        "set file_format=DeltaFormat()",
    ),
    "empty file": (lambda: [ours(source=source(path="data/empty.parquet"))], "cannot be read as"),
    "entity not defined": (
        lambda: [
            plain(
                ("seats", Int64),
                entities=[feast.Entity(name="x", value_type=feast.ValueType.STRING)],
            )
        ],
        "plain.entities: entity 'x' is not known",
    ),
    "another project": (lambda: [feast.Project(name="trains")], "trains: the Project object"),
    "unknown view in a service": (
        lambda: [ours(), feast.FeatureService(name="s", features=["plane_histor:a"])],
        "s: no view is called 'plane_histor'; did you mean 'plane_history'?",
    ),
    "view not defined in the repo": (
        lambda: [feast.FeatureService(name="s", features=[ours()])],
        "s: no view is called 'plane_history'",
    ),
    "source view not defined in the repo": (
        lambda: [
            OnDemandFeatureView(
                name="o", sources=[ours()], features={"a": pl.col("last_delay") * 2}
            )
        ],
        "o.sources: no view is called 'plane_history'",
    ),
    "warehouse": (
        lambda: [feast.BigQuerySource(name="w", table="a.b", timestamp_field="t")],
        "w: BigQuerySource is not read",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_definition_is_named_by_its_path(repo: Path, case: str) -> None:
    """The error says where, what, and the way out."""
    (repo / "data" / "empty.parquet").touch()
    pl.DataFrame({"a": [1]}).write_delta(repo / "data" / "delta")
    make, said = BAD[case]
    with pytest.raises(FeatureStoreError) as caught:
        read(repo, *make())
    assert said in str(caught.value)


def test_a_missing_source_alone_is_a_source_error(repo: Path) -> None:
    """One problem keeps its own class, so a caller can tell data from definitions."""
    with pytest.raises(SourceError):
        read(repo, ours(source=source(path="none.parquet")))


def test_all_that_is_wrong_is_listed_at_once(repo: Path) -> None:
    """Views, sources and services are all looked at; what follows from another error is not."""
    bad = ours(name="bad", features={"a": pl.col("arr_dely")})
    follows = feast.FeatureService(name="follows", features=[bad])
    with pytest.raises(InvalidDefinition) as caught:
        read(
            repo,
            bad,
            follows,
            feast.BigQuerySource(name="w", table="a.b", timestamp_field="t"),
            ours(name="gone", source=source(name="gone", path="none.parquet")),
        )
    first, *lines = str(caught.value).splitlines()
    assert first == "3 definitions cannot be taken:"
    assert [line.split(":")[0] for line in lines] == ["- bad.features.a", "- gone.path", "- w"]
