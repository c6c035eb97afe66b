"""What a training set reads, said before it is read."""

from dataclasses import dataclass

from featurestore.model.query import Query
from featurestore.model.words import count, size
from featurestore.training.assemble import Read


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What is read of one view: rows and bytes of the files of its table that can hold an answer.

    `aliases` are its uses, `features` how many are asked for. `pruned` files hold only rows that no
    entity row can need; `data` names the table and its version.
    """

    version: str
    aliases: tuple[str, ...]
    features: int
    data: str
    buckets: int
    rows: int
    files: int
    bytes: int
    pruned: int
    pruned_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Explanation:
    """What a training set of so many entity rows reads, view by view, and what it computes."""

    entity_rows: int
    views: tuple[Explained, ...]
    computed: tuple[str, ...]
    executor: str

    def __repr__(self) -> str:
        lines = [f"{self.entity_rows:,} entity rows, by {self.executor}"]
        for one in self.views:
            used = ", ".join(one.aliases)
            read, left = _files(one.files, one.bytes), _files(one.pruned, one.pruned_bytes)
            lines += [
                f"{one.version}  ({one.features} features as {used})",
                f"  {one.data}: {one.rows:,} rows in {count(one.buckets, 'bucket')}",
                f"  reads {read}, prunes {left}",
            ]
        lines += [f"{version}  computed of the columns above" for version in self.computed]
        return "\n".join(lines)


def explained(rows: int, query: Query, reads: tuple[Read, ...], executor: str) -> Explanation:
    """Say what is read, from the tables' logs: no row is."""
    return Explanation(
        entity_rows=rows,
        views=tuple(_view(read) for read in reads),
        computed=tuple(dict.fromkeys(one.view.version for one in query.computes)),
        executor=executor,
    )


def _view(read: Read) -> Explained:
    uses = [lookup for _, lookup in read.lookups]
    parts = read.parts
    return Explained(
        version=read.view.version,
        aliases=tuple(use.alias for use in uses),
        features=len({feature.id for use in uses for feature in use.features}),
        data=parts.name,
        buckets=parts.buckets,
        rows=sum(part.rows for part in parts.parts),
        files=parts.files,
        bytes=parts.bytes,
        pruned=parts.pruned,
        pruned_bytes=parts.pruned_bytes,
    )


def _files(number: int, held: int) -> str:
    return f"{count(number, 'file')} ({size(held)})"
