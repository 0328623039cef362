"""A group of consumers as processes, in slots, each behind a proxy of its own."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from tests.faults.proxy import Proxy
from tests.kafka.broker import Access, Broker, free_port
from tests.kafka.builders import RunProcess, TopicSet, fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from benchmarks.variants import Variant

__all__ = ["Group", "Site"]

GROUP_DEFAULTS = {"group.initial.rebalance.delay.ms": 3_000}
"""What the tests' broker sets to something else than a broker has by default."""
RESTART_S = 2.0
"""Until a consumer that ended is started again."""
GRACE_S = 30.0
"""From SIGTERM to SIGKILL, as in Kubernetes."""
TURN_S = 0.02


class Site:
    """A broker with the settings of a default one for groups, and a proxy to it for each slot.

    Parameters
    ----------
    folder
        For the broker.
    slots
        Names of those that reach it through a proxy.
    properties
        More settings of the broker.
    """

    def __init__(self, folder: Path, slots: Sequence[str], properties: Mapping[str, Any]) -> None:
        listeners = {slot: f"PROXIED{n}" for n, slot in enumerate(slots)}
        self.addresses = {slot: f"127.0.0.1:{free_port()}" for slot in slots}
        lines = {
            "inter.broker.listener.name": "DIRECT",
            **GROUP_DEFAULTS,
            **properties,
        }
        access = Access(
            {
                "DIRECT": "PLAINTEXT",
                **dict.fromkeys(listeners.values(), "PLAINTEXT"),
                "CONTROLLER": "PLAINTEXT",
            },
            "\n".join(f"{name}={value}" for name, value in lines.items()),
            advertised={listeners[slot]: self.addresses[slot] for slot in slots},
        )
        self.broker = Broker(folder, access)
        self.proxies = {
            slot: Proxy(self.addresses[slot], self.broker.addresses[listeners[slot]])
            for slot in slots
        }
        self._running = ExitStack()

    def __enter__(self) -> Self:
        self._running.callback(self.broker.kill)
        with ExitStack() as starting:
            starting.push(self._running)
            self.broker.start()
            for proxy in self.proxies.values():
                self._running.enter_context(proxy)
            starting.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def restart_broker(self, *, in_good_order: bool) -> None:
        """Stop or kill the broker, and start it at once; meanwhile nothing listens."""
        for proxy in self.proxies.values():
            proxy.refuse()
        if in_good_order:
            self.broker.stop()
        else:
            self.broker.kill()
        self.broker.start()
        for proxy in self.proxies.values():
            proxy.accept()

    def heal(self) -> None:
        """Let every proxy pass everything on."""
        for proxy in self.proxies.values():
            proxy.restore()


class Group:
    """Consumers of one group, each in a slot: a name that it keeps when it is started again.

    A consumer that ends by itself is started again after `RESTART_S`, while somebody waits in
    `pause` or `wait_for`.

    Parameters
    ----------
    site
        Where they run.
    topics
        Their topics and the group's name.
    variant
        How they are set up.
    tree
        Folder that the code of those is taken from that start from now on.
    folder
        For their logs.
    note
        Told what happens.
    """

    def __init__(
        self,
        site: Site,
        topics: TopicSet,
        variant: Variant,
        tree: Path,
        folder: Path,
        note: Callable[[str], None],
    ) -> None:
        self._site = site
        self._topics = topics
        self._variant = variant
        self.tree = tree
        self._folder = folder
        self._note = note
        self._ports = {slot: free_port() for slot in site.proxies}
        self._running: dict[str, RunProcess] = {}
        self._leaving: list[tuple[RunProcess, float]] = []
        self._due: dict[str, float] = {}
        self._starts = 0
        self.exits: list[str] = []
        """Consumers that ended otherwise than they should have."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in [*self._running.values(), *(process for process, _ in self._leaving)]:
            process.__exit__()

    def start(self, slot: str) -> None:
        """Start the consumer of a slot."""
        self._due.pop(slot, None)
        self._starts += 1
        self._running[slot] = RunProcess(
            self._topics,
            self._folder,
            f"{slot}-{self._starts}",
            **{
                "PYTHONPATH": str(self.tree),
                "STEPSTREAM_KAFKA__BOOTSTRAP_SERVERS": self._site.addresses[slot],
                "STEPSTREAM_KAFKA__TRANSACTIONAL_ID": f"{self._topics.group}-{slot}",
                "STEPSTREAM_HTTP__PORT": str(self._ports[slot]),
                # A broker that is away must not end a window: `detect` knows of no such pause.
                "STEPSTREAM_PROCESSING__IDLE_TIMEOUT_S": "120",
                **self._variant.environment_of(slot),
            },
        )

    def kill(self, slot: str) -> None:
        """SIGKILL."""
        self._due.pop(slot, None)
        process = self._running.pop(slot, None)
        if process is not None:
            process.kill()

    def freeze(self, slot: str) -> None:
        """SIGSTOP."""
        self._send(slot, signal.SIGSTOP)

    def thaw(self, slot: str) -> None:
        """SIGCONT."""
        self._send(slot, signal.SIGCONT)

    def _send(self, slot: str, number: int) -> None:
        process = self._running.get(slot)
        if process is not None:
            process.send(number)

    def ask_to_end(self, slot: str) -> None:
        """SIGTERM; SIGKILL when `GRACE_S` have passed."""
        self._due.pop(slot, None)
        process = self._running.pop(slot, None)
        if process is not None:
            process.send(signal.SIGTERM)
            self._leaving.append((process, time.monotonic() + GRACE_S))

    def end(self, slot: str) -> None:
        """SIGTERM, and wait until it has ended."""
        self.ask_to_end(slot)
        self.wait_for_leavers()

    def wait_for_leavers(self) -> None:
        """Until all that were asked to end have ended."""
        self.wait_for("ends", lambda: not self._leaving, GRACE_S + 10)

    def has_begun(self, slot: str) -> bool:
        """Whether a consumer has logged that it is about to join its group."""
        process = self._running.get(slot)
        return process is not None and " started" in process.log.read_text()

    def is_ready(self, slot: str) -> bool:
        """Whether a consumer says that it is a member, and processes all that it owns."""
        if slot not in self._running:
            return False
        try:
            return fetch(self._ports[slot], "/readyz")[0] == 200
        except OSError:
            return False

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        self.wait_for("", lambda: False, seconds)

    def wait_for(self, what: str, condition: Callable[[], bool], deadline_s: float) -> bool:
        """Whether something became true in time; if not, it is noted by its name, if it has one."""
        end_s = time.monotonic() + deadline_s
        while not condition():
            if time.monotonic() > end_s:
                if what:
                    self._note(f"not within {deadline_s:.0f} s: {what}")
                return False
            self._watch()
            time.sleep(min(TURN_S, max(0.0, end_s - time.monotonic())))
        return True

    def _watch(self) -> None:
        """Look after consumers that ended, or don't end."""
        now_s = time.monotonic()
        for slot, process in list(self._running.items()):
            if process.exit_code is not None:
                del self._running[slot]
                self._note_exit(process, process.exit_code)
                self._due[slot] = now_s + RESTART_S
        for process, killed_s in list(self._leaving):
            if process.exit_code is None and now_s > killed_s:
                process.kill()
            code = process.exit_code
            if code is not None:
                self._leaving.remove((process, killed_s))
                # The signal itself ends one that has only just begun.
                if code not in {0, -signal.SIGTERM}:
                    self._note_exit(process, code)
        for slot in [slot for slot, due_s in self._due.items() if due_s < now_s]:
            self.start(slot)

    def _note_exit(self, process: RunProcess, code: int) -> None:
        last = (process.log.read_text().splitlines() or [""])[-1]
        self.exits.append(f"{process.name}: exit code {code}: {last}")
        self._note(f"ended: {self.exits[-1]}")
