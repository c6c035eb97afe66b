"""Which versions of views can answer here, and how a name, a pin or feature ids find one."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from featurestore.errors import InvalidRequest, NotFound
from featurestore.model.documents import View
from featurestore.model.names import suggest

_DIGEST = re.compile(r"[0-9a-f]{4,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """The versions that references may mean: `current` by bare name, `others` by pin only."""

    current: Mapping[str, View] = field(default_factory=dict)
    others: tuple[View, ...] = ()

    def named(self, name: str) -> View:
        """Give the view that `view` or `view@digest` means.

        Raises:
            NotFound: the view or version is not known.
            InvalidRequest: the digest is too short, or several versions begin with it.
        """
        view, at, digest = name.partition("@")
        if at:
            return self.pinned(view, digest)
        if view not in self.current:
            raise NotFound(f"features: no view is called {view!r}{suggest(view, self.current)}")
        return self.current[view]

    def pinned(self, name: str, digest: str) -> View:
        """Give the version of a view whose id begins with a digest of four or more hex digits.

        Raises:
            NotFound: the view or version is not known.
            InvalidRequest: the digest is too short, or several versions begin with it.
        """
        versions = tuple(self._versions(name))
        if not versions:
            raise NotFound(f"features: no view is called {name!r}{suggest(name, self.current)}")
        if not _DIGEST.fullmatch(digest):
            raise InvalidRequest(
                f"features: {name}@{digest} names no version; write at least 4 of its hex digits, "
                f"as in {versions[0].version}"
            )
        found = [view for view in versions if view.id.startswith(digest)]
        if not found:
            at = f"the view is at {versions[0].version}"
            raise NotFound(f"features: {name}@{digest} is not here; {at}")
        if len(found) > 1:
            raise InvalidRequest(
                f"features: {name}@{digest} may mean {' or '.join(one.version for one in found)}; "
                "write more digits"
            )
        return found[0]

    def holding(self, name: str, feature_ids: Collection[str], *, own: str = "") -> View | None:
        """Give a version of a view that has all these features, or None.

        The current version comes first, then the one of the id `own`, then any other.
        """
        wanted = set(feature_ids)
        found = [v for v in self._versions(name) if wanted <= {f.id for f in v.features}]
        current = self.current.get(name)
        return min(found, key=lambda v: (v is not current, v.id != own), default=None)

    def _versions(self, name: str) -> Iterator[View]:
        """Give each version of a view once, the current one first."""
        seen = set()
        current = self.current.get(name)
        for view in (*(() if current is None else (current,)), *self.others):
            if view.name == name and view.id not in seen:
                seen.add(view.id)
                yield view
