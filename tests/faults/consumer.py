"""``stepstream run`` with faults, as environment variables say.

``FAULT_POINT``
    ``<before or after>:<class>.<method>:<nth call>:<what>``, a key of `POINTS`, where *what* is

    - ``kill``, ``stop`` or ``terminate``: the process sends itself SIGKILL, SIGSTOP or SIGTERM,
    - ``sleep``: it waits for longer than a transaction may last,
    - ``hang``: the call never returns, which is noticed after `HANGING_S`,
    - ``full``: the local queue is full, this time and the next 200 times,
    - ``abort``, ``fatal``: the client raises an error of that kind, instead of doing its work or
      after it was done.

``FAULT_MUTATION``
    The name of one of `MUTATIONS`: a mistake that the tests have to notice.

``FAULT_RELEASE``
    Makes it write what a later release might: ledger records with a field that this one doesn't
    know.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import time
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import confluent_kafka
import msgspec
from confluent_kafka import KafkaError, KafkaException

from stepstream import cli
from stepstream.outputs import Activities, DeviceActivity
from stepstream.streaming import connections, exactly_once, ledger_reader, preparation, starts
from stepstream.streaming.assignment import Assignment
from stepstream.streaming.at_least_once import AtLeastOnce
from stepstream.streaming.commits import Commits
from stepstream.streaming.committer import COMMITTED
from stepstream.streaming.consumer import Consumer
from stepstream.streaming.exactly_once import ExactlyOnce
from stepstream.streaming.ledger import Ledger
from stepstream.streaming.ledger_reader import LedgerReader, Scan
from stepstream.streaming.membership import Membership
from stepstream.streaming.outbox import Outbox
from stepstream.streaming.partitions import Partition, Phase
from stepstream.streaming.preparation import Preparation
from stepstream.streaming.processor import Processor
from stepstream.streaming.schema_waits import SchemaWaits

if TYPE_CHECKING:
    from collections.abc import Callable

SLEEP_S = 4.0
HANGING_S = 8.0
FULL_TIMES = 200

TROUBLES: dict[str, Callable[[], object]] = {
    # To this thread: a signal to the process may reach another one, and this one would continue.
    "kill": lambda: signal.raise_signal(signal.SIGKILL),
    "stop": lambda: signal.raise_signal(signal.SIGSTOP),
    "terminate": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "sleep": lambda: time.sleep(SLEEP_S),
    "hang": lambda: time.sleep(3600),
}


OWNERS: dict[str, tuple[type, ...]] = {
    "Assignment": (Assignment,),
    "Commits": (Commits,),
    "Committer": (ExactlyOnce, AtLeastOnce),
    "Consumer": (Consumer,),
    "LedgerReader": (LedgerReader,),
    "Partition": (Partition,),
    "Preparation": (Preparation,),
    "Processor": (Processor,),
    "Producer": (connections._Producer,),
}
POINTS = {
    "Assignment.assign": 2,
    "Preparation.turn": 100,
    "Assignment.revoke": 1,
    "Commits.add": 60,
    "Commits.commit_all": 1,
    "Commits.turn": 200,
    "Committer.commit_offsets": 60,
    "Committer.publish": 60,
    "Consumer.poll": 200,
    "LedgerReader.turn": 10,
    "Partition.note_committed": 60,
    "Partition.restore_from": 3,
    "Partition.start_at": 4,
    "Processor.process": 200,
    "Producer.init_transactions": 1,
    "Producer.begin_transaction": 60,
    "Producer.produce": 1_000,
    "Producer.send_offsets_to_transaction": 60,
    "Producer.commit_transaction": 60,
    "Producer.abort_transaction": 1,
}
"""Methods at which a fault can happen, and the least calls of each in a short life."""


def _replace(owner: object, name: str, new: object) -> None:
    patch.object(owner, name, new).start()


def _raise(what: str) -> None:
    if what == "full":
        raise BufferError("Local: Queue full")
    raise KafkaException(
        KafkaError(
            KafkaError.INVALID_PRODUCER_EPOCH if what == "abort" else KafkaError._FATAL,
            "injected",
            fatal=what == "fatal",
            txn_requires_abort=what == "abort",
        )
    )


def set_trap(point: str) -> None:
    """Wait for a call at which the fault happens."""
    moment, method, nth, what = point.split(":")
    kind, name = method.split(".")
    calls = count(1)

    def trouble() -> None:
        call = next(calls)
        hit = int(nth) <= call < int(nth) + (FULL_TIMES if what == "full" else 1)
        if not hit:
            return
        if call == int(nth):
            sys.stderr.write(f"injected: {point}\n")
            sys.stderr.flush()
        if what in TROUBLES:
            TROUBLES[what]()
        else:
            _raise(what)

    def trap(honest: Callable[..., Any]) -> Callable[..., Any]:
        def trapped(*args: Any, **kwargs: Any) -> Any:
            if moment == "before":
                trouble()
            result = honest(*args, **kwargs)
            if moment == "after":
                trouble()
            return result

        return trapped

    for owner in OWNERS[kind]:
        _replace(owner, name, trap(getattr(owner, name)))


def _replay_nothing() -> None:
    honest = starts.plan_start

    def plan(*args: Any, **kwargs: Any) -> Any:
        start = honest(*args, **kwargs)
        if start.checkpoint is None:
            return start
        return replace(start, checkpoint=replace(start.checkpoint, replay_offset=start.offset))

    _replace(preparation, "plan_start", plan)


def _forget_the_ledger() -> None:
    _replace(Ledger, "restore", lambda *_: None)


def _offsets_first() -> None:
    honest = ExactlyOnce.publish

    def publish(self: Any, results: Any, group: Any, deadline_s: float) -> Any:
        offsets_only = [replace(one, records=[], latest={}) for one in results]
        outcome = honest(self, offsets_only, group, deadline_s)
        if outcome is not COMMITTED:
            return replace(outcome, left=results)
        time.sleep(0.05)
        return honest(self, results, group, deadline_s)

    _replace(ExactlyOnce, "publish", publish)


def _drop_what_was_aborted() -> None:
    _replace(Outbox, "put_back", lambda *_: None)


def _ignore_revocation() -> None:
    honest = Partition.enter

    def enter(self: Any, phase: Phase) -> None:
        if phase is not Phase.RELEASED:
            honest(self, phase)

    _replace(Partition, "enter", enter)
    _replace(Commits, "drop", lambda *_: None)
    _replace(Commits, "commit_all", lambda *_: True)


def _drop_the_generation() -> None:
    honest = ExactlyOnce.publish

    def publish(self: Any, results: Any, _group: Any, deadline_s: float) -> Any:
        stranger = confluent_kafka.Consumer(
            {
                "bootstrap.servers": "127.0.0.1:1",
                "group.id": os.environ["STEPSTREAM_KAFKA__GROUP_ID"],
            }
        )
        return honest(self, results, stranger.consumer_group_metadata(), deadline_s)

    _replace(ExactlyOnce, "publish", publish)


def _end_ledgers_by_event_only() -> None:
    def read(self: Scan, message: Any) -> list[Partition]:
        for job in self.jobs:
            job.partition.ledger.restore(message.key(), message.value(), message.timestamp()[1])
        return []

    _replace(ledger_reader.Scan, "read", read)


def _keep_what_another_had() -> None:
    _replace(Membership, "_is_same", lambda self: bool(self._kafka.memberid()))


def _forget_open_groups() -> None:
    _replace(Activities, "restore", lambda *_: None)


def _forget_what_is_final() -> None:
    honest = Activities.restore

    def restore(self: Any, device_id: str, activity: DeviceActivity | None) -> None:
        if activity is not None:
            groups = (activity.minute, activity.walk)
            minute, walk = (g and msgspec.structs.replace(g, is_final=False) for g in groups)
            activity = msgspec.structs.replace(activity, minute=minute, walk=walk)
        honest(self, device_id, activity)

    _replace(Activities, "restore", restore)


def _skip_what_has_no_schema() -> None:
    _replace(SchemaWaits, "_seek", lambda *_: True)


MUTATIONS: dict[str, Callable[[], None]] = {
    "keep-what-another-had": _keep_what_another_had,
    "replay-nothing": _replay_nothing,
    "forget-the-ledger": _forget_the_ledger,
    "offsets-first": _offsets_first,
    "drop-what-was-aborted": _drop_what_was_aborted,
    "ignore-revocation": _ignore_revocation,
    "drop-the-generation": _drop_the_generation,
    "end-ledgers-by-event-only": _end_ledgers_by_event_only,
    "forget-open-groups": _forget_open_groups,
    "forget-what-is-final": _forget_what_is_final,
    "skip-what-has-no-schema": _skip_what_has_no_schema,
}


def _write_as_later() -> None:
    honest = Ledger.record

    def record(*args: Any) -> tuple[bytes, bytes]:
        key, value = honest(*args)
        return key, json.dumps({**json.loads(value), "added_later": [1, {"a": None}]}).encode()

    _replace(Ledger, "record", record)


def _note_consumers(made: list[Consumer]) -> None:
    honest = Consumer.run

    def run(self: Consumer) -> None:
        made.append(self)
        honest(self)

    _replace(Consumer, "run", run)


def _show(consumers: list[Consumer]) -> None:
    """Write the phase of every partition of this process's consumers to standard error."""
    for consumer in consumers:
        sys.stderr.write(f"{consumer.health}\n{consumer.commits.records} records wait\n")
        for partition in consumer.assignment.owned:
            sys.stderr.write(
                f"{partition!r}: {partition.phase}, next {partition.next_offset}, committed "
                f"{partition.committed_offset}, paused for {partition.pause_reasons}\n"
            )
    sys.stderr.flush()


if __name__ == "__main__":
    consumers: list[Consumer] = []
    _note_consumers(consumers)
    signal.signal(signal.SIGUSR2, lambda *_: _show(consumers))
    faulthandler.register(signal.SIGUSR1)
    _replace(exactly_once, "HANGING_S", HANGING_S)
    if os.environ.get("FAULT_RELEASE"):
        _write_as_later()
    if os.environ.get("FAULT_MUTATION"):
        MUTATIONS[os.environ["FAULT_MUTATION"]]()
    if os.environ.get("FAULT_POINT"):
        set_trap(os.environ["FAULT_POINT"])
    sys.argv[1:] = ["run"]
    cli.program()
