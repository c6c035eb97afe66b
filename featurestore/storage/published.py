"""Releases and aliases in Redis, under `fs1/<project>/…`: what servers know a project by."""

from collections.abc import Sequence
from dataclasses import dataclass

from featurestore.errors import Conflict, CorruptData
from featurestore.storage.keys import check_alias
from featurestore.storage.server import Server, script

_DIGITS = 18
"""Of a release's number: more is none of ours, and Python would not read thousands of them."""

_SWAP = script("swap.lua")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published(Server):
    """One project's releases and aliases in one Redis."""

    def put_release(self, number: int, text: str, *, instead: bytes | None = None) -> None:
        """Keep a copy of a release's document; writing it again is nothing.

        `instead` is the damaged copy that it may replace.

        Raises:
            Conflict: another document has this number.
        """
        key, document = self.key("release", str(number)), text.encode()
        if self.run(_SWAP, iter([([key], [instead or b"", document])])):
            return
        if self.release_copy(number) != document:
            raise Conflict(
                f"{self.project}.release.{number}: another document has this number; "
                "releases are written once, take the next number"
            )

    def release(self, number: int) -> str | None:
        """Give a release's document, or None if Redis has no copy; `CorruptData` if no text."""
        stored = self.release_copy(number)
        try:
            return None if stored is None else str(stored, "utf-8")
        except UnicodeDecodeError as error:
            raise CorruptData(
                f"{self.project}.release.{number}: not a release's document; run "
                "`featurestore rebuild-online`"
            ) from error

    def release_copy(self, number: int) -> bytes | None:
        """Give what stands under a release's number, document or not; None for nothing."""
        return self._get(self.key("release", str(number)))

    def drop_releases(self, numbers: Sequence[int]) -> int:
        """Remove the copies of releases that nobody names; give how many went."""
        return self.total("UNLINK", [self.key("release", str(number)) for number in numbers])

    def alias(self, name: str) -> int | None:
        """Give the number of the release that an alias names, or None.

        Raises:
            InvalidRequest: the name has other characters than an alias may.
            CorruptData: what is stored is not a number.
        """
        stored = self.alias_copy(name)
        if stored is None:
            return None
        if not stored.isdigit() or len(stored) > _DIGITS:
            raise CorruptData(
                f"{self.project}.alias.{name}: not a release number; run "
                "`featurestore rebuild-online`"
            )
        return int(stored)

    def alias_copy(self, name: str) -> bytes | None:
        """Give what stands under an alias's name, number or not; None for nothing.

        Raises:
            InvalidRequest: the name has other characters than an alias may.
        """
        return self._get(self._alias(name))

    def move_alias(self, name: str, expected: int | bytes | None, to: int) -> bool:
        """Move an alias if it names the expected release (None: none yet); say whether it moved.

        Bytes are expected as they stand there: damage is replaced.

        Raises:
            InvalidRequest: the name has other characters than an alias may.
        """
        before = str(expected) if isinstance(expected, int) else expected or b""
        return self.run(_SWAP, iter([([self._alias(name)], [before, str(to)])])) == 1

    def _get(self, key: bytes) -> bytes | None:
        stored: bytes | None = self.call("GET", key)
        return stored

    def _alias(self, name: str) -> bytes:
        return self.key("alias", check_alias(name))
