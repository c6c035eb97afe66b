"""A real S3 server for tests, moto's, in a process of its own on a free port."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket
from uuid import uuid4

import pytest
from pyarrow import fs

from tests.servers import free_port, wait_until

SECRET = "canary-7f3a/secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A new bucket, and a client of another library than the ones the store reads with."""

    client: fs.S3FileSystem
    name: str = field(default_factory=lambda: f"b{uuid4().hex[:12]}")

    @property
    def url(self) -> str:
        """The bucket's URL."""
        return f"s3://{self.name}"

    def listed(self, below: str = "") -> list[str]:
        """Give the keys below a prefix, sorted."""
        found = self.client.get_file_info(fs.FileSelector(f"{self.name}/{below}", recursive=True))
        return sorted(one.path.partition("/")[2] for one in found if one.is_file)

    def read(self, key: str) -> bytes:
        """Give an object's bytes."""
        with self.client.open_input_file(f"{self.name}/{key}") as file:
            return bytes(file.read())

    def write(self, key: str, data: bytes) -> None:
        """Write an object."""
        with self.client.open_output_stream(f"{self.name}/{key}") as file:
            file.write(data)

    def upload(self, folder: Path, below: str) -> None:
        """Write a local file, or a folder's files, below a prefix."""
        for file in [folder] if folder.is_file() else folder.rglob("*"):
            if file.is_file():
                key = f"{below}/{file.relative_to(folder)}" if folder.is_dir() else below
                self.write(key, file.read_bytes())


@contextmanager
def running_s3() -> Iterator[str]:
    """Run the server for the length of a block; gives its endpoint."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait_until(lambda: process.poll() is not None or _answers(port), seconds=60)
            assert process.poll() is None, "another process took its port"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def _answers(port: int) -> bool:
    with socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def new_bucket(endpoint: str, patch: pytest.MonkeyPatch) -> Bucket:
    """Make a bucket, and an environment that says where it is and who asks."""
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "canary-7f3a",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "eu-central-1",
    }.items():
        patch.setenv(name, value)
    made = Bucket(
        client=fs.S3FileSystem(
            access_key="x",
            secret_key="y",
            region="eu-central-1",
            endpoint_override=endpoint,
            allow_bucket_creation=True,
        )
    )
    made.client.create_dir(made.name)
    return made
