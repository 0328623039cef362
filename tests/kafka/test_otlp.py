"""``stepstream run`` pushes what its consumers count, on a real broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

from tests.kafka.builders import wait_until
from tests.kafka.test_run import walk
from tests.kafka.test_workers import WorkersRun
from tests.otlp.receiver import attributes, receiving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kafka.builders import TopicSet

pytestmark = pytest.mark.timeout(300)
SECRET = "3c9d2f7a1b"  # noqa: S105 - made up
MESSAGES = "stepstream_messages_total"


@pytest.mark.parametrize("workers", [1, 2])
def test_all_messages_are_in_what_is_pushed(topics: TopicSet, tmp_path: Path, workers: int) -> None:
    with receiving() as receiver:
        given = {
            "STEPSTREAM_WORKERS": str(workers),
            "STEPSTREAM_OTLP__ENDPOINT": receiver.endpoint,
            "STEPSTREAM_OTLP__INTERVAL_S": "1",
            "STEPSTREAM_OTLP__HEADERS": f'{{"x-key": "{SECRET}"}}',
            "STEPSTREAM_LOGGING__LEVEL": "debug",
        }
        with Run(topics, tmp_path, **given) as run:
            run.await_ready()
            produced = walk(12, 12.0, batch=20)
            topics.produce(produced)
            topics.wait_consumed()

            def pushed() -> dict[str | None, float]:
                # Before the workers answer, there are the parent's metrics only.
                found = receiver.pushes[-1].metrics.get(MESSAGES)
                points = found.sum.data_points if found else ()
                return {attributes(p.attributes).get("worker"): p.as_double for p in points}

            wait_until("all messages", lambda: sum(pushed().values()) == len(produced))
            assert run.terminate() == 0
        assert pushed().keys() == ({None} if workers == 1 else {"0", "1"})
        assert sum(pushed().values()) == len(produced)
        last = receiver.pushes[-1]
        assert last.headers["x-key"] == SECRET
        assert last.resource["messaging.consumer.group.name"] == topics.group
        assert last.resource["service.instance.id"].endswith(f":{run.port}")
    log = run.log.read_text()
    assert SECRET not in log
    assert "can't be pushed" not in log


class Run(WorkersRun):
    """The number of workers is a setting."""

    program: ClassVar[tuple[str, ...]] = ("stepstream", "run")
