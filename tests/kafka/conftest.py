"""Everything here talks to a real broker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import missing
from tests.kafka.broker import missing_tool
from tests.kafka.registry import SchemaRegistry, missing_registry
from tests.kafka.secure_broker import SecureBroker
from tests.sharing import run_folder, share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def registry(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SchemaRegistry]:
    """A real schema registry, started for this run."""
    tool = missing_registry()
    if tool:
        missing(f"{tool}, to run a schema registry")

    def start(folder: Path) -> tuple[str, Callable[[], None]]:
        started = SchemaRegistry(folder)
        started.start()
        return started.address, started.kill

    folder = run_folder(tmp_path_factory)
    running = SchemaRegistry(folder, share(pytestconfig, folder, "registry", start))
    with running.client:
        yield running


@pytest.fixture(scope="session")
def secure_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    """A broker with access control, of this run's own; the one in KAFKA_BOOTSTRAP has others."""
    tool = missing_tool()
    if tool:
        missing(f"{tool}, to run an Apache Kafka broker with access control")
    made = SecureBroker(tmp_path_factory.mktemp("secure"))
    made.broker.start()
    yield made
    made.broker.kill()
    made.tokens.close()
