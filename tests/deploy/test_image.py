"""The image, really built and run on a real broker; ``make image-test`` runs these."""

from __future__ import annotations

import os
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from stepstream import __version__
from stepstream.settings import ProcessingSettings
from tests.conftest import missing
from tests.deploy import containers
from tests.deploy.containers import Container
from tests.kafka.broker import free_port
from tests.kafka.builders import TopicSet, fetch, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

MAX_BYTES = 350e6
PROBE = """
import os, shutil
from importlib.util import find_spec
modules = ["keras", "matplotlib", "pip", "pytest", "setuptools", "tensorflow"]
programs = ["c++", "cc", "curl", "gcc", "make", "pip"]
places = ["/", "/opt/stepstream", "/tmp", "/work"]
print(
    os.getuid(),
    [name for name in modules if find_spec(name)],
    [name for name in programs if shutil.which(name)],
    [place for place in places if os.access(place, os.W_OK)],
)
"""


@pytest.fixture(scope="module", autouse=True)
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image, on the base that PYTHON_IMAGE names, or on one that is made here."""
    tool = containers.missing_tool()
    if tool:
        missing(f"{tool}, to build and run the image")
    folder = tmp_path_factory.mktemp("image")
    return containers.build(folder, os.environ.get("PYTHON_IMAGE") or containers.make_base(folder))


def test_image_says_what_it_is_and_stays_small(image: str) -> None:
    described = containers.inspect(image)
    print(f"{described['Size'] / 1e6:.0f} MB unpacked, {described['Architecture']}")  # noqa: T201
    assert described["Size"] < MAX_BYTES
    assert described["User"] == "10001:10001"
    assert described["Config"]["Entrypoint"] == ["stepstream"]
    labels = described["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.revision"] == "test"
    assert containers.run("--version").stdout == f"stepstream {__version__}, decoder: native\n"


def test_nothing_is_in_it_that_only_builds_and_trains_and_nothing_can_be_written() -> None:
    done = containers.run("-c", PROBE, options=("--entrypoint", "python3"))
    assert done.stdout == "10001 [] [] []\n", done.stderr


def test_demo_runs_confined() -> None:
    done = containers.run("demo", "--seconds", "8")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "steps detected" in done.stdout


@pytest.fixture
def consumer(bootstrap: str) -> Iterator[tuple[Container, TopicSet, int]]:
    """A consumer in a container, on topics that the image made and filled itself; its port."""
    topics = TopicSet.named(bootstrap)
    port = free_port()
    environment = {**topics.environment(), "STEPSTREAM_HTTP__PORT": str(port)}
    variables = tuple(f"--env={name}={value}" for name, value in environment.items())
    for command in (["topics"], ["simulate", "--devices=4", "--seconds=12", "--speed=0"]):
        done = containers.run(*command, options=variables)
        assert done.returncode == 0, done.stdout + done.stderr
    container = Container.start(topics.group, environment)
    try:
        yield container, topics, port
    finally:
        container.remove()


def test_consumer_is_healthy_publishes_steps_and_ends_in_good_order(
    consumer: tuple[Container, TopicSet, int],
) -> None:
    container, topics, port = consumer
    wait_until("a healthy container", container.is_healthy)
    wait_until("a ready consumer", lambda: fetch(port, "/readyz")[0] == HTTPStatus.OK)
    assert fetch(port, "/performance")[0] == fetch(port, "/metrics")[0] == HTTPStatus.OK
    topics.wait_consumed()
    assert container.stop(int(ProcessingSettings().shutdown_timeout_s)) == 0, container.log()
    assert container.log().rstrip().endswith("stopped")
    assert len(topics.read_events()) > 10
    assert not container.is_healthy()
