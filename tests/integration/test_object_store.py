"""Sources and offline tables in an object store, on a real S3 server: the same as in a folder."""

import re
import threading
import traceback
from dataclasses import replace

import polars as pl
import pytest
from deltalake.exceptions import DeltaError
from polars.testing import assert_frame_equal

from featurestore.errors import (
    Conflict,
    CorruptData,
    FeatureStoreError,
    InvalidRequest,
    NotMaterialized,
    SourceError,
    Unavailable,
)
from featurestore.jobs.collect import collect
from featurestore.jobs.config import HOME
from featurestore.jobs.materialize import materialize, materialize_incremental
from featurestore.model.documents import Table
from featurestore.model.time import (
    BEGINNING,
    CREATED,
    EVENT,
    KNOWN,
    REVISION,
    Interval,
    micros,
)
from featurestore.storage.files import below
from featurestore.storage.layout import table_schema
from featurestore.storage.offline import OfflineStore
from featurestore.storage.pushed import NONE, Roots
from featurestore.storage.sources import Pin, raw_rows
from tests.declared import view
from tests.objects import SECRET
from tests.repos import applied, at, dump, history, landings, notebook, released, source, write

DELAYS = view(features={"delay": pl.col("delay")})
TABLE = Table(data_id=DELAYS.data_id, generation=0)
ALL = Interval(start=BEGINNING, end=micros(at(1_000_000)))
ROWS = landings(
    ("a", 1, None, 10.0, 3),
    ("a", 5, None, 20.0, 4),
    ("b", 2, 9, 30.0, None),
    ("b", 3, None, 40.0, 6),
)
SPINE = pl.DataFrame({"plane": ["a", "b", "b", "c"], EVENT: [at(6), at(4), at(10), at(6)]})


def rows(*known):
    """Give offline rows known at these moments."""
    values = {
        "plane": ["a"] * len(known),
        EVENT: known,
        CREATED: [None] * len(known),
        KNOWN: known,
        REVISION: [0] * len(known),
        "delay": [float(us) for us in known],
    }
    return pl.DataFrame(values, schema=table_schema(DELAYS))


def put(store, start, end, *moments, base=None, run="run"):
    """Replace an interval, on the newest version unless another is given."""
    base = store.version(DELAYS, TABLE) if base is None else base
    interval = Interval(start=start, end=end)
    return store.replace(DELAYS, TABLE, interval, rows(*moments), base=base, run=run)


def known(store, **options):
    """Give the moments of a table's rows, sorted."""
    return store.rows(DELAYS, TABLE, **options)[KNOWN].to_physical().sort().to_list()


@pytest.fixture
def store(bucket):
    """A store in a bucket, with an empty table."""
    opened = OfflineStore(f"{bucket.url}/offline/", "shop")
    opened.create(DELAYS, TABLE)
    return opened


@pytest.mark.parametrize("folder", ["", "/a b/ünï", "/#1[x]?*50%"])
def test_tables_lie_at_any_url(bucket, folder):
    """Signs in a folder's name are neither patterns nor escapes; the bucket itself is a root."""
    store = OfflineStore(f"{bucket.url}{folder}", "shop")
    for _ in range(2):
        store.create(DELAYS, TABLE)
    first = put(store, BEGINNING, 10, 5)
    put(store, 10, 20, 15)
    assert known(store, known=Interval(start=5, end=15)) == [15]
    assert known(store, version=1) == [5]
    checked = {file.path: file.checksum for file in first.files}
    log = store.log_file(DELAYS, TABLE, 1)
    assert known(store, checksums={**checked, log.path: log.checksum}) == [5, 15]
    assert first.files == store.added_files(DELAYS, TABLE, 1)
    assert store.size(DELAYS, TABLE)[0] == 2
    assert store.last_run(DELAYS, TABLE) == "run"
    within = f"{folder}/shop/history/{TABLE.id}/".lstrip("/")
    assert {key.startswith(within) for key in bucket.listed()} == {True}
    store.drop(DELAYS.name, TABLE)
    assert bucket.listed() == []


def test_of_writers_at_once_on_one_version_one_wins(store):
    """The commit is a conditional put: whoever comes second is refused."""
    ended = []
    ready = threading.Barrier(3)

    def replacing(us):
        ready.wait()
        try:
            put(store, 0, 10, us, base=0, run=f"run {us}")
        except Conflict:
            ended.append("refused")
        else:
            ended.append(us)

    writers = [threading.Thread(target=replacing, args=(us,)) for us in (1, 2, 3)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    (winner,) = [one for one in ended if one != "refused"]
    assert (len(ended), known(store), store.last_run(DELAYS, TABLE)) == (
        3,
        [winner],
        f"run {winner}",
    )
    with pytest.raises(Conflict, match=r"another writer moved the table"):
        put(store, 0, 10, 4, base=0)


def test_makers_at_once_make_one_table(bucket):
    """Two processes that first touch a table at once both find it."""
    failed = []
    ready = threading.Barrier(3)

    def make():
        ready.wait()
        try:
            OfflineStore(bucket.url, "shop").create(DELAYS, TABLE)
        except (OSError, DeltaError, FeatureStoreError) as error:
            failed.append(error)

    makers = [threading.Thread(target=make) for _ in range(3)]
    for one in makers:
        one.start()
    for one in makers:
        one.join()
    assert failed == []
    assert OfflineStore(bucket.url, "shop").version(DELAYS, TABLE) == 0


def test_damage_is_named_and_never_a_number(store, bucket):
    """A flipped byte, a lost object and a lost log are errors that name the file."""
    (file,) = put(store, BEGINNING, 10, 5).files
    log = store.log_file(DELAYS, TABLE, 1)
    checksums = {file.path: file.checksum, log.path: log.checksum}
    keys = {key.rpartition("/")[2]: key for key in bucket.listed()}
    for one in (file, log):
        key = keys[one.path.rpartition("/")[2]]
        data = bucket.read(key)
        bucket.write(key, data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
        store.distrust()
        for _ in range(2):
            said = f"history: {re.escape(bucket.url)}/{key} is not what was written|cannot be read"
            with pytest.raises(CorruptData, match=said):
                known(store, checksums=checksums)
        bucket.write(key, data)
        assert known(store, checksums=checksums) == [5]
        store.distrust()
        bucket.client.delete_file(f"{bucket.name}/{key}")
        with pytest.raises((CorruptData, NotMaterialized), match=r"not exist|lost|no offline"):
            known(store, checksums=checksums, version=1)
        bucket.write(key, data)
    store.drop(DELAYS.name, TABLE)
    with pytest.raises(CorruptData, match="lost its folder or log"):
        known(store, checksums=checksums)
    with pytest.raises(NotMaterialized):
        store.version(DELAYS, TABLE)


def test_a_dropped_table_is_gone_and_nothing_else(store, bucket):
    """Another generation, another view and what only begins alike stay."""
    other = replace(TABLE, generation=10)
    store.create(DELAYS, other)
    place = f"offline/shop/history/{TABLE.data_id[:16]}"
    bucket.write(f"{place}.0x", b"")
    bucket.write("offline/shop/history2/x", b"")
    one = replace(TABLE, generation=1)
    store.create(DELAYS, one)
    for _ in range(2):
        store.drop(DELAYS.name, one)
    left = {key.split("/_delta_log")[0] for key in bucket.listed()}
    assert left == {
        *(f"offline/shop/history/{one.id}" for one in (TABLE, other)),
        f"{place}.0x",
        "offline/shop/history2/x",
    }
    for table, names in ((one, set()), (other, {"_delta_log/00000000000000000000.json"})):
        assert below(store.path(DELAYS, table)) == names
    for name in ("..", "", "a/..", "/", "history/"):
        with pytest.raises(InvalidRequest, match="is no folder of its own"):
            store.drop(name, TABLE)


def test_a_store_that_does_not_answer_is_no_damage(store, bucket):
    """No bucket: neither an empty table nor a corrupt one, and the way out is another."""
    gone = OfflineStore("s3://no-such-bucket/offline", "shop")
    for call in (gone.create, gone.version, gone.rows, gone.size):
        with pytest.raises(Unavailable, match=r"history: table .* cannot be .*NoSuchBucket"):
            call(DELAYS, TABLE)
    with pytest.raises(Unavailable, match=r"cannot be removed: .*NoSuchBucket"):
        gone.drop(DELAYS.name, TABLE)
    assert store.path(DELAYS, TABLE).startswith(bucket.url)


SOURCES = {
    "a file": ("one.parquet", "one.parquet"),
    "a file whose name has signs": ("a b/#1[x]?50%.parquet", "a b/#1[x]?50%.parquet"),
    "a folder": ("many", "many"),
    "a folder with its slash": ("many", "many/"),
    "a folder whose name has signs": ("ünï #1[x]", "ünï #1[x]"),
    "a glob": ("many", "many/**/*.parquet"),
    "a Delta table": ("delta", "delta"),
    "a Delta table whose name has signs": ("d ü#1[x]", "d ü#1[x]"),
}


@pytest.mark.parametrize(("place", "path"), SOURCES.values(), ids=SOURCES.keys())
def test_a_source_reads_as_it_does_in_a_folder(bucket, tmp_path, place, path):
    """File, folder, glob and Delta table: the rows are those of the same bytes on disk."""
    local = tmp_path / "local"
    local.mkdir()
    is_delta = place.startswith("d")
    if is_delta:
        ROWS.write_delta(local)
    elif place.endswith(".parquet"):
        local = local / "one.parquet"
        ROWS.write_parquet(local)
    else:
        (local / "sub").mkdir()
        ROWS[:2].write_parquet(local / "x.parquet")
        ROWS[2:].write_parquet(local / "sub" / "y.parquet")
    bucket.upload(local, place)
    changes = {"format": "delta" if is_delta else "parquet"}
    features = {"last_delay": pl.col("delay")}
    remote, same = (
        history(source=source(path=where, **changes), features=features)
        for where in (f"{bucket.url}/{path}", str(local))
    )
    assert remote.data_id == same.data_id
    here = Roots(repo=tmp_path)
    assert_frame_equal(
        raw_rows(remote, here, ALL), raw_rows(same, here, ALL), check_row_order=False
    )


ABSENT = {
    "a file": ("none.parquet", "parquet", "is not there, or holds nothing"),
    "a folder": ("none/", "parquet", "is not there, or holds nothing"),
    "a glob": ("none/*.parquet", "parquet", "is not there, or holds nothing"),
    "a Delta table": ("none", "delta", "is not there, or holds nothing; .* write a Delta table"),
    "garbage": ("garbage", "parquet", "cannot be read as parquet: .*; write it again"),
    "no Delta table": ("folder", "delta", "cannot be read as delta"),
    "a Delta table as Parquet": (
        "table",
        "parquet",
        "is a Delta table, .*; set file_format=DeltaFormat",
    ),
}


@pytest.mark.parametrize(("path", "kind", "said"), ABSENT.values(), ids=ABSENT.keys())
def test_a_source_that_cannot_be_read_is_a_named_error(bucket, tmp_path, path, kind, said):
    """What is absent or no data is said with the view, the URL and a way out."""
    bucket.write("garbage", b"no Parquet, and long enough for a footer")
    bucket.write("folder/x", b"x")
    bucket.write("table/_delta_log/0.json", b"{}")
    url = f"{bucket.url}/{path}"
    here, bad = Roots(repo=tmp_path), history(source=source(path=url, format=kind))
    with pytest.raises(SourceError, match=f"history.source: {re.escape(url)} {said}"):
        raw_rows(bad, here, ALL)


def test_a_secret_never_shows(bucket, tmp_path, caplog, capfd):
    """A bucket that is not there: neither error, traceback, log nor output says who asked."""
    here = Roots(repo=tmp_path)
    bad = history(source=source(path="s3://no-such-bucket/x.parquet"))
    open_handed = history(source=source(path="s3://a:canary@b/x"))
    store = OfflineStore("s3://no-such-bucket/offline", "shop")
    for call in (
        lambda: raw_rows(bad, here, ALL),
        lambda: raw_rows(open_handed, here, ALL),
        lambda: store.create(DELAYS, TABLE),
        lambda: store.drop(DELAYS.name, TABLE),
    ):
        with pytest.raises(FeatureStoreError) as caught:
            call()
        assert "canary" not in "".join(traceback.format_exception(caught.value))
    assert "canary" in SECRET
    assert "canary" not in "".join([caplog.text, *capfd.readouterr()])


def opened(repo, url, offline, *views):
    """Open a repo with its offline tables somewhere, its views applied."""
    write(repo, ROWS, name=repo.name)
    config = repo / "feature_store.yaml"
    config.write_text(
        f"{config.read_text()}offline_store:\n"
        f"  type: featurestore.integrations.feast.DeltaOfflineStore\n  path: '{offline}'\n"
    )
    return applied(repo, url, *views)


def flown(workspace):
    """Materialize, verify and promote; give Redis and a training frame."""
    materialize(workspace, micros(at(0)), micros(at(24)))
    released(workspace)
    store = notebook(workspace)
    asked = ["history:last_delay", "history:was_late", "history:seats"]
    return dump(workspace), store.get_historical_features(SPINE, asked).to_polars()


def test_the_whole_way_is_the_same_as_on_disk(bucket, tmp_path, valkey, project):
    """From an S3 source over S3 tables to Redis and training: equal bytes, equal frames."""
    here = opened(tmp_path / project, valkey.url, f"{HOME}/offline", history())
    local = flown(here)
    with valkey.client() as client:
        client.delete(*client.scan_iter(f"*/{project}/*"))
    here.close()
    (tmp_path / project).rename(tmp_path / "before")
    bucket.upload(tmp_path / "before" / "data" / "landings.parquet", "raw/landings.parquet")
    remote = history(source=source(path=f"{bucket.url}/raw/landings.parquet"))
    there = opened(tmp_path / project, valkey.url, f"{bucket.url}/tables", remote)
    shown, frame = flown(there)
    assert_frame_equal(frame, local[1])
    table = there.table(there.view("history")).id
    rows_of = [{k: v for k, v in one.items() if table.encode() in k} for one in (shown, local[0])]
    assert rows_of[0]
    assert rows_of[0] == rows_of[1]
    corrected = tmp_path / "corrected.parquet"
    ROWS.with_columns(pl.col("delay") + 1).write_parquet(corrected)
    bucket.upload(corrected, "raw/landings.parquet")
    assert any(one.changed for one in materialize_incremental(there, micros(at(24))))
    again = notebook(there).get_historical_features(SPINE, ["history:last_delay"]).to_polars()
    assert again["last_delay"].equals(frame["last_delay"] + 1)
    assert not (tmp_path / project / HOME / "offline").exists()
    for file in (tmp_path / project).rglob("*"):
        assert not file.is_file() or b"canary" not in file.read_bytes()
    there.close()


def test_collect_removes_only_the_table_that_nobody_needs(bucket, tmp_path, valkey, project):
    """A version that was replaced long ago goes from the bucket; what is live stays."""
    write(tmp_path / project, ROWS)
    before = opened(tmp_path / project, valkey.url, f"{bucket.url}/tables", history())
    flown(before)
    old = before.table(before.view("history")).id
    after = applied(
        tmp_path / project, valkey.url, history(features={"last_delay": pl.col("delay") * 2})
    )
    materialize(after, micros(at(0)), micros(at(24)))
    released(after)
    new = after.table(after.view("history")).id
    after.clock = lambda: micros(at(24 * 500))
    assert [one.table.id for one in collect(after).tables] == [old]
    tables = {key.split("/")[3] for key in bucket.listed()}
    assert tables == {new}
    before.close()
    after.close()


def test_rows_are_pushed_to_a_log_in_an_object_store(bucket, tmp_path):
    """A log at a URL is made, appended to, read at its versions and rewritten as on a disk."""
    written = tmp_path / "data/landings.parquet"
    written.parent.mkdir()
    ROWS[:2].write_parquet(written)
    view = history(source=source(path=str(written)), features={"last_delay": pl.col("delay")})
    roots = Roots(repo=tmp_path, pushed=f"{bucket.url}/off line/_pushed")
    before = raw_rows(view, roots, ALL).height
    log = roots.log_of(view)
    assert [log.append(ROWS[2:]), log.append(ROWS[:1])] == [1, 2]
    assert raw_rows(view, roots, ALL, Pin(pushed=1)).height == ROWS.height
    assert log.compact(many=2)
    assert raw_rows(view, roots, ALL).height == ROWS.height + 1
    assert raw_rows(view, roots, ALL, Pin(pushed=NONE)).height == before
    lost = Roots(repo=tmp_path, pushed="s3://no-such-bucket/_pushed")
    with pytest.raises(Unavailable, match="landings: its log of pushed rows at s3://no-such"):
        raw_rows(view, lost, ALL)
