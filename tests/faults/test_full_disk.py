"""A disk that is full for real, a small tmpfs: what was there serves on, and a rerun completes."""

import subprocess
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest

from featurestore.errors import Unavailable
from featurestore.jobs.materialize import materialize
from featurestore.model.time import EVENT, micros
from tests.repos import (
    applied,
    at,
    dump,
    history,
    landings,
    notebook,
    offline_rows,
    released,
    write,
)

VIEW = history()
FEW = landings(("a", 1, None, 10.0, 3), ("b", 2, None, 4.0, None))
MANY = pl.concat(
    [
        FEW,
        pl.select(
            pl.format("p{}", pl.int_range(20_000)).alias("plane"),
            pl.lit(at(5)).alias("at"),
            pl.lit(None, pl.Datetime("us", "UTC")).alias("loaded"),
            (pl.int_range(20_000) * 0.377).sin().alias("delay"),
            pl.lit(4, pl.UInt8).alias("seats"),
        ),
    ]
)
SPINE = pl.DataFrame({"plane": ["a", "b", "z"], EVENT: [at(3)] * 3})


@contextmanager
def mounted(folder: Path, size):
    """Put a tmpfs of a size on a folder for the length of a block."""
    folder.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def mount(*arguments):
    """Run mount; what it says goes into the error."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(done.stderr.strip())


@cache
def why_not():
    """Say why no tmpfs can be mounted here, or None."""
    with TemporaryDirectory() as folder:
        try:
            with mounted(Path(folder) / "probe", "64k"):
                return None
        except OSError as error:
            return f"mounting is forbidden: {error}"


pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


def trained(workspace):
    """Give a training set of the view."""
    with notebook(workspace) as store:
        return store.get_historical_features(SPINE, ["history:last_delay"]).to_polars()


def served(workspace):
    """Look two planes up."""
    with notebook(workspace) as store:
        planes = [{"plane": "a"}, {"plane": "p7"}]
        found = store.get_online_features(["history:last_delay"], planes, as_of=at(6))
        return found.to_dict()["last_delay"]


def filled(folder):
    """Fill a disk up, to its last byte."""
    rest = folder / "rest"
    with rest.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return rest


@pytest.mark.parametrize(("on_it", "size"), [("offline", "256k"), ("all", "400k")])
def test_a_run_that_does_not_fit_is_refused_and_completes_when_there_is_room(
    tmp_path, valkey, project, on_it, size
):
    """The old version trains and serves on; with more room the same run ends as on a large disk."""
    where = tmp_path / "repo" / (".featurestore" if on_it == "all" else ".featurestore/offline")
    write(tmp_path / "repo", FEW, name=project)
    where.mkdir(parents=True)
    with mounted(where, size) as disk:
        workspace = applied(tmp_path / "repo", valkey.url, VIEW)
        materialize(workspace, micros(at(0)), micros(at(3)))
        released(workspace)
        rows, table, redis = trained(workspace), offline_rows(workspace, VIEW), dump(workspace)
        write(tmp_path / "repo", MANY, name=project)
        rest = filled(disk)
        with pytest.raises(Unavailable, match=r"(No space left|disk is full|disk I/O)"):
            materialize(workspace, micros(at(0)), micros(at(6)))
        assert trained(workspace).equals(rows)
        assert offline_rows(workspace, VIEW).equals(table)
        assert dump(workspace) == redis
        assert served(workspace) == [10.0, None]
        rest.unlink()
        with pytest.raises(Unavailable, match="No space left"):
            materialize(workspace, micros(at(0)), micros(at(6)))
        assert offline_rows(workspace, VIEW).equals(table)
        mount("-o", "remount,size=16m", str(disk))
        (done,) = materialize(workspace, micros(at(0)), micros(at(6)))
        assert (done.rows, done.changed) == (MANY.height, True)
        found = offline_rows(workspace, VIEW)
        assert found.sort("plane")["last_delay"].equals(MANY.sort("plane")["delay"])
        assert served(workspace) == [10.0, MANY.filter(plane="p7")["delay"].item()]
        assert len(dump(workspace)) > MANY.height
        workspace.close()


@pytest.mark.parametrize(("looked_at", "size"), [(True, "64k"), (False, "64k"), (False, "2300k")])
def test_a_training_set_that_does_not_fit_leaves_what_was_there(
    tmp_path, valkey, project, looked_at, size
):
    """On a full disk `to_parquet` says Unavailable; the file of before is whole, and alone."""
    workspace = applied(write(tmp_path / "repo", MANY, name=project), valkey.url, VIEW)
    materialize(workspace, micros(at(0)), micros(at(6)))
    spine = pl.concat([MANY.select("plane", pl.col("at").alias(EVENT))] * 10)
    with notebook(workspace) as store, mounted(tmp_path / "disk", size) as disk:
        few = store.get_historical_features(SPINE, ["history:last_delay"])
        many = store.get_historical_features(spine, ["history:last_delay", "history:seats"])
        few.to_parquet(disk / "set.parquet")
        before = (disk / "set.parquet").read_bytes()
        if looked_at:
            assert many.to_polars().height == spine.height
        with pytest.raises(Unavailable, match=r"set.parquet.* cannot be written.*No space left"):
            many.to_parquet(disk / "set.parquet")
        assert [path.name for path in disk.iterdir()] == ["set.parquet"]
        assert (disk / "set.parquet").read_bytes() == before
        mount("-o", "remount,size=32m", str(disk))
        many.to_parquet(disk / "set.parquet")
        assert pl.read_parquet(disk / "set.parquet").equals(many.to_polars())
    workspace.close()
