"""A browser, a page in it, consumers whose devices walk, and their last hour."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer
from playwright.sync_api import sync_playwright

from stepstream.detection import Model, default_model_path
from stepstream.outputs import Minute, Outputs, Walk, make_encodings
from stepstream.settings import KafkaSettings, TopicSettings
from stepstream.simulation.demo import MOCK_PROPERTIES, MockConnections
from tests.conftest import missing
from tests.kafka.builders import wait_until
from tests.web.browsing import DEADLINE_MS
from tests.web.builders import (
    TOPIC,
    Hour,
    consumer_without_broker,
    own,
    serve,
    settings,
    turning,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from stepstream.streaming.consumer import Consumer


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Without the windows of a whole browser it has less to do.
    path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if path is None:
        missing("chromium, to look at the live page")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        yield made
        made.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with_errors: list[str] = []
    context = browser.new_context(color_scheme="light")
    context.set_default_timeout(DEADLINE_MS)
    made = context.new_page()
    made.on("pageerror", lambda error: with_errors.append(str(error)))
    # Nothing is fetched from elsewhere, and nothing is that the security headers forbid.
    made.on(
        "request",
        lambda asked: (
            None if "//127.0.0.1:" in asked.url or asked.url.startswith("data:image/svg+xml,")
            else with_errors.append(asked.url)
        ),
    )  # fmt: skip
    made.on(
        "console",
        lambda said: with_errors.append(said.text) if "Security Policy" in said.text else None,
    )
    yield made
    context.close()
    assert not with_errors


@pytest.fixture(scope="module")
def walking() -> Iterator[Consumer]:
    """A consumer with three partitions; four devices walk in the first."""
    with consumer_without_broker(model=Model(default_model_path())) as made:
        for number in range(3):
            own(made, number)
        made.membership.note_assigned()
        with turning(made, devices=4):
            wait_until("a step", lambda: made.totals.events)
            yield made


@pytest.fixture(scope="module")
def hour() -> Iterator[Hour]:
    """Minutes and walks of the last hour, on a broker; walker-0 goes on walking.

    There is a walker-9 in another topic, too.
    """
    broker = Producer({"test.mock.num.brokers": 1, "partitioner": "murmur2_random"})
    brokers = broker.list_topics(timeout=10).brokers.values()
    address = ",".join(f"{one.host}:{one.port}" for one in brokers)
    made_with = settings(
        KafkaSettings(bootstrap_servers=address, properties=MOCK_PROPERTIES),
        TopicSettings(readings=[TOPIC, "watches"], minutes="step-minutes", walks="step-walks"),
    )
    for topic in made_with.topics.written:
        broker.list_topics(topic, timeout=10)
    outputs = Outputs(made_with.topics, made_with.output, make_encodings(made_with), "walk-4.1")
    now = time.time_ns() // 60_000_000_000
    groups: list[Minute | Walk] = []
    for device in ("walker-0", "walker-9"):
        groups += [
            Minute(device, ago, 0, now - ago, 40 + ago * 37 % 80, 40_000_000)
            for ago in (*range(58, 41, -1), *range(20, 9, -1))
        ]
        for ago, minutes in ((58, 17.2), (20, 10.4), (75, 10.0)):
            start_us = (now - ago) * 60_000_000
            end_us = start_us + round(minutes * 6e7)
            walk = Walk(device, ago, 0, start_us, end_us, round(100 * minutes), end_us - start_us)
            groups.append(walk)
    other = [Minute("walker-9", 1, 0, now - 15, 5, 4_000_000)]
    for topic, made_of, time_ms in (("watches", other, 1), (TOPIC, groups, 2)):
        for record in outputs.final(topic, 0, made_of):
            broker.produce(
                record.topic,
                record.value,
                record.key,
                headers=list(record.headers),
                timestamp=time_ms,
            )
    broker.flush(10)
    with consumer_without_broker(
        made_with, Model(default_model_path()), MockConnections(made_with)
    ) as made:
        own(made, 0)
        made.membership.note_assigned()
        with turning(made, devices=1), serve(made_with, made) as server:
            yield Hour(made, server)
    del broker
