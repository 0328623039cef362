"""The commands of docs/getting-started.md, in their order, with a real broker."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING

from tests.conftest import ROOT
from tests.kafka.builders import RunProcess, TopicSet, run_command, wait_until

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs" / "getting-started.md").read_text()


def shown(command: str) -> list[str]:
    """The arguments of the first call of a command on the page."""
    (line, *_) = re.findall(rf"^    (?:\$ )?stepstream ({command}\b.*)$", PAGE, re.MULTILINE)
    return shlex.split(line)


def test_they_lead_from_no_topics_to_steps(bootstrap: str, tmp_path: Path) -> None:
    topics = TopicSet.named(bootstrap)

    def call(arguments: list[str], *more: str) -> str:
        done = run_command(topics, tmp_path, *arguments, *more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert call(shown("topics")).count(": created") == 4
    # The page lets it run; the test wants an end.
    call(shown("simulate"), "--seconds", "6", "--speed", "0")
    with RunProcess(topics, tmp_path) as run:
        assert shown("run") == list(run.program[1:])
        wait_until("partitions", lambda: run.log.read_text().count("partition started") == 4, 120)
        printed = call(shown("tail"), "--from", "beginning", "--max", "5", "--json")
        steps = [json.loads(line) for line in printed.splitlines()]
        assert len(steps) == 5
        assert all(step["value"]["step_count"] >= 1 for step in steps)
        assert run.terminate() == 0
