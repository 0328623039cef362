"""``stepstream run`` with something that goes wrong in it, as two environment variables say.

``FAULT_POINT``
    ``<before or after>:<Consumer or Producer>.<method>:<nth call>:<what>``, where *what* is

    - ``kill`` or ``stop``: the process sends itself SIGKILL or SIGSTOP,
    - ``sleep``: it waits for longer than a transaction may take,
    - ``hang``: it never comes back, which is noticed after `HANGING_S`,
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
import gc
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
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from stepstream import cli
from stepstream.streaming import commits, consumer, ledger, outbox, restoring

if TYPE_CHECKING:
    from collections.abc import Callable

SLEEP_S = 4.0
HANGING_S = 8.0
FULL_TIMES = 200

CONSUMER_METHODS = {
    "_poll": 200,
    "_prepare_assigned": 100,
    "_note_positions": 3,
    "_plan": 4,
    "_begin": 4,
    "_process": 200,
    "_begin_commit": 60,
    "_commit": 60,
    "_finish_commit": 200,
    "_on_assign": 2,
    "_on_revoke": 1,
    "_forget": 1,
}
PRODUCER_METHODS = {
    "init_transactions": 1,
    "begin_transaction": 60,
    "produce": 1_000,
    "send_offsets_to_transaction": 60,
    "commit_transaction": 60,
    "abort_transaction": 1,
}
"""Methods at which something can go wrong, and how many calls a short life sees at least."""

TROUBLES: dict[str, Callable[[], object]] = {
    # To this thread: a signal to the process may reach another one, while this one goes on.
    "kill": lambda: signal.raise_signal(signal.SIGKILL),
    "stop": lambda: signal.raise_signal(signal.SIGSTOP),
    "sleep": lambda: time.sleep(SLEEP_S),
    "hang": lambda: time.sleep(3600),
}


class _Producer(confluent_kafka.Producer):
    """A producer whose methods can be replaced, which those of the real one can't."""


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
    """Wait for a call at which something goes wrong."""
    moment, method, nth, what = point.split(":")
    kind, name = method.split(".")
    owner = {"Consumer": consumer.Consumer, "Producer": _Producer}[kind]
    honest = getattr(owner, name)
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

    def trapped(*args: Any, **kwargs: Any) -> Any:
        if moment == "before":
            trouble()
        result = honest(*args, **kwargs)
        if moment == "after":
            trouble()
        return result

    _replace(owner, name, trapped)


def _replay_nothing() -> None:
    honest = restoring.plan_start

    def plan(*args: Any) -> restoring.Start:
        start = honest(*args)
        if start.checkpoint is None:
            return start
        return replace(start, checkpoint=replace(start.checkpoint, replay_offset=start.offset))

    _replace(consumer, "plan_start", plan)


def _forget_the_ledger() -> None:
    _replace(ledger.Ledger, "restore", lambda *_: None)


def _offsets_first() -> None:
    honest = commits.ExactlyOnce._transact

    def transact(self: Any, taken: Any, group: Any, deadline_s: float) -> None:
        offsets_only = [replace(s, events=[], dead_letters=[], state={}) for s in taken]
        honest(self, offsets_only, group, deadline_s)
        time.sleep(0.05)
        honest(self, taken, group, deadline_s)

    _replace(commits.ExactlyOnce, "_transact", transact)


def _drop_what_was_aborted() -> None:
    _replace(outbox.Outbox, "put_back", lambda *_: None)


def _ignore_revocation() -> None:
    def on_revoke(self: Any, _consumer: Any, revoked: Any) -> None:
        self._kafka.incremental_unassign(revoked)

    _replace(consumer.Consumer, "_on_revoke", on_revoke)
    _replace(consumer.Consumer, "_on_lost", on_revoke)


def _drop_the_generation() -> None:
    honest = consumer.Consumer._begin_commit

    def begin_commit(self: Any, timeout_s: float) -> None:
        stranger = confluent_kafka.Consumer(
            {"bootstrap.servers": "127.0.0.1:1", "group.id": self._settings.kafka.group_id}
        )

        class Kafka:
            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def consumer_group_metadata(self) -> Any:
                return stranger.consumer_group_metadata()

        real = self._kafka
        self._kafka = Kafka()
        try:
            honest(self, timeout_s)
        finally:
            self._kafka = real

    _replace(consumer.Consumer, "_begin_commit", begin_commit)


MUTATIONS: dict[str, Callable[[], None]] = {
    "replay-nothing": _replay_nothing,
    "forget-the-ledger": _forget_the_ledger,
    "offsets-first": _offsets_first,
    "drop-what-was-aborted": _drop_what_was_aborted,
    "ignore-revocation": _ignore_revocation,
    "drop-the-generation": _drop_the_generation,
}


def _write_as_later() -> None:
    honest = ledger.Ledger.record

    def record(*args: Any) -> tuple[bytes, bytes]:
        key, value = honest(*args)
        return key, json.dumps({**json.loads(value), "added_later": [1, {"a": None}]}).encode()

    _replace(ledger.Ledger, "record", record)


def _show_partitions(*_: object) -> None:
    """Where every partition of this process's consumers stands, to standard error."""
    for owner in [o for o in gc.get_objects() if isinstance(o, consumer.Consumer)]:
        kafka = owner._kafka
        waiting = f"{len(owner.outbox)} records wait, empty: {owner.outbox.is_empty}"
        sys.stderr.write(f"member {kafka.memberid()!r}, {owner._running_commit}, {waiting}\n")
        for partition in owner.partitions.values():
            (at,) = kafka.position([TopicPartition(partition.topic, partition.number)])
            sys.stderr.write(
                f"{partition!r}: {partition.phase}, next {partition.next_offset}, committed "
                f"{partition.committed_offset}, position {at.offset}, paused {owner._paused}\n"
            )
    sys.stderr.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR2, _show_partitions)
    faulthandler.register(signal.SIGUSR1)
    _replace(commits, "HANGING_S", HANGING_S)
    _replace(consumer, "Producer", _Producer)
    if os.environ.get("FAULT_RELEASE"):
        _write_as_later()
    if os.environ.get("FAULT_MUTATION"):
        MUTATIONS[os.environ["FAULT_MUTATION"]]()
    if os.environ.get("FAULT_POINT"):
        set_trap(os.environ["FAULT_POINT"])
    sys.argv[1:] = ["run"]
    cli.program()
