"""What a verification writes down: a law, what it was checked on, and each value that differs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from featurestore.errors import (
    CorruptData,
    FeatureStoreError,
    InvalidDefinition,
    InvalidRequest,
    NotFound,
    NotMaterialized,
    OnlineDataMissing,
    Unsupported,
)
from featurestore.jobs.proof.difference import FAULT, WHOLE_ROW

READING = (CorruptData, NotMaterialized, OnlineDataMissing)
"""What stored data raise that cannot be read."""

COMPUTING = (InvalidDefinition, InvalidRequest, Unsupported, pl.exceptions.PolarsError)
"""What features raise that cannot be computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One law on one version or service: how many values were compared, and which differ.

    Of the `compared` values `present` were not null in training. `differences` has a row per value,
    with the columns of `jobs.proof.difference.FAULT`. `skipped` says why nothing was proven, if so.
    """

    law: str
    subject: str
    compared: int = 0
    present: int = 0
    differences: pl.DataFrame
    skipped: str | None = None


def attempt(law: str, subject: str, versions: Sequence[str], check: Callable[[], Check]) -> Check:
    """Check a law; what cannot be read or computed is a difference of the versions it is about.

    Raises:
        NotFound: the definitions ask for what is not there.
        Conflict, Unavailable: somebody moved what is checked, or a store cannot be reached.
    """
    try:
        return check()
    except NotFound:
        raise
    except (*READING, *COMPUTING) as error:
        return Check(law=law, subject=subject, differences=failed(law, versions, "-", error))


def skipped(law: str, subject: str, why: str) -> Check:
    """Say why there is nothing to compare."""
    return Check(law=law, subject=subject, differences=pl.DataFrame(schema=FAULT), skipped=why)


def failed(law: str, versions: Sequence[str], entity: str, error: Exception) -> pl.DataFrame:
    """Write out that entities could not be read or computed, and what was said instead."""
    kind = type(error).__name__
    told = f"{kind}: {error}" if isinstance(error, FeatureStoreError) else kind
    rows = [(law, version, entity, WHOLE_ROW, "an answer", told) for version in versions]
    return pl.DataFrame(rows, schema=FAULT, orient="row")
