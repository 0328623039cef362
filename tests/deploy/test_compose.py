"""docker-compose.yml and the Dockerfile fit the product and the files that they mount."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import CliSettingsSource

from stepstream.cli import COMMANDS
from stepstream.commands.serving import FAREWELL_S, STOP_TIMEOUT_S
from stepstream.environment import check_environment
from stepstream.settings import (
    HttpSettings,
    ProcessingSettings,
    TopicSettings,
)
from tests.conftest import ROOT, missing
from tests.kafka.broker import JAVA_OPTIONS, missing_tool
from tests.kafka.jars import broker_jars

COMPOSE = ROOT / "docker-compose.yml"
GRAFANA = ROOT / "deploy" / "grafana"
SERVICES: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
OURS = {name for name, service in SERVICES.items() if service["image"] == "stepstream"}
PORT = HttpSettings().port


def instructions(name: str) -> list[str]:
    """What follows an instruction in the Dockerfile's last stage."""
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    begin = max(n for n, line in enumerate(lines) if line.startswith("FROM "))
    return [line.split(maxsplit=1)[1] for line in lines[begin:] if line.startswith(f"{name} ")]


def seconds(duration: str) -> int:
    assert duration.endswith("s")
    return int(duration[:-1])


def target(mount: str) -> str:
    return mount.split(":")[1]


def test_the_compose_file_is_one() -> None:
    check = ["check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(
        [sys.executable, "-m", *check], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile_is_clean() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, ROOT / "Dockerfile"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(OURS))
def test_commands_and_variables_are_those_of_the_product(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, *options = SERVICES[name]["command"]
    for variable, value in SERVICES[name]["environment"].items():
        monkeypatch.setenv(variable, str(value))
    check_environment()
    class_name, _ = COMMANDS[command]
    module = importlib.import_module(f"stepstream.commands.{command.replace('-', '_')}")
    kind = getattr(module, class_name)
    settings = kind(_cli_settings_source=CliSettingsSource[Any](kind, cli_parse_args=options))
    if command == "serve":
        assert "STEPSTREAM_KAFKA__BOOTSTRAP_SERVERS" not in SERVICES[name]["environment"]
        return
    host, port = settings.kafka.bootstrap_servers.split(":")
    listeners = SERVICES[host]["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert f"PLAINTEXT://{host}:{port}" in listeners


def test_what_serves_without_kafka_starts_only_if_asked_for() -> None:
    assert SERVICES["serve"]["profiles"] == ["serve"]
    assert {name for name, service in SERVICES.items() if "profiles" in service} == {"serve"}
    assert SERVICES["serve"]["ports"] == [f"127.0.0.1:8090:{PORT}"]


def test_consumers_can_be_scaled() -> None:
    consumer = SERVICES["consumer"]
    assert consumer["deploy"]["replicas"] == 2
    assert not consumer.keys() & {"container_name", "hostname", "network_mode"}
    assert "STEPSTREAM_KAFKA__TRANSACTIONAL_ID" not in consumer["environment"]
    first, last = map(int, consumer["ports"][0].split(":")[1].split("-"))
    assert last - first + 1 >= TopicSettings().partitions
    assert consumer["ports"][0].split(":")[2] == str(PORT)


def test_the_last_commit_and_the_last_answer_get_their_time() -> None:
    grace_s = seconds(SERVICES["consumer"]["stop_grace_period"])
    assert grace_s > ProcessingSettings().shutdown_timeout_s
    assert seconds(SERVICES["serve"]["stop_grace_period"]) > FAREWELL_S + STOP_TIMEOUT_S


def test_only_what_serves_has_the_health_check_of_the_image() -> None:
    assert instructions("EXPOSE") == [str(PORT)]
    without = {name for name in OURS if SERVICES[name].get("healthcheck") == {"disable": True}}
    assert OURS - without == {"consumer", "serve"}
    assert all("healthcheck" in service for name, service in SERVICES.items() if name not in OURS)


def test_services_start_after_what_they_need() -> None:
    for name, service in SERVICES.items():
        for other, needed in service.get("depends_on", {}).items():
            if needed["condition"] == "service_completed_successfully":
                assert SERVICES[other]["command"] == ["topics"], name
            else:
                assert needed["condition"] == "service_healthy"
                assert SERVICES[other]["healthcheck"]["test"], name
    assert "kafka" in SERVICES["topics"]["depends_on"]


def test_mounts_exist_and_hold_what_is_looked_for_there() -> None:
    mounted = {
        target(mount): ROOT / mount.split(":")[0]
        for service in SERVICES.values()
        for mount in service.get("volumes", [])
        if mount.startswith("./")
    }
    volumes = {
        mount.split(":")[0]
        for service in SERVICES.values()
        for mount in service.get("volumes", [])
        if not mount.startswith("./")
    }
    assert volumes == yaml.safe_load(COMPOSE.read_text())["volumes"].keys()
    assert (mounted["/etc/prometheus"] / "prometheus.yml").is_file()
    provisioning = mounted["/etc/grafana/provisioning"]
    provider = yaml.safe_load((provisioning / "dashboards" / "stepstream.yml").read_text())
    dashboards = provider["providers"][0]["options"]["path"]
    front = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(front.parent) == dashboards
    assert (mounted[dashboards] / front.name).is_file()
    assert {path.name for path in provisioning.iterdir()} == {"dashboards", "datasources"}


def test_prometheus_finds_every_consumer_and_grafana_finds_prometheus() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    assert jobs["stepstream"]["dns_sd_configs"][0]["names"] == ["consumer"]
    assert jobs["stepstream"]["dns_sd_configs"][0]["port"] == PORT
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())
    source = source["datasources"][0]
    inside = SERVICES["prometheus"]["ports"][0].split(":")[-1]
    assert source["url"] == f"http://prometheus:{inside}"
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]


def test_the_broker_starts_with_these_variables(tmp_path: Path) -> None:
    tool = missing_tool()
    if tool:
        missing(f"{tool}, to run an Apache Kafka broker")
    # As the official image converts them to server.properties.
    variables = SERVICES["kafka"]["environment"].items()
    lines = [
        f"{name.removeprefix('KAFKA_').lower().replace('_', '.')}={value}"
        for name, value in variables
    ]
    data = SERVICES["kafka"]["environment"]["KAFKA_LOG_DIRS"]
    assert data in [target(mount) for mount in SERVICES["kafka"]["volumes"]]
    properties = tmp_path / "server.properties"
    properties.write_text("\n".join(lines).replace(data, str(tmp_path / "data")))
    done = subprocess.run(
        ["java", *JAVA_OPTIONS, "-cp", f"{broker_jars()}/*", "kafka.tools.StorageTool", "format",
         "--cluster-id", "c3RlcHN0cmVhbS10ZXN0", "--config", str(properties)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "data" / "meta.properties").is_file()


def test_the_image_is_made_of_files_that_reach_it() -> None:
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    assert all((ROOT / name).exists() for name in kept)
    copied = {copy.split()[0] for copy in instructions("COPY") if not copy.startswith("--from")}
    assert copied
    for name in copied:
        assert (ROOT / name).is_file()
        assert any(Path(name).is_relative_to(folder) for folder in kept), name
