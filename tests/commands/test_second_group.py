"""The setting `into` names the group that a command is about, in every command that has one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stepstream import cli
from stepstream.commands import forget, move_counts, release_partition, tail

if TYPE_CHECKING:
    from types import ModuleType

GROUP, STATE, EVENTS = "stepstream.walk5", "stepstream-state.walk5", "step-events.walk5"


class Seen(Exception):  # noqa: N818 - it is no error
    """What a command was about to work with."""


def seen(given: Any, *_: Any) -> Any:
    raise Seen(given)


@pytest.mark.parametrize("by_environment", [False, True])
@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        (move_counts, "CountsMove", ["move-counts"]),
        (forget, "Cluster", ["forget", "phone-17"]),
        (release_partition, "Cluster", ["release-partition", "sensor-readings", "0"]),
    ],
    ids=["move-counts", "forget", "release-partition"],
)
def test_a_command_works_for_the_second_group(
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    name: str,
    arguments: list[str],
    by_environment: bool,
) -> None:
    monkeypatch.setattr(module, name, seen)
    if by_environment:
        monkeypatch.setenv("STEPSTREAM_INTO", "walk5")
    else:
        arguments = [*arguments, "--into", "walk5"]
    with pytest.raises(Seen) as found:
        cli.main(arguments)
    (settings,) = found.value.args
    assert settings.kafka.group_id == GROUP
    assert settings.topics.state == STATE
    assert settings.topics.readings == ("sensor-readings",)


def test_tail_shows_the_topics_of_the_second_group(monkeypatch: pytest.MonkeyPatch) -> None:
    def topics(_kafka: Any, kinds: dict[str, str], _begin: int) -> Any:
        raise Seen(kinds)

    monkeypatch.setattr(tail, "TopicTail", topics)
    for arguments, expected in (([], "step-events"), (["--into", "walk5"], EVENTS)):
        with pytest.raises(Seen) as found:
            cli.main(["tail", *arguments])
        assert found.value.args == ({expected: "step"},)
