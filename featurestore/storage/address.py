"""Addresses of Redis: one server, a primary that sentinels know, or a cluster; with users and TLS.

| URL | what is there |
|---|---|
| `redis://[user:password@]host:port[/db]` | one server |
| `unix://[user:password@]/path/of/socket[?db=0]` | one server on this machine |
| `redis+sentinel://[user:password@]h1:26379,h2:26379/service[/db]` | the service's primary |
| `redis+cluster://[user:password@]h1:7000,h2:7000` | a cluster, some of whose nodes these are |

`rediss` instead of `redis` speaks TLS, to sentinels too. What else there is to say stands in the
query: `OPTIONS`.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

Kind = Literal["single", "sentinel", "cluster"]
Host = tuple[str, int]

OPTIONS = (
    "username",
    "password",
    "sentinel_username",
    "sentinel_password",
    "ssl_ca_certs",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_check_hostname",
    "client_name",
    "db",
)
"""What a URL's query may say of an address."""

_OURS = frozenset(
    (
        "decode_responses",
        "health_check_interval",
        "max_connections",
        "protocol",
        "retry_on_error",
        "retry_on_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_read_size",
        "socket_timeout",
        "timeout",
    )
)
"""What other clients read from a query, and is the caller's to say here: it changes nothing."""

_KINDS: dict[str, Kind] = {
    "redis": "single",
    "rediss": "single",
    "redis+sentinel": "sentinel",
    "rediss+sentinel": "sentinel",
    "redis+cluster": "cluster",
    "rediss+cluster": "cluster",
}
_WRITE = (
    "not a Redis URL; write redis://host:port/db, redis+sentinel://host:port,host:port/service or "
    "redis+cluster://host:port,host:port (rediss for TLS), and the signs / ? # @ in a password as "
    "%2F %3F %23 %40"
)
_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Who calls; an empty password means nobody in particular."""

    user: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Files that prove a server to us (the system's, if none), and us to it; PEM."""

    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    check_hostname: bool = True

    def context(self) -> ssl.SSLContext:
        """Read the files.

        Raises:
            ValueError: one cannot be read, or is no certificate or key.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_certs)
            context.check_hostname = self.check_hostname
            if self.certfile:
                context.load_cert_chain(self.certfile, self.keyfile, password=_no_password)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"its certificates cannot be read ({type(error).__name__}); see that ssl_ca_certs, "
                "ssl_certfile and ssl_keyfile name PEM files, and that the key has no password"
            ) from None
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a Redis is and who calls it; `where` shows it without secrets.

    `hosts` are the server, the sentinels or some of the cluster's nodes; `path` is a socket's.
    """

    kind: Kind
    where: str
    hosts: tuple[Host, ...] = ()
    path: str | None = None
    service: str = ""
    db: int = 0
    login: Login = Login()
    sentinel: Login = Login()
    tls: Tls | None = None
    client_name: str = field(default="", repr=False)


def address(url: str) -> Address:
    """Read a Redis URL.

    Raises:
        ValueError: it is none; the message says how to write one, and repeats nothing of it.
    """
    try:
        return _address(url)
    except _Wrong:
        raise
    except ValueError:
        # What the standard library says of a URL quotes it, and with it a password.
        raise ValueError(_WRITE) from None


def with_options(url: str, options: Mapping[str, str]) -> str:
    """Give a Redis URL whose query says these options, whatever it said of them before.

    Raises:
        ValueError: it is no URL; nothing of it is repeated.
    """
    if not options:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(_WRITE) from None
    kept = [(name, value) for name, value in parse_qsl(parts.query) if name not in options]
    return urlunsplit(parts._replace(query=urlencode([*kept, *options.items()])))


class _Wrong(ValueError):
    """A message that is ours: it quotes nothing."""


def _address(url: str) -> Address:
    parts = urlsplit(url)
    login, _, place = parts.netloc.rpartition("@")
    local = parts.scheme == "unix"
    # A sign in a password may end the host too early: then the rest of it stands further on.
    beyond = f"{parts.query}{parts.fragment}" + ("" if local else parts.path)
    if "@" in beyond or parts.fragment or not (local or parts.scheme in _KINDS):
        raise ValueError
    options = _options(parts.query)
    user, _, password = login.partition(":")
    kind = _KINDS.get(parts.scheme, "single")
    service, db = ("", "") if local else _path(kind, parts.path)
    return Address(
        kind=kind,
        where=f"{parts.scheme}://{place}{parts.path}",
        hosts=() if local else _hosts(kind, place),
        path=unquote(parts.path) if local else None,
        service=service,
        db=_number(options.get("db") or db or "0"),
        login=Login(
            user=options.get("username", unquote(user)),
            password=options.get("password", unquote(password)),
        ),
        sentinel=Login(
            user=options.get("sentinel_username", ""),
            password=options.get("sentinel_password", ""),
        ),
        tls=_tls(options) if parts.scheme.startswith("rediss") else None,
        client_name=options.get("client_name", ""),
    )


def _options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    if not _OURS.union(OPTIONS).issuperset(options):
        # A name may be half of a password with an & in it.
        raise _Wrong(
            f"its query has an option that nobody knows; it may have {', '.join(OPTIONS)}, and the "
            "signs & = in a value as %26 %3D"
        )
    return {name: value for name, value in options.items() if value and name not in _OURS}


def _tls(options: Mapping[str, str]) -> Tls:
    checked = _FLAGS.get(options.get("ssl_check_hostname", "true").lower())
    if checked is None:
        raise _Wrong("ssl_check_hostname is neither true nor false; write one of them")
    return Tls(
        ca_certs=options.get("ssl_ca_certs"),
        certfile=options.get("ssl_certfile"),
        keyfile=options.get("ssl_keyfile"),
        check_hostname=checked,
    )


def _path(kind: Kind, path: str) -> tuple[str, str]:
    """Give the service and the database that a URL's path names."""
    first, _, rest = path.strip("/").partition("/")
    if kind == "sentinel":
        if not first:
            raise _Wrong(
                "it names no service; write redis+sentinel://host:port,host:port/service, with "
                "the name that the sentinels know the primary by"
            )
        return unquote(first), rest
    if rest or (kind == "cluster" and first not in ("", "0")):
        raise _Wrong("a cluster has one database, and a server's is a number; write /0")
    return "", first


def _hosts(kind: Kind, place: str) -> tuple[Host, ...]:
    usual = 26_379 if kind == "sentinel" else 6_379
    if kind == "single" and "," in place:
        raise _Wrong(
            "it names several hosts; write redis+sentinel:// or redis+cluster:// for what they are"
        )
    parts = [urlsplit(f"//{one}") for one in place.split(",")]
    if any(one.path or one.query for one in parts):
        raise ValueError
    return tuple(
        (unquote(one.hostname or "localhost"), usual if one.port is None else one.port)
        for one in parts
    )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise _Wrong("a database is a number; write /0 after the host")
    return int(text)


def _no_password() -> str:
    # Without it OpenSSL asks whoever sits at the terminal.
    return ""
