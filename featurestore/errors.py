"""Every exception of the store; it knows no transport.

::

    FeatureStoreError
    ├── InvalidDefinition       a definition cannot be accepted
    │   └── InvalidExpression   an expression has a node that is not ROW, or reads what is not there
    ├── InvalidRequest          a call's arguments do not fit what is defined
    │   └── NotFound            a name (service, view, feature, alias, …) is not known
    ├── NotMaterialized         a table does not cover the moments asked for
    ├── Conflict                someone else moved it first: a stale write, a held lease
    ├── SourceError             a source file is missing, empty or lacks a column
    ├── CorruptData             stored bytes are not what was written
    ├── OnlineDataMissing       a table's rows are not in Redis: it was emptied; rebuild
    ├── LockUnknown             a server does not keep the lock that a call names by its id
    ├── Unsupported             this build cannot run it (dialect, Feast object)
    ├── Forbidden               a server does not let this caller do it
    │   └── Unauthenticated     it does not know the caller: no token, or not one of its own
    └── Unavailable             Redis, the server or the registry cannot be reached
        ├── DeadlineExceeded    the call's own deadline ran out
        └── Overloaded          a server has too much in hand, and turned the call away at once

A message says what, where (a dotted path) and the way out.
"""


class FeatureStoreError(Exception):
    """The root of all errors of the store."""


class InvalidDefinition(FeatureStoreError):
    """A definition cannot be accepted; nothing was written."""


class InvalidExpression(InvalidDefinition):
    """An expression has a node that is not one row in, one row out, or reads what is not there."""


class InvalidRequest(FeatureStoreError):
    """A call's arguments do not fit what is defined."""


class NotFound(InvalidRequest):
    """A service, view, feature, version, release or alias is not known by that name."""


class NotMaterialized(FeatureStoreError):
    """A table does not cover the moments asked for."""


class Conflict(FeatureStoreError):
    """Someone else moved it first: a stale write, a held lease, a lost alias race."""


class SourceError(FeatureStoreError):
    """A source is missing, empty or lacks a column."""


class CorruptData(FeatureStoreError):
    """Stored bytes are not what was written."""


class OnlineDataMissing(FeatureStoreError):
    """A table's rows are not in Redis: it was emptied, or never loaded; `table` names one."""

    def __init__(self, message: str, *, table: str | None = None) -> None:
        super().__init__(message)
        self.table = table


class LockUnknown(FeatureStoreError):
    """A server does not keep the lock that a call names by its id; the client sends it whole."""


class Unsupported(FeatureStoreError):
    """This build cannot run it: a foreign dialect, a Feast object we do not support."""


class Forbidden(FeatureStoreError):
    """A server does not let this caller do it."""


class Unauthenticated(Forbidden):
    """A server does not know the caller: no token came, or not one of its own."""


class Unavailable(FeatureStoreError):
    """Redis, the server or the registry cannot be reached."""


class DeadlineExceeded(Unavailable):
    """The call's own deadline ran out."""


class Overloaded(Unavailable):
    """A server has too much in hand, and turned the call away at once; try again later."""
