"""Materialization: a source file into offline rows and each key's newest row in Redis.

Sides: the store (all rows into Delta with known-at, revisions and checksums; newest rows into Redis
by compare-and-set); Feast's `materialize` with its defaults into its Redis online store (which
keeps no offline copy: its source is its offline store); the floor, plain Polars and MSET. All three
write to the same server, emptied before each, which appends to a file.
"""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from dataset import KEY, Size, latest, names, same_bits, write_readings
from options import Options
from process import emptied, gathered, redis_bytes, redis_keys, redis_server, run_case
from report import Case, Measure, Report, Table, Unequal

SIZES = {
    "tiny": Size(rows=2_000, keys=500),
    "default": Size(rows=100_000, keys=10_000),
    "full": Size(rows=1_000_000, keys=100_000),
}
OURS, FLOOR, FEAST = "ours", "Polars + MSET", "Feast, local engine"
_MIB = 1 << 20


def run(options: Options, folder: Path) -> Report:
    """Run every side in turn on an emptied server; read rows back before times count."""
    size = SIZES[options.size]
    newest = latest(write_readings(folder, size))
    samples: dict[str, list[dict[str, float]]] = defaultdict(list)
    checks: dict[str, None] = {}
    with redis_server(folder / "online") as url:
        for turn in range(options.repeats):
            for name, side in _sides(options, folder, url, turn).items():
                emptied(url)
                empty, answer = redis_bytes(url), folder / f"{name}{turn}.parquet"
                measured = side(str(answer))
                stored = (redis_bytes(url) - empty) / _MIB
                samples[name].append(_rates(measured, size) | {"Redis MiB": stored})
                found = pl.read_parquet(answer)
                counted = {"rows in Redis": float(redis_keys(url))} | measured
                checks[_checked(name, counted, found, newest, size)] = None
    return Report(
        name="materialize",
        size={name: getattr(size, name) for name in ("rows", "keys", "features")},
        repeats=options.repeats,
        tables=(_table(size, samples),),
        checks=tuple(checks),
        notes=_notes(options),
    )


def _sides(
    options: Options, folder: Path, url: str, turn: int
) -> dict[str, Callable[[str], dict[str, float]]]:
    """Give each side as a call that takes the file for the rows it reads back."""
    data: dict[str, Any] = {"folder": folder, "url": url, "features": SIZES[options.size].features}
    sides: dict[str, Callable[[str], dict[str, float]]] = {
        OURS: lambda keep: run_case(
            "ours.py", "materialize", repo=folder / f"repo{turn}", **data, keep=keep
        ),
        FLOOR: lambda keep: run_case(
            "plain.py", "materialize", target=folder / f"plain{turn}", **data, keep=keep
        ),
    }
    if options.feast:
        sides[FEAST] = lambda keep: run_case(
            "feast_peer.py",
            "materialize",
            optimized=True,
            repo=folder / f"feast{turn}",
            **data,
            keep=keep,
        )
    return sides


def _rates(measured: dict[str, float], size: Size) -> dict[str, float]:
    return measured | {"source rows/s": size.rows / measured["seconds"]}


def _checked(
    name: str, measured: dict[str, float], found: pl.DataFrame, newest: pl.DataFrame, size: Size
) -> str:
    """Compare the rows read back with the newest of the source; say how many.

    Raises:
        Unequal: a value differs, or rows are missing.
    """
    wanted = newest.join(found.select(KEY), on=KEY, how="semi", maintain_order="left")
    same_bits(found.sort(KEY), wanted.select(KEY, *names(size.features)), name)
    counted = (measured.get("rows offline", size.rows), measured["rows in Redis"])
    if counted != (size.rows, size.keys):
        raise Unequal(f"{name}: wrote {counted} rows of {(size.rows, size.keys)}")
    return (
        f"{name}: {size.keys:,} rows in Redis; {found.height:,} keys read back x "
        f"{size.features} features, bit for bit"
    )


def _table(size: Size, samples: dict[str, list[dict[str, float]]]) -> Table:
    return Table(
        title=(
            f"Materialize: {size.rows:,} rows x {size.features} float32, newest of "
            f"{size.keys:,} keys to Redis"
        ),
        measures=(
            Measure(name="seconds", digits=3),
            Measure(name="source rows/s", digits=0),
            Measure(name="peak MiB", digits=0),
            Measure(name="Redis MiB", digits=1),
        ),
        cases=tuple(
            Case(name=name, samples=gathered(made), against=OURS) for name, made in samples.items()
        ),
    )


def _notes(options: Options) -> tuple[str, ...]:
    lines = ["ratio: seconds over ours; ours writes all rows to Delta too, Feast none"]
    if not options.feast:
        lines.append("Feast was left out: it is not installed, or --without-feast was given")
    return tuple(lines)
