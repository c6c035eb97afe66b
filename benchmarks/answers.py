"""Answers of the sides, compared value for value before any time counts."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl
from columns import EVENT, KEY, ROW, SPINE
from dataset import same_bits
from report import Unequal

OWN = (ROW, KEY, EVENT)


def compared(
    answers: Mapping[str, Path], reference: str, spine: pl.DataFrame, *, losing: str | None = None
) -> list[str]:
    """Compare every answer with the reference's, or with the first one's if that has none.

    The side that is `losing` rows is compared on those it gave back.

    Raises:
        Unequal: two sides differ on a row that both gave back, or rows are missing elsewhere.
    """
    if not answers:
        return []
    against = reference if reference in answers else next(iter(answers))
    wanted = pl.read_parquet(answers[against]).sort(ROW)
    if against != losing:
        wanted = _whole(wanted, spine, against)
    wide = f"{wanted.height:,} rows x {wanted.width - len(OWN)} features, bit for bit"
    lines = []
    for name, file in answers.items():
        if name == against:
            continue
        found = pl.read_parquet(file).sort(ROW)
        if name == losing:
            found = _plain(found, wanted.schema)
            kept = wanted.join(found.select(ROW), on=ROW, how="semi", maintain_order="left")
            same_bits(found, kept, name)
            lines.append(_lost(name, against, wanted, found))
        else:
            same_bits(_whole(_plain(found, wanted.schema), spine, name), wanted, name)
            lines.append(f"{name} = {against}: {wide}")
    return lines


def read_spine(folder: Path) -> pl.DataFrame:
    """Give the entity rows."""
    return pl.read_parquet(folder / SPINE)


def _whole(answer: pl.DataFrame, spine: pl.DataFrame, name: str) -> pl.DataFrame:
    """Check that every entity row is there with its own columns, or its number alone."""
    own = [column for column in OWN if column in answer.columns]
    answer = answer.with_columns(pl.col(pl.Datetime).dt.convert_time_zone("UTC"))
    same_bits(answer.select(own), spine.select(own), f"{name}: entity rows")
    features = [column for column in answer.columns if column not in OWN]
    return spine.select(OWN).hstack(answer.select(sorted(features)))


def _plain(answer: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Undo what pandas does to a frame: NaN for null (the data has none), another time unit."""
    missing = set(schema) - set(OWN) - set(answer.columns)
    if missing:
        raise Unequal(f"columns are missing: {', '.join(sorted(missing))}")
    own = [name for name in OWN if name in answer.columns]
    return answer.select(
        *(pl.col(name).cast(schema[name]) for name in own),
        *(pl.col(name).fill_nan(None) for name in schema if name not in OWN),
    )


def _lost(name: str, against: str, wanted: pl.DataFrame, found: pl.DataFrame) -> str:
    """Say how many entity rows did not come back, and of which kind they are."""
    gone = wanted.join(found.select(ROW), on=ROW, how="anti")
    if found.height + gone.height != wanted.height:
        raise Unequal(
            f"{name}: {found.height:,} rows, {gone.height:,} missing of {wanted.height:,}"
        )
    empty = gone.filter(pl.all_horizontal(pl.exclude(*OWN).is_null())).height
    return (
        f"{name} = {against} on the {found.height:,} rows it gave back; it lost {gone.height:,} of "
        f"{wanted.height:,} entity rows ({empty:,} of them without a reading that counts)"
    )
