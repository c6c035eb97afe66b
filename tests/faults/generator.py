"""A generator of load in a process of its own: raw calls by asyncio, which cost it little.

    python tests/faults/generator.py ADDRESS REQUEST_FILE CORE DEADLINE < phases

Each line of its input is a phase: `closed CALLERS SECONDS`, or `open RATE SECONDS`. For each it
writes a line: how many calls were sent, how many were answered in time, the codes of the others,
quantiles of the times of answers, and of refusals.
"""

import asyncio
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

import grpc

METHOD = "/featurestore.v1.FeatureStore/GetOnlineFeatures"


class Phase:
    """What came of the calls of a phase."""

    def __init__(self, call, raw, deadline):
        self.call, self.raw, self.deadline = call, raw, deadline
        self.codes, self.good, self.refused = Counter(), [], []

    async def ask(self):
        """Make a call."""
        began = time.perf_counter()
        try:
            await self.call(self.raw, timeout=self.deadline)
        except grpc.RpcError as failure:
            self.codes[failure.code().name] += 1
            if failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                self.refused.append(time.perf_counter() - began)
            return
        took = time.perf_counter() - began
        if took <= self.deadline:
            self.good.append(took)
        else:
            self.codes["late"] += 1

    async def closed(self, callers, seconds):
        """Ask again and again."""
        ends = time.perf_counter() + seconds

        async def again():
            while time.perf_counter() < ends:
                await self.ask()

        await asyncio.gather(*(again() for _ in range(int(callers))))

    async def open(self, rate, seconds):
        """Ask so many times a second, whatever comes."""
        began, calls = time.perf_counter(), []
        for number in range(int(rate * seconds)):
            wait = began + number / rate - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            calls.append(asyncio.ensure_future(self.ask()))
        await asyncio.gather(*calls)

    def told(self, seconds):
        """Give what came, as JSON."""
        return json.dumps(
            {
                "sent": len(self.good) + self.codes.total(),
                "rate": len(self.good) / seconds,
                "codes": self.codes,
                "good": quantiles(self.good),
                "refused": quantiles(self.refused),
            }
        )


def quantiles(times):
    """Give the median and the 99th percentile."""
    ordered = sorted(times) or [0.0]
    return [ordered[int(len(ordered) * share)] for share in (0.5, 0.99)]


async def main(address, raw, deadline):
    """Play the phases."""
    options = [("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(address, options) as channel:
        call = channel.unary_unary(METHOD, None, None)
        for line in iter(sys.stdin.readline, ""):
            how, much, seconds = line.split()
            phase = Phase(call, raw, deadline)
            await getattr(phase, how)(float(much), float(seconds))
            sys.stdout.write(phase.told(float(seconds)) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    ADDRESS, REQUEST, CORE, DEADLINE = sys.argv[1:]
    os.sched_setaffinity(0, {int(CORE)})
    asyncio.run(main(ADDRESS, Path(REQUEST).read_bytes(), float(DEADLINE)))
