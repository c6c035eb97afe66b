"""How counts and sizes are written, wherever they are read."""


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
