"""The live page where something is missing, and what an operator finds on it."""

from __future__ import annotations

import json
import socket
import time
from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from stepstream.web import device_table
from stepstream.web.page import MAX_STREAMS
from tests.builders import encode, reading
from tests.conftest import missing
from tests.kafka.builders import wait_until
from tests.web.browsing import DEADLINE_MS, PHONE, address, await_ready, hide, shoot, unhide
from tests.web.builders import (
    TOPIC,
    Polled,
    consumer_without_broker,
    own,
    request,
    serve,
    settings,
    turning,
)
from tests.web.served_workers import served_workers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from stepstream.streaming.consumer import Consumer
    from stepstream.web.server import Server

pytestmark = pytest.mark.slow

TOKEN = "a-token-that-is-long-enough"  # noqa: S105 - of the tests
OTHER_TOKEN = "another-token-that-is-long"  # noqa: S105 - of the tests
MANY = 5_000
PARTITION = 1


def feed(consumer: Consumer, messages: list[tuple[bytes, bytes]]) -> None:
    """Give the loop messages of a partition that nothing else feeds."""
    partition = consumer.assignment.get(TOPIC, PARTITION)
    assert partition is not None
    now_ms = time.time_ns() // 1_000_000

    def process() -> None:
        first = partition.next_offset
        records: list[Any] = [
            Polled(key, value, first + n, now_ms) for n, (key, value) in enumerate(messages)
        ]
        for record in records:
            record.number = PARTITION
        consumer._process(records)

    consumer.calls.submit(process).result(60)


def open_streams(server: Server, stack: ExitStack, count: int) -> None:
    for _ in range(count):
        connection = stack.enter_context(
            socket.create_connection(("127.0.0.1", server.port or 0), 10)
        )
        connection.sendall(b"GET /performance/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def streams(server: Server) -> int:
    lines = request(server, "/metrics").body.decode().splitlines()
    (value,) = [line.split()[1] for line in lines if line.startswith("stepstream_http_streams ")]
    return int(float(value))


def test_many_pages_of_one_browser_are_served(browser: Browser, walking: Consumer) -> None:
    context = browser.new_context()
    context.set_default_timeout(DEADLINE_MS)
    with serve(settings(), walking) as server:
        pages = []
        for number in range(12):
            page = context.new_page()
            page.goto(address(server, f"#device=walker-{number % 4}"))
            await_ready(page)
            # Four windows side by side, each with a device; tabs behind them.
            if number >= 4:
                hide(page)
            pages.append(page)
        wait_until("four streams", lambda: streams(server) == 4, 20)
        for page in pages:
            hide(page)
        wait_until("no stream", lambda: streams(server) == 0, 20)
        unhide(pages[-1])
        wait_until("a stream", lambda: streams(server) == 1, 20)
        context.close()


def test_a_page_that_nobody_saw_has_no_gap(page: Page, walking: Consumer) -> None:
    with serve(settings(), walking) as server:
        page.goto(address(server))
        await_ready(page)
        hide(page)
        wait_until("no stream", lambda: streams(server) == 0, 20)
        time_s = time.time()
        wait_until(
            "samples",
            lambda: request(server, "/performance/sample").json["sample"]["time"] > time_s + 3,
            20,
        )
        with page.expect_request(lambda asked: "stream?since=" in asked.url):
            unhide(page)
        line = page.locator("#figures .figure", has_text="CPU").locator(".trend:not(.second)")
        # One line without a break.
        wait_until("a line", lambda: (line.get_attribute("d") or "").count("L") > 4, 20)
        assert (line.get_attribute("d") or "").count("M") == 1


def test_the_way_to_the_page_is_short(page: Page, walking: Consumer) -> None:
    with serve(settings(), walking) as server:
        answer = request(server, "/")
        assert (answer.status, answer.headers["location"]) == (307, "/performance")
        page.goto(f"http://127.0.0.1:{server.port}/")
        await_ready(page)
        assert page.url == address(server)


def test_title_and_icon_say_the_state(page: Page, walking: Consumer) -> None:
    icon = page.locator("#icon")
    with serve(settings(), walking) as server:
        page.goto(address(server))
        await_ready(page)
        expect(page).to_have_title("✓ ready · stepstream · stepstream")
        green = icon.get_attribute("href")
        walking.membership.note_lost()
        expect(page.locator("#health")).to_have_text("not ready: not a member of the group")
        expect(page).to_have_title("✗ not ready · stepstream · stepstream")
        assert icon.get_attribute("href") != green
        # A page that nobody sees asks for it now and then.
        hide(page)
        walking.membership.note_assigned()
        expect(page).to_have_title("✓ ready · stepstream · stepstream", timeout=3 * DEADLINE_MS)
        assert streams(server) == 0
        unhide(page)
        await_ready(page)
    expect(page).to_have_title("? no data · stepstream · stepstream", timeout=DEADLINE_MS)
    expect(page.locator("#health")).to_have_attribute("data-level", "none")


def test_full_slots_are_the_reason_that_is_given(page: Page, walking: Consumer) -> None:
    lost = page.locator("#lost")
    with serve(settings(), walking) as server:
        with ExitStack() as stack:
            open_streams(server, stack, MAX_STREAMS)
            page.goto(address(server))
            expect(lost).to_have_text(
                "20 pages are open, which is the limit; close one of them.", timeout=DEADLINE_MS
            )
            assert page.locator("#health").get_attribute("data-level") == "none"
            shoot(page, "full")
        await_ready(page)
        expect(lost).to_be_hidden()


def log_in(page: Page, token: str) -> None:
    page.get_by_label("This page asks for its token").fill(token)
    page.keyboard.press("Enter")


def test_a_changed_token_is_the_reason_that_is_given(page: Page, walking: Consumer) -> None:
    made_with = settings(token=TOKEN)
    with serve(made_with, walking) as server:
        page.goto(address(server))
        log_in(page, TOKEN)
        await_ready(page)
    changed = settings(token=OTHER_TOKEN)
    changed.http.__dict__["port"] = made_with.http.port
    with serve(changed, walking):
        lost = page.locator("#lost")
        expect(lost).to_contain_text("The token is no longer valid", timeout=DEADLINE_MS)
        expect(page.locator("#health")).not_to_have_attribute("data-level", "good")
        shoot(page, "token")
        page.get_by_role("link", name="Log in again").click()
        log_in(page, OTHER_TOKEN)
        await_ready(page)


def test_a_consumer_that_gets_nothing_is_not_simply_green(page: Page, walking: Consumer) -> None:
    with serve(settings(), walking) as server:
        known = request_until_sampled(server)
        now = time.time()
        samples = [{**known["sample"], "readings": 0, "time": now - 90 + n} for n in range(91)]
        body = f"event: history\ndata: {json.dumps({**known, 'samples': samples})}\n\n"
        page.route("**/performance/stream*", lambda route: route.fulfill(body=body))
        page.goto(address(server))
        health = page.locator("#health")
        expect(health).to_have_text("ready, but no reading has come for 1 min")
        assert health.get_attribute("data-level") == "idle"
        shoot(page, "idle")


@pytest.fixture(scope="module")
def many() -> Iterator[Consumer]:
    """A consumer that is given what a test wants to see."""
    patient = settings()
    # However long a test takes, its devices keep their windows.
    patient.processing.__dict__["idle_timeout_s"] = 600.0
    with consumer_without_broker(patient) as made:
        for number in range(2):
            own(made, number)
        made.membership.note_assigned()
        with turning(made):
            yield made


def batch(end_s: float, count: int = 10) -> bytes:
    """A message of readings, 25 ms apart."""
    columns = {name: [value] * count for name, value in reading().items() if name != "device_id"}
    columns["timestamp"] = [end_s - (count - n) * 0.025 for n in range(count)]
    return encode(columns)


def feed_many(consumer: Consumer) -> None:
    plain = batch(time.time())
    feed(consumer, [(b"sensor-%04d" % n, plain) for n in range(MANY - 2)])
    now = time.time()
    feed(consumer, [(b"late-1", batch(now - 300)), (b"busy-1", batch(now, 200))])


def test_a_table_finds_the_devices_that_matter_among_thousands(
    page: Page, many: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_table, "QUIET_S", 200.0)
    monkeypatch.setattr(device_table, "DELAYED_S", 200.0)
    with serve(settings(), many) as server:
        feed_many(many)
        table = request(server, "/performance/devices?order=delayed").json
        assert table["counts"] == {"all": MANY, "quiet": 0, "delayed": 1, "units": 0}
        assert len(table["devices"]) == 50
        assert table["devices"][0]["device_id"] == "late-1"
        assert table["devices"][0]["delay_s"] == pytest.approx(300, abs=20)
        busiest = request(server, "/performance/devices?order=busiest&prefix=b").json
        assert [row["device_id"] for row in busiest["devices"]] == ["busy-1"]
        assert request(server, "/performance/devices?order=nicest").status == 400
        page.goto(address(server))
        rows = page.locator("#devices-rows tr")
        expect(rows).to_have_count(50, timeout=DEADLINE_MS)
        expect(page.locator("#devices-note")).to_contain_text("The first 50 are shown")
        page.get_by_role("button", name="Delayed 1").click()
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text("late-1")
        shoot(page, "many")
        page.get_by_role("button", name="Busiest").click()
        page.get_by_label("Id begins with").fill("sensor-12")
        expect(rows.first).to_contain_text("sensor-12")
        page.get_by_role("button", name="sensor-1200").click()
        assert page.url.endswith("#device=sensor-1200&topic=sensor-readings")
        expect(page.locator("#device")).to_have_value("sensor-1200")


def test_dead_letters_are_shown_with_their_offset_and_how_to_replay_them(
    page: Page, many: Consumer
) -> None:
    with serve(settings(), many) as server:
        page.goto(address(server))
        await_ready_or_idle(page)
        partition = many.assignment.get(TOPIC, PARTITION)
        assert partition is not None
        offset = partition.next_offset
        feed(many, [(b"broken-1", b"{" + b"x" * 500 + b"\x1b<script>")] * 5)
        rows = page.locator("#samples-rows tr")
        expect(rows).to_have_count(3, timeout=DEADLINE_MS)
        cells = rows.first.locator("th, td").all_text_contents()
        assert cells[0] == "invalid-json"
        assert cells[2:5] == [f"{TOPIC}-{PARTITION}", str(offset + 4), "broken-1"]
        assert cells[6].startswith("{xxx")
        assert cells[6].endswith("510 bytes")
        command = page.locator("#replay-command").text_content() or ""
        assert "replay-dead-letters --dry-run --code invalid-json --since 20" in command
        assert request(server, "/performance/dead-letters").json["letters"][0]["key"] == "broken-1"


def await_ready_or_idle(page: Page) -> None:
    expect(page.locator("#partitions")).to_contain_text("running", timeout=DEADLINE_MS)


def test_what_happened_is_on_a_timeline(page: Page) -> None:
    with ExitStack() as stack:
        few = settings()
        few.processing.__dict__["dead_letter_streak"] = 10
        many = stack.enter_context(consumer_without_broker(few))
        for number in range(2):
            own(many, number)
        many.membership.note_assigned()
        stack.enter_context(turning(many))
        server = stack.enter_context(serve(few, many))
        page.goto(address(server))
        timeline = page.locator("#timeline-rows")
        expect(timeline).to_contain_text(f"got {TOPIC}-0, {TOPIC}-1", timeout=DEADLINE_MS)
        feed(many, [(b"broken-1", b"{")] * 10)
        expect(timeline).to_contain_text(f"{TOPIC}-{PARTITION}: held", timeout=DEADLINE_MS)
        expect(timeline).to_contain_text("the last 10 messages are dead letters")
        expect(timeline).to_contain_text("not ready: 1 partitions are paused")
        assert page.locator("#timeline-lanes .lane span[data-level=bad]").count() >= 2
        shoot(page, "timeline")


def test_peers_are_linked_where_they_have_another_host(page: Page, many: Consumer) -> None:
    with serve(settings(), many) as server:
        own_id = request_until_sampled(server)["state"]["consumers"][0]["member_id"]
        members = [
            {"member_id": own_id, "name": "a", "host": "10.0.0.1"},
            {"member_id": "b-1", "name": "b", "host": "10.0.0.2"},
            {"member_id": "c-1", "name": "c", "host": "10.0.0.1"},
            {"member_id": "d-1", "name": "d", "host": "fd00::2"},
        ]
        group = {
            "group": "stepstream",
            "state": "stable",
            "count": 1_200,
            "members": [{**one, "partitions": f"{TOPIC}-0..3", "count": 4} for one in members],
        }
        page.route("**/performance/group", lambda route: route.fulfill(json=group))
        page.goto(address(server))
        rows = page.locator("#group-rows tr")
        expect(rows).to_have_count(4, timeout=DEADLINE_MS)
        expect(rows.first).to_contain_text("a (this one)")
        links = [link.get_attribute("href") for link in rows.get_by_role("link").all()]
        assert links == [
            f"http://10.0.0.2:{server.port}/performance",
            f"http://[fd00::2]:{server.port}/performance",
        ]
        expect(page.locator("#group-note")).to_have_text(
            "1,200 members, stable. The first 4 are shown."
        )


def request_until_sampled(server: Server) -> Any:
    def sampled() -> Any:
        found = request(server, "/performance/sample").json
        return found["sample"] and found

    return wait_until("a sample", sampled, 20)


def test_workers_are_told_apart(page: Page) -> None:
    with served_workers(settings()) as front:
        page.goto(address(front.server))
        await_ready(page)
        expect(page.locator("dd").first).to_contain_text("2 workers on")
        timeline = page.locator("#timeline-rows")
        expect(timeline).to_contain_text("worker 0", timeout=DEADLINE_MS)
        expect(timeline).to_contain_text("worker 1")
        devices = page.locator("#devices-rows tr")
        expect(devices).to_have_count(3, timeout=DEADLINE_MS)
        expect(devices.first).to_contain_text("worker 0")


def test_without_any_worker_the_page_says_why(page: Page) -> None:
    with served_workers(settings()) as front:
        page.goto(address(front.server))
        await_ready(page)
        for client in front.server._app._clients:  # type: ignore[attr-defined]
            client.ask = _silent
        front.world.steady = set()
        expect(page.locator("#health")).to_contain_text("not ready: ", timeout=DEADLINE_MS)
        assert page.locator("#health").get_attribute("data-level") == "bad"


async def _silent(*_: Any, **__: Any) -> None:
    return None


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", [{}, PHONE], ids=["wide", "phone"])
def test_axe_finds_nothing(
    browser: Browser, many: Consumer, scheme: Any, device: dict[str, Any]
) -> None:
    try:
        axe = import_module("axe_playwright_python.sync_playwright").Axe()
    except ImportError:
        missing("axe-playwright-python, to check that the page is accessible")
    context = browser.new_context(color_scheme=scheme, **device)
    context.set_default_timeout(DEADLINE_MS)
    page = context.new_page()
    with serve(settings(token=TOKEN), many) as server:
        page.goto(address(server))
        check(axe, page)
        log_in(page, TOKEN)
        await_ready_or_idle(page)
        feed_many(many)
        page.goto(address(server, "#device=sensor-0001"))
        page.reload()
        expect(page.locator("#devices-rows tr")).to_have_count(50, timeout=DEADLINE_MS)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= page.viewport_size["width"]  # type: ignore[index]
        check(axe, page)
        shoot(page, f"axe-{scheme}-{'phone' if device else 'wide'}")
    expect(page.locator("#lost")).to_be_visible(timeout=DEADLINE_MS)
    check(axe, page)
    context.close()


def check(axe: Any, page: Page) -> None:
    found = axe.run(page)
    # It has looked: a page without anything to check would have no findings either.
    assert len(found.response["passes"]) > 10
    assert not found.response["violations"], found.generate_report()
