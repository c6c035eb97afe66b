"""What registered locks look like on a terminal."""

from collections.abc import Sequence

from rich.markup import escape

from featurestore.cli.terminal import facts, out
from featurestore.cli.values.locks import state, versions
from featurestore.jobs.locks import Kept
from featurestore.model.facts import Registered
from featurestore.model.time import second
from featurestore.model.words import count


def kept(found: Kept) -> None:
    """Print what registering a lock did."""
    one = found.registered
    _lock(one, "registered")
    out.print()
    if found.warmed:
        out.print(f"Made warm for it: {', '.join(found.warmed)}.")
    if found.collected:
        gone = ", ".join(found.collected)
        out.print(
            f"[yellow]Training data gone[/]: {gone}. The lock can be served, but its training set "
            "cannot be made again."
        )
    elif not found.warmed:
        out.print("All it needs was there.")


def locks(found: Sequence[Registered], now: int, *, hidden: int) -> None:
    """Print registered locks, one below the other."""
    for one in found:
        _lock(one, state(one, now))
        out.print()
    if not found:
        out.print("No lock is registered.")
    if hidden:
        out.print(f"{count(hidden, 'more lock')} expired or retired; --all lists them.")


def _lock(one: Registered, how: str) -> None:
    lock = one.lock
    out.print(f"[bold]{one.id[:12]}[/]  {how}, of {escape(one.owner)}")
    named = {
        "asks for": f"{lock.service or 'features'} ({count(len(lock.outputs), 'feature')})",
        "versions": ", ".join(versions(lock)),
        "registered": second(one.registered),
        "expires": second(one.expires),
    }
    if one.retired is not None:
        named["retired"] = second(one.retired)
    facts(named)


def retired(found: Registered) -> None:
    """Print that a lock is let go."""
    out.print(
        f"Lock {found.id[:12]} of {escape(found.owner)} is retired; `featurestore collect` shows "
        "what only it kept."
    )
