"""What the page asks for beside its stream: bounded, and safe to show."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

import pytest
from starlette.requests import Request

from stepstream.inputs import ErrorCode, InvalidMessage
from stepstream.outputs import make_dead_letter
from stepstream.streaming.outbox import Results
from stepstream.web.letters import LetterSamples
from stepstream.web.page import Page
from stepstream.web.tables import MAX_ROWS, merge_counts, sort_rows
from stepstream.web.timeline import Timeline
from stepstream.web.workers.panels import WorkerPanels
from tests.web.builders import TOPIC, consumer_without_broker, request, serve, settings, turning

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from starlette.responses import StreamingResponse

    from stepstream.outputs import OutputRecord
    from stepstream.streaming.partitions import Partition
    from stepstream.web.workers.clients import Client

LETTERS = "dead-letters"
NO_QUERY = Request({"type": "http", "query_string": b""})


def letter(offset: int, code: ErrorCode, value: bytes = b"{") -> OutputRecord:
    return make_dead_letter(
        b"k" * 1_000,
        value,
        [],
        topic=TOPIC,
        partition=3,
        offset=offset,
        timestamp_ms=1_500,
        error=InvalidMessage(code, "d" * 1_000),
        dead_letter_topic=LETTERS,
    )


def observed(samples: LetterSamples, *letters: OutputRecord) -> list[dict[str, Any]]:
    results = Results(cast("Partition", None), records=list(letters))
    results.dead_letters["any"] = len(letters)
    samples.observe([results])
    found: list[dict[str, Any]] = json.loads(bytes(asyncio.run(samples.show(NO_QUERY)).body))[
        "letters"
    ]
    return found


def test_the_last_three_dead_letters_of_each_reason_are_kept_and_cut() -> None:
    samples = LetterSamples(LETTERS)
    for offset in range(100):
        observed(samples, letter(offset, ErrorCode.INVALID_JSON, b"v" * 100_000))
    found = observed(samples, letter(7, ErrorCode.NOT_FINITE))
    assert [(one["code"], one["offset"]) for one in found] == [
        ("not-finite", 7), ("invalid-json", 99), ("invalid-json", 98), ("invalid-json", 97),
    ]  # fmt: skip
    cut = found[1]
    assert (len(cut["key"]), len(cut["value"]), len(cut["detail"])) == (256, 200, 300)
    assert (cut["bytes"], cut["topic"], cut["partition"], cut["time"]) == (100_000, TOPIC, 3, 1.5)


def test_of_many_dead_letters_in_a_poll_the_last_ones_are_looked_at() -> None:
    letters = [letter(offset, ErrorCode.INVALID_JSON) for offset in range(5_000)]
    found = observed(LetterSamples(LETTERS), *letters)
    assert [one["offset"] for one in found] == [4_999, 4_998, 4_997]


def test_bytes_that_are_no_text_are_escaped() -> None:
    (found,) = observed(
        LetterSamples(LETTERS), letter(0, ErrorCode.INVALID_JSON, b"\xff\x1b[31m\n")
    )
    assert found["value"] == "\\xff\\x1b[31m\\n"


def test_rows_are_sorted_as_asked_and_cut() -> None:
    rows = [
        {"device_id": f"d-{n:03}", "rate": n % 7, "quiet_s": n, "delay_s": -n, "doubt": None}
        for n in range(200)
    ]
    assert [row["rate"] for row in sort_rows("busiest", rows)] == [6] * 28 + [5] * 22
    assert sort_rows("quiet", rows)[0]["device_id"] == "d-199"
    assert sort_rows("delayed", rows)[0]["device_id"] == "d-000"
    assert len(sort_rows("delayed", rows)) == MAX_ROWS
    assert merge_counts([{"all": 1, "delayed": 2}, {"all": 3, "delayed": 0}]) == {
        "all": 4,
        "delayed": 2,
    }


class _Samples:
    """Samples that never come."""

    def __init__(self) -> None:
        self.taken = asyncio.Event()
        self.history = [{"time": float(n)} for n in range(10)]
        self.state: dict[str, Any] = {"obstacles": []}


class _Broken:
    async def follow(
        self, _device_id: str, _topic: str | None, _is_closing: Callable[[], bool]
    ) -> AsyncGenerator[bytes, None]:
        yield b"event: follows\n\n"
        raise LookupError("broken")


def test_an_error_in_one_part_of_a_stream_ends_it() -> None:
    async def read() -> list[bytes]:
        query = Request({"type": "http", "query_string": b"device=a&since=6"})
        response = await Page(_Samples(), _Broken()).stream(query)
        given: list[bytes] = []

        async def keep(events: AsyncGenerator[bytes, None]) -> None:
            async for event in events:
                given.append(event)  # noqa: PERF401 - what comes before an error counts

        body = cast(
            "AsyncGenerator[bytes, None]", cast("StreamingResponse", response).body_iterator
        )
        async with aclosing(body) as events:
            with pytest.raises(LookupError):
                await keep(events)
        return given

    given = asyncio.run(asyncio.wait_for(read(), 10))
    (history,) = [event for event in given if event.startswith(b"event: history")]
    samples = json.loads(history.split(b"data: ")[1])["samples"]
    assert [sample["time"] for sample in samples] == [7.0, 8.0, 9.0]


def test_a_group_that_brokers_do_not_describe_has_a_reason() -> None:
    made_with = settings()
    with (
        consumer_without_broker(made_with) as consumer,
        turning(consumer),
        serve(made_with, consumer) as server,
    ):
        answer = request(server, "/performance/group")
        assert answer.status == 503
        assert answer.json["detail"].startswith("the brokers don't describe the group: ")
        assert len(consumer.watchers) == 1
    assert not consumer.watchers


def test_panels_of_workers_that_do_not_answer_are_unavailable() -> None:
    class Silent:
        worker = 0

        async def ask(self, *_: object, **__: object) -> None:
            return None

    panels = WorkerPanels([cast("Client", Silent())], Timeline(str))
    for name, show in panels.routes.items():
        answer = asyncio.run(cast("Any", show)(NO_QUERY))
        assert answer.status_code == (200 if name == "timeline" else 503), name
