"""Near misses: what a person probably meant when a name is not known."""

from collections.abc import Iterable
from difflib import get_close_matches


def suggest(name: str, known: Iterable[str]) -> str:
    """Give `; did you mean 'x'?`, else the known names, else nothing if there are none."""
    names = sorted(set(known))
    near = get_close_matches(name, names, n=1)
    if near:
        return f"; did you mean '{near[0]}'?"
    if not names:
        return ""
    return f"; known are {', '.join(names[:12])}{', …' if len(names) > 12 else ''}"
