"""Shared parts of the tests, and a list of what is missing on this machine."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from tests.kafka.broker import Broker, missing_tool
from tests.kafka.builders import TopicSet
from tests.sharing import run_folder, share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from xdist.remote import Producer

# Repeatable, so that only a change of the code changes a result; HYPOTHESIS_PROFILE=explore
# searches for new examples.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=60)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

ROOT = Path(__file__).resolve().parents[1]
MISSING = "missing here: "
WITH_SECURE_BROKER = (
    "tests/kafka/test_security.py",
    "tests/kafka/test_oauth.py",
    "tests/kafka/test_rotation.py",
    "tests/kafka/test_rights_of_commands.py",
)
LONGEST = (
    *WITH_SECURE_BROKER,
    "tests/web/test_page_states.py",
    "tests/faults/test_faults.py",
    "tests/kafka/test_workers.py",
    "tests/kafka/test_patterns.py",
    "tests/web/test_page.py",
    "tests/kafka/test_starts.py",
    "tests/kafka/test_leaving.py",
    "tests/kafka/test_ready_made.py",
    "tests/kafka/test_backfill.py",
    "tests/simulated/test_schedules.py",
    "tests/training/test_training.py",
    "tests/kafka/test_forms.py",
    "tests/benchmarks/test_availability.py",
    "tests/helm/test_control_plane.py",
    "tests/fuzzing/test_fuzzing.py",
)
"""Files that take longest, the longest first: none of them is left when the others are done."""


def missing(what: str) -> NoReturn:
    """Skip, and list it at the end of the run; fail if everything is required."""
    if os.environ.get("TEST_REQUIRE_ALL") == "1":
        pytest.fail(f"{MISSING}{what}, and TEST_REQUIRE_ALL is set", pytrace=False)
    pytest.skip(f"{MISSING}{what}")


class _ByServer(LoadFileScheduling):  # type: ignore[misc]  # it comes without types
    """Gives a process a file at a time, or all files that share a server within a process."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "secure broker" if file in WITH_SECURE_BROKER else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    return _ByServer(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {ROOT / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(LONGEST)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    absent = {
        report.longrepr[2].partition(MISSING)[2]
        for report in skipped
        if isinstance(report.longrepr, tuple) and MISSING in report.longrepr[2]
    }
    if absent:
        terminalreporter.section(f"NOT TESTED HERE: {len(skipped)} tests were skipped", red=True)
        for what in sorted(absent):
            terminalreporter.line(f"missing: {what}", red=True)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for name in [name for name in os.environ if name.upper().startswith("STEPSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Undo what a command does to logging when a test runs it in this process."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Folder of the real recordings."""
    folder = Path(os.environ.get("TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "simul-hand").is_dir():
        missing("recordings (set TEST_DATA to their folder)")
    return folder


@pytest.fixture(scope="session")
def bootstrap(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a real broker: KAFKA_BOOTSTRAP, or a broker that is started for this run."""
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        return given
    tool = missing_tool()
    if tool:
        missing(f"{tool}, to run an Apache Kafka broker")

    def start(folder: Path) -> tuple[str, Callable[[], None]]:
        broker = Broker(folder)
        broker.start()
        return broker.bootstrap, broker.kill

    return share(pytestconfig, run_folder(tmp_path_factory), "broker", start)


@pytest.fixture
def topics(bootstrap: str) -> TopicSet:
    """Topics and a group of this test's own, four partitions each."""
    return TopicSet.create(bootstrap)
