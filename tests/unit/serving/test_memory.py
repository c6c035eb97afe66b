"""Unit tests of what a serving process asks of its C library."""

import platform
import subprocess
import sys


def test_glibc_keeps_what_is_freed() -> None:
    """Every setting is taken, in a process of its own; another library is left alone."""
    asked = "from featurestore.serving.process.memory import keep_freed; print(keep_freed())"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(platform.libc_ver()[0] == "glibc")
