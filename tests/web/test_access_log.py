from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from stepstream.web.access_log import MAX_LINES, AccessLog
from tests.kafka.builders import wait_until
from tests.web.builders import consumer_without_broker, request, serve, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepstream.streaming.consumer import Consumer

TOKEN = "a-token-that-is-long-enough"  # noqa: S105 - of the tests
LOGGER = "stepstream.web.access_log"


@pytest.fixture(scope="module")
def consumer() -> Iterator[Consumer]:
    with consumer_without_broker() as made:
        yield made


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.name == LOGGER]


def scope(path: bytes) -> dict[str, Any]:
    return {"method": "GET", "raw_path": path, "client": ("192.0.2.1", 1)}


def test_each_request_is_a_line_without_secrets(
    consumer: Consumer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with serve(settings(token=TOKEN, access_log=True), consumer) as server:
        seen = request(server, f"/performance?token={TOKEN}", Authorization=f"Bearer {TOKEN}")
        assert seen.status == 200
        assert request(server, f"/performance/login?{TOKEN}", b"token=x").status == 401
        assert request(server, "/else%0Aforged").status == 404
        wait_until("three lines", lambda: len(lines(caplog)) == 3, 5)
    assert [(one["method"], one["path"], one["status"]) for one in lines(caplog)] == [
        ("GET", "/performance", 200),
        ("POST", "/performance/login", 401),
        ("GET", "/else%0Aforged", 404),
    ]
    assert {one["peer"] for one in lines(caplog)} == {"127.0.0.1"}
    assert all(0 <= one["took_ms"] < 5_000 for one in lines(caplog))
    assert TOKEN not in str(lines(caplog))


def test_without_the_setting_there_are_no_lines(
    consumer: Consumer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with serve(settings(), consumer) as server:
        assert request(server, "/livez").status in {200, 503}
    assert lines(caplog) == []


def test_lines_are_bounded_and_what_is_left_out_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    now_s = 5.0
    log = AccessLog(lambda: now_s)
    for _ in range(MAX_LINES + 30):
        log.note(scope(b"/livez"), 200, 0.001)
    assert len(lines(caplog)) == MAX_LINES
    now_s = 6.0
    log.note(scope(b"/" + b"x" * 10_000), 200, 0.001)
    log.note(scope(b"/livez"), 200, 0.001)
    *_, first, second = lines(caplog)
    assert first["left_out"] == 30
    assert len(first["path"]) < 250
    assert "left_out" not in second
