"""A feature store: each feature is written once, as a Polars expression in a Feast definition.

`FeatureStore` is what notebooks use, `FeatureClient` and `AsyncFeatureClient` what serving services
use, `InMemoryTransport` what their tests use in place of servers. Importing this
package loads neither feast nor pandas, and runs no user code; each name loads its room when it is
first asked for, so that a serving process never loads what only training needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from featurestore.errors import (
    Conflict,
    CorruptData,
    DeadlineExceeded,
    FeatureStoreError,
    Forbidden,
    InvalidDefinition,
    InvalidExpression,
    InvalidRequest,
    LockUnknown,
    NotFound,
    NotMaterialized,
    OnlineDataMissing,
    Overloaded,
    SourceError,
    Unauthenticated,
    Unavailable,
    Unsupported,
)

if TYPE_CHECKING:
    from featurestore.engine.executor import LocalExecutor
    from featurestore.engine.ray import RayExecutor
    from featurestore.serving.client.channel import TLS
    from featurestore.serving.client.client import AsyncFeatureClient, FeatureClient
    from featurestore.serving.client.testing import InMemoryTransport
    from featurestore.store import FeatureStore

__all__ = [
    "TLS",
    "AsyncFeatureClient",
    "Conflict",
    "CorruptData",
    "DeadlineExceeded",
    "FeatureClient",
    "FeatureStore",
    "FeatureStoreError",
    "Forbidden",
    "InMemoryTransport",
    "InvalidDefinition",
    "InvalidExpression",
    "InvalidRequest",
    "LocalExecutor",
    "LockUnknown",
    "NotFound",
    "NotMaterialized",
    "OnlineDataMissing",
    "Overloaded",
    "RayExecutor",
    "SourceError",
    "Unauthenticated",
    "Unavailable",
    "Unsupported",
]

_ROOMS = {
    "TLS": "featurestore.serving.client.channel",
    "AsyncFeatureClient": "featurestore.serving.client.client",
    "FeatureClient": "featurestore.serving.client.client",
    "FeatureStore": "featurestore.store",
    "InMemoryTransport": "featurestore.serving.client.testing",
    "LocalExecutor": "featurestore.engine.executor",
    "RayExecutor": "featurestore.engine.ray",
}


def __getattr__(name: str) -> object:
    """Load a public name's room when it is first asked for."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ROOMS[name]), name)
