"""Replay: what was pushed since a table was brought up to date, written to Redis once more.

A table that comes to Redis, or to be served, may lack what was pushed while it did not. The log has
it all; the next materialization brings what the log has of longer ago.
"""

from featurestore.jobs.workspace import Workspace
from featurestore.model.documents import LiveView, Table, View
from featurestore.model.time import BEGINNING, Interval, watermark
from featurestore.serving.push.push import put_rows, stored_rows
from featurestore.storage.sources import pushed_rows


def replay(workspace: Workspace, view: View, table: Table) -> None:
    """Write to a table in Redis what was pushed and known since its watermark, or its settle span.

    Writing it again changes nothing.

    Raises:
        SourceError: the log cannot be read.
        Unavailable: Redis cannot be reached.
    """
    mark, now = watermark(workspace.ledger.covered(table.id)), workspace.clock()
    start = BEGINNING if mark is None else max(BEGINNING, mark - view.settle)
    if start >= now:
        return
    raw = pushed_rows(view, workspace.config.sources, Interval(start=start, end=now))
    if raw is None or raw.is_empty():
        return
    online, live = workspace.online(), LiveView(view=view, table=table)
    put_rows(online, live, stored_rows(view, raw), online.expiries([table.id]), now=now)
