"""What verifying, promoting, rolling back and collecting answer, as plain values."""

from typing import Any

from featurestore.cli.values.plain import when
from featurestore.jobs.collect import Collection
from featurestore.jobs.publish import Published
from featurestore.jobs.verify import Verified


def verified(found: Verified) -> dict[str, Any]:
    """Give a verification as plain values: each law's outcome, and every value that differs."""
    return {
        "alias": found.alias,
        "equal": found.differences.is_empty(),
        "versions": found.versions,
        "checks": [
            {
                "law": check.law,
                "subject": check.subject,
                "compared": check.compared,
                "present": check.present,
                "differ": check.differences.height,
                "skipped": check.skipped,
            }
            for check in found.checks
        ],
        "differences": found.differences.rename({"check": "law"}).to_dicts(),
    }


def published(alias: str, found: Published) -> dict[str, Any]:
    """Give what an alias names now as plain values."""
    release = found.release
    return {
        "alias": alias,
        "release": release.number,
        "new": found.fresh,
        "restores": release.restores,
        "wrong": found.wrong,
        "views": [
            {
                "version": live.view.version,
                "table": live.table.id if live.table else None,
                "complete_up_to": when(live.watermark),
            }
            for live in release.views
        ],
    }


def collection(found: Collection, *, removed: bool) -> dict[str, Any]:
    """Give what is removed, or would be, and what stays with the reasons."""
    return {
        "removed": removed,
        "tables": [
            {
                "version": one.view.version,
                "table": one.table.id,
                "rows": one.rows,
                "bytes": one.bytes,
                "written": when(one.written),
            }
            for one in found.tables
        ],
        "releases": found.releases,
        "kept": [
            {"version": need.view.version, "table": need.table.id, "reasons": need.reasons}
            for need in found.kept
        ],
    }
