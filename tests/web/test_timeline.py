"""What has happened, as the page shows it: bounded, without secrets."""

from __future__ import annotations

import logging

from stepstream.web.timeline import MAX_CHARACTERS, MAX_ENTRIES, MAX_OF_KIND, Timeline

logger = logging.getLogger("stepstream.streaming.commits")


def texts(timeline: Timeline, kind: str) -> list[str]:
    return [entry["text"] for entry in timeline.entries if entry["kind"] == kind]


def partitions(*states: str) -> list[dict[str, object]]:
    return [{"topic": "t", "partition": n, "state": state} for n, state in enumerate(states)]


def test_rebalances_holds_and_readiness_are_noted_when_they_change() -> None:
    timeline = Timeline(str)
    timeline.look([], ["not a member of the group"])
    timeline.look(partitions("replaying", "running"), ["1 partitions are being prepared"])
    last = timeline.last
    timeline.look(partitions("replaying", "running"), ["2 partitions are being prepared"])
    assert timeline.last == last
    timeline.look(partitions("held", "running"), ["1 partitions are paused"])
    timeline.look(partitions("running"), [])
    assert texts(timeline, "rebalance") == ["gave up t-1", "got t-0, t-1"]
    assert texts(timeline, "hold") == ["t-0: no longer held", "t-0: held"]
    assert texts(timeline, "state")[0] == "ready"
    assert texts(timeline, "state")[-1] == "not ready: not a member of the group"


def test_a_held_partition_that_moves_away_is_not_said_to_be_released() -> None:
    timeline = Timeline(str)
    timeline.look(partitions("held"), [])
    timeline.look([], [])
    assert texts(timeline, "hold") == ["t-0: held"]


def test_warnings_and_errors_come_from_the_log_with_their_fields_and_no_others() -> None:
    with Timeline(str) as timeline:
        logger.info("committed")
        logger.warning("commit aborted: %s", "fenced")
        logger.error("partition paused", extra={"reason": "t-0: too many"})
    logger.warning("after the end")
    assert texts(timeline, "warning") == ["commit aborted: fenced"]
    assert texts(timeline, "error") == ['partition paused reason="t-0: too many"']


def test_what_the_client_says_at_every_start_is_no_news() -> None:
    with Timeline(str) as timeline:
        logger.warning("GETPID [thrd:main]: coordinator load in progress: retrying")
        logger.warning("GETPID failed")
    assert texts(timeline, "warning") == ["GETPID failed"]


def test_what_repeats_is_counted() -> None:
    timeline = Timeline(str)
    for at_s in range(1, 8):
        timeline.note("warning", "commit aborted", at_s)
    (entry,) = timeline.entries
    assert (entry["count"], entry["time"], entry["last"]) == (7, 1, 7)


def test_it_is_bounded_and_one_kind_leaves_room_for_others() -> None:
    timeline = Timeline(str)
    timeline.note("rebalance", "got t-0", 1)
    for number in range(1_000):
        timeline.note("error", f"{number} " + "x" * 10_000 + "\nstack", 2 + number)
    errors = texts(timeline, "error")
    assert len(errors) == MAX_OF_KIND
    assert errors[0].startswith("999 xxx")
    assert {len(text) for text in errors} == {MAX_CHARACTERS}
    assert texts(timeline, "rebalance") == ["got t-0"]
    assert len(timeline.entries) <= MAX_ENTRIES


def test_secrets_are_hidden() -> None:
    with Timeline(lambda text: text.replace("s3cret", "***")) as timeline:
        logger.error("sasl.password=s3cret is wrong", extra={"value": "s3cret"})
    assert texts(timeline, "error") == ["sasl.password=*** is wrong value=***"]
