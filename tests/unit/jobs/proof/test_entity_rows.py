"""The entity rows that a verification asks about: no key is lost, every request value is met."""

import polars as pl
import pytest

from featurestore.jobs.proof.entity_rows import VALUES, entity_rows, with_request
from featurestore.model.catalog import Catalog
from featurestore.model.declare import on_demand_view
from featurestore.model.documents import Projection
from featurestore.model.query import resolve
from featurestore.model.schema import SCALARS, Column
from tests.repos import history

PLANES = history()
SEATS = history(name="seats", join_keys={"seats": "uint8"}, features={"late": pl.col("delay")})
DTYPES = [*SCALARS, "list[float32]", "list[int64]", "array[float64,3]", "array[uint8,0]"]


def asked(*views, request=()):
    """Give the query of all features of views, and of one that reads only request data."""
    if request:
        echo = {f"{one.name}_too": pl.col(one.name) for one in request}
        views = (*views, on_demand_view(name="echo", sources=[], request=request, features=echo))
    uses = [Projection(view=view.name, alias=view.name) for view in views]
    return resolve(uses, Catalog(current={view.name: view for view in views}))


def test_keys_stand_beside_nulls_where_another_view_has_none():
    """Every key of either view comes, once, and one row is of nulls."""
    keys = {PLANES.id: pl.DataFrame({"plane": ["a", "b"]})}
    keys[SEATS.id] = pl.DataFrame(schema={"seats": pl.UInt8})
    rows = entity_rows(asked(PLANES, SEATS), keys)
    assert sorted(rows.select("plane", "seats").rows(), key=str) == [
        ("a", None),
        ("b", None),
        (None, None),
    ]
    keys[SEATS.id] = pl.DataFrame({"seats": [1, 2, 3]}, schema={"seats": pl.UInt8})
    rows = entity_rows(asked(PLANES, SEATS), keys)
    assert set(rows["plane"]) == {"a", "b", None}
    assert set(rows["seats"]) == {1, 2, 3, None}
    assert rows.drop_nulls().height == rows.height - 1


def test_views_without_keys_are_asked_once_and_as_often_as_request_data_vary():
    """A frame without a column of keys has its height still."""
    alone = history(name="alone", join_keys={})
    assert entity_rows(asked(alone), {}).height == 1
    miles = [Column(name="miles", dtype="float64")]
    query = asked(alone, request=miles)
    rows = with_request(entity_rows(query, {}), query, range(len(VALUES)))
    assert rows["miles"].to_list() == list(VALUES)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_few_entities_meet_every_value_in_every_dtype(dtype):
    """Each of them comes with null, and with as many other values as the dtype tells apart."""
    query = asked(PLANES, request=[Column(name="given", dtype=dtype)])
    keys = {PLANES.id: pl.DataFrame({"plane": ["a", "b"]})}
    rows = with_request(entity_rows(query, keys), query, range(len(VALUES)))
    assert rows.schema["given"] == Column(name="given", dtype=dtype).polars
    of_a = rows.filter(pl.col("plane") == "a")["given"]
    assert of_a.len() == len(VALUES)
    few = with_request(rows.drop("given"), query, [0, 2])["given"]
    assert few.n_unique() == (1 if dtype == "array[uint8,0]" else 2)
