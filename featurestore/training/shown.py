"""A training set as a notebook shows it: HTML of its outputs and its first rows."""

from collections.abc import Sequence
from html import escape

import polars as pl


def html_of(title: str, columns: Sequence[tuple[str, str, str]], head: pl.DataFrame | None) -> str:
    """Give a table of output names, dtypes and versions, folded under the title, then the rows."""
    cells = "".join(
        f"<tr><td>{escape(name)}</td><td>{dtype}</td><td><code>{escape(version)}</code></td></tr>"
        for name, dtype, version in columns
    )
    listed = (
        "<table><thead><tr><th>feature</th><th>dtype</th><th>version</th></tr></thead>"
        f"<tbody>{cells}</tbody></table>"
    )
    folded = "" if head is not None else " open"
    rows = "" if head is None else head._repr_html_()
    summary = f"<summary>TrainingSet of {escape(title)}</summary>"
    return f"<details{folded}>{summary}{listed}</details>{rows}"
