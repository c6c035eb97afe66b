"""Certificates for tests: an authority that openssl makes, and what it signs."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from shutil import which

OPENSSL = which("openssl")
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A certificate and its key, as files of PEM."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Whoever signs; its certificate is `root`."""

    folder: Path
    root: Signed

    def sign(self, name: str, *, alternative: str = "IP:127.0.0.1") -> Signed:
        """Give a certificate for a common name, with an alternative one."""
        made = _files(self.folder, name.replace(".", "-"))
        _run(
            *("req", "-x509", *_KEY, "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName={alternative}"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-CA", self.root.cert, "-CAkey", self.root.key),
            *("-out", made.cert, "-keyout", made.key),
        )
        return made


def authority(folder: Path, name: str = "test-authority") -> Authority:
    """Make an authority in a folder."""
    root = _files(folder, name)
    _run(
        *("req", "-x509", *_KEY, "-days", "2", "-subj", f"/CN={name}"),
        *("-out", root.cert, "-keyout", root.key),
    )
    return Authority(folder=folder, root=root)


def _files(folder: Path, name: str) -> Signed:
    return Signed(cert=folder / f"{name}.pem", key=folder / f"{name}.key")


def _run(*arguments: object) -> None:
    subprocess.run([str(OPENSSL), *map(str, arguments)], check=True, capture_output=True)
