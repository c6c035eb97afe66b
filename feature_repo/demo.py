"""The whole path on real data: apply, materialize, verify, promote, train, serve, and compare.

    python feature_repo/demo.py

Then a day is replayed: its events are pushed as they happened, its flights looked up in between.
Ends with `demo ok: …` and exit 0 only if every vector served over gRPC equals the training row of
the same flight at the same moment, bit for bit. What an earlier run left is removed first.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from parity import SERVICE, Mismatch, differences, request, trained_at, unequal
from replay import replay
from rich import box
from rich.console import Console
from rich.table import Table

from featurestore import FeatureClient, FeatureStore
from featurestore.serving.client.response import OnlineResponse

REPO = Path(__file__).parent
START = datetime(2013, 1, 1, tzinfo=UTC)
WATERMARK = datetime(2013, 11, 1, 18, tzinfo=UTC)
NEXT_DAY = WATERMARK + timedelta(days=1)
STRETCH = timedelta(hours=6)
FLIGHTS = 2_400
LEAST = 2_000
ALONE = 100
BATCHES = (2, 3, 17, 100, 500)
MICROSECOND = timedelta(microseconds=1)
NON_NULL = 0.9
LATER = "+ 1 microsecond"

console = Console(width=80, highlight=False)


def main() -> int:
    """Run the demo; gives the exit code."""
    started = time.monotonic()
    start_afresh()
    command("apply")
    command("materialize", f"{START:%Y-%m-%d}", f"{WATERMARK:%Y-%m-%dT%H:%M}")
    command("verify")
    command("promote")
    flights = pl.read_parquet(REPO / "data" / "flights.parquet")
    with FeatureStore(REPO) as store, served() as address:
        rows = train(store, flights)
        vectors, mismatches = compare(store, flights, address)
        replayed, missed = replay_a_day(store, flights, address)
        mismatches += missed
    command("online", "stop")
    for wrong in mismatches[:10]:
        console.print(
            f"[red]mismatch[/] {wrong.feature} of flight {wrong.row} at {wrong.moment}: "
            f"trained {wrong.trained!r}, served {wrong.served!r}"
        )
    seconds = time.monotonic() - started
    verdict = "demo failed" if mismatches else "demo ok"
    console.print(
        f"\nIn {seconds:.0f} s on {os.cpu_count()} cores. What was made stays in feature_repo: try "
        "`featurestore list --repo feature_repo`."
    )
    console.print(
        f"{verdict}: {rows:,} training rows, {vectors:,} vectors served, {replayed:,} replayed, "
        f"{len(mismatches):,} mismatches",
        soft_wrap=True,
    )
    return 1 if mismatches else 0


def start_afresh() -> None:
    """Remove what an earlier run made: it saw the day that this one is going to replay."""
    made = REPO / ".featurestore"
    if made.exists():
        command("online", "stop")
        shutil.rmtree(made)
    for file in (REPO / "data").glob("registry.db*"):
        file.unlink()


def command(*arguments: str) -> None:
    """Run one `featurestore` command as a person would, showing it."""
    console.print(f"\n[bold green]$[/] [bold]featurestore {' '.join(arguments)}[/]", soft_wrap=True)
    runner = [sys.executable, "-m", "featurestore.cli", *arguments, "--repo", str(REPO)]
    done = subprocess.run(runner, check=False, env=os.environ | {"COLUMNS": "80"})  # noqa: S603
    if done.returncode:
        sys.exit(done.returncode)


@contextmanager
def served() -> Iterator[str]:
    """Run `featurestore serve` on a free port while the block lasts; gives its address."""
    runner = [sys.executable, "-m", "featurestore.cli", "serve", "--port", "0", "--repo", str(REPO)]
    console.print("\n[bold green]$[/] [bold]featurestore serve --port 0[/]")
    with subprocess.Popen(runner, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603
        try:
            line = server.stdout.readline() if server.stdout else ""
            if not line:
                sys.exit("the server did not start")
            address = json.loads(line)["address"]
            yield address
        finally:
            server.terminate()
            server.wait(timeout=10)


def train(store: FeatureStore, flights: pl.DataFrame) -> int:
    """Build the training set of all flights up to the watermark, and show some of it."""
    spine = flights.filter(pl.col("scheduled_departure") <= WATERMARK)
    console.print(f'\n[bold]store.get_historical_features(flights, "{SERVICE}")[/]')
    began = time.monotonic()
    made = store.get_historical_features(spine, SERVICE, full_feature_names=True)
    frame = made.to_polars()
    seconds = time.monotonic() - began
    console.print(f"{made!r}", markup=False)
    console.print(
        f"\n{frame.height:,} rows x {frame.width} columns in {seconds:.1f} s; three of them:\n"
    )
    few = frame.filter(pl.col("late").is_not_null()).tail(3)
    show_flights(few)
    if frame.height != spine.height or frame.height < 100_000:
        sys.exit(f"{frame.height} training rows of {spine.height} flights")
    return frame.height


SHOWN = (
    "scheduled_departure", "tailnum", "origin", "dest", "late",
    "plane_history__last_delay", "plane_history__last_airport", "plane_facts__maker",
    "weather_origin__temperature", "weather_origin__sky", "weather_alternate__sky",
    "carrier_history__carrier_late_3h", "carrier_history__carrier_late_7d",
    "route_history__route_late_7d", "airport_departures__departed_1h",
    "city_traffic__landed_last_hour", "city_traffic__late_share",
    "flight_outlook__expected_air_minutes", "flight_outlook__route_against_carrier",
    "flight_outlook__strain",
)  # fmt: skip


def show_flights(frame: pl.DataFrame) -> None:
    """Print a few rows turned on their side."""
    grid = plain_table()
    grid.add_column("column")
    for number in range(frame.height):
        grid.add_column(f"flight {number + 1}", justify="right")
    for column in (name for name in SHOWN if name in frame.columns):
        grid.add_row(column, *(cell(value) for value in frame[column]))
    console.print(grid)


def show_table(names: Sequence[str], numbers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows: columns of names, then columns of numbers."""
    grid = plain_table()
    for name in names:
        grid.add_column(name)
    for name in numbers:
        grid.add_column(name, justify="right")
    for row in rows:
        grid.add_row(*row)
    console.print(grid)


def plain_table() -> Table:
    """Give an empty table in the command line's looks."""
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)


def cell(value: object) -> str:
    """Write one value for a table."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return value.strftime("%m-%d %H:%M")
    return "null" if value is None else str(value)


def compare(store: FeatureStore, flights: pl.DataFrame, address: str) -> tuple[int, list[Mismatch]]:
    """Compare served vectors with training rows at the watermark and at the edges of the ttls."""
    asked = flights.filter(
        pl.col("scheduled_departure").is_between(WATERMARK, WATERMARK + timedelta(days=4)),
        pl.col("tailnum").is_not_null(),
    ).head(FLIGHTS)
    if asked.height < LEAST:
        sys.exit(f"only {asked.height} flights to compare")
    rows, vectors, wrong = list[tuple[str, ...]](), 0, list[Mismatch]()
    too_old = 0
    console.print(f'\n[bold]client.get_online_features("{SERVICE}", entities=flights)[/]')
    with FeatureClient(address, timeout=10) as client:
        for moment, why in moments(store, client, asked):
            with console.status(f"comparing as of {moment:%Y-%m-%d %H:%M:%S.%f}"):
                trained = trained_at(store, asked, pl.lit(moment), allow_stale=True)
                answer, old = look_up(client, asked, moment)
                found = differences(trained, answer, pl.repeat(moment, asked.height, eager=True))
            if moment == WATERMARK:
                console.print("three of the flights that depart next, as the server answers:\n")
                show_flights(
                    pl.concat([asked.drop("late").head(3), answer.head(3)], how="horizontal")
                )
                require_values(answer)
            if why == LATER and old <= too_old:
                sys.exit(f"no row was exactly ttl old at {moment - MICROSECOND}")
            too_old = old
            when = f"{moment:%Y-%m-%d %H:%M}"
            rows.append((when, why, f"{answer.height:,}", f"{old:,}", f"{len(found):,}"))
            vectors += answer.height
            wrong += found
    console.print("\nEvery feature of every vector against the training row of its moment:\n")
    show_table(("as of (UTC)", "when"), ("vectors", "rows too old", "mismatches"), rows)
    return vectors, wrong


def replay_a_day(
    store: FeatureStore, flights: pl.DataFrame, address: str
) -> tuple[int, list[Mismatch]]:
    """Push the day after the watermark as it happened, and compare what was served meanwhile."""
    console.print('\n[bold]client.push("landings", rows, to="online")[/], and so on for a day')
    with console.status("replaying a day"):
        day = replay(address, REPO / "data", flights, start=WATERMARK, end=NEXT_DAY)
    asked, moment = day.flights, pl.col("scheduled_departure")
    before = trained_at(store, asked, moment, allow_stale=True)
    command("materialize-incremental", f"{NEXT_DAY:%Y-%m-%dT%H:%M}")
    trained = trained_at(store, asked, moment)
    wrong = differences(trained, day.vectors, asked["scheduled_departure"])
    stretches = (
        asked.select(
            until=(moment - MICROSECOND).dt.truncate(STRETCH) + STRETCH,
            pushed=day.pushed,
            moved=unequal(before, day.vectors).sum_horizontal(),
            wrong=unequal(trained, day.vectors).sum_horizontal(),
        )
        .group_by("until", maintain_order=True)
        .agg(pl.last("pushed"), pl.len(), pl.sum("moved", "wrong"))
    )
    console.print(
        "\nVectors served that day, at scheduled departure, against their training rows:\n"
    )
    show_table(
        ("until (UTC)",),
        ("pushed so far", "vectors", "values that pushes moved", "mismatches"),
        [(f"{row[0]:%Y-%m-%d %H:%M}", *(f"{n:,}" for n in row[1:])) for row in stretches.rows()],
    )
    if stretches.filter(pl.col("moved") == 0).height:
        sys.exit("what was pushed changed nothing for six hours")
    return day.vectors.height, wrong


def moments(
    store: FeatureStore, client: FeatureClient, asked: pl.DataFrame
) -> Iterator[tuple[datetime, str]]:
    """Give the watermark, and for each view the moments when a row it serves turns too old."""
    answer = client.get_online_features(
        SERVICE, entities=request(asked), full_feature_names=True, as_of=WATERMARK
    )
    if any("NOT_YET_KNOWN" in states for states in answer.statuses.values()):
        sys.exit(f"Redis holds what an earlier run pushed after {WATERMARK}: use an empty one")
    yield WATERMARK, "the watermark"
    views = {v.name: v for v in store.list_feature_views()}
    edges: dict[datetime, list[str]] = {}
    for alias, view in sorted(uses(store).items()):
        ttl = views[view].ttl
        name = next(n for n in answer.event_times if n.startswith(f"{alias}__"))
        times = pl.Series(answer.event_times[name]).drop_nulls()
        if ttl is not None and not times.is_empty():
            edge = times.max() + timedelta(microseconds=ttl)
            edges.setdefault(edge, []).append(alias)
    for edge, aliases in sorted(edges.items()):
        yield edge, f"{', '.join(aliases)} at ttl"
        yield edge + MICROSECOND, LATER


def uses(store: FeatureStore) -> dict[str, str]:
    """Give the service's aliases of stored views, with the view of each."""
    service = next(s for s in store.list_feature_services() if s.name == SERVICE)
    stored = {v.name for v in store.list_feature_views() if v.kind == "batch"}
    return {p.alias: p.view for p in service.projections if p.view in stored}


def look_up(
    client: FeatureClient, flights: pl.DataFrame, moment: datetime
) -> tuple[pl.DataFrame, int]:
    """Look all flights up, some alone and the rest in batches of several sizes."""
    rows = request(flights)
    parts, at, old, turn = [], 0, 0, 0
    while at < rows.height:
        size = 1 if at < ALONE else BATCHES[turn % len(BATCHES)]
        batch = rows.slice(at, size)
        answer = client.get_online_features(
            SERVICE, entities=batch, full_feature_names=True, as_of=moment
        )
        parts.append(answer.to_polars().drop(batch.columns, strict=False))
        old += outdated(answer)
        at, turn = at + size, turn + 1
    return pl.concat(parts), old


def outdated(answer: OnlineResponse) -> int:
    """Count the rows of stored views that are older than their ttl."""
    firsts = {name.partition("__")[0]: states for name, states in answer.statuses.items()}
    return sum(states.count("OUTSIDE_MAX_AGE") for states in firsts.values())


def require_values(answer: pl.DataFrame) -> None:
    """Stop unless nine of ten values of every view are there at the watermark."""
    for alias in {name.partition("__")[0] for name in answer.columns}:
        part = answer.select(pl.col(f"^{alias}__.*$"))
        share = 1 - sum(part.null_count().row(0)) / (part.height * part.width)
        if share < NON_NULL:
            sys.exit(f"{alias}: only {share:.0%} of the served values are there")


if __name__ == "__main__":
    sys.exit(main())
