"""What tests share: things that may be missing here, and saying so loudly."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import settings

from tests.kafka.broker import Broker, missing_tool
from tests.kafka.builders import TopicSet

if TYPE_CHECKING:
    from collections.abc import Iterator

# Repeatable, so that a change is judged by what it changes; HYPOTHESIS_PROFILE=explore searches on.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

ROOT = Path(__file__).resolve().parents[1]
MISSING = pytest.StashKey[set[str]]()


def missing(config: pytest.Config, what: str) -> NoReturn:
    """Skip, and say so at the end of the run; fail where everything is required."""
    if os.environ.get("TEST_REQUIRE_ALL") == "1":
        pytest.fail(f"missing here, and TEST_REQUIRE_ALL is set: {what}", pytrace=False)
    config.stash.setdefault(MISSING, set()).add(what)
    pytest.skip(what)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    absent = config.stash.get(MISSING, set())
    if absent:
        skipped = len(terminalreporter.stats.get("skipped", []))
        terminalreporter.section(f"NOT TESTED HERE: {skipped} tests were skipped", red=True)
        for what in sorted(absent):
            terminalreporter.line(f"missing: {what}", red=True)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for name in [name for name in os.environ if name.upper().startswith("STEPSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(scope="session")
def recordings(pytestconfig: pytest.Config) -> Path:
    """Folder of the real recordings."""
    folder = Path(os.environ.get("TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "simul-hand").is_dir():
        missing(pytestconfig, "recordings (set TEST_DATA to their folder)")
    return folder


@pytest.fixture(scope="session")
def bootstrap(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Address of a real broker: the one in KAFKA_BOOTSTRAP, else one started for this run."""
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        yield given
        return
    tool = missing_tool()
    if tool:
        missing(pytestconfig, f"{tool}, to run an Apache Kafka broker")
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker.bootstrap
    broker.kill()


@pytest.fixture
def topics(bootstrap: str) -> TopicSet:
    """Topics and a group of this test's own, four partitions each."""
    return TopicSet.create(bootstrap)
