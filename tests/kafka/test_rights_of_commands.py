"""The rights that docs/security.md lists for commands beside `run`, `topics` and `tail`."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.kafka.builders import RunProcess, TopicSet
from tests.kafka.test_run import walk
from tests.kafka.test_security import RUN_RIGHTS, as_admin, call, named

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kafka.secure_broker import Right, SecureBroker


@pytest.fixture
def consumed(secure_broker: SecureBroker, tmp_path: Path) -> TopicSet:
    """Topics whose readings a consumer has read; it has ended."""
    topics = TopicSet.create(secure_broker.sasl, 1, as_admin(secure_broker))
    with consumer(secure_broker, topics, tmp_path) as run:
        topics.produce(walk(1, 5.0, batch=20))
        topics.wait_consumed()
        assert run.terminate() == 0
    return topics


def consumer(broker: SecureBroker, topics: TopicSet, folder: Path) -> RunProcess:
    user = f"consumes-{topics.group}"
    broker.grant(user, named(RUN_RIGHTS, topics))
    return RunProcess(topics, folder, **broker.sasl_environment("OAUTHBEARER", user))


def succeeds(
    broker: SecureBroker, topics: TopicSet, folder: Path, rights: set[Right], *command: str
) -> str:
    """Call a command as a user with these rights and no others; what it writes."""
    user = f"{command[0]}-{topics.group}"
    broker.grant(user, rights)
    ended = call(topics, folder, *command, **broker.sasl_environment("OAUTHBEARER", user))
    assert ended.returncode == 0, ended.stdout
    assert broker.rights(user) == rights
    return ended.stdout


def test_forget_needs_to_write_to_the_readings(
    secure_broker: SecureBroker, consumed: TopicSet, tmp_path: Path
) -> None:
    rights: set[Right] = {
        ("topic", consumed.readings, "WRITE"),
        ("topic", consumed.readings, "DESCRIBE"),
        ("topic", consumed.state, "DESCRIBE"),
        ("group", consumed.group, "DESCRIBE"),
    }
    with consumer(secure_broker, consumed, tmp_path) as run:
        run.wait_for_log("partition started")
        assert "forgotten: 1" in succeeds(
            secure_broker, consumed, tmp_path, rights, "forget", "device-0"
        )
        assert run.terminate() == 0


def test_move_counts_needs_the_rights_of_run_and_a_transactional_id(
    secure_broker: SecureBroker, consumed: TopicSet, tmp_path: Path
) -> None:
    rights = {right for right in named(RUN_RIGHTS, consumed) if right[0] != "transactional_id"}
    rights.add(("transactional_id", f"{consumed.group}.move-counts", "WRITE"))
    assert "counts moved" in succeeds(secure_broker, consumed, tmp_path, rights, "move-counts")


def test_backfill_needs_the_rights_of_run_on_its_own_names(
    secure_broker: SecureBroker, consumed: TopicSet, tmp_path: Path
) -> None:
    rights: set[Right] = {
        (kind, name if name == consumed.readings else f"{name}.again", operation)
        for kind, name, operation in named(RUN_RIGHTS, consumed)
        if kind != "transactional_id"
    }
    rights |= {
        ("topic", f"{name}.again", "CREATE")
        for name in (consumed.events, consumed.dead_letters, consumed.state)
    }
    rights |= {
        ("transactional_id", f"{consumed.group}.again{end}", "WRITE")
        for end in (f"-{socket.gethostname()}", ".plan")
    }
    rights |= {("topic", name, "READ") for name in (consumed.events, f"{consumed.events}.again")}
    command = ("backfill", "--into", "again", "--compare")
    shown = succeeds(secure_broker, consumed, tmp_path, rights, *command)
    assert "readings in" in shown
    warning = "what the live group hasn't read is compared, too: "
    assert f"{warning}the group {consumed.group} can't be asked" in shown
    rights.add(("group", consumed.group, "DESCRIBE"))
    shown = succeeds(secure_broker, consumed, tmp_path, rights, *command)
    assert "(+0.00%)" in shown
    assert warning not in shown
