"""What counts as rows: frames of every library, columns by name, rows as mappings; nothing else."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from polars.testing import assert_frame_equal

from featurestore.errors import InvalidRequest
from featurestore.serving.message.frames import frame_of

FRAME = pl.DataFrame({"plane": ["a", "b"], "delay": [1.5, None]})

FRAMES: dict[str, Any] = {
    "Polars": FRAME,
    "lazy Polars": FRAME.lazy(),
    "pandas": FRAME.to_pandas(),
    "an Arrow table": FRAME.to_arrow(),
    "an Arrow batch": FRAME.to_arrow().to_batches()[0],
    "columns": FRAME.to_dict(as_series=False),
    "NumPy columns": {"plane": np.array(["a", "b"]), "delay": FRAME["delay"]},
    "rows": FRAME.to_dicts(),
}


@pytest.mark.parametrize("given", FRAMES.values(), ids=FRAMES)
def test_rows_are_read_whatever_brings_them(given: Any) -> None:
    """The same rows come out of each; a missing value of pandas is null."""
    assert_frame_equal(frame_of(given, "rows"), FRAME)


REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": (None, "NoneType is no frame"),
    "a number": (5, "int is no frame"),
    "text": ("landings.parquet", "str is no frame"),
    "bytes": (b"x", "bytes is no frame"),
    "numbers": ([1, 2], "list is no frame"),
    "lists": ([[1], [2]], "list is no frame"),
    "a generator": ((one for one in [{"a": 1}]), "generator is no frame"),
    "a Polars column": (pl.Series("a", [1]), "Series is no frame"),
    "a pandas column": (pd.Series([1]), "Series is no frame"),
    "an Arrow column": (pa.array([1]), "Int64Array is no frame"),
    "a NumPy array": (np.zeros((2, 2)), "ndarray is no frame"),
    "ragged columns": ({"a": [1], "b": [1, 2]}, r"cannot be read \(ShapeError\)"),
    "mixed types": ({"a": [1, "x"]}, r"cannot be read \(TypeError\)"),
    "a query of no column": (FRAME.lazy().select("c"), r"cannot be read \(ColumnNotFoundError\)"),
}


@pytest.mark.parametrize(("given", "told"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_frame_is_refused_by_its_kind(given: Any, told: str) -> None:
    """The message names the argument, what came, and what to bring."""
    with pytest.raises(InvalidRequest, match=rf"^df: {told}.*; bring a pandas or Polars frame"):
        frame_of(given, "df")
