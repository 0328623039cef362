"""Finds the steps of all requests that wait, together."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from stepstream.detection import Model, Rules, SeriesBatch, default_model_path
from stepstream.streaming.counting import count_steps
from stepstream.web.bodies import TooBusy, TooLarge
from stepstream.web.decoding import Decoding
from stepstream.web.jobs import Job

if TYPE_CHECKING:
    from stepstream.detection import Series, Steps
    from stepstream.inputs import Schemas
    from stepstream.settings import DetectionSettings
    from stepstream.web.jobs import Found

__all__ = ["ALONE", "BESIDE_THE_LOOP", "Batches", "Bounds"]

MAX_OPEN = 128
"""Requests whose steps are looked for at a time: as many as the network takes at once."""
MAX_DECODED_READINGS = 200_000
"""Beyond these, no further request begins to be decoded until others are done."""
GATHER_S = 0.005
"""As long as the event loop brings requests at each of its iterations, they are waited for."""
FETCHERS = 2
"""Schemas that are asked for at a time."""


class Bounds(NamedTuple):
    """What may wait, and be worked on; what comes beyond that is refused.

    Attributes
    ----------
    requests
        How many.
    size
        Of their bodies together, bytes.
    """

    requests: int
    size: int


BESIDE_THE_LOOP = Bounds(5, 20 << 20)
"""For a consumer, whose work comes first."""
ALONE = Bounds(256, 32 << 20)
"""For a process that does nothing else."""


class Batches:
    """Works on requests in turns of the event loop; each has a bound, so others are answered too.

    A request is decoded together with those that wait with it, and judged as a device among them.
    What it gets is the same as if it were alone.

    Parameters
    ----------
    settings
        The model, and the readings' units and rules.
    bounds
        What may wait.

    Raises
    ------
    SettingsError
        A package that the format needs isn't installed.
    """

    def __init__(self, settings: DetectionSettings, bounds: Bounds) -> None:
        self._settings = settings
        self._bounds = bounds
        self._rules = Rules.of(settings.processing)
        max_ahead_us = round(settings.processing.max_ahead_s * 1e6)
        self._decoding = Decoding(settings.input, settings.registry, max_ahead_us)
        self.device_id_header = self._decoding.device_id_header
        """The header that names the device, if one does."""
        self._fetchers = ThreadPoolExecutor(FETCHERS, "schemas")
        self._fetching: set[asyncio.Task[None]] = set()
        self._decoded: deque[tuple[Job, Series]] = deque()
        self._judged: dict[int, tuple[Job, Series]] = {}
        self.decoded_readings = 0
        """Readings of the requests that are decoded and not yet judged."""
        self._jobs: set[Job] = set()
        """All requests that wait for their answer."""
        self._size = 0
        self._arrived = 0
        self._is_due = False
        self._gather_until_s = 0.0

    @cached_property
    def model(self) -> Model:
        """The network; a consumer needs one of its own for this only when somebody asks.

        Raises
        ------
        ModelError
            It can't be used.
        """
        return Model(self._settings.model.path or default_model_path())

    @cached_property
    def _series(self) -> SeriesBatch:
        return SeriesBatch(self.model, self._rules)

    def close(self) -> None:
        """Ask for no more schemas."""
        self._fetchers.shutdown(wait=False, cancel_futures=True)

    async def find(self, body: bytes, name: str | None) -> Found:
        """The steps in the readings of a device; if this is cancelled, the work ends.

        Parameters
        ----------
        body
            The readings, in the format of the settings.
        name
            The value of the header that names the device, if there is one.

        Raises
        ------
        InvalidMessage, TooLarge
            What is wrong with the readings.
        RegistryAwayError
            A schema couldn't be asked for.
        TooBusy
            As much as may wait does already.
        """
        bounds = self._bounds
        if len(self._jobs) >= bounds.requests or self._size + len(body) > bounds.size:
            raise TooBusy("other requests are being computed")
        answer: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        job = Job(body, name, time.time_ns() // 1000, answer)
        self._jobs.add(job)
        self._size += len(body)
        try:
            self._decoding.add(job)
            self._arrived += 1
            self._schedule()
            return await answer
        finally:
            self._jobs.remove(job)
            self._size -= len(body)

    def _schedule(self) -> None:
        """Have a turn begin as soon as no further requests come at once."""
        if not self._is_due:
            self._is_due = True
            self._gather_until_s = time.monotonic() + GATHER_S
            asyncio.get_running_loop().call_soon(self._gather, self._arrived - 1)

    def _gather(self, arrived: int) -> None:
        """Begin the turn if the event loop's last iteration brought no request."""
        if self._arrived != arrived and time.monotonic() < self._gather_until_s:
            asyncio.get_running_loop().call_soon(self._gather, self._arrived)
        else:
            self._turn()

    def _turn(self) -> None:
        self._is_due = False
        try:
            self._decode()
            self._judge()
        except Exception as error:  # noqa: BLE001 - each of those who wait is answered with it
            self._fail(error)
        if len(self._decoding) or self._decoded or self._judged:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _decode(self) -> None:
        decoded, lacking = self._decoding.turn(
            may_begin=self.decoded_readings < MAX_DECODED_READINGS
        )
        for job, schemas in lacking:
            task = asyncio.get_running_loop().create_task(self._fetch(job, schemas))
            self._fetching.add(task)
            task.add_done_callback(self._fetching.discard)
        for job in decoded:
            try:
                series = job.series(self._rules)
            except TooLarge as error:
                job.fail(error)
                continue
            if len(series):
                self.decoded_readings += len(series)
                self._decoded.append((job, series))
            else:
                job.finish(self.model.metadata.label, [])

    async def _fetch(self, job: Job, schemas: Schemas) -> None:
        """Fetch the schema of a request's body, and have it wait again."""
        loop = asyncio.get_running_loop()
        try:
            for schema_id in schemas.lacking([job.body]):
                found = await loop.run_in_executor(self._fetchers, schemas.fetch, schema_id)
                schemas.admit(schema_id, found)
        except Exception as error:  # noqa: BLE001 - the request is answered with it
            job.fail(error)
        else:
            self._decoding.add(job)
            self._schedule()

    def _judge(self) -> None:
        batch = self._series
        for number in [n for n, (job, _) in self._judged.items() if job.is_over]:
            batch.drop(number)
            self._let_go(number)
        while self._decoded and len(batch) < MAX_OPEN:
            job, series = self._decoded.popleft()
            if job.is_over:
                self.decoded_readings -= len(series)
            else:
                self._judged[batch.add(series)] = job, series
        for number, steps in batch.turn() if self._judged else ():
            self._answer(self._let_go(number), steps)

    def _let_go(self, number: int) -> Job:
        job, series = self._judged.pop(number)
        self.decoded_readings -= len(series)
        return job

    def _answer(self, job: Job, steps: Steps) -> None:
        _, events = count_steps(job.device_id, steps, self.model, self._settings.processing)
        job.finish(self.model.metadata.label, events)

    def _fail(self, error: Exception) -> None:
        """Answer all who wait, and begin anew: what is wrong may be what is in the middle."""
        for job in self._jobs:
            job.fail(error)
        self._decoding.clear()
        self._decoded.clear()
        self._judged.clear()
        self.decoded_readings = 0
        self.__dict__.pop("_series", None)
