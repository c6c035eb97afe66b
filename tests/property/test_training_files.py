"""A training set on disk is the one in memory, in any number of pieces."""

import resource
import tempfile
from pathlib import Path
from unittest.mock import patch

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.engine.executor import LocalExecutor
from featurestore.errors import Conflict, InvalidRequest, Unavailable
from featurestore.model.lock import Lock
from featurestore.model.time import EVENT
from featurestore.training import training_set
from tests.columns import DTYPES, bits, columns
from tests.property.test_point_in_time import BUCKETS, Case, cases
from tests.tables import Memory, ask, make_view, stored

pytestmark = pytest.mark.filterwarnings("ignore::featurestore.training.WithheldWarning")


class Narrow(LocalExecutor):
    """Has room for next to nothing, so that everything is cut small."""

    @property
    def memory(self) -> int:
        return 8


def written(made, folder):
    """Write a training set in stretches of three rows, its pieces in stretches of two."""
    path = Path(folder, "rows.parquet")
    with (
        patch("featurestore.training.assemble._FEWEST", 2),
        patch.multiple("featurestore.training.training_set", _FEWEST=3, _MOST=3),
    ):
        made.to_parquet(path)
    assert [one.name for one in Path(folder).iterdir()] == ["rows.parquet"]
    return path


def same(path, whole):
    """Compare a file with a training set in memory: bits, dtypes and lock."""
    found, held = pl.read_parquet(path), whole.to_polars()
    assert found.schema == held.schema
    for name in held.columns:
        assert bits(found[name]) == bits(held[name])
    kept = pl.read_parquet_metadata(path)["featurestore.lock"]
    assert Lock.from_json(kept) == whole.lock


@settings(max_examples=60, deadline=None)
@given(cases(), BUCKETS)
def test_rows_written_are_rows_held(case: Case, buckets: int) -> None:
    """Whatever the buckets and however small the pieces, the file holds the same rows."""
    with tempfile.TemporaryDirectory() as folder:
        made = case.answer(buckets=buckets, executor=Narrow(workers=2))
        same(written(made, folder), case.answer())


FEATURES = st.lists(st.sampled_from(DTYPES), min_size=1, max_size=4).flatmap(
    lambda dtypes: st.tuples(
        st.just(dtypes), st.tuples(*(columns(dtype, 12, "v") for dtype in dtypes))
    )
)


@settings(max_examples=40, deadline=None)
@given(FEATURES, BUCKETS)
def test_every_dtype_is_gathered_and_written_bit_for_bit(drawn, buckets) -> None:
    """Nulls, NaN payloads, lists and arrays go through buckets, pieces and files as they are."""
    dtypes, series = drawn
    names = [f"x{number}" for number in range(len(dtypes))]
    view = make_view(keys={"k": "int64"}, values=dict(zip(names, dtypes, strict=True)))
    values = dict(zip(names, series, strict=True))
    table = stored(view, {"k": range(12), EVENT: [5] * 12, **values})
    spine = pl.DataFrame({"k": [3, 11, 0, 40, 3, 7, 5], EVENT: [9] * 7}).cast(
        {EVENT: pl.Datetime("us", "UTC")}
    )
    memory = Memory(frames={"plane": table}, buckets=buckets)
    made = training_set(spine, ask(view), memory, project="t", executor=Narrow(workers=1))
    whole = training_set(spine, ask(view), Memory(frames={"plane": table}), project="t")
    rows = pl.Series([3, 11, 0, None, 3, 7, 5])
    for name, column in values.items():
        assert bits(whole.features[name]) == bits(column.gather(rows).alias(name))
    with tempfile.TemporaryDirectory() as folder:
        same(written(made, folder), whole)


def test_a_set_that_was_looked_at_is_written_from_memory(tmp_path) -> None:
    """The join runs once, whichever comes first."""
    view = make_view()
    table = stored(view, {"tailnum": ["a"], EVENT: [5], "value": [1]})
    memory = Memory(frames={"plane": table})
    spine = pl.DataFrame({"tailnum": ["a"] * 7, EVENT: [9] * 7}).cast(
        {EVENT: pl.Datetime("us", "UTC")}
    )
    made = training_set(spine, ask(view), memory, project="t")
    assert made.to_polars()["value"].to_list() == [1] * 7
    before = len(memory.reads)
    same(written(made, tmp_path), made)
    assert len(memory.reads) == before


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("gone/rows.parquet", "folder .*gone is not there; make it first"),
        ("", "is a folder; name a file in it"),
        ("s3://bucket/rows.parquet", "is a URL; write a local file"),
    ],
)
def test_a_bad_path_is_refused_before_the_join(path, told, tmp_path) -> None:
    """Nothing is read, and nothing is left behind."""
    memory = Memory(frames={})
    spine = pl.DataFrame(schema={"tailnum": pl.String, EVENT: pl.Datetime("us", "UTC")})
    view = make_view()
    table = stored(view, {"tailnum": ["a"], EVENT: [5], "value": [1]})
    memory = Memory(frames={"plane": table})
    made = training_set(spine, ask(view), memory, project="t")
    where = path if "://" in path else tmp_path / path
    with pytest.raises(InvalidRequest, match=rf"^to_parquet\.path: .*{told}"):
        made.to_parquet(where)
    assert memory.reads == []
    assert list(tmp_path.iterdir()) == []


def test_a_files_own_columns_stay_in_it_until_they_are_written(tmp_path) -> None:
    """A training set may replace the very file of its entity rows; one that moved is refused."""
    view = make_view()
    table = stored(view, {"tailnum": ["a"], EVENT: [5], "value": [1]})
    rows = pl.DataFrame({"tailnum": ["a"] * 7, EVENT: [9] * 7, "own": range(7)}).cast(
        {EVENT: pl.Datetime("us", "UTC")}
    )
    path = tmp_path / "rows.parquet"
    rows.write_parquet(path)

    def asked():
        memory = Memory(frames={"plane": table}, buckets=2)
        return training_set(path, ask(view), memory, project="t", executor=Narrow(workers=2))

    made, moved = asked(), asked()
    assert made.to_polars().equals(rows.with_columns(value=pl.lit(1, pl.Int64)))
    assert repr(moved) == repr(made)
    written(asked(), tmp_path)
    assert pl.read_parquet(path).columns == [*rows.columns, "value"]
    with pytest.raises(Conflict, match=r"entity_df: .*rows\.parquet was changed after"):
        moved.to_polars()


def test_a_disk_that_is_full_is_said_so(tmp_path) -> None:
    """No library's error comes through, and nothing is left behind."""
    view = make_view()
    table = stored(view, {"tailnum": ["a"], EVENT: [5], "value": [1]})
    spine = pl.DataFrame({"tailnum": ["a"] * 9999, EVENT: [9] * 9999}).cast(
        {EVENT: pl.Datetime("us", "UTC")}
    )
    made = training_set(spine, ask(view), Memory(frames={"plane": table}), project="t")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        with pytest.raises(Unavailable, match=r"^to_parquet\.path: .* cannot be written"):
            made.to_parquet(tmp_path / "rows.parquet")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Unavailable, match=r"^to_parquet\.path: .* cannot be written"):
        made.to_parquet("/proc/rows.parquet")


def test_entity_rows_that_cannot_be_read_are_said_so(tmp_path) -> None:
    """Damage behind a file's footer shows when its rows are read, and is no library's error."""
    view = make_view()
    table = stored(view, {"tailnum": ["a"], EVENT: [5], "value": [1]})
    path = tmp_path / "rows.parquet"
    rows = pl.DataFrame({"tailnum": ["a"] * 999, EVENT: range(999)})
    rows.cast({EVENT: pl.Datetime("us", "UTC")}).write_parquet(path)
    data = path.read_bytes()
    path.write_bytes(data[:4] + b"\xff" * 400 + data[404:])
    with pytest.raises(InvalidRequest, match=r"^entity_df: .*rows\.parquet cannot be read"):
        training_set(path, ask(view), Memory(frames={"plane": table}), project="t")
