"""Where things are: Feast's own settings, ours, and the environment's last word."""

import re

import pytest

from featurestore.errors import InvalidDefinition, NotFound
from featurestore.jobs.config import read_config
from featurestore.storage.address import Login, Tls, address


def configured(tmp_path, text, **environ):
    """Read a configuration of this text, in an environment of only these variables."""
    (tmp_path / "feature_store.yaml").write_text(text)
    return read_config(tmp_path, environ)


def online(settings):
    """Write an online_store block."""
    return f"project: shop\nonline_store:\n  {settings}\n"


def test_a_bare_project_lives_in_its_repo(tmp_path):
    """Nothing configured: SQLite, Delta and the embedded server, all in one folder of the repo."""
    config = configured(tmp_path, "project: shop\n")
    assert config.root == tmp_path.resolve()
    assert config.project == "shop"
    assert config.registry == "sqlite:///.featurestore/registry.db"
    assert config.offline == f"{tmp_path.resolve()}/.featurestore/offline"
    assert config.redis_url is None
    assert config.embedded == tmp_path.resolve() / ".featurestore" / "online"


CONNECTIONS = {
    "host and port": ("redis.internal:6380", "redis://redis.internal:6380/0"),
    "a database": ("h:1,db=3", "redis://h:1/3"),
    "a password": ("h:1,password=pa=ss", "redis://:pa%3Dss@h:1/0"),
    "a password of signs": ('"h:1,password=a@b/c:d#e%f"', "redis://:a%40b%2Fc%3Ad%23e%25f@h:1/0"),
    "a user": ("h:1,username=ann,password=x", "redis://ann:x@h:1/0"),
    "encryption": ("h:1,ssl=true", "rediss://h:1/0"),
    "encryption spelled out": ("h:1,ssl=True,db=2", "rediss://h:1/2"),
    "no encryption": ("h:1,ssl=false", "redis://h:1/0"),
    "a URL": ("rediss://ann:x@h:1/4", "rediss://ann:x@h:1/4"),
}


@pytest.mark.parametrize(("text", "url"), CONNECTIONS.values(), ids=CONNECTIONS.keys())
@pytest.mark.parametrize("kind", ["redis", "featurestore.integrations.feast.RedisOnlineStore"])
def test_feasts_connection_strings_are_redis_urls(tmp_path, kind, text, url):
    """`host:port,option=value` means what it means in Feast; every sign of a password survives."""
    block = online(f"type: {kind}\n  connection_string: {text}")
    assert configured(tmp_path, block).redis_url == url


OTHER_STORES = {
    "none": ("project: shop\n", None),
    "a name": ("project: shop\nonline_store: sqlite\n", None),
    "sqlite": (online("type: sqlite\n  path: data/online.db"), None),
    "dynamodb": (online("type: dynamodb\n  connection_string: h:1"), None),
    "ours, embedded": (online("type: featurestore.integrations.feast.RedisOnlineStore"), None),
    "redis where Feast looks for it": (online("type: redis"), "redis://localhost:6379/0"),
}


@pytest.mark.parametrize(("text", "url"), OTHER_STORES.values(), ids=OTHER_STORES.keys())
def test_other_online_stores_are_left_to_feast(tmp_path, text, url):
    """Only a Redis that is configured is used; without one the embedded server serves."""
    assert configured(tmp_path, text).redis_url == url


REGISTRIES = {
    "a file of Feast's": ("registry: data/registry.db", "sqlite:///.featurestore/registry.db"),
    "a file of Feast's, as a block": (
        "registry:\n  path: data/registry.db",
        "sqlite:///.featurestore/registry.db",
    ),
    "a database": (
        "registry:\n  registry_type: sql\n  path: postgresql+psycopg://h/db",
        "postgresql+psycopg://h/db",
    ),
    "a database without a path": (
        "registry:\n  registry_type: sql",
        "sqlite:///.featurestore/registry.db",
    ),
}


@pytest.mark.parametrize(("text", "url"), REGISTRIES.values(), ids=REGISTRIES.keys())
def test_a_sql_registry_is_shared_with_feast(tmp_path, text, url):
    """Feast's SQL registry is ours too; its file registry is not touched."""
    assert configured(tmp_path, f"project: shop\n{text}\n").registry == url


OFFLINE = "project: shop\noffline_store:\n  type: {kind}\n  path: {path}\n"
OURS = "featurestore.integrations.feast.DeltaOfflineStore"
OFFLINES = {
    "Feast's": (OFFLINE.format(kind="file", path="x"), ".featurestore/offline"),
    "relative": (OFFLINE.format(kind=OURS, path="lake"), "lake"),
}


@pytest.mark.parametrize(("text", "folder"), OFFLINES.values(), ids=OFFLINES.keys())
def test_the_offline_folder_is_ours_to_name(tmp_path, text, folder):
    """A relative folder starts at the repo; Feast's own store is left alone."""
    assert configured(tmp_path, text).offline == f"{tmp_path.resolve()}/{folder}"


@pytest.mark.parametrize("path", ["/lake", "s3://bucket/lake"])
def test_an_absolute_folder_or_a_url_stays_as_it_is(tmp_path, path):
    """The offline tables may lie anywhere."""
    assert configured(tmp_path, OFFLINE.format(kind=OURS, path=path)).offline == path
    assert configured(tmp_path, "project: shop\n", FEATURESTORE_OFFLINE=path).offline == path


def test_the_environment_has_the_last_word(tmp_path):
    """Each variable overrides its setting; an empty one says nothing."""
    text = (
        OFFLINE.format(kind=OURS, path="lake")
        + "online_store:\n  type: redis\n  connection_string: h:1\n"
        + "registry:\n  registry_type: sql\n  path: sqlite:///a.db\n"
    )
    changed = configured(
        tmp_path,
        text,
        FEATURESTORE_REDIS_URL="redis://other:2/0",
        FEATURESTORE_REGISTRY="sqlite:///b.db",
        FEATURESTORE_OFFLINE="puddle",
    )
    assert changed.redis_url == "redis://other:2/0"
    assert changed.registry == "sqlite:///b.db"
    assert changed.offline == f"{tmp_path.resolve()}/puddle"
    empty = dict.fromkeys(
        ("FEATURESTORE_REDIS_URL", "FEATURESTORE_REGISTRY", "FEATURESTORE_OFFLINE"), ""
    )
    assert configured(tmp_path, text, **empty) == configured(tmp_path, text)


def test_variables_are_filled_in_as_feast_does(tmp_path, monkeypatch):
    """`$NAME` and `${NAME}` come from the given environment only; unknown ones stay."""
    monkeypatch.setenv("SECRET", "from the process")
    text = online('type: redis\n  connection_string: "${HOST}:1,username=$WHO,password=$SECRET"')
    assert configured(tmp_path, text, HOST="h", WHO="ann", SECRET="x").redis_url == (
        "redis://ann:x@h:1/0"
    )
    assert configured(tmp_path, text, HOST="h", WHO="ann").redis_url == (
        "redis://ann:%24SECRET@h:1/0"
    )


def test_a_repo_may_be_named_by_a_relative_path(tmp_path, monkeypatch):
    """The root is absolute, wherever the process goes afterwards."""
    configured(tmp_path, "project: shop\n")
    monkeypatch.chdir(tmp_path.parent)
    assert read_config(tmp_path.relative_to(tmp_path.parent), {}).root == tmp_path.resolve()


BAD = {
    "empty": ("", "feature_store.yaml: names no project; add `project: my_project`"),
    "a list": ("- project\n", "feature_store.yaml: names no project"),
    "no project": ("provider: local\n", "feature_store.yaml: names no project"),
    "a project that is no text": ("project: [a]\n", "feature_store.yaml: names no project"),
    "no YAML": ("project: {shop\n", "feature_store.yaml: is not valid YAML"),
    "a Python object": (
        "project: !!python/object/apply:os.system ['true']\n",
        "feature_store.yaml: is not valid YAML",
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_refused(tmp_path, text, message):
    """What is wrong is said with the file's name; nothing in it is ever executed."""
    with pytest.raises(InvalidDefinition, match=re.escape(message)):
        configured(tmp_path, text)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    """Bytes that are not UTF-8 are no YAML."""
    (tmp_path / "feature_store.yaml").write_bytes(b"project: \xff\xfe")
    with pytest.raises(InvalidDefinition, match=r"feature_store\.yaml: is not valid YAML"):
        read_config(tmp_path, {})


def test_a_folder_that_is_no_repo_is_not_found(tmp_path):
    """The error names the file that is missing and how to name a repo."""
    with pytest.raises(NotFound, match=r"feature_store\.yaml: is not there; run inside a feature"):
        read_config(tmp_path, {})


def test_a_redis_of_many_servers_and_its_settings_are_one_url(tmp_path):
    """Users and files stand beside the URL, in which all of it ends; files start at the repo."""
    block = online(
        "type: featurestore.integrations.feast.PackedRedisOnlineStore\n"
        "  connection_string: rediss+sentinel://a:1,b:2/main\n"
        "  username: ann\n  password: $SECRET\n  sentinel_password: s&t\n"
        "  ssl_ca_certs: ca.pem\n  ssl_certfile: /k/c.pem\n  ssl_check_hostname: false"
    )
    config = configured(tmp_path, block, SECRET="p@ss=1")
    found = address(config.redis_url)
    assert found.login == Login(user="ann", password="p@ss=1")
    assert found.sentinel == Login(password="s&t")
    assert found.tls == Tls(
        ca_certs=f"{tmp_path.resolve()}/ca.pem", certfile="/k/c.pem", check_hostname=False
    )
    assert (found.hosts, found.service) == ((("a", 1), ("b", 2)), "main")
    assert "p%40ss" not in repr(config)


def test_the_environment_names_users_and_files_too(tmp_path):
    """They override the block's; a URL of the environment leaves the block's behind."""
    block = online("type: redis\n  connection_string: h:1,password=old\n  sentinel_username: bob")
    environ = {"FEATURESTORE_REDIS_USERNAME": "ann", "FEATURESTORE_REDIS_PASSWORD": "new"}
    found = address(configured(tmp_path, block, **environ).redis_url)
    assert (found.login, found.sentinel.user) == (Login(user="ann", password="new"), "bob")
    environ["FEATURESTORE_REDIS_URL"] = "redis://other"
    found = address(configured(tmp_path, block, **environ).redis_url)
    assert (found.hosts, found.sentinel.user) == ((("other", 6379),), "")
    assert found.login == Login(user="ann", password="new")


def test_feasts_sentinels_and_clusters_are_ours(tmp_path):
    """`redis_type` and `sentinel_master` mean what they mean in Feast."""
    hosts = "connection_string: a:1,b:2,ssl=true,password=x"
    block = online(f"type: redis\n  redis_type: redis_cluster\n  {hosts}")
    assert configured(tmp_path, block).redis_url == "rediss+cluster://:x@a:1,b:2"
    block = online(
        f"type: redis\n  redis_type: redis_sentinel\n  sentinel_master: m\n  {hosts},db=2"
    )
    assert configured(tmp_path, block).redis_url == "rediss+sentinel://:x@a:1,b:2/m/2"
