"""What runs the collector in containers and under systemd fits the settings, the commands and itself.

That it runs is not seen here: it needs Docker and a systemd.
"""

import configparser
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec.yaml
import pytest

from brain_collector.cli.main import COMMANDS
from brain_collector.settings import ENV_PREFIX, Settings, load

ROOT = Path(__file__).parents[2]
COMPOSE = msgspec.yaml.decode((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
COLLECTORS = [name for name in SERVICES if name.startswith("collector-")]
DEPLOY = (ROOT / "deploy/deploy.sh").read_text()
UNIT_FILE = ROOT / "deploy/brain-events.service"
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
SETTING_NAMES = ["Dockerfile", "compose.yaml", "deploy/brain-events.service", "README.md", *PAGES]
STOP_S = 5
"""Maximum time of a stop in seconds, beside `shutdown_delay_s` and `drain_s`."""
ENGINES_STOP_S = 15


def unit() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.read_string(UNIT_FILE.read_text())
    return parser["Service"]


def settings_of(service: str) -> Settings:
    """Return the settings that compose gives to a service, with `ab12` for each variable that it asks for."""
    environment = {name: re.sub(r"\$\{.*?\}", "ab12", text) for name, text in SERVICES[service]["environment"].items()}
    return load(environment)


@pytest.mark.parametrize("name", SETTING_NAMES)
def test_what_is_set_is_a_setting(name: str) -> None:
    named = set(re.findall(rf"\b{ENV_PREFIX}([A-Z_]+)", (ROOT / name).read_text()))

    assert {variable.lower() for variable in named} <= set(Settings.__struct_fields__)


def test_every_command_that_is_run_is_there() -> None:
    (started,) = re.findall(r'^CMD \["(\S+)"\]$', (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    (migrates,) = SERVICES["migrate"]["command"]
    served = unit()["ExecStart"].split()[1]

    assert {started, migrates, served} <= set(COMMANDS)


def test_compose_gives_every_collector_what_its_engines_listen_on() -> None:
    found = {service: settings_of(service) for service in ["migrate", *COLLECTORS]}
    (urls,) = {(settings.database_url, settings.redis_url) for settings in found.values()}
    database, redis = (urlsplit(url or "") for url in urls)
    engine = SERVICES[database.hostname or ""]["environment"]

    assert (database.username, database.path) == (engine["POSTGRES_USER"], f"/{engine['POSTGRES_DB']}")
    assert "healthcheck" in SERVICES[redis.hostname or ""]


def test_compose_builds_the_one_image_once() -> None:
    """Each service that builds makes an image of its own, and what the name stands for is the last of them."""
    assert [name for name, service in SERVICES.items() if "build" in service] == ["migrate"]
    assert {SERVICES[name]["image"] for name in ["migrate", *COLLECTORS]} == {"brain-events"}


def test_the_data_of_compose_does_not_hang_on_its_directory() -> None:
    assert COMPOSE["name"] == "brain-events"
    assert [volume.partition(":")[0] for volume in SERVICES["postgres"]["volumes"]] == list(COMPOSE["volumes"])


@pytest.mark.parametrize("name", SERVICES)
def test_each_container_has_a_memory_limit_and_no_privilege(name: str) -> None:
    service = SERVICES[name]

    assert re.fullmatch(r"\d+[gm]", service["mem_limit"])
    assert service["pids_limit"] > 0
    assert (service["cap_drop"], service.get("cap_add")) == (["ALL"], None)
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True


def test_the_memory_limits_leave_room_for_what_the_engines_are_told_to_use() -> None:
    command = SERVICES["valkey"]["command"]
    max_memory = int(command[command.index("--maxmemory") + 1].removesuffix("mb"))

    assert int(SERVICES["valkey"]["mem_limit"].removesuffix("m")) >= 2 * max_memory
    for name in COLLECTORS:
        assert int(SERVICES[name]["mem_limit"].removesuffix("g")) * 2**30 >= 4 * settings_of(name).max_pending_bytes


def test_no_container_of_a_server_runs_as_root() -> None:
    """The image of the collector has its own user; those of the engines begin as root unless they are told not to."""
    assert re.search(r"^USER brain-events$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {name: service["user"] for name, service in SERVICES.items() if "user" in service} == {
        "postgres": "postgres",
        "valkey": "valkey",
    }


def test_the_service_has_a_memory_limit_and_no_capability() -> None:
    service = unit()

    assert (service["MemoryMax"], service["OOMPolicy"]) == ("75%", "continue")
    assert int(service["TasksMax"]) > 0
    assert (service["NoNewPrivileges"], service["CapabilityBoundingSet"]) == ("yes", "")


def test_what_stops_a_collector_waits_for_its_drain() -> None:
    own = Settings()

    for name in COLLECTORS:
        settings = settings_of(name)
        grace_s = float(SERVICES[name]["stop_grace_period"].removesuffix("s"))
        assert grace_s > settings.shutdown_delay_s + settings.drain_s + STOP_S
    assert float(unit()["TimeoutStopSec"]) > own.shutdown_delay_s + own.drain_s + STOP_S + ENGINES_STOP_S


def test_the_service_runs_as_a_user_whom_initdb_finds() -> None:
    """A dynamic user has a name only where libnss-systemd is installed; without one, initdb makes no cluster."""
    service = unit()

    assert "DynamicUser" not in service
    assert re.search(rf"^#   useradd .* {service['User']}$", UNIT_FILE.read_text(), re.MULTILINE)


def test_the_examples_of_the_deploy_script_name_what_is_shipped() -> None:
    assert f"systemctl restart {UNIT_FILE.stem}'" in DEPLOY
    assert [f"collector-{n}" for n in (1, 2)] == COLLECTORS
    assert "--no-deps collector-{n}'" in DEPLOY
