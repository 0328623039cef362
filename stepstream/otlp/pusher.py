"""Sends metrics to a receiver of OTLP over HTTP, from a thread of its own."""

from __future__ import annotations

import asyncio
import gzip
import importlib
import logging
import socket
import ssl
import time
from contextlib import closing, suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Self

import httpx

from stepstream import __version__
from stepstream.errors import SettingsError
from stepstream.settings.otlp import METRICS_PATH

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from stepstream.otlp.failures import PushFailures
    from stepstream.settings import OtlpSettings

__all__ = ["Pusher", "describe_process"]

logger = logging.getLogger(__name__)

TIMEOUT_S = 10.0
"""Of a push, from reading the metrics to the end of the answer."""
READ_TIMEOUT_S = 1.0
"""For how long a stop waits until the metrics of the last push are read."""
LAST_TIMEOUT_S = 3.0
"""For how long the end of the process waits for the last push."""
LOG_INTERVAL_S = 600.0
MAX_ANSWER_BYTES = 64 << 10
HEADERS = {
    "content-type": "application/x-protobuf",
    "content-encoding": "gzip",
    "accept-encoding": "identity",
    "user-agent": f"stepstream/{__version__}",
}


class PushError(Exception):
    """The receiver didn't take the metrics, or not all of them."""


def describe_process(port: int | None, group: str | None = None) -> dict[str, str]:
    """Resource attributes of a process by the port of its server, and its consumer group if any."""
    found = {
        "service.name": "stepstream",
        "service.version": __version__,
        # As Prometheus names what it scrapes: no two processes of a host have the same port.
        "service.instance.id": f"{socket.gethostname()}:{port}",
    }
    return found if group is None else {**found, "messaging.consumer.group.name": group}


class Pusher:
    """Pushes every interval, at the start, and once more at the end; nothing without an endpoint.

    Each push has the present values, all of them since the process began. So one that fails is not
    repeated: the next one says more.

    Parameters
    ----------
    settings
        Where to, how often, and with which headers and attributes.
    render
        Makes a page of the metrics with an encoder.
    failures
        Counts pushes that fail.
    attributes
        Resource attributes, unless the settings have others.

    Raises
    ------
    SettingsError
        A package is missing, or the certificate authorities can't be read.
    """

    def __init__(
        self,
        settings: OtlpSettings,
        render: Callable[[Callable[[Any], bytes]], Awaitable[bytes]],
        failures: PushFailures,
        attributes: Mapping[str, str],
    ) -> None:
        self._settings = settings
        self._render = render
        self._failures = failures
        self._resource = {**attributes, **settings.resource_attributes}
        self._began_ns = time.time_ns()
        self._next_log_s = 0.0
        self._left_out = 0
        self._thread: Thread | None = None
        if not settings.endpoint:
            return
        try:
            self._conversion = importlib.import_module("stepstream.otlp.conversion")
            self._protocol = importlib.import_module(
                "opentelemetry.proto.collector.metrics.v1.metrics_service_pb2"
            )
        except ImportError:
            raise SettingsError(
                "otlp.endpoint needs more packages: pip install 'stepstream[otlp]'"
            ) from None
        self._verify = _trust(settings)
        self._has_read = Event()
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = Thread(target=self._work, name="otlp", daemon=True)

    def stop(self) -> None:
        """Begin the last push, and wait until its metrics are read, a second at most."""
        is_running = self._thread is not None and self._thread.is_alive()
        if is_running and not self._stopping.is_set():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._has_read.wait(READ_TIMEOUT_S)

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self.stop()
            self._thread.join(LAST_TIMEOUT_S)

    def _work(self) -> None:
        with closing(self._loop):
            self._loop.run_until_complete(self._push_on())

    async def _push_on(self) -> None:
        secret = {name: v.get_secret_value() for name, v in self._settings.headers.items()}
        headers = {**HEADERS, **secret}
        # Each push as a whole has a timeout.
        async with httpx.AsyncClient(headers=headers, verify=self._verify, timeout=None) as client:  # noqa: S113
            is_last = False
            while not is_last:
                is_last = self._stopping.is_set()
                await self._try_push(client, is_last=is_last)
                if not is_last:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._stopping.wait(), self._settings.interval_s)

    async def _try_push(self, client: httpx.AsyncClient, *, is_last: bool) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                try:
                    page = await self._render(self._encode)
                finally:
                    if is_last:
                        self._has_read.set()
                await self._send(client, page)
        except TimeoutError:
            self._note(f"no answer within {TIMEOUT_S:.0f} s")
        except Exception as error:  # noqa: BLE001 - counted and logged; the next push may succeed
            self._note(f"{type(error).__name__}: {error}")

    def _encode(self, registry: Any) -> bytes:
        encoded: bytes = self._conversion.encode_metrics(
            registry, self._resource, self._began_ns, time.time_ns()
        )
        return encoded

    async def _send(self, client: httpx.AsyncClient, page: bytes) -> None:
        url = self._settings.endpoint + METRICS_PATH
        async with client.stream("POST", url, content=gzip.compress(page, 6)) as response:
            answer = bytearray()
            async for part in response.aiter_raw():
                answer += part
                if len(answer) > MAX_ANSWER_BYTES:
                    raise PushError(f"an answer of over {MAX_ANSWER_BYTES} bytes")
        if not response.is_success:
            raise PushError(f"HTTP status {response.status_code}")
        refused = self._protocol.ExportMetricsServiceResponse.FromString(bytes(answer))
        count = refused.partial_success.rejected_data_points
        if count:
            text = refused.partial_success.error_message[:200]
            raise PushError(f"{count} data points were refused: {text}")

    def _note(self, problem: str) -> None:
        self._failures.count += 1
        now_s = time.monotonic()
        if now_s < self._next_log_s:
            self._left_out += 1
            return
        self._next_log_s = now_s + LOG_INTERVAL_S
        extra = {"endpoint": self._settings.endpoint, "left_out": self._left_out}
        logger.warning("metrics can't be pushed: %s", problem, extra=extra)
        self._left_out = 0


def _trust(settings: OtlpSettings) -> ssl.SSLContext | bool:
    if settings.ca_location is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(settings.ca_location))
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(
            f"otlp.ca_location: can't read {settings.ca_location}: {reason}"
        ) from None
