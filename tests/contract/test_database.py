"""How each database is opened, made once by many, and what its failures are called."""

import re

import pytest
import sqlalchemy as sa

from featurestore.errors import InvalidRequest, Unavailable, Unsupported
from featurestore.storage import sql
from featurestore.storage.registry import Registry
from featurestore.storage.sql import open_engine
from tests.databases import opened
from tests.races import race


def test_a_database_is_made_with_its_folder_and_indexes(tmp_path):
    """A relative SQLite path starts at the repo; opening twice changes nothing."""
    for _ in range(2):
        engine = open_engine("sqlite:///deep/down/r.db", root=tmp_path)
        found = sa.inspect(engine)
        assert {t.name for t in sql.META.sorted_tables} <= set(found.get_table_names())
        assert "ix_fs_runs_table_id" in {i["name"] for i in found.get_indexes("fs_runs")}
        engine.dispose()
    assert (tmp_path / "deep/down/r.db").is_file()


def test_openers_at_once_make_one_database(registry_url, tmp_path):
    """Processes that first touch the registry at once all find it, with all its tables."""

    def make():
        with opened(registry_url, tmp_path) as engine:
            return set(sa.inspect(engine).get_table_names())

    assert race([make] * 6) == [set(sql.META.tables)] * 6


def test_opening_waits_for_no_writer(engine, registry_url, tmp_path):
    """A registry that is there is opened while somebody else is in the middle of a write."""
    with engine.begin() as connection:
        connection.execute(sa.insert(sql.HEADS).values(project="x", revision=0, body="", applied=0))
        with opened(registry_url, tmp_path) as another:
            assert Registry(another, "x").head() is None


def test_a_registry_of_an_earlier_release_is_refused(engine, registry_url, tmp_path):
    """What lacks a column is named, with the way out, before anything is read or written."""
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE fs_leases DROP COLUMN process"))
    told = r"was made by an earlier release, whose fs_leases has no 'process'; name a new one"
    with pytest.raises(InvalidRequest, match=told), opened(registry_url, tmp_path):
        pass


BAD_URLS = {
    "no URL": ("registry.db", InvalidRequest, "registry.path: not a database URL"),
    "an unknown database": ("nosuch://x/y", Unavailable, "registry: nosuch://x/y cannot be opened"),
    "a server that is not there": (
        "postgresql+psycopg://ann:canary@127.0.0.1:1/db?password=canary",
        Unavailable,
        "registry: postgresql+psycopg://ann:***@127.0.0.1:1/db cannot be opened: (psycopg.Operat",
    ),
    "a password in a wrong place": (
        "postgresql+psycopg://ann:canary@127.0.0.1:1/db?sslmode=canary",
        Unavailable,
        'invalid sslmode value: "***"',
    ),
    "a driver that is not there": (
        "postgresql+psycopg2://ann:canary@h/db",
        Unsupported,
        "registry: postgresql+psycopg2://ann:***@h/db needs a database driver",
    ),
}


@pytest.mark.parametrize(("url", "error", "message"), BAD_URLS.values(), ids=BAD_URLS.keys())
def test_a_database_that_cannot_be_opened_is_named_without_its_secret(
    tmp_path, url, error, message
):
    """The error says which database and why on one line, and never the password."""
    with pytest.raises(error, match=re.escape(message)) as caught:
        open_engine(url, root=tmp_path)
    told = str(caught.value)
    assert not any(unwanted in told for unwanted in ("canary", "\n", "\t", "sqlalche.me"))


def test_a_file_that_is_no_database_is_unavailable(tmp_path):
    """A registry file with other content is refused, and left as it is."""
    (tmp_path / "r.db").write_bytes(b"not a database, but long enough" * 40)
    with pytest.raises(Unavailable, match=r"r\.db cannot be opened: .*not a database"):
        open_engine("sqlite:///r.db", root=tmp_path)
    assert (tmp_path / "r.db").read_bytes().startswith(b"not a database")


def test_a_database_that_goes_away_is_unavailable(engine):
    """An outage while working is the store's own error, not the driver's."""
    registry = Registry(engine, "shop")
    assert registry.head() is None
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE fs_heads"))
    with pytest.raises(
        Unavailable, match=r"(?s)registry: \w+.*:.* does not answer.*nothing was writt"
    ):
        registry.head()
