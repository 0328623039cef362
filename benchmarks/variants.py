"""Ways to set up the consumers of a group that are compared with each other."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["VARIANTS", "Variant", "parse_variant"]


@dataclass(frozen=True)
class Variant:
    """How consumers are set up, and their broker.

    Attributes
    ----------
    protocol
        Rebalance protocol, ``classic`` or ``consumer``; without one, what the tree has as default.
    static
        Whether each slot has a ``group.instance.id`` of its own.
    properties
        librdkafka properties of the consumers.
    environment
        More settings of the consumers; ``{slot}`` in a value stands for the consumer's slot.
    broker
        Settings of the broker that differ from its defaults.
    """

    protocol: str | None = None
    static: bool = False
    properties: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    broker: Mapping[str, Any] = field(default_factory=dict)

    def environment_of(self, slot: str) -> dict[str, str]:
        """Environment variables of the consumer in a slot."""
        properties = dict(self.properties)
        if self.static:
            properties["group.instance.id"] = slot
        found = {name: value.replace("{slot}", slot) for name, value in self.environment.items()}
        if self.protocol:
            found["STEPSTREAM_KAFKA__GROUP_PROTOCOL"] = self.protocol
        if properties:
            found["STEPSTREAM_KAFKA__PROPERTIES"] = json.dumps(properties)
        return found


SHORT = {"session.timeout.ms": 6_000, "max.poll.interval.ms": 15_000}
"""The shortest session that a broker allows by default."""
STATIC = {"session.timeout.ms": 10_000, "max.poll.interval.ms": 15_000}
BROKER_10_S = {
    "group.consumer.min.session.timeout.ms": 6_000,
    "group.consumer.session.timeout.ms": 10_000,
    "group.consumer.min.heartbeat.interval.ms": 1_000,
    "group.consumer.heartbeat.interval.ms": 1_000,
}
"""Under the ``consumer`` protocol both times are the broker's."""

VARIANTS = {
    "defaults": Variant(),
    "classic": Variant("classic"),
    "classic-static": Variant("classic", static=True),
    "classic-6s": Variant("classic", properties=SHORT),
    "classic-static-10s": Variant("classic", static=True, properties=STATIC),
    "consumer": Variant("consumer"),
    "consumer-static": Variant("consumer", static=True),
    "consumer-10s": Variant("consumer", broker=BROKER_10_S),
    "consumer-static-10s": Variant("consumer", static=True, broker=BROKER_10_S),
}
"""``defaults`` sets nothing at all; the others name the protocol, then what differs."""


def parse_variant(text: str) -> tuple[str, Variant]:
    """A variant and its name, from one of `VARIANTS` or from ``NAME={...}``.

    Raises
    ------
    ValueError
        There is no such variant, or what is given is no JSON object of a variant's attributes.
    """
    name, given, content = text.partition("=")
    if not given:
        if name not in VARIANTS:
            raise ValueError(f"no variant {name}; there are {', '.join(VARIANTS)}, or NAME=JSON")
        return name, VARIANTS[name]
    attributes = json.loads(content)
    known = {attribute.name for attribute in fields(Variant)}
    if not isinstance(attributes, dict) or not attributes.keys() <= known:
        raise ValueError(f"variant {name}: expected a JSON object with some of {sorted(known)}")
    return name, Variant(**attributes)
