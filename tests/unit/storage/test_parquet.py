"""Parquet files written piece by piece: whole, or not at all."""

import os
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

from featurestore.errors import InvalidRequest, Unavailable
from featurestore.storage.parquet import folder_beside, target_of, write_parquet

ROWS = pl.DataFrame({"n": range(50_000)})


def write(path):
    def frames():
        yield from ROWS.iter_slices(5_000)

    write_parquet(path, frames, ROWS.schema, {"k": "v"}, where="path")


@pytest.mark.parametrize("name", ["plain.parquet", "ü [x]* {a}%20.parquet", "x" * 247 + ".parquet"])
def test_a_file_is_written_under_the_name_that_was_given(tmp_path, name):
    """Brackets, asterisks and 255 bytes are a name like another, and nothing else is left."""
    with folder_beside(target_of(tmp_path / name, "path"), "path"):
        write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert pl.read_parquet(tmp_path / name, glob=False).equals(ROWS)


def test_many_writers_to_one_path_leave_one_whole_file(tmp_path):
    """What is unfinished belongs to one call, even among threads of a process."""
    path = tmp_path / "rows.parquet"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, [path] * 4))
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert pl.read_parquet(path).equals(ROWS)


def test_a_device_or_a_pipe_is_never_replaced(tmp_path):
    """Rows written to a place such as /dev/null are refused: a rename would take its place."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InvalidRequest, match=r"^path: .*pipe is a device or a pipe; name a file"):
        write(pipe)
    assert pipe.is_fifo()


def test_a_folder_that_takes_no_file_is_named():
    """Where nothing can be made, the error says of which file and why."""
    with pytest.raises(Unavailable, match=r"^path: /proc/x cannot be written: .*; mend that"):
        folder_beside(target_of("/proc/x", "path"), "path")
