"""What the page asks for now and then, of all workers together."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from stepstream.web.answers import answer
from stepstream.web.tables import merge_counts, newest_letters, sort_rows
from stepstream.web.timeline import newest
from stepstream.web.workers.clients import ask_all
from stepstream.web.workers.devices import pass_on, unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from stepstream.web.timeline import Timeline
    from stepstream.web.workers.clients import Answer, Client

__all__ = ["WorkerPanels"]

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class WorkerPanels:
    """Puts the answers of all workers together.

    Parameters
    ----------
    clients
        The workers.
    timeline
        What happened in the parent's own process.
    """

    def __init__(self, clients: Sequence[Client], timeline: Timeline) -> None:
        self._clients = clients
        self._timeline = timeline

    @property
    def routes(self) -> Mapping[str, Callable[[Request], Awaitable[Response]]]:
        """See `stepstream.web.routing.page_routes`."""
        return {
            "activity": self._show_first("activity"),
            "dead-letters": self._show_letters,
            "devices": self._show_devices,
            "group": self._show_first("group"),
            "timeline": self._show_timeline,
        }

    def _show_first(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        """What any worker says, where all would say the same: they ask the same brokers."""

        async def show(request: Request) -> Response:
            for client in self._clients:
                found = await client.ask(f"/performance/{name}", params=_params(request))
                if found is not None:
                    return pass_on(found)
            return unavailable()

        return show

    async def _ask(self, name: str, request: Request) -> list[Answer]:
        return await ask_all(self._clients, f"/performance/{name}", params=_params(request))

    async def _show_devices(self, request: Request) -> Response:
        answers = await self._ask("devices", request)
        tables = {one.worker: _decode(one.body) for one in answers if one.status == 200}
        if not tables:
            return pass_on(answers[0]) if answers else unavailable()
        rows = [
            {**row, "worker": worker}
            for worker, table in tables.items()
            for row in table["devices"]
        ]
        order = request.query_params.get("order", "busiest")
        return answer(
            {
                **next(iter(tables.values())),
                "devices": sort_rows(order, rows),
                "counts": merge_counts(table["counts"] for table in tables.values()),
            }
        )

    async def _show_letters(self, request: Request) -> Response:
        answers = await self._ask("dead-letters", request)
        found = [_decode(one.body) for one in answers if one.status == 200]
        if not found:
            return unavailable()
        letters = newest_letters(letter for one in found for letter in one["letters"])
        return answer({**found[0], "letters": letters})

    async def _show_timeline(self, request: Request) -> Response:
        answers = await self._ask("timeline", request)
        entries = [
            {**entry, "worker": one.worker}
            for one in answers
            if one.status == 200
            for entry in _decode(one.body)["entries"]
        ]
        return answer({"now": time.time(), "entries": newest([*entries, *self._timeline.entries])})


def _params(request: Request) -> dict[str, str]:
    """What is asked for; a device in the path is asked for by its name."""
    named = request.path_params.get("device_id")
    return {**request.query_params, **({} if named is None else {"device": named})}
