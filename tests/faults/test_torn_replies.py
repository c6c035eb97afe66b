"""Replies cut at random bytes under a thousand reads at once: no value is another key's."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from featurestore import AsyncFeatureClient
from featurestore.errors import FeatureStoreError, Unavailable
from tests.faults.broken import Proxy, proxied
from tests.faults.serving import KEYS, Serving, load, serving
from tests.servers import Server

PROJECT = "torn"
AT_ONCE = 1_000


@pytest.fixture(scope="module")
def behind(server: Server) -> Iterator[tuple[Proxy, Serving]]:
    """Serve from a Redis behind a proxy, with many threads, and let a thousand calls in."""
    load(server.url, PROJECT)
    with proxied(server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        many = ("--threads", "16", "--max-calls", "2000")
        with serving(url, PROJECT, *many) as process:
            yield proxy, process


async def all_asked(client: AsyncFeatureClient) -> Counter[str]:
    """Ask for some keys each, all at once; give how many were answered, wrong, and failed."""

    async def asked(start: int) -> str:
        keys = [(start + more) % KEYS for more in (0, 1, 500)]
        try:
            found = await client.get_online_features(["view:a", "view:b"], entities={"key": keys})
        except FeatureStoreError as error:
            return "failed" if type(error) is Unavailable else repr(error)
        values = found.to_dict()
        right = values["a"] == [key / 4 for key in keys]
        return "right" if right and values["b"] == [f"row of {key}" for key in keys] else "wrong"

    return Counter(await asyncio.gather(*(asked(number) for number in range(AT_ONCE))))


@pytest.mark.parametrize("how", ["torn", "cut"])
def test_no_value_comes_under_another_key(behind: tuple[Proxy, Serving], how: str) -> None:
    """Each of a thousand reads gets its own values or an error, and then all are answered."""
    proxy, process = behind

    async def scene() -> tuple[Counter[str], Counter[str]]:
        async with AsyncFeatureClient(process.address, timeout=20) as client:
            await client.get_online_features(["view:a"], entities={"key": [1]})
            proxy.how = how
            during = await all_asked(client)
            proxy.how = "well"
            return during, await all_asked(client)

    during, after = asyncio.run(scene())
    assert during["failed"] + during["right"] == AT_ONCE, during
    assert during["failed"]
    assert during["right"] or how == "cut"
    assert after == {"right": AT_ONCE}
