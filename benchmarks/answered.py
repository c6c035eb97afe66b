"""What servers answer, asked once and compared before anything is timed."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import redis
from columns import END, names
from dataset import same_bits
from peers import Peer
from process import run_case
from report import Unequal
from servers import Running, ask, post
from works import WITH, Kind, Work, on_demand

from featurestore.proto.v1 import feature_store_pb2 as pb
from featurestore.serving.client.asking import request_message
from featurestore.serving.client.response import read_response


def wanted(work: Work, folder: Path) -> pl.DataFrame:
    """Give what a work's answer must be, from the source file."""
    rows = work.kind.newest(folder).head(work.entities)
    values = rows.select(names(work.kind.features))
    return values.with_columns(**on_demand()) if work.service == WITH else values


def ours_answered(peer: Peer, server: Running, works: Sequence[Work], folder: Path) -> list[str]:
    """Ask our server for each work, keep the replies, and compare them with the source.

    Requests carry `as_of`, so that a reply has the same bytes every time.

    Raises:
        Unequal: a served value is not the source's.
    """
    checks = []
    for work in works:
        pair, key = peer.pair(work), work.kind.key
        rows = work.kind.newest(folder).head(work.entities).select(key)
        message, brought = request_message(work.service, entities=rows, as_of=END)
        pair.request.write_bytes(message.SerializeToString())
        reply = ask(server.address, pair)
        pair.reply.write_bytes(reply)
        truth, what = wanted(work, folder), f"{peer.name}: {_told(work)}"
        same_bits(read_response(reply, brought).to_polars().select(truth.columns), truth, what)
        if pb.STATUS_NOT_FOUND in pb.GetOnlineFeaturesResponse.FromString(reply).statuses:
            raise Unequal(f"{what}: an entity was not found")
        checks.append(f"{what}: all served values are the source's newest, bit for bit")
    return checks


def bare_answered(peer: Peer, server: Running, works: Sequence[Work]) -> list[str]:
    """Ask the bare handler for each work.

    Raises:
        Unequal: its replies have other bytes than ours.
    """
    for work in works:
        if ask(server.address, peer.pair(work)) != peer.pair(work).reply.read_bytes():
            raise Unequal(f"{peer.name}: {_told(work)}: not the bytes of our reply")
    return [f"{peer.name}: all {len(works)} replies have the bytes of ours"]


def feast_answered(peer: Peer, server: Running, works: Sequence[Work], folder: Path) -> list[str]:
    """Ask one of Feast's servers for each work, keep the replies, and compare what they say.

    Raises:
        Unequal: a served value is not the source's.
    """
    once = ask if peer.form == "grpc" else post
    for work in works:
        pair = peer.pair(work)
        pair.reply.write_bytes(once(server.address, pair, peer.path))
    kept = {work: peer.pair(work).reply.with_suffix(".parquet") for work in works}
    told = [
        {"reply": peer.pair(work).reply, "form": peer.form, "keep": file}
        for work, file in kept.items()
    ]
    run_case("feast_serving.py", "read", replies=told)
    for work, file in kept.items():
        truth = wanted(work, folder)
        found = pl.read_parquet(file).select(truth.columns).cast(truth.schema)
        same_bits(found, truth, f"{peer.name}: {_told(work)}")
    return [f"{peer.name}: values of all {len(works)} works are the source's, by bits once parsed"]


def feast_held(url: str, kind: Kind) -> list[int]:
    """Give the bytes of memory that each entity of a kind takes in Feast's layout, its key's too.

    An entity is one hash, whose name contains the join key's.
    """
    with redis.Redis.from_url(url, protocol=2, socket_timeout=60.0) as client:
        keys = list(client.scan_iter(f"*{kind.key}*", count=10_000))
        with client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.memory_usage(key, samples=0)
            return list(pipeline.execute())


def _told(work: Work) -> str:
    return f"{work.label}, on-demand beside" if work.service == WITH else work.label
