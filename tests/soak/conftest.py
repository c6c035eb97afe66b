"""What the soak test shares with the tests of the benchmarks: their way of writing figures."""

from tests.unit.benchmarks.conftest import benchmark

__all__ = ["benchmark"]
