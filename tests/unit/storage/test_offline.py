"""The offline store over real Delta tables: exact intervals, exact bits, refusals."""

import os
import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from featurestore.errors import (
    Conflict,
    CorruptData,
    InvalidRequest,
    NotMaterialized,
    Unavailable,
)
from featurestore.model.documents import Table
from featurestore.model.time import BEGINNING, BUCKET, CREATED, EVENT, KNOWN, REVISION, Interval
from featurestore.storage.damage import writing
from featurestore.storage.keys import bucket_of
from featurestore.storage.layout import stored_dtype, table_schema
from featurestore.storage.offline import OfflineStore
from featurestore.storage.remote import delta_files, open_delta
from tests.columns import DTYPES
from tests.declared import columns, view

FIRST = -62_135_596_800_000_000
LAST = 253_402_300_799_999_999
DELAYS = view(features={"delay": pl.col("delay")})
TABLE = Table(data_id=DELAYS.data_id, generation=0)


def interval(start, end):
    """Give the interval of moments in (start, end]."""
    return Interval(start=start, end=end)


def rows(*known, of=DELAYS, keys=None):
    """Give offline rows known at these moments, with a value each."""
    values = {
        "plane": keys or ["a"] * len(known),
        EVENT: known,
        CREATED: [None] * len(known),
        KNOWN: known,
        REVISION: [0] * len(known),
        "delay": [float(n) for n in range(len(known))],
    }
    return pl.DataFrame(values, schema=table_schema(of))


def known(store, **options):
    """Give the moments of a table's rows, sorted."""
    return store.rows(DELAYS, TABLE, **options)[KNOWN].to_physical().sort().to_list()


def put(store, start, end, *moments, run="run"):
    """Replace an interval on the newest version."""
    base = store.version(DELAYS, TABLE)
    return store.replace(DELAYS, TABLE, interval(start, end), rows(*moments), base=base, run=run)


@pytest.fixture
def store(tmp_path):
    """A store with an empty table."""
    opened = OfflineStore(str(tmp_path / "offline"), "shop")
    opened.create(DELAYS, TABLE)
    return opened


def test_a_table_lies_under_project_view_and_id(store, tmp_path):
    """A person finds a table's folder by its names; a slash at the root's end changes nothing."""
    assert store.path(DELAYS, TABLE) == f"{tmp_path}/offline/shop/history/{TABLE.id}"
    again = OfflineStore(f"{tmp_path}/offline/", "shop")
    assert again.path(DELAYS, TABLE) == store.path(DELAYS, TABLE)


def test_making_a_table_again_leaves_it_as_it_is(store):
    """Create is idempotent: rows and version stay."""
    put(store, BEGINNING, 10, 5)
    store.create(DELAYS, TABLE)
    assert (known(store), store.version(DELAYS, TABLE)) == ([5], 1)


def test_a_new_table_is_empty_with_its_dtypes(store):
    """Version 0 has no rows, but every column."""
    assert store.version(DELAYS, TABLE) == 0
    assert store.last_run(DELAYS, TABLE) is None
    assert store.rows(DELAYS, TABLE).schema == table_schema(DELAYS)
    assert store.rows(DELAYS, TABLE).height == 0


def test_a_replacement_replaces_exactly_its_interval(store):
    """Rows a microsecond outside either end stay; all inside are what was written."""
    put(store, BEGINNING, 100, 10, 11, 12, 20, 21)
    put(store, 11, 20, 15)
    assert known(store) == [10, 11, 15, 21]


def test_an_empty_replacement_removes_the_interval(store):
    """No rows in an interval is an answer: what was there goes, and the version counts it."""
    put(store, BEGINNING, 100, 10, 11, 12)
    commit = put(store, 10, 11, run="empty")
    assert (known(store), commit.version, commit.files) == ([10, 12], 2, commit.files)
    assert store.last_run(DELAYS, TABLE) == "empty"
    put(store, BEGINNING, 100)
    assert known(store) == []
    assert put(store, BEGINNING, 100).files == ()


MOMENTS = [
    FIRST - 1,
    FIRST,
    FIRST + 1,
    -1_500_001,
    -1_500_000,
    -1,
    0,
    1,
    1_234_567,
    1_234_568,
    1_235_000,
    LAST - 1,
    LAST,
    LAST + 1,
]


def test_moments_a_microsecond_apart_are_told_apart_at_every_year(store):
    """One run a moment, one removal a moment, one read a moment: none reaches its neighbour."""
    for us in MOMENTS:
        put(store, us - 1, us, us)
    assert known(store) == MOMENTS
    for us in MOMENTS:
        assert known(store, known=interval(us - 1, us)) == [us]
    assert known(store, known=interval(BEGINNING, -1)) == [us for us in MOMENTS if us < 0]
    for us in MOMENTS[::2]:
        put(store, us - 1, us)
    assert known(store) == MOMENTS[1::2]


def test_a_row_outside_its_interval_is_refused(store):
    """A caller that breaks its promise writes nothing."""
    put(store, BEGINNING, 10, 5)
    for moments in ((5, 11), (3,), (None,)):
        with pytest.raises(ValueError, match="history: a row was not known in the interval"):
            put(store, 4 if 5 in moments else 3, 10, *moments)
    assert (known(store), store.version(DELAYS, TABLE)) == ([5], 1)


def test_old_versions_are_read_as_they_were(store):
    """A version is immutable: a lock can read it after the table moved."""
    put(store, BEGINNING, 10, 5)
    put(store, BEGINNING, 10, 6)
    assert known(store, version=1) == [5]
    assert known(store, version=0) == []
    with pytest.raises(NotMaterialized, match=r"history: history@.* has no offline version 9"):
        known(store, version=9)


def test_a_stale_writer_writes_nothing(store):
    """A replacement on a version that is no longer the newest is a conflict."""
    put(store, BEGINNING, 10, 5)
    with pytest.raises(Conflict, match="history: another writer moved the table"):
        store.replace(DELAYS, TABLE, interval(0, 10), rows(7), base=0, run="stale")
    assert known(store) == [5]


def test_of_writers_at_once_on_one_version_one_wins(store):
    """Whoever commits second is refused; the table holds one writer's rows whole."""
    outcomes = []
    ready = threading.Barrier(4)

    def write(us):
        mine = OfflineStore(store.path(DELAYS, TABLE).rsplit("/", 3)[0], "shop")
        ready.wait()
        try:
            mine.replace(DELAYS, TABLE, interval(0, 10), rows(us), base=0, run=f"run {us}")
        except Conflict:
            outcomes.append("refused")
        else:
            outcomes.append(us)

    writers = [threading.Thread(target=write, args=(us,)) for us in (1, 2, 3, 4)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    (winner,) = [one for one in outcomes if one != "refused"]
    assert len(outcomes) == 4
    assert known(store) == [winner]
    assert store.last_run(DELAYS, TABLE) == f"run {winner}"


def test_makers_at_once_make_one_table(tmp_path):
    """Two processes that first touch a table at once both find it."""
    failed = []
    ready = threading.Barrier(4)

    def make():
        ready.wait()
        try:
            OfflineStore(str(tmp_path), "shop").create(DELAYS, TABLE)
        except (OSError, DeltaError) as error:
            failed.append(error)

    makers = [threading.Thread(target=make) for _ in range(4)]
    for one in makers:
        one.start()
    for one in makers:
        one.join()
    assert failed == []
    assert OfflineStore(str(tmp_path), "shop").version(DELAYS, TABLE) == 0


def test_a_table_that_was_never_made_is_not_materialized(tmp_path):
    """The error names the view, its version and the command."""
    opened = OfflineStore(str(tmp_path), "shop")
    with pytest.raises(NotMaterialized, match=r"history: history@.* run `featurestore materia"):
        opened.version(DELAYS, TABLE)
    with pytest.raises(NotMaterialized):
        opened.rows(DELAYS, TABLE)


def test_only_the_asked_features_are_read(store):
    """Keys and times always come; features as asked."""
    put(store, BEGINNING, 10, 5)
    bare = [c for c in table_schema(DELAYS) if c != "delay"]
    assert store.rows(DELAYS, TABLE, features=[]).columns == bare
    assert store.rows(DELAYS, TABLE, features=["delay"]).columns == [*bare, "delay"]


def test_every_added_file_has_its_checksum(store):
    """What a commit reports is what the version added, and what reading verifies."""
    put(store, BEGINNING, 10, 5)
    commit = put(store, 10, 20, 15)
    assert commit.files == store.added_files(DELAYS, TABLE, commit.version)
    (file,) = commit.files
    assert re.fullmatch(r"bucket=0/part-.*\.parquet", file.path)
    assert re.fullmatch(r"[0-9a-f]{64}", file.checksum)
    assert known(store, checksums={file.path: file.checksum}) == [5, 15]


def test_a_file_that_was_flipped_or_swapped_is_corrupt(store, tmp_path):
    """Bytes that are not what was written are a named error, once and again."""
    (file,) = put(store, BEGINNING, 10, 5).files
    (path,) = tmp_path.rglob("part-*.parquet")
    data = path.read_bytes()
    for spoilt in (data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], data[:40], b""):
        path.write_bytes(spoilt)
        for _ in range(2):
            with pytest.raises(CorruptData, match=r"history: .*sha256 differs"):
                known(store, checksums={file.path: file.checksum})
    path.unlink()
    with pytest.raises(
        CorruptData, match=r"history: .*\.parquet is gone; .*run `featurestore backfill --again"
    ):
        known(store, checksums={file.path: file.checksum})
    path.write_bytes(data)
    assert known(store, checksums={file.path: file.checksum}) == [5]


def test_a_folder_that_cannot_be_made_is_unavailable_and_no_damage(store, tmp_path):
    """A file stands where the table should be: the way out is to mend that."""
    path = Path(store.path(DELAYS, TABLE))
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    with pytest.raises(Unavailable, match=r"cannot be written .*; mend that and run it again"):
        store.create(DELAYS, TABLE)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DeltaError("Unable to copy: No space left on device (os error 28)"), Unavailable),
        (DeltaError("No such file or directory (os error 2)\n   0: <unknown>"), CorruptData),
        (DeltaError("Kernel error: Json error"), CorruptData),
        (PermissionError(13, "Permission denied"), Unavailable),
    ],
)
def test_what_a_write_fails_by_is_told_from_damage(error, kind):
    """A full disk may pass; a file that the log names and that is gone does not come back."""
    told = r"^history: table \S+ cannot be (written|read)"
    with pytest.raises(kind, match=told) as caught, writing(DELAYS, TABLE):
        raise error
    assert "unknown" not in str(caught.value)


def test_a_log_that_was_spoilt_is_corrupt(store, tmp_path):
    """A table whose log cannot be read is a named error, not an empty table."""
    put(store, BEGINNING, 10, 5)
    for entry in tmp_path.rglob("_delta_log/*.json"):
        entry.write_bytes(b"{")
    with pytest.raises(
        CorruptData, match=r"history: table .* cannot be read.*--again --view history"
    ):
        known(store)


def test_buckets_and_periods_are_folders_and_no_columns(store):
    """Rows are partitioned by both; readers do not see it."""
    table = replace(TABLE, generation=1, buckets=2, period=10)
    store.create(DELAYS, table)
    frame = rows(1, 2, 13, keys=["a", "b", "b"])
    where = [int(one) for one in bucket_of(frame, DELAYS.join_keys, 2)]
    store.replace(DELAYS, table, interval(0, 20), frame, base=0, run="r")
    uris = delta_files(open_delta(store.path(DELAYS, table)))
    assert sorted(uri.split("/")[-3:-1] for uri in uris) == sorted(
        [f"bucket={bucket}", f"known_period={period}"]
        for bucket, period in set(zip(where, (0, 0, 1), strict=True))
    )
    found = store.rows(DELAYS, table)
    assert found.schema == table_schema(DELAYS)
    assert found[KNOWN].to_physical().sort().to_list() == [1, 2, 13]


@pytest.mark.parametrize("folder", ["plain", "a b", "ünï", "#1", "a?b", "a*b", "50%"])
def test_the_store_may_lie_in_any_folder(tmp_path, folder):
    """Signs in a folder's name are neither patterns nor escapes."""
    store = OfflineStore(str(tmp_path / folder), "shop")
    store.create(DELAYS, TABLE)
    (file,) = put(store, BEGINNING, 10, 5).files
    put(store, 10, 20, 15, run="second")
    assert store.last_run(DELAYS, TABLE) == "second"
    assert known(store, checksums={file.path: file.checksum}) == [5, 15]
    assert known(store, known=interval(5, 15)) == [15]
    assert (tmp_path / folder / "shop" / "history" / TABLE.id / "_delta_log").is_dir()


@pytest.mark.parametrize("folder", ["/data/a%41", "/data/x[1]", "/data/]", "s3://bucket/a%41"])
def test_a_folder_that_delta_misreads_is_refused(folder):
    """Rather than write somewhere else, the store says so before it writes."""
    with pytest.raises(InvalidRequest, match="Delta cannot write below"):
        OfflineStore(folder, "shop")


@pytest.mark.parametrize(
    ("root", "said"),
    {
        "hdfs://h/x": "cannot read hdfs:// URLs; supported are abfs, ",
        "file:///x": "cannot read file:// URLs",
        "s3://ann:canary@bucket/x": "a URL keeps no password",
    }.items(),
)
def test_a_root_at_a_url_that_is_not_opened_is_refused(root, said):
    """Another scheme, or a password, reaches no library, and no error repeats the password."""
    with pytest.raises(InvalidRequest, match=f"offline_store.path: {said}") as caught:
        OfflineStore(root, "shop")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_is_stored_as_one_that_delta_holds(name):
    """What Delta lacks is stored as the nearest dtype that has every value."""
    (column,) = columns(x=name)
    stored = stored_dtype(column.polars)
    inner = stored.inner if isinstance(stored, pl.List) else stored
    assert not isinstance(stored, pl.Array)
    assert not inner.is_unsigned_integer()


def test_an_old_version_stays_readable(store):
    """Past a checkpoint, years later and cleaned by any tool, a version that a lock names reads."""
    put(store, 0, 10, 5)
    put(store, 10, 20, 15)
    path = store.path(DELAYS, TABLE)
    empty = rows().with_columns(pl.lit(0, pl.Int32).alias(BUCKET), pl.col(REVISION).cast(pl.Int32))
    empty = empty.to_arrow()
    for _ in range(118):
        write_deltalake(path, empty.cast(empty.schema), mode="append", schema_mode="merge")
    for file in Path(path).rglob("*.*"):
        os.utime(file, (0, 0))
    newest = DeltaTable(path)
    assert newest.version() == 120
    assert list(Path(path).rglob("*.checkpoint.parquet"))
    newest.cleanup_metadata()
    assert newest.vacuum(dry_run=False) == []
    assert known(store, version=1) == [5]
    assert known(store, version=2) == known(store) == [5, 15]


def test_a_dropped_table_is_gone_and_nothing_else(store):
    """Its folder goes, once or twice; another generation and another view stay."""
    other = replace(TABLE, generation=1)
    store.create(DELAYS, other)
    for _ in range(2):
        store.drop(DELAYS.name, TABLE)
        assert not Path(store.path(DELAYS, TABLE)).exists()
    assert store.version(DELAYS, other) == 0
    with pytest.raises(NotMaterialized):
        store.version(DELAYS, TABLE)
    store.drop("never made", TABLE)


@pytest.mark.parametrize("link", ["table", "view"])
def test_a_link_is_not_followed_by_a_drop(store, tmp_path, link):
    """What a link in the place of a folder leads to is not removed."""
    place = Path(store.path(DELAYS, TABLE))
    place = place if link == "table" else place.parent
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    files = sorted((tmp_path / "elsewhere").rglob("*"))
    with pytest.raises(InvalidRequest, match="is no folder of its own below the offline root"):
        store.drop(DELAYS.name, TABLE)
    assert sorted((tmp_path / "elsewhere").rglob("*")) == files


@pytest.mark.parametrize("name", ["..", "../../x", "/", "a/.."])
def test_a_drop_stays_below_its_root(store, name):
    """A name that leads elsewhere is refused."""
    with pytest.raises(InvalidRequest, match="is no folder of its own"):
        store.drop(name, TABLE)


def test_a_root_behind_a_link_is_a_root(store, tmp_path):
    """Only below the root are links refused: the root is where the user said."""
    (tmp_path / "link").symlink_to(tmp_path / "offline")
    OfflineStore(str(tmp_path / "link"), "shop").drop(DELAYS.name, TABLE)
    assert not Path(store.path(DELAYS, TABLE)).exists()


def test_a_table_that_cannot_be_dropped_says_so(store, tmp_path):
    """A file stands in the place of the folder: the error names the place."""
    store.drop(DELAYS.name, TABLE)
    Path(store.path(DELAYS, TABLE)).write_text("no folder")
    with pytest.raises(Unavailable, match=f"{TABLE.id} cannot be removed: Not a directory"):
        store.drop(DELAYS.name, TABLE)


def test_the_size_of_a_table_is_read_from_its_log(store):
    """Rows and bytes of the newest version, with its data files out of reach."""
    assert store.size(DELAYS, TABLE) == (0, 0)
    put(store, 0, 10, 3, 5)
    put(store, 10, 20, 15)
    files = list(Path(store.path(DELAYS, TABLE)).rglob("*.parquet"))
    size = sum(file.stat().st_size for file in files)
    for file in files:
        file.unlink()
    assert store.size(DELAYS, TABLE) == (3, size)
    with pytest.raises(NotMaterialized):
        store.size(DELAYS, replace(TABLE, generation=1))
