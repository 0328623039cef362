"""A browser, a page in it, and a consumer whose devices walk."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import sync_playwright

from stepstream.detection import Model, default_model_path
from tests.conftest import missing
from tests.kafka.builders import wait_until
from tests.web.browsing import DEADLINE_MS
from tests.web.builders import consumer_without_broker, own, turning

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
