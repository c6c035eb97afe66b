"""How counts, sizes and spans of time are written, wherever they are read."""


def count(number: int, what: str) -> str:
    """Write so many of something."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def size(number: float) -> str:
    """Write a size in bytes, to three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} TB"


def span(us: int) -> str:
    """Write a span of time, microseconds, in its largest whole unit."""
    for unit, long in (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000)):
        if us and us % long == 0:
            return f"{us // long}{unit}"
    return f"{us / 1e6:g}s"
