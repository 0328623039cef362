"""What is done to a group of consumers and to its broker, by a schedule that a seed decides."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from benchmarks.group import Group, Site

__all__ = ["FAULTS", "USUAL", "Fault", "Stage", "schedule"]

BACK_S = 2.0
"""Until a consumer that was killed is started again."""
JOINING_S = 0.5
"""From the moment at which a consumer is about to join its group: it is most likely joining."""
FROZEN_S = 3.0
LATER_S = 10.0
"""From a consumer that leaves to another that comes."""
CUT_S = 5.0
START_S = 20.0
"""Longest time until a process is about to join its group."""
READY_S = 30.0
"""Longest time that a rolling restart waits for a consumer, before it goes on."""
REPLACED_S = 2.0
"""Until a pod that ended is replaced by one that starts."""
SETTLED_S = 10.0
"""For which a pod must be ready before the next is replaced: the chart's minReadySeconds."""


@dataclass(frozen=True)
class Stage:
    """Where faults happen.

    Attributes
    ----------
    site
        Broker and proxies.
    group
        The consumers.
    slots
        Those that always have a consumer.
    spare
        The slot of one that joins and leaves.
    every_s
        Time from a fault to the next.
    mark
        Told what begins now: a kind of fault, and to whom.
    tree
        The checkout that an upgrade leads to.
    """

    site: Site
    group: Group
    slots: tuple[str, ...]
    spare: str
    every_s: float
    mark: Callable[[str, str], None]
    tree: Path


def crash(stage: Stage, random: Random) -> None:
    """One is killed, and back after two seconds."""
    slot = random.choice(stage.slots)
    stage.mark("crash", slot)
    stage.group.kill(slot)
    stage.group.pause(BACK_S)
    stage.group.start(slot)


def storm(stage: Stage, random: Random) -> None:
    """All but one are killed; back after two seconds; killed while they join; back again."""
    spared = random.choice(stage.slots)
    slots = [slot for slot in stage.slots if slot != spared]
    group = stage.group
    stage.mark("storm", ", ".join(slots))
    for slot in slots:
        group.kill(slot)
    group.pause(BACK_S)
    for slot in slots:
        group.start(slot)
    group.wait_for("about to join", lambda: all(map(group.has_begun, slots)), START_S)
    group.pause(JOINING_S)
    for slot in slots:
        group.kill(slot)
    group.pause(BACK_S)
    for slot in slots:
        group.start(slot)


def freeze(stage: Stage, random: Random) -> None:
    """One is stopped for three seconds."""
    slot = random.choice(stage.slots)
    stage.mark("freeze", slot)
    stage.group.freeze(slot)
    stage.group.pause(FROZEN_S)
    stage.group.thaw(slot)


def leave_and_join(stage: Stage, random: Random) -> None:
    """One is asked to end; ten seconds later another comes in its place."""
    slot = random.choice(stage.slots)
    stage.mark("leave-join", slot)
    stage.group.ask_to_end(slot)
    stage.group.pause(min(LATER_S, stage.every_s / 2))
    stage.group.wait_for_leavers()
    stage.group.start(slot)


def rolling(stage: Stage, random: Random) -> None:
    """One after the other is asked to end and started again; the next when it is ready."""
    slots = random.sample(stage.slots, len(stage.slots))
    group = stage.group
    stage.mark("rolling", ", ".join(slots))
    for slot in slots:
        group.end(slot)
        group.start(slot)
        group.wait_for(f"{slot} ready", lambda: group.is_ready(slot), READY_S)  # noqa: B023 - called at once


def upgrade(stage: Stage, _random: Random) -> None:
    """As a StatefulSet does it: the last ends, its successor starts, is ready, and stays so."""
    slots = stage.slots[::-1]
    group = stage.group
    stage.mark("upgrade", ", ".join(slots))
    group.tree = stage.tree
    for slot in slots:
        group.end(slot)
        group.pause(REPLACED_S)
        group.start(slot)
        group.wait_for(f"{slot} ready", lambda: group.is_ready(slot), READY_S)  # noqa: B023 - called at once
        group.pause(SETTLED_S)


def join(stage: Stage, _random: Random) -> None:
    """One more comes, and leaves in the middle of the time until the next fault."""
    stage.mark("join", stage.spare)
    stage.group.start(stage.spare)
    stage.group.pause(stage.every_s / 2)
    stage.mark("leave", stage.spare)
    stage.group.end(stage.spare)


def kill_broker(stage: Stage, _random: Random) -> None:
    """The broker is killed and started at once."""
    stage.mark("broker-kill", "")
    stage.site.restart_broker(in_good_order=False)


def restart_broker(stage: Stage, _random: Random) -> None:
    """The broker is stopped in good order and started at once."""
    stage.mark("broker-restart", "")
    stage.site.restart_broker(in_good_order=True)


def cut_one(stage: Stage, random: Random) -> None:
    """Nothing passes between the broker and one consumer for five seconds."""
    _cut(stage, "cut", (random.choice(stage.slots),))


def cut_all(stage: Stage, _random: Random) -> None:
    """Nothing passes between the broker and any consumer for five seconds."""
    _cut(stage, "cut-all", stage.slots)


def _cut(stage: Stage, kind: str, slots: tuple[str, ...]) -> None:
    stage.mark(kind, ", ".join(slots))
    for slot in slots:
        stage.site.proxies[slot].stall()
    stage.group.pause(CUT_S)
    stage.site.heal()


FAULTS: dict[str, Callable[[Stage, Random], None]] = {
    "crash": crash,
    "storm": storm,
    "freeze": freeze,
    "leave-join": leave_and_join,
    "rolling": rolling,
    "upgrade": upgrade,
    "join": join,
    "broker-kill": kill_broker,
    "broker-restart": restart_broker,
    "cut": cut_one,
    "cut-all": cut_all,
}
"""Kinds of faults; while ``join`` lasts, a second one, ``leave``, begins."""
USUAL = tuple(kind for kind in FAULTS if kind != "upgrade")
"""Those that happen if none are named."""


@dataclass(frozen=True)
class Fault:
    """A fault of a schedule, the same whatever came before it."""

    kind: str
    seed: str

    def happen(self, stage: Stage) -> None:
        """Do it; returns when it is over, not when the group has recovered."""
        FAULTS[self.kind](stage, Random(self.seed))  # noqa: S311 - it hides nothing


def schedule(seed: int, kinds: Iterable[str]) -> list[Fault]:
    """Faults of some kinds, in an order that the seed decides."""
    ordered = list(kinds)
    Random(seed).shuffle(ordered)  # noqa: S311 - it hides nothing
    return [Fault(kind, f"{seed}-{kind}-{n}") for n, kind in enumerate(ordered)]
