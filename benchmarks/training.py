"""A training set: entity rows joined with the newest of 50 features known at each one's moment.

Sides: the store from its materialized table (Polars, and pandas in and out) and as a notebook draft
from the source file; Feast's default file store; one plain Polars `join_asof` as the floor. A time
is one call in a fresh process, from entity rows in memory to the answer in memory, all reading of
Parquet or Delta included; imports are not.
"""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from dataset import ROW, SPINE, Size, same_bits, write_readings, write_spine
from options import Options
from process import gathered, redis_server, run_case
from report import Case, Measure, Report, Table, Unequal

SIZES = {
    "tiny": Size(rows=2_000, keys=40, features=50, spine=500),
    "default": Size(rows=400_000, keys=4_000, features=50, spine=40_000),
    "full": Size(rows=1_000_000, keys=10_000, features=50, spine=100_000),
}
FLOOR, FEAST = "Polars join_asof", "Feast, file store"
STORED = "ours, table"


def run(options: Options, folder: Path) -> Report:
    """Run every side in turn, as often as asked; compare each answer before its time counts."""
    size = SIZES[options.size]
    write_readings(folder, size)
    write_spine(folder, size)
    samples: dict[str, list[dict[str, float]]] = defaultdict(list)
    checks: dict[str, None] = {}
    with redis_server(folder / "online") as url:
        repo = str(folder / "repo")
        run_case(
            "ours.py", "materialize", repo=repo, folder=folder, url=url, features=size.features
        )
        for turn in range(options.repeats):
            answers = folder / f"answers{turn}"
            answers.mkdir()
            for name, side in _sides(options, folder, url, turn).items():
                samples[name].append(side(str(answers / name)))
            for line in _compared(answers, list(samples), pl.read_parquet(folder / SPINE)):
                checks[line] = None
    return Report(
        name="training",
        size={name: getattr(size, name) for name in Size.__slots__},
        repeats=options.repeats,
        tables=(_table(size, samples),),
        checks=tuple(checks),
        notes=_notes(options),
    )


def _sides(
    options: Options, folder: Path, url: str, turn: int
) -> dict[str, Callable[[str], dict[str, float]]]:
    """Give each side as a call that takes the file for its answer."""
    features = SIZES[options.size].features
    data: dict[str, Any] = {"folder": folder, "features": features}
    stored: dict[str, Any] = {"repo": folder / "repo", "folder": folder, "url": url}
    sides: dict[str, Callable[[str], dict[str, float]]] = {
        STORED: lambda keep: run_case("ours.py", "training", **stored, pandas=False, keep=keep),
        f"{STORED}, pandas": lambda keep: run_case(
            "ours.py", "training", **stored, pandas=True, keep=keep
        ),
        "ours, draft": lambda keep: run_case(
            "ours.py", "draft", repo=folder / "repo", **data, keep=keep
        ),
        FLOOR: lambda keep: run_case("plain.py", "training", **data, keep=keep),
    }
    if options.feast:
        sides[FEAST] = lambda keep: run_case(
            "feast_peer.py",
            "training",
            optimized=True,
            repo=folder / f"feast{turn}",
            **data,
            keep=keep,
        )
    return sides


def _compared(answers: Path, names: list[str], spine: pl.DataFrame) -> list[str]:
    """Compare the answers of one turn, value for value, and remove them; say what was found.

    Raises:
        Unequal: two sides differ on a row that both gave back.
    """
    floor = pl.read_parquet(answers / FLOOR)
    wide = f"{floor.height:,} rows x {floor.width - spine.width} features, bit for bit"
    lines = []
    for name in names:
        answer = _plain(pl.read_parquet(answers / name), floor.schema)
        if name == FEAST:
            kept = floor.join(answer.select(ROW), on=ROW, how="semi", maintain_order="left")
            same_bits(answer.sort(ROW), kept.sort(ROW), name)
            lines.append(_lost(floor, answer))
        elif name != FLOOR:
            same_bits(answer, floor, name)
            lines.append(f"{name} = {FLOOR}: {wide}")
        (answers / name).unlink()
    (answers / FLOOR).unlink(missing_ok=True)
    return lines


def _plain(answer: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
    """Undo what pandas does to a frame: NaN for null (the data has none), another time unit."""
    floats = pl.col(pl.Float32).fill_nan(None)
    return (
        answer.select(schema.names())
        .cast({ROW: schema[ROW]})
        .with_columns(floats, pl.col(pl.Datetime).cast(schema["event_timestamp"]))
    )


def _lost(floor: pl.DataFrame, answer: pl.DataFrame) -> str:
    """Say how many entity rows did not come back, and of which kind they are."""
    gone = floor.join(answer.select(ROW), on=ROW, how="anti")
    if answer.height + gone.height != floor.height:
        raise Unequal(
            f"{FEAST}: {answer.height:,} rows, {gone.height:,} missing of {floor.height:,}"
        )
    empty = gone.filter(pl.all_horizontal(pl.exclude(*floor.columns[:3]).is_null())).height
    return (
        f"{FEAST} = {FLOOR} on the {answer.height:,} rows it gave back; it lost {gone.height:,} of "
        f"{floor.height:,} entity rows ({empty:,} of them have no earlier reading)"
    )


def _table(size: Size, samples: dict[str, list[dict[str, float]]]) -> Table:
    return Table(
        title=(
            f"Training set: {size.spine:,} entity rows x ({size.rows:,} rows x {size.features} "
            f"float32, {size.keys:,} keys)"
        ),
        measures=(
            Measure(name="seconds", digits=3),
            Measure(name="peak MiB", digits=0),
            Measure(name="MiB before", digits=0),
        ),
        cases=tuple(
            Case(name=name, samples=gathered(made), against=STORED)
            for name, made in samples.items()
        ),
    )


def _notes(options: Options) -> tuple[str, ...]:
    lines = [
        "ratio: seconds over those of 'ours, table'; peak: the whole process",
        "the draft is declared without feast; a notebook that imports feast holds more",
    ]
    if options.feast:
        lines.append("Feast runs under python -O, and takes and gives pandas")
    else:
        lines.append("Feast was left out: it is not installed, or --without-feast was given")
    return tuple(lines)
