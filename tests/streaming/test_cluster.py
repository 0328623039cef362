"""The admin client is replaced if only a new one gets an answer."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from stepstream.settings import Settings
from stepstream.streaming.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Mapping

OUTDATED = [KafkaError._TIMED_OUT, KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH]


class Admin:
    """Fails the first requests for offsets."""

    def __init__(self, code: int | None) -> None:
        self.code = code

    def poll(self, _timeout_s: float) -> None:
        """Nothing to do."""

    def list_offsets(self, request: Mapping[Any, Any], **_: object) -> dict[Any, Future[Any]]:
        future: Future[Any] = Future()
        if self.code is None:
            (partition,) = request
            partition.offset = 7
            future.set_result(partition)
        else:
            future.set_exception(KafkaException(KafkaError(self.code)))
        return dict.fromkeys(request, future)


@pytest.mark.parametrize("code", [*OUTDATED, KafkaError.TOPIC_AUTHORIZATION_FAILED])
def test_a_client_that_knows_brokers_of_old_is_replaced(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    admins = iter([Admin(code), Admin(None)])
    monkeypatch.setattr(Cluster, "_make_admin", lambda _: next(admins))
    cluster = Cluster(Settings())
    with pytest.raises(KafkaException) as raised:
        cluster.offsets([("readings", 0)], at_end=True)
    assert raised.value.args[0].code() == code
    if code in OUTDATED:
        found = cluster.offsets([("readings", 0)], at_end=True)
        assert list(found.values()) == [7]
    else:
        assert next(admins).code is None
