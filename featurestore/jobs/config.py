"""Where things are: read from `feature_store.yaml`, overridden by `FEATURESTORE_*` variables.

| variable | meaning |
|---|---|
| `FEATURESTORE_REDIS_URL` | the online store; see `storage.address` for what it may be |
| `FEATURESTORE_REDIS_USERNAME`, `…_PASSWORD` | who calls it, if the URL does not say it |
| `FEATURESTORE_REDIS_SSL_CA_CERTS`, `…_SSL_CERTFILE`, `…_SSL_KEYFILE` | PEM files, for TLS |
| `FEATURESTORE_REDIS_SSL_CHECK_HOSTNAME` | `false`: a certificate may be of another host |
| `FEATURESTORE_REDIS_SENTINEL_USERNAME`, `…_SENTINEL_PASSWORD` | who calls the sentinels |
| `FEATURESTORE_STREAM_URL` | the Redis with the streams that `ingest` reads; the online store's |
| `FEATURESTORE_REGISTRY` | the registry's SQLAlchemy URL |
| `FEATURESTORE_OFFLINE` | folder or URL of the offline tables |
| `FEATURESTORE_RETENTION_DAYS` | how long what an alias left stays warm; 7 unless said |
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from featurestore.errors import InvalidDefinition, NotFound
from featurestore.storage.address import OPTIONS, with_options
from featurestore.storage.pushed import Roots

HOME = ".featurestore"
"""Folder inside the repo for what the store keeps when nothing else is configured."""

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})", re.ASCII)
_RETENTION_DAYS = 7.0
_MOST_DAYS = 36_500
_DAY = 86_400_000_000
_TLS = tuple(name for name in OPTIONS if name.startswith("ssl_"))
_FILES = tuple(name for name in _TLS if name != "ssl_check_hostname")
_NAMES = ("username", "password", "sentinel_username", "sentinel_password", *_TLS)
"""What an address says beside the URL, in the block or, in capitals, in the environment."""

_DEFAULT_REGISTRY = f"sqlite:///{HOME}/registry.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Where a project's registry, offline tables and online store are.

    `redis_url` None means the embedded server, kept in `embedded`, and `stream_url` None the same
    server as the online store's. `retention` is how long what an
    alias was moved away from stays warm, microseconds.
    """

    root: Path
    project: str
    registry: str
    offline: str
    redis_url: str | None = field(repr=False)
    embedded: Path
    retention: int = int(_RETENTION_DAYS * _DAY)
    stream_url: str | None = field(default=None, repr=False)

    @property
    def sources(self) -> Roots:
        """Where the sources lie, and the logs of the rows that were pushed to them."""
        offline = self.offline.rstrip("/")
        return Roots(repo=self.root, pushed=f"{offline}/{self.project}/_pushed")


def read_config(repo: Path, environ: Mapping[str, str]) -> Config:
    """Read a repo's configuration; `$NAME` and `${NAME}` in it are taken from `environ`.

    Raises:
        NotFound: there is no feature_store.yaml in the folder.
        InvalidDefinition: the file is no mapping, names no project, or its Redis is no URL.
    """
    root = repo.resolve()
    path = root / "feature_store.yaml"
    if not path.is_file():
        raise NotFound(f"{path}: is not there; run inside a feature repo, or name one with --repo")
    try:
        raw = yaml.safe_load(_expanded(path.read_text(encoding="utf-8"), environ))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        # The parser's own message quotes the line, and with it a secret from the environment.
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f" (line {mark.line + 1})"
        raise InvalidDefinition(f"feature_store.yaml: is not valid YAML{line}; mend it") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("project"), str):
        raise InvalidDefinition("feature_store.yaml: names no project; add `project: my_project`")
    offline = environ.get("FEATURESTORE_OFFLINE") or _ours(raw, "offline_store").get("path")
    where = str(offline or f"{HOME}/offline")
    return Config(
        root=root,
        project=raw["project"],
        registry=environ.get("FEATURESTORE_REGISTRY") or _registry(raw.get("registry")),
        offline=where if "://" in where else str(root / where),
        redis_url=_redis(raw.get("online_store"), environ, root),
        embedded=root / HOME / "online",
        retention=_retention(raw, environ),
        stream_url=environ.get("FEATURESTORE_STREAM_URL") or None,
    )


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    """Fill in variables as a shell does; unknown ones stay as they are written."""
    return _VARIABLE.sub(lambda found: environ.get(found[1] or found[2], found[0]), text)


def _ours(raw: Mapping[str, Any], block: str) -> Mapping[str, Any]:
    """Give a block if it names one of our plug-ins; Feast's own stores are left to Feast."""
    settings = raw.get(block)
    if isinstance(settings, dict) and str(settings.get("type", "")).startswith("featurestore."):
        return settings
    return {}


def _retention(raw: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    """Read the retention in days; a variable of the environment comes first."""
    name = "FEATURESTORE_RETENTION_DAYS"
    path, given = name, environ.get(name)
    if not given:
        path = "feature_store.yaml: online_store.retention_days"
        given = _ours(raw, "online_store").get("retention_days", _RETENTION_DAYS)
    try:
        days = float(given)
    except (TypeError, ValueError):
        days = -1.0
    if not 0 <= days <= _MOST_DAYS:
        raise InvalidDefinition(f"{path}: {given!r} is no number of days; write 7, or 0.5")
    return int(days * _DAY)


def _registry(settings: object) -> str:
    if isinstance(settings, dict) and settings.get("registry_type") == "sql":
        return str(settings.get("path") or _DEFAULT_REGISTRY)
    return _DEFAULT_REGISTRY


def _redis(settings: object, environ: Mapping[str, str], root: Path) -> str | None:
    """Give the online store's URL, with all there is to say of it in its query.

    A URL of the environment brings its own settings along: those beside the one it replaces are
    not meant for it.
    """
    url, said = environ.get("FEATURESTORE_REDIS_URL"), dict[str, str]()
    if not url and isinstance(settings, dict):
        url = _configured(settings)
        said = {name: _option(settings[name]) for name in _NAMES if settings.get(name) is not None}
        said |= {name: str(root / said[name]) for name in _FILES if said.get(name)}
    if not url:
        return None
    told = {name: environ.get(f"FEATURESTORE_REDIS_{name.upper()}") for name in _NAMES}
    try:
        return with_options(url, said | {name: value for name, value in told.items() if value})
    except ValueError as error:
        raise InvalidDefinition(f"online_store.connection_string: {error}") from None


def _option(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _configured(settings: Mapping[str, Any]) -> str | None:
    kind = str(settings.get("type", ""))
    if not (kind == "redis" or kind.startswith("featurestore.")):
        return None
    text = settings.get("connection_string", "localhost:6379" if kind == "redis" else None)
    if text is None:
        return None
    return str(text) if "://" in str(text) else _from_feast(str(text), settings)


def _from_feast(text: str, settings: Mapping[str, Any]) -> str:
    """Turn Feast's `host:port,host:port,ssl=true,password=…` into a Redis URL."""
    parts = text.split(",")
    options = dict(part.split("=", 1) for part in parts if "=" in part)
    hosts = ",".join(part for part in parts if "=" not in part)
    scheme = "rediss" if options.get("ssl", "").lower() == "true" else "redis"
    place = f"/{options.get('db', '0')}"
    kind = str(settings.get("redis_type", "redis"))
    if kind == "redis_cluster":
        scheme, place = f"{scheme}+cluster", ""
    elif kind == "redis_sentinel":
        service = quote(str(settings.get("sentinel_master", "mymaster")), safe="")
        scheme, place = f"{scheme}+sentinel", f"/{service}{place}"
    user = quote(options.get("username", ""), safe="")
    secret = quote(options["password"], safe="") if "password" in options else ""
    login = f"{user}:{secret}@" if secret else ""
    url = f"{scheme}://{login}{hosts}{place}"
    return with_options(url, {name: options[name] for name in _TLS if name in options})
