"""What changes a version and what does not; the golden ids of a small project."""

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from featurestore.model.declare import batch_view, on_demand_view
from featurestore.model.documents import (
    Expression,
    Info,
    LiveView,
    Project,
    Projection,
    Release,
    Service,
    Source,
    Spelling,
    Table,
)
from featurestore.model.identity import identified, service_id, spelled, tampered
from featurestore.model.schema import Column

COLUMNS = tuple(
    Column(name=name, dtype=dtype)
    for name, dtype in (
        ("tailnum", "string"),
        ("landed_at", "datetime"),
        ("loaded_at", "datetime"),
        ("flight_id", "int64"),
        ("arr_delay", "float64"),
        ("distance", "int32"),
        ("cancelled", "bool"),
    )
)
LANDINGS = Source(
    name="landings",
    path="data/landings.parquet",
    format="parquet",
    timestamp_field="landed_at",
    created_field="loaded_at",
    columns=COLUMNS,
)
FEATURES = {
    "last_delay": pl.col("arr_delay"),
    "was_late": pl.col("arr_delay") > 15,
    "rounded": pl.col("arr_delay").round(1),
}
GOLDEN = {
    "version": "660bbbc5d1c66fc07346fec683f7fe8e0d3a964be80cc0c597e72864f9baf21e",
    "data": "fe6ff67b859afbe30664141ea60a9ad06d9840baa508b9dd1ed65baaa402b11c",
    "on_demand": "7d91ba2bccc63e729908e3b233ce6b6d257874bf784cb9c1ef7446f926de658c",
}


def view(**changes):
    """Build the view with some arguments changed; `source` may be a dict of changed fields."""
    arguments = {
        "name": "plane_history",
        "join_keys": {"tailnum": "string"},
        "source": LANDINGS,
        "features": FEATURES,
        "filter": ~pl.col("cancelled"),
        "ttl": timedelta(days=7),
    } | changes
    if isinstance(arguments["source"], dict):
        arguments["source"] = replace(LANDINGS, **arguments["source"])
    return batch_view(**arguments)


def columns(**dtypes):
    """Give the source's columns with some dtypes changed or columns added."""
    known = {c.name: c.dtype for c in COLUMNS} | dtypes
    return {"columns": tuple(Column(name=n, dtype=d) for n, d in known.items())}


MUST_CHANGE = {
    "a literal": {"features": FEATURES | {"was_late": pl.col("arr_delay") > 30}},
    "a function's argument": {"features": FEATURES | {"rounded": pl.col("arr_delay").round(2)}},
    "an operator": {"features": FEATURES | {"was_late": pl.col("arr_delay") >= 15}},
    "a feature's name": {"features": {"delay": pl.col("arr_delay")}},
    "a feature more": {"features": FEATURES | {"far": pl.col("distance") > 1000}},
    "a feature less": {"features": {"last_delay": pl.col("arr_delay")}},
    "the dtype of a column that is read": {"source": columns(arr_delay="float32")},
    "the dtype of a column the filter reads": {
        "filter": pl.col("distance") > 3,
        "source": columns(distance="int64"),
    },
    "the filter": {"filter": pl.col("arr_delay").is_not_null()},
    "no filter": {"filter": None},
    "the ttl": {"ttl": timedelta(days=8)},
    "no ttl": {"ttl": None},
    "the known-at rule": {"known_at": "event"},
    "the delay": {"delay": timedelta(minutes=5)},
    "the event id": {"event_id": "flight_id"},
    "the time zone of naive times": {"source": {"time_zone": "America/New_York"}},
    "the source's name": {"source": {"name": "arrivals"}},
    "the timestamp column": {"source": {"timestamp_field": "loaded_at", "created_field": None}},
    "the created column": {"source": {"created_field": None}},
    "which file column is read": {"source": {"field_mapping": (("delay", "arr_delay"),)}},
    "which file column is the time": {"source": {"field_mapping": (("left_at", "landed_at"),)}},
    "which file column is the created time": {
        "source": {"field_mapping": (("stored_at", "loaded_at"),)}
    },
    "which file column is the join key": {"source": {"field_mapping": (("tail", "tailnum"),)}},
    "the view's name": {"name": "plane_past"},
    "the join key": {"join_keys": {"flight_id": "int64"}},
    "a join key more": {"join_keys": {"tailnum": "string", "flight_id": "int64"}},
    "the join key's dtype": {"join_keys": {"flight_id": "int32"}},
}
MUST_NOT_CHANGE = {
    "the description": {"info": Info(description="how its last flight went")},
    "owner and tags": {"info": Info(owner="ops", tags=(("tier", "1"),))},
    "the file's path": {"source": {"path": "s3://bucket/landings.parquet"}},
    "the file's format": {"source": {"format": "delta"}},
    "an unread new column": {"source": columns(gate="string")},
    "the dtype of an unread column": {"source": columns(distance="float64")},
    "the order of features": {"features": dict(reversed(FEATURES.items()))},
    "an equal spelling": {"features": FEATURES | {"was_late": pl.col("arr_delay") > pl.lit(15)}},
    "the settle span": {"settle": timedelta(hours=2)},
    "an unread column's mapping": {"source": {"field_mapping": (("dist", "distance"),)}},
}


@pytest.mark.parametrize("edit", MUST_CHANGE.values(), ids=MUST_CHANGE.keys())
def test_what_changes_a_value_changes_the_version(edit):
    """Every edit that can change a value gives another version."""
    base = view()
    if edit.get("filter") is not None and "source" in edit:
        base = view(filter=edit["filter"])
    if edit.get("join_keys") == {"flight_id": "int32"}:
        base = view(join_keys={"flight_id": "int64"})
    assert view(**edit).id != base.id


@pytest.mark.parametrize("edit", MUST_NOT_CHANGE.values(), ids=MUST_NOT_CHANGE.keys())
def test_what_changes_no_value_keeps_the_version(edit):
    """No other edit gives another version."""
    assert view(**edit).id == view().id


def test_a_ttl_change_keeps_the_data():
    """A ttl change is a new version over the same data: nothing is recomputed."""
    assert view(ttl=None).data_id == view().data_id


def test_zero_ttl_is_no_bound():
    """Feast's timedelta(0) and None mean the same."""
    assert view(ttl=timedelta(0)).id == view(ttl=None).id


def outlook(plane, *, mapped=()):
    """Build an on-demand view over a view and request data."""
    return on_demand_view(
        name="pace",
        sources=[(plane, Projection(view="plane_history", alias="plane", join_key_map=mapped))],
        request=[Column(name="miles", dtype="float64")],
        features={"per_mile": pl.col("last_delay") / pl.col("miles")},
    )


def test_an_on_demand_version_follows_the_features_it_names():
    """A change upstream of a named feature changes it; one of an unnamed feature does not."""
    base = outlook(view())
    named = FEATURES | {"last_delay": pl.col("arr_delay") * 2}
    unnamed = FEATURES | {"was_late": pl.col("arr_delay") > 30}
    assert outlook(view(features=named)).id != base.id
    assert outlook(view(features=unnamed)).id == base.id


def test_an_on_demand_version_follows_the_join_key_map():
    """Reading the feature of another entity is another value."""
    assert outlook(view(), mapped=(("tailnum", "next_plane"),)).id != outlook(view()).id


def test_golden_ids():
    """The ids of a fixed project are what they were: a new Polars or a new scheme shows here."""
    plane = view()
    assert {
        "version": plane.id,
        "data": plane.data_id,
        "on_demand": outlook(plane).id,
    } == GOLDEN


def test_ids_are_equal_across_processes_and_hash_seeds(tmp_path):
    """Another process with another hash seed and working directory gives the same ids."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; import test_identity as t; "
        "print(t.view().id, t.outlook(t.view()).id)"
    )
    here = __file__.rsplit("/", 1)[0]
    root = __file__.split("/tests/")[0]
    answers = {
        subprocess.run(
            [sys.executable, "-c", code, here, root],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            cwd=tmp_path,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert answers == {f"{view().id} {outlook(view()).id}\n"}


PLANE = view()
PACE = outlook(PLANE)
USE = Projection(view="plane_history", alias="plane", features=("last_delay",))
SERVICE = Service(id=service_id("model", [USE]), name="model", projections=(USE,))
WRITTEN = Spelling(dialect="polars-9.9", data=b"other bytes")


def first(plane, **changes):
    """Change the first feature of a view."""
    return replace(plane, features=(replace(plane.features[0], **changes), *plane.features[1:]))


def respelled(plane):
    """Give a view with one more spelling of each expression."""
    also = [
        replace(f, expression=Expression(spellings=(*f.expression.spellings, WRITTEN)))
        for f in plane.features
    ]
    kept = plane.filter and Expression(spellings=(*plane.filter.spellings, WRITTEN))
    return replace(plane, features=tuple(also), filter=kept)


TAMPERED = {
    "a version": (replace(PLANE, id="0" * 64), "plane_history@000000000000.id"),
    "a ttl": (replace(PLANE, ttl=1), f"{PLANE.version}.id"),
    "a data id": (replace(PLANE, data_id="0" * 64), f"{PLANE.version}.data_id"),
    "a source": (
        replace(PLANE, source=replace(PLANE.source, name="other")),
        f"{PLANE.version}.frame_id",
    ),
    "no source": (replace(PLANE, source=None), f"{PLANE.version}.source"),
    "a filter without bytes": (
        replace(PLANE, filter=Expression(spellings=())),
        f"{PLANE.version}.filter",
    ),
    "a dtype": (first(PLANE, dtype="int64"), f"{PLANE.version}.features.last_delay.id"),
    "an expression": (
        first(PLANE, expression=Expression(spellings=(WRITTEN,))),
        f"{PLANE.version}.features.last_delay.id",
    ),
    "an expression without bytes": (
        first(PLANE, expression=Expression(spellings=())),
        f"{PLANE.version}.features.last_delay",
    ),
    "an input": (
        replace(PACE, inputs=(replace(PACE.inputs[0], feature_id="0" * 64), *PACE.inputs[1:])),
        f"{PACE.version}.features.per_mile.id",
    ),
    "an input less": (replace(PACE, inputs=PACE.inputs[1:]), f"{PACE.version}.inputs.last_delay"),
    "a projection less": (replace(PACE, projections=()), f"{PACE.version}.inputs.last_delay"),
    "a service": (replace(SERVICE, name="other"), f"other@{SERVICE.id[:12]}.id"),
}


@pytest.mark.parametrize(("document", "path"), TAMPERED.values(), ids=TAMPERED.keys())
def test_a_changed_document_no_longer_fits_its_id(document, path):
    """The first id that its content does not make is named, alone, in a project, in a release."""
    assert tampered(document) == path
    views, services = ((), (document,)) if isinstance(document, Service) else ((document,), ())
    whole = Project(name="shop", views=views, services=services, dialect="polars-2.1")
    assert tampered(whole) == path
    for places in ({"views": views}, {"views": (), "warm": views}):
        lives = {name: tuple(LiveView(view=v) for v in held) for name, held in places.items()}
        held = Release(project="shop", number=1, services=services, created=0, **lives)
        assert tampered(held) == path


def test_a_table_of_other_data_is_no_table_of_a_view():
    """A release whose view names the table of another version is told so."""
    table = Table(data_id=PLANE.data_id, generation=3)
    for held, path in ((table, None), (replace(table, data_id="0" * 64), f"{PLANE.version}.table")):
        live = (LiveView(view=PLANE, table=held),)
        release = Release(project="shop", number=1, views=live, services=(), created=0)
        assert tampered(release) == path


@pytest.mark.parametrize("plane", [PLANE, PACE, view(event_id="flight_id", filter=None)])
def test_a_document_has_the_ids_its_content_makes(plane):
    """What is declared is not tampered with; ids alone are filled in."""
    assert tampered(plane) is None
    blank = replace(
        plane,
        id="",
        data_id="",
        frame_id="",
        features=tuple(replace(f, id="") for f in plane.features),
    )
    assert identified(blank) == plane


@pytest.mark.parametrize("plane", [PLANE, PACE])
def test_another_spelling_is_no_other_version(plane):
    """Bytes of more dialects are beside identity, merged once each, after what was there first."""
    assert tampered(respelled(plane)) is None
    assert spelled(plane, [respelled(plane)]) == respelled(plane)
    twice = spelled(respelled(plane), [respelled(plane), plane])
    assert twice == respelled(plane)
    assert identified(respelled(plane)).id == plane.id
