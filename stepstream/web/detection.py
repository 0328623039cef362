"""Steps of readings that come over HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from stepstream.inputs import ErrorCode, InvalidMessage, RegistryAwayError
from stepstream.web.answers import answer, refuse
from stepstream.web.batches import Batches
from stepstream.web.bodies import (
    Bodies,
    TooBusy,
    TooLarge,
    WrongType,
    check_type,
    while_connected,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stepstream.settings import DetectionSettings
    from stepstream.web.batches import Bounds
    from stepstream.web.jobs import Found
    from stepstream.web.traffic import Traffic

__all__ = ["MAX_BODY_BYTES", "Detection"]

MAX_BODY_BYTES = 4 << 20
TIMEOUT_S = 10.0


class Detection:
    """Answers requests with the steps in their readings.

    Parameters
    ----------
    settings
        The model, and the readings' units and rules.
    traffic
        Counts the requests that are computed or wait for that.
    bounds
        How many these may be.
    """

    def __init__(self, settings: DetectionSettings, traffic: Traffic, bounds: Bounds) -> None:
        self._traffic = traffic
        self._bodies = Bodies(MAX_BODY_BYTES)
        self.batches = Batches(settings, bounds)

    def close(self) -> None:
        """Accept no more requests."""
        self.batches.close()

    async def detect(self, request: Request) -> Response:
        """Answer a request: find the steps in readings of one device."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                check_type(request)
                body = await self._bodies.read(request)
                header = self.batches.device_id_header
                name = request.headers.get(header) if header else None
                return answer(await while_connected(request, self._find(body, name)))
        except WrongType as error:
            return refuse(415, "media-type", str(error), {"accept-encoding": "identity"})
        except TooLarge as error:
            return refuse(413, ErrorCode.TOO_LARGE, str(error))
        except InvalidMessage as error:
            return refuse(422, error.code, error.detail)
        except TooBusy as error:
            return _later(str(error))
        except RegistryAwayError as error:
            return _later(f"the schema registry is away: {error}")
        except TimeoutError:
            return _later(f"not done within {TIMEOUT_S:.0f} s")

    async def _find(self, body: bytes, name: str | None) -> Found:
        self._traffic.detecting += 1
        try:
            return await self.batches.find(body, name)
        finally:
            self._traffic.detecting -= 1


def _later(detail: str) -> Response:
    return refuse(503, "busy", detail, {"retry-after": "1"})
