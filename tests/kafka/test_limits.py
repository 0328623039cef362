"""A sender of invalid messages, which can't harm the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kafka.broker import free_port
from tests.kafka.builders import RunProcess, fetch, run_command, wait_until
from tests.kafka.test_lag import values
from tests.kafka.test_run import walk

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kafka.builders import TopicSet

RUBBISH = 2_000
LIMITS = {
    "STEPSTREAM_PROCESSING__DEAD_LETTER_STREAK": "200",
    "STEPSTREAM_PROCESSING__POLL_MAX_MESSAGES": "100",
}


def fill(topics: TopicSet) -> int:
    """Walkers, and one device that sends only invalid messages; returns its partition."""
    topics.produce([(b"broken", b"{")])
    held = next(p for p, end in topics.end_offsets(topics.readings).items() if end)
    topics.produce([*walk(8, 5.0, batch=20), *[(b"broken", b"{")] * RUBBISH])
    return held


def test_a_partition_full_of_invalid_messages_is_paused_and_the_others_continue(
    topics: TopicSet, tmp_path: Path
) -> None:
    held = fill(topics)
    ends = topics.end_offsets(topics.readings)
    port = free_port()
    with RunProcess(topics, tmp_path, "paused", **LIMITS, STEPSTREAM_HTTP__PORT=str(port)) as run:
        run.wait_for_log("partition held until a person releases it")

        def others_are_done() -> bool:
            committed = topics.committed()
            return all(committed.get(p, 0) == end for p, end in ends.items() if end and p != held)

        wait_until("the other partitions", others_are_done)
        assert "stepstream_held_partitions 1.0" in fetch(port, "/metrics")[1]
        assert fetch(port, "/readyz")[0] == 503
        behind = values(port, "stepstream_lag_messages")[str(held)]
        topics.produce([(b"broken", b"{")])
        wait_until(
            "lag that grows",
            lambda: values(port, "stepstream_lag_messages")[str(held)] == behind + 1,
        )
        assert fetch(port, "/livez")[0] == 200
        assert run.terminate() == 0
    letters = len(topics.read(topics.dead_letters))
    assert 200 <= letters < 400
    more = {**LIMITS, "STEPSTREAM_PROCESSING__ON_DEAD_LETTER_LIMIT": "continue"}
    with RunProcess(topics, tmp_path, "goes-on", **more) as run:
        topics.wait_consumed()
        assert run.terminate() == 0
        assert run.log.read_text().count("too many dead letters") == 1
    assert len(topics.read(topics.dead_letters)) == RUBBISH + 2
    assert len({event["device_id"] for event in topics.read_events()}) == 8


def test_a_held_partition_stays_held_until_a_person_releases_it(
    topics: TopicSet, tmp_path: Path
) -> None:
    held = fill(topics)
    ports = [free_port() for _ in range(4)]

    def start(number: int) -> RunProcess:
        port = str(ports[number])
        return RunProcess(topics, tmp_path, f"{number}", **LIMITS, STEPSTREAM_HTTP__PORT=port)

    def holders(numbers: range) -> list[int]:
        pages = {n: fetch(ports[n], "/metrics")[1] for n in numbers}
        return [n for n in numbers if "stepstream_held_partitions 1.0" in pages[n]]

    with start(0) as first, start(1) as second, start(2) as third:
        for run in (first, second, third):
            run.wait_for_log("partition started")
        wait_until("the hold", lambda: len(holders(range(3))) == 1)
        letters = len(topics.read(topics.dead_letters))
        assert 200 <= letters < 400
        # Whoever owns it ends, killed or not: the next owner holds it too.
        for run in (first, second):
            run.kill() if run is first else run.terminate()
        wait_until("the hold", lambda: holders(range(2, 3)) == [2])
        with start(3) as last:
            last.wait_for_log("partition started")
            wait_until("the hold", lambda: len(holders(range(2, 4))) == 1)
            assert third.terminate() == 0
            wait_until("the hold", lambda: holders(range(3, 4)) == [3])
            assert fetch(ports[3], "/readyz")[0] == 503
            assert len(topics.read(topics.dead_letters)) == letters

            command = ("release-partition", topics.readings, str(held))
            before = topics.committed()[held]
            done = run_command(topics, tmp_path, *command)
            assert (done.returncode, done.stdout) == (0, f"released: {topics.readings}-{held}\n")
            wait_until("more of it", lambda: topics.committed()[held] >= before + 200)
            wait_until("the next hold", lambda: holders(range(3, 4)) == [3])
            assert letters + 200 <= len(topics.read(topics.dead_letters)) < letters + 400
            assert last.terminate() == 0
    nobody = run_command(topics, tmp_path, *command, "--timeout-s", "0")
    assert nobody.returncode == 1
    assert "is released when a consumer owns it; is one running?" in nobody.stderr
    with start(0):
        again = topics.committed()[held]
        wait_until("more of it", lambda: topics.committed()[held] > again)
    wrong = run_command(topics, tmp_path, "release-partition", topics.readings, "77")
    assert (wrong.returncode, "77 isn't held" in wrong.stderr) == (1, True), wrong


def test_by_setting_too_many_invalid_messages_end_the_process(
    topics: TopicSet, tmp_path: Path
) -> None:
    held = fill(topics)
    more = {**LIMITS, "STEPSTREAM_PROCESSING__ON_DEAD_LETTER_LIMIT": "stop"}
    with RunProcess(topics, tmp_path, **more) as run:
        wait_until("the end of the process", lambda: not run.is_alive)
        assert run.exit_code == 1
        last = run.log.read_text().splitlines()[-1]
    assert f"{topics.readings}-{held}: the last " in last
