"""Who may ask a server for what: tokens and certificate subjects, each with what it may use.

A file like this one says it; tokens stand in it as SHA-256 only::

    [callers.pricing]
    tokens = ["<sha256, hex>"]            # printf %s "$TOKEN" | sha256sum
    subjects = ["pricing.example.org"]    # of client certificates: common or alternative names
    services = ["lateness_*"]             # lookups of a service
    features = ["plane_history:*"]        # lookups of references, and of locks, feature by feature
    push = ["landings_now"]               # push sources
    describe = true                       # what the services and features it may use look like

What is not said is denied, and so is a caller that is not named.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Any

from featurestore.errors import Forbidden, InvalidRequest, Unauthenticated
from featurestore.model.names import suggest

_LISTS = ("tokens", "subjects", "services", "features", "push")
_DIGEST = re.compile("[0-9a-f]{64}")
_BEARER = "bearer "

Names = Callable[[str], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody known, and which names it may use."""

    name: str
    services: Names = field(repr=False)
    features: Names = field(repr=False)
    push: Names = field(repr=False)
    describe: bool

    def check_service(self, service: str) -> None:
        """Raise Forbidden unless it may look this service up."""
        if not self.services(service):
            raise Forbidden(self._denied("feature_service", service, "services"))

    def check_features(self, features: Iterable[str]) -> None:
        """Raise Forbidden unless it may look up each of these, `view:feature`."""
        for one in features:
            if not self.features(one):
                raise Forbidden(self._denied("features", one, "features"))

    def check_push(self, source: str) -> None:
        """Raise Forbidden unless it may push to this source."""
        if not self.push(source):
            raise Forbidden(self._denied("push_source", source, "push"))

    def check_describe(self) -> None:
        """Raise Forbidden unless it may have things described."""
        if not self.describe:
            raise Forbidden(
                f"DescribeService: caller {self.name!r} may not; whoever runs the server sets "
                f"callers.{self.name}.describe in its access file"
            )

    def _denied(self, path: str, name: str, key: str) -> str:
        return (
            f"{path}: {name[:100]!r} is not for caller {self.name!r}; whoever runs the server "
            f"lists it in callers.{self.name}.{key} of its access file"
        )


class Access:
    """The callers of a server, by token and by certificate subject."""

    def __init__(
        self, tokens: Iterable[tuple[bytes, Caller]], subjects: Mapping[str, Caller]
    ) -> None:
        self._tokens = tuple(tokens)
        self._subjects = dict(subjects)

    def who(self, authorization: str | None, subjects: Iterable[str]) -> Caller:
        """Give the caller of an `authorization` header, else of a proven certificate's subjects.

        Raises:
            Unauthenticated: it is nobody known.
        """
        if authorization is not None:
            return self._bearer(authorization)
        for subject in subjects:
            if subject in self._subjects:
                return self._subjects[subject]
        raise Unauthenticated(
            "authorization: none came, and no client certificate that is known here; call with a "
            "bearer token"
        )

    def _bearer(self, authorization: str) -> Caller:
        if not authorization[: len(_BEARER)].lower() == _BEARER:
            raise Unauthenticated("authorization: is not of the form 'Bearer TOKEN'")
        token = authorization[len(_BEARER) :].strip()
        digest = sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, caller in self._tokens:  # all of them: how long it takes tells nothing
            if compare_digest(known, digest):
                found = caller
        if found is None:
            raise Unauthenticated("authorization: the token is not known here; use a valid one")
        return found


def read_access(path: Path) -> Access:
    """Read an access file.

    Raises:
        InvalidRequest: it is not there, or a part of it is not what it must be.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path}: cannot be read as an access file; give its path") from error
    try:
        found = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        # What is wrong may be a token that stands in the wrong place: so not what, but where.
        raise InvalidRequest(f"{path}: is no TOML; mend it") from None
    unknown = sorted(set(found) - {"callers"})
    if unknown:
        raise InvalidRequest(f"{path}: {unknown[0]!r} is not known here; write [callers.NAME]")
    callers = found.get("callers", {})
    if not isinstance(callers, dict) or not callers:
        raise InvalidRequest(f"{path}: callers: names nobody; write [callers.NAME]")
    tokens: list[tuple[bytes, Caller]] = []
    subjects: dict[str, Caller] = {}
    for name, said in callers.items():
        where = f"{path}: callers.{name}"
        caller, lists = _caller(name, said, where)
        digests = [bytes.fromhex(_digest(one, where)) for one in lists["tokens"]]
        twice = {one for one, _ in tokens} & {*digests} or {*subjects} & {*lists["subjects"]}
        if twice:
            raise InvalidRequest(f"{where}: has a token or subject that another caller has, too")
        tokens += [(digest, caller) for digest in digests]
        subjects |= dict.fromkeys(lists["subjects"], caller)
    return Access(tokens, subjects)


def _caller(name: str, said: Any, where: str) -> tuple[Caller, dict[str, list[str]]]:
    if not isinstance(said, dict):
        raise InvalidRequest(f"{where}: is no table; write [callers.{name}]")
    for key in said:
        if key not in (*_LISTS, "describe"):
            known = suggest(key, (*_LISTS, "describe"))
            raise InvalidRequest(f"{where}: has a key that is not known here{known}")
    lists = {key: said.get(key, []) for key in _LISTS}
    for key, listed in lists.items():
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            raise InvalidRequest(f"{where}.{key}: is no list of strings")
    describe = said.get("describe", False)
    if not isinstance(describe, bool):
        raise InvalidRequest(f"{where}.describe: is neither true nor false")
    if not lists["tokens"] and not lists["subjects"]:
        raise InvalidRequest(f"{where}: has neither tokens nor subjects; nobody could be it")
    caller = Caller(
        name=name,
        services=_names(lists["services"]),
        features=_names(lists["features"]),
        push=_names(lists["push"]),
        describe=describe,
    )
    return caller, lists


def _digest(text: str, where: str) -> str:
    if not _DIGEST.fullmatch(text.lower()):
        raise InvalidRequest(
            f"{where}.tokens: one is no SHA-256 in hex; a token itself must not stand here: "
            'printf %s "$TOKEN" | sha256sum'
        )
    return text


def _names(patterns: list[str]) -> Names:
    """Give what says whether a name matches one of some shell patterns; of none, none does."""
    if not patterns:
        return lambda _: False
    return re.compile("|".join(f"(?:{translate(one)})" for one in patterns)).match
