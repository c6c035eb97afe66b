"""Fixtures and settings that all tests share."""

from hypothesis import HealthCheck, settings

# A shared machine is slow at random: how long an example takes is no law here.
settings.register_profile("laws", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("laws")
