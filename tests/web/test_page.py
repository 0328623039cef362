"""The live page in a browser."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from stepstream.detection.sanity import Doubt, Verdict
from stepstream.inputs import ErrorCode
from stepstream.settings import TopicSettings
from stepstream.workers.reports import Report
from tests.kafka.builders import wait_until
from tests.web.browsing import DEADLINE_MS, PHONE, address, await_ready, shoot
from tests.web.builders import consumer_without_broker, serve, settings
from tests.web.served_workers import served_workers

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

    from stepstream.streaming.consumer import Consumer
    from tests.web.builders import Hour

pytestmark = pytest.mark.slow

TOKEN = "a-token-that-is-long-enough"  # noqa: S105 - of the tests
DRAWN = """
() => {
  const canvas = document.getElementById("signal");
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const colours = new Set();
  for (let n = 0; n < pixels.length; n += 4) {
    if (pixels[n + 3] === 255) colours.add(`${pixels[n]},${pixels[n + 1]},${pixels[n + 2]}`);
  }
  return [...colours];
}
"""
ACCENT = "15,118,110"


def title_of(bars: Locator, number: int) -> str:
    return bars.nth(number).locator("title").text_content() or ""


def test_the_page_shows_figures_partitions_and_dead_letters(page: Page, walking: Consumer) -> None:
    walking.totals.dead_letters[ErrorCode.NOT_FINITE] = 7
    with serve(settings(), walking) as server:
        page.goto(address(server))
        await_ready(page)
        figures = page.locator("#figures .figure")
        heading = page.get_by_role("heading", name="Readings", exact=True)
        readings = figures.filter(has=heading).locator(".value")
        wait_until("readings", lambda: re.match(r"[1-9]", readings.text_content() or ""), 20)
        names = figures.locator("h2").all_text_contents()
        assert {"Events", "Lag", "Lag time", "End to end", "Inference", "Commit", "CPU"} < set(
            names
        )
        inference = figures.filter(has_text="Inference")
        assert re.search(r"\d+.*[mµ]s.*95 %", inference.text_content() or "")
        assert re.search(r"\d[MG]iB", figures.filter(has_text="Memory").text_content() or "")
        rows = page.locator("#partitions tr").all_text_contents()
        assert [row.startswith(f"sensor-readings-{n}running") for n, row in enumerate(rows)] == [
            True
        ] * 3
        assert page.locator("#letters tr").all_text_contents() == ["not-finite7"]
        facts = dict(
            zip(
                page.locator("dt").all_text_contents(),
                page.locator("dd").all_text_contents(),
                strict=True,
            )
        )
        assert facts["model"] == walking.model.metadata.label
        assert facts["consumer"].endswith(f"process {os.getpid()}")
        shoot(page, "figures")


def test_the_page_says_what_somebody_should_look_at(
    page: Page, walking: Consumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The running consumer judges its own topic and would take the test's verdict away.
    monkeypatch.setattr(walking.processor.doubts, "_publish", lambda: None)
    warnings = page.locator("#warnings")
    with serve(settings(), walking) as server:
        page.goto(address(server))
        await_ready(page)
        expect(warnings).to_be_hidden()
        verdict = Verdict((Doubt.ACCEL_IN_G, Doubt.GYRO_IN_DEGREES), 300, 1.02, 1.0, 35.0)
        walking.processor.doubts.verdicts = {"watches": verdict}
        walking.subscription.refused = {"sensors.new": "it has 12 partitions, the state has 8"}
        expect(warnings.locator("li")).to_have_text(
            [
                "topic sensors.new isn't read: it has 12 partitions, the state has 8",
                re.compile("topic watches: the typical acceleration is 1.02 .* accel_unit to g"),
                re.compile("topic watches: the angular velocity .* 35 rad/s.* gyro_unit to deg/s"),
            ],
            timeout=DEADLINE_MS,
        )
        shoot(page, "warnings")
        walking.processor.doubts.verdicts = {}
        walking.subscription.refused = {}
        expect(warnings).to_be_hidden()


def test_a_device_is_watched_by_keyboard_and_its_steps_are_drawn(
    page: Page, walking: Consumer
) -> None:
    with serve(settings(), walking) as server:
        page.goto(address(server))
        before = len(walking.watchers)
        page.keyboard.press("/")
        page.keyboard.type("walker-2")
        page.keyboard.press("Enter")
        note = page.locator("#signal-note")
        wait_until("a step", lambda: re.search(r"step \d", note.text_content() or ""), 30)
        wait_until("the drawing", lambda: ACCENT in page.evaluate(DRAWN), 20)
        assert len(walking.watchers) == before + 1
        shoot(page, "device")
        page.goto("about:blank")
        wait_until("nobody watching", lambda: len(walking.watchers) == before, 20)


def test_the_last_hour_of_a_device_is_drawn_and_goes_on(page: Page, hour: Hour) -> None:
    page.goto(address(hour.server, "#device=walker-0"))
    bars = page.locator("#minutes rect:not(.open)")
    expect(bars).to_have_count(28, timeout=DEADLINE_MS)
    assert re.fullmatch(r"\d\d:\d\d: \d+ steps, \d+ a minute of walking", title_of(bars, 0))
    rows = page.locator("#walks tr:not(.open)")
    expect(rows).to_have_count(2, timeout=DEADLINE_MS)
    assert re.fullmatch(
        r"\d\d:\d\d:00" "10 min 24 s" "1,040" "100", rows.first.inner_text().replace("\t", "")
    )
    opened = page.locator("#minutes rect.open")
    wait_until("an open minute", lambda: opened.count() == 1, 30)
    wait_until("an open walk", lambda: page.locator("#walks tr.open").count() == 1, 30)
    assert "so far" in title_of(opened, 0)
    before = title_of(opened, 0)
    wait_until("it grows", lambda: opened.count() and title_of(opened, 0) != before, 30)
    # One more if a minute of the clock ended meanwhile.
    assert re.match(r"[\d,]+ steps in (29|30) minutes", page.locator("#minutes-note").inner_text())
    shoot(page, "hour")


def test_the_last_hour_of_a_device_that_is_away_is_shown(page: Page, hour: Hour) -> None:
    page.goto(address(hour.server, "#device=walker-9"))
    expect(page.locator("#minutes rect")).to_have_count(28, timeout=DEADLINE_MS)
    expect(page.locator("#walks-note")).to_have_text("2 walks in the last hour.")
    page.set_viewport_size(PHONE["viewport"])
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= PHONE["viewport"]["width"]
    shoot(page, "hour-phone")
    page.get_by_role("combobox", name="Device").fill("walker-5")
    page.keyboard.press("Enter")
    expect(page.locator("#minutes-note")).to_have_text("No step in the last hour.")
    assert page.locator("#minutes rect").count() == 0
    expect(page.locator("#walks-table")).to_be_hidden()


def test_the_last_hour_is_that_of_the_device_in_one_topic(page: Page, hour: Hour) -> None:
    page.goto(address(hour.server, "#device=walker-9&topic=watches"))
    expect(page.locator("#walks-note")).to_have_text("No walk in the last hour.")
    expect(page.locator("#minutes rect")).to_have_count(1, timeout=DEADLINE_MS)
    assert ": 5 steps," in title_of(page.locator("#minutes rect"), 0)
    row = page.locator("#devices-rows tr", has_text="sensor-readings-0")
    with page.expect_request(lambda asked: "/v1/activity/walker-0?topic=sensor-r" in asked.url):
        row.get_by_role("button", name="walker-0").click()
    assert page.url.endswith("#device=walker-0&topic=sensor-readings")
    page.get_by_role("combobox", name="Device").fill("walker-0")
    with page.expect_request(lambda asked: "stream?" in asked.url and "&topic=sen" in asked.url):
        page.keyboard.press("Enter")


def test_the_page_says_how_to_publish_minutes_and_walks(page: Page, walking: Consumer) -> None:
    with serve(settings(), walking) as server:
        page.goto(address(server, "#device=walker-1"))
        for name in ("minutes", "walks"):
            note = page.locator(f"#{name}-note")
            expect(note).to_contain_text(f"STEPSTREAM_TOPICS__{name.upper()}", timeout=DEADLINE_MS)
        expect(page.locator("#minutes")).to_be_hidden()
        shoot(page, "unpublished")


def test_the_page_says_that_brokers_do_not_answer(page: Page) -> None:
    made_with = settings(topics=TopicSettings(minutes="step-minutes"))
    with consumer_without_broker(made_with) as idle, serve(made_with, idle) as server:
        page.goto(address(server, "#device=walker-1"))
        note = page.locator("#minutes-note")
        expect(note).to_contain_text("Earlier ones can't be read", timeout=DEADLINE_MS)


def test_a_chart_is_read_with_the_arrow_keys(page: Page, walking: Consumer) -> None:
    with serve(settings(), walking) as server:
        page.goto(address(server))
        tile = page.locator("#figures .figure").first
        chart = tile.locator(".trend").last
        expect(chart).to_have_attribute("d", re.compile("L"), timeout=DEADLINE_MS)
        tile.locator("svg").focus()
        page.keyboard.press("ArrowLeft")
        assert re.fullmatch(r"\d+ s ago", tile.locator(".more").text_content() or "")
        page.keyboard.press("Escape")
        assert "so far" in (tile.locator(".more").text_content() or "")


def test_the_page_says_when_the_connection_is_lost_and_when_it_is_back(
    page: Page, walking: Consumer
) -> None:
    made_with = settings()
    lost = page.locator("#lost")
    with serve(made_with, walking) as server:
        page.goto(address(server))
        await_ready(page)
        assert not lost.is_visible()
    lost.wait_for(state="visible")
    assert "Connection lost" in (lost.text_content() or "")
    shoot(page, "lost")
    with serve(made_with, walking):
        lost.wait_for(state="hidden")


def test_the_page_of_several_workers_shows_them_together(page: Page) -> None:
    with served_workers(settings()) as front:
        page.goto(address(front.server, "#device=walker-1"))
        await_ready(page)
        rows = page.locator("#partitions tr")
        expect(rows).to_have_count(4, timeout=DEADLINE_MS)
        workers = [row.locator("td").first.text_content() for row in rows.all()]
        assert workers == ["0", "1", "1", "1"]
        expect(page.locator("#worker")).to_be_visible()
        note = page.locator("#signal-note")
        wait_until("a step", lambda: re.search(r"step \d", note.text_content() or ""), 30)
        expect(page.locator("#walks-note")).to_contain_text("STEPSTREAM_TOPICS__WALKS")
        shoot(page, "workers")
        front.world.steady = {0}
        front.world.say(1, Report(is_live=True, obstacles=["no connection to a broker"]))
        health = "not ready: worker 1: no connection to a broker"
        expect(page.locator("#health")).to_have_text(health, timeout=DEADLINE_MS)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_in_either_scheme(
    browser: Browser, walking: Consumer, scheme: Any
) -> None:
    context = browser.new_context(color_scheme=scheme, **PHONE)
    page = context.new_page()
    with serve(settings(), walking) as server:
        page.goto(address(server, "#device=walker-1"))
        await_ready(page)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= PHONE["viewport"]["width"]
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        light = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
        assert (light < 64) == (scheme == "dark")
        shoot(page, f"phone-{scheme}")
        context.close()


def test_the_page_asks_for_the_token_once(page: Page, walking: Consumer) -> None:
    with serve(settings(token=TOKEN), walking) as server:
        page.goto(address(server))
        page.get_by_label("This page asks for its token").fill(TOKEN)
        page.keyboard.press("Enter")
        await_ready(page)
        assert TOKEN not in page.url
        page.reload()
        await_ready(page)
