"""The bar of a long join."""

import io

from featurestore.training.progress import progress


class Terminal(io.StringIO):
    """Takes itself for a terminal."""

    def isatty(self):
        return True


def test_a_long_join_shows_buckets_rows_and_memory():
    """Where somebody looks: pieces done, rows per second, what the process holds."""
    out = Terminal()
    with progress(4000, shown=True, out=out) as report:
        report(1, 4, 1000)
        report(4, 4, 3000)
    shown = out.getvalue()
    assert "joining" in shown
    assert "rows/s" in shown
    assert "MiB" in shown


def test_a_short_join_and_a_log_show_nothing():
    """A bar appears after a while, and only on a terminal."""
    for out in (Terminal(), io.StringIO()):
        with progress(4000, out=out) as report:
            report(4, 4, 4000)
        assert "joining" not in out.getvalue()
