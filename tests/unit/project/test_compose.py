"""The compose file: valid, and set up so that no acknowledged row is lost.

`compose_spec.json` beside this file is the schema of the Compose Specification, taken from the
package docker-compose 1.29.2 (Apache License 2.0).
"""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

REPO = Path(__file__).parents[3]
SCHEMA = Path(__file__).with_name("compose_spec.json")


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((REPO / "docker-compose.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft201909Validator:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return jsonschema.Draft201909Validator(schema)


def test_the_compose_file_keeps_the_schema(
    compose: Any, validator: jsonschema.Draft201909Validator
) -> None:
    """The file is valid by the schema of the Compose Specification."""
    assert [error.message for error in validator.iter_errors(compose)] == []


def test_the_schema_refuses_what_compose_refuses(
    compose: Any, validator: jsonschema.Draft201909Validator
) -> None:
    """A key that Compose does not know is an error, so the check above can fail."""
    spoiled = {**compose, "services": {"server": {"imagee": "redis"}}}
    assert not validator.is_valid(spoiled)


def test_redis_keeps_what_it_acknowledged(compose: Any) -> None:
    """Redis writes an append-only file to a volume, evicts nothing and reports its health."""
    redis = compose["services"]["redis"]
    command = redis["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    volume, folder = redis["volumes"][0].split(":")
    assert volume in compose["volumes"]
    assert folder == "/data"
    assert redis["healthcheck"]["test"] == ["CMD", "redis-cli", "ping"]
    assert "ports" not in redis


def test_nothing_starts_before_redis_is_healthy(compose: Any) -> None:
    """Server and jobs wait for Redis and are told where it is."""
    for name in ("server", "jobs"):
        service = compose["services"][name]
        assert service["depends_on"] == {"redis": {"condition": "service_healthy"}}
        assert service["environment"]["FEATURESTORE_REDIS_URL"] == "redis://redis:6379/0"


def test_jobs_run_only_when_asked_for(compose: Any) -> None:
    """Materialization is a profile: `docker compose up` starts Redis and the server alone."""
    services = compose["services"]
    assert services["jobs"]["profiles"] == ["jobs"]
    assert {name for name in services if "profiles" not in services[name]} == {"redis", "server"}


def test_the_health_check_is_a_program(compose: Any) -> None:
    """The server's health check compiles."""
    kind, python, flag, program = compose["services"]["server"]["healthcheck"]["test"]
    assert (kind, python, flag) == ("CMD", "python", "-c")
    compile(program, "healthcheck", "exec")


def test_the_image_is_built_from_what_is_here(compose: Any) -> None:
    """Every file that the Dockerfile copies exists; it starts the command that we install."""
    lines = (REPO / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    assert copied
    assert [name for name in copied if not (REPO / name).exists()] == []
    assert 'ENTRYPOINT ["featurestore"]' in lines
    assert compose["services"]["server"]["build"] == "."
