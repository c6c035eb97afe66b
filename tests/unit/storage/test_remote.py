"""URLs of object stores, and the files there, on a real S3 server."""

import traceback

import polars as pl
import pytest
from deltalake import write_deltalake

from featurestore.errors import Unavailable
from featurestore.model.documents import Table
from featurestore.storage.damage import reading
from featurestore.storage.files import checksums, data_files
from featurestore.storage.remote import (
    cause,
    delta_files,
    delta_options,
    delta_place,
    is_unreached,
    objects,
    open_delta,
    refusal,
    shown,
    told,
)
from tests.declared import view

V = view()
T = Table(data_id=V.data_id, generation=0)
FRAME = pl.DataFrame({"a": [1, 2, 3], "bucket": [0, 1, 1]})
NAMES = ["plain", "a b", "ünï", "#1", "a?b", "a*b", "50%", "x[1]", "a=b", "a+b", "%zz"]


@pytest.mark.parametrize("name", NAMES)
def test_a_key_is_written_as_it_is(bucket, name):
    """delta-rs, Polars and the files of a URL all mean the very same key, whatever its signs."""
    url = f"{bucket.url}/{name}/t"
    write_deltalake(
        delta_place(url),
        FRAME.to_arrow(),
        partition_by=["bucket"],
        storage_options=delta_options(url),
    )
    assert {key.split("/")[0] for key in bucket.listed()} == {name}
    opened = open_delta(url)
    paths = delta_files(opened)
    assert pl.scan_parquet(paths, glob=False, hive_partitioning=False).collect().height == 3
    assert {file.path for file in objects(url).files()} == set(bucket.listed(name))
    assert objects(url).is_folder()
    assert not objects(url).is_file()
    assert objects(paths[0]).is_file()
    assert [len(checksum) for checksum in checksums(paths)] == [64, 64]
    assert data_files(paths)[0].path.startswith("bucket=")


def test_a_removal_reaches_nothing_beside(bucket):
    """What only begins alike stays; what is gone stays gone, and nothing is left in its place."""
    gone = ["t/v.1/a", "t/v.1/_delta_log/0.json"]
    stay = ["t/v.10/a", "t/v.1 /a", "t/v.1x", "t/v"]
    for key in (*gone, *stay):
        bucket.write(key, b"x")
    for _ in range(2):
        objects(f"{bucket.url}/t/v.1").remove()
        assert [file.path for file in objects(bucket.url).files()] == sorted(stay)
    objects(f"{bucket.url}/t/v.10/").remove()
    assert [file.path for file in objects(bucket.url).files()] == sorted(stay[1:])


def test_a_file_written_again_has_another_mark(bucket):
    """In the same second, of the same size: its ETag tells, and equal bytes are no change."""
    for key in ("d/a.parquet", "d/e/b.parquet", "d/x.txt", "da.parquet"):
        bucket.write(key, b"1")
    (before,) = objects(f"{bucket.url}/d/a.parquet").files()
    assert (before.path, before.size) == ("d/a.parquet", 1)
    bucket.write("d/a.parquet", b"2")
    (after,) = objects(f"{bucket.url}/d/a.parquet").files()
    assert before != after
    bucket.write("d/a.parquet", b"1")
    assert objects(f"{bucket.url}/d/a.parquet").files() == (before,)


@pytest.mark.parametrize(
    ("below", "found"),
    {
        "d": ["d/a.parquet", "d/e/b.parquet", "d/x.txt"],
        "d/": ["d/a.parquet", "d/e/b.parquet", "d/x.txt"],
        "d/**/*.parquet": ["d/a.parquet", "d/e/b.parquet"],
        "*/[ab].parquet": ["d/a.parquet", "d/e/b.parquet"],
        "d?.parquet": ["da.parquet"],
        "d/none": [],
        "none/*": [],
    }.items(),
)
def test_files_are_listed_below_a_url_or_by_a_glob(bucket, below, found):
    """A folder's name does not reach another that begins alike."""
    for key in ("d/a.parquet", "d/e/b.parquet", "d/x.txt", "da.parquet"):
        bucket.write(key, b"1")
    assert [file.path for file in objects(f"{bucket.url}/{below}").files()] == found


def test_a_store_that_is_not_there_is_no_missing_file(bucket):
    """A bucket that does not exist is told from an object that does not."""
    with pytest.raises(OSError, match="NoSuchBucket") as caught:
        objects("s3://no-such-bucket/x").files()
    assert is_unreached(caught.value)
    assert "NoSuchBucket The specified bucket does not exist" in told(caught.value)
    with pytest.raises(FileNotFoundError) as caught:
        checksums([f"{bucket.url}/none"])
    assert not is_unreached(caught.value)


def test_an_error_repeats_no_request(bucket):
    """An answer may quote the request with its key and token: only code and message are told."""
    answer = (
        "Generic S3 error\n\x1b[31m↳\x1b[0m Error performing GET http://h/b in 1ms - 403: "
        "<?xml version='1.0'?><Error><Code>SignatureDoesNotMatch</Code><Message>No.</Message>"
        "<CanonicalRequest>x-amz-security-token:canary</CanonicalRequest></Error>"
    )
    error = OSError(answer)
    assert told(error) == (
        "Generic S3 error Error performing GET http://h/b in 1ms - 403: SignatureDoesNotMatch No."
    )
    with pytest.raises(Unavailable, match="403: SignatureDoesNotMatch No") as caught, reading(V, T):
        raise error
    assert "canary" not in "".join(traceback.format_exception(caught.value))
    assert cause(OSError("plain")) is not None


@pytest.mark.parametrize(
    ("url", "delta"),
    {
        "/data/a b": "/data/a b",
        "s3://bucket/a b/#1": "s3://bucket/a%20b/%231",
        "s3://bucket": "s3://bucket/",
        "gcs://bucket/x": "gs://bucket/x",
        "abfss://box@account.dfs.core.windows.net/x": "abfss://box@account.dfs.core.windows.net/x",
    }.items(),
)
def test_delta_gets_its_urls_encoded(url, delta):
    """A folder stays as it is, and so does the place of a bucket."""
    assert (delta_place(url), refusal(url) if "://" in url else None) == (delta, None)


@pytest.mark.parametrize(
    "url", ["s3://ann:canary@bucket/x", "az://:canary@box/x", "s3://ann:ab/canary+c=@bucket/x"]
)
def test_a_url_with_a_password_is_refused(url):
    """A document or a log would keep it."""
    assert "a URL keeps no password" in str(refusal(url))
    assert "canary" not in shown(url)


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"])
def test_plain_http_is_for_an_endpoint_that_asks_for_it(monkeypatch, name):
    """delta-rs needs leave, which the endpoint's own scheme gives; https stays https."""
    for other in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"):
        monkeypatch.delenv(other, raising=False)
    assert delta_options("s3://b/x") is None
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert delta_options("s3://b/x") == {"allow_http": "true"}
    assert delta_options("/data") is None
    monkeypatch.setenv(name, "https://127.0.0.1:1")
    assert delta_options("s3://b/x") is None
