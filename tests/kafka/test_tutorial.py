"""The bridge of docs/tutorial.md, as a process: what a phone posts is in the topic by its id."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from http import HTTPStatus
from typing import TYPE_CHECKING

from tests.conftest import ROOT
from tests.kafka.broker import die_with_parent, free_port
from tests.kafka.builders import TopicSet, run_command, wait_until

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = ROOT / "examples" / "inputs" / "sensor-logger"
PAGE = (ROOT / "docs" / "tutorial.md").read_text()


def test_messages_of_the_phone_are_keyed_by_it_and_understood(
    topics: TopicSet, tmp_path: Path
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    port = free_port()
    for given, here in (
        ("localhost:9094", topics.bootstrap),
        ('"sensor-readings"', f'"{topics.readings}"'),
        ("8000", str(port)),
    ):
        assert given in code
        code = code.replace(given, here)
    (tmp_path / "bridge.py").write_text(code)
    body = (EXAMPLE / "message.json").read_bytes()

    def post() -> bool:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/", body)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - the same
                return bool(answer.status == HTTPStatus.OK)
        except OSError:
            return False

    with subprocess.Popen(
        [sys.executable, "bridge.py"],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls the kernel only
    ) as bridge:
        wait_until("an answer of the bridge", post)
        found = wait_until("a message", lambda: topics.read(topics.readings))
        bridge.kill()
    assert (found[0].key(), found[0].value()) == (b"phone-17", body)
    (tmp_path / ".env").write_text((EXAMPLE / "settings.env").read_text())
    checked = run_command(topics, tmp_path, "check")
    assert "phone-17" in checked.stdout, checked.stdout + checked.stderr
