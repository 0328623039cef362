"""A parent's server with workers behind it: consumers in this process, without a broker."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from stepstream.detection import Model, default_model_path
from stepstream.web.app import make_app
from stepstream.web.server import Server
from stepstream.web.workers.app import WorkersApp
from tests.web.builders import consumer_without_broker, own, settings, turning
from tests.workers.builders import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepstream.settings import Settings
    from stepstream.streaming.consumer import Consumer

WORKERS = 2


class Front(NamedTuple):
    """A parent's server, the workers behind it, and what it knows of their processes."""

    server: Server
    app: WorkersApp
    consumers: list[Consumer]
    paths: list[Path]
    world: World


@contextmanager
def served_workers(made_with: Settings) -> Iterator[Front]:
    """Worker 0 has partition 0, where devices walk; worker 1 has the others."""
    with ExitStack() as stack:
        # Paths of sockets have to be short.
        folder = Path(stack.enter_context(TemporaryDirectory()))
        world = World(WORKERS)
        world.steady = set(range(WORKERS))
        consumers, paths = [], []
        for worker, numbers in enumerate(([0], [1, 2, 3])):
            inner = settings()
            consumer = stack.enter_context(
                consumer_without_broker(inner, Model(default_model_path()))
            )
            for number in numbers:
                own(consumer, number)
            consumer.membership.note_assigned()
            stack.enter_context(turning(consumer, devices=0 if worker else 3))
            path = folder / f"{worker}.sock"
            stack.enter_context(Server(inner.http, make_app(inner, consumer), path))
            consumers.append(consumer)
            paths.append(path)
        app = WorkersApp(made_with, world.supervisor, paths)
        server = stack.enter_context(Server(made_with.http, app))
        world.pass_time(1)
        yield Front(server, app, consumers, paths, world)
