"""A schema registry that is slow or away, and a format whose messages need it."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from stepstream.inputs import RegistryAwayError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepstream.inputs import Decoded, InputFormat, Messages, Opened, SchemaId
    from tests.simulated.world import World

SCHEMAS = 4
AWAY = 0.5
"""Probability that a request fails while there is trouble."""
LONGEST_ANSWER_S = 2.0
LONGEST_USE_S = 20.0
"""After which a schema may have to be asked for again."""


class FormatWithSchemas:
    """The messages of another format, each of which names one of a few schemas.

    Parameters
    ----------
    inner
        The other format.
    world
        Its random numbers decide how the registry answers, and when.
    is_troubled
        Whether the registry may be away now. If it always were, schemas that are soon forgotten
        would seldom be known together.
    """

    def __init__(self, inner: InputFormat, world: World, is_troubled: Callable[[], object]) -> None:
        self._inner = inner
        self._world = world
        self._is_troubled = is_troubled
        self._known_until_s: dict[SchemaId, float] = {}
        self.requests = 0
        self.schemas = self

    def lacking(self, values: Sequence[bytes | None]) -> dict[SchemaId, int]:
        found: dict[SchemaId, int] = {}
        for row, value in enumerate(values):
            if self.pending([_schema_id(value)]):
                found.setdefault(_schema_id(value), row)
        return found

    def pending(self, schema_ids: Sequence[SchemaId]) -> list[SchemaId]:
        now_s = self._world.now_s
        return [one for one in schema_ids if self._known_until_s.get(one, 0.0) <= now_s]

    def fetch(self, schema_id: SchemaId) -> object:
        self.requests += 1
        self._world.wait(self._world.random.uniform(0, LONGEST_ANSWER_S))
        if self._is_troubled() and self._world.random.random() < AWAY:
            raise RegistryAwayError("it is away")
        return schema_id

    def admit(self, schema_id: SchemaId, fetched: object) -> bool:
        assert fetched == schema_id
        use_s = self._world.random.uniform(1, LONGEST_USE_S)
        self._known_until_s[schema_id] = self._world.now_s + use_s
        return True

    def forget(self) -> None:
        """They are forgotten in time."""

    def open(
        self, keys: Sequence[bytes | None], values: Sequence[bytes | None], headers: Any
    ) -> Opened:
        assert all(_schema_id(value) in self._known_until_s for value in values)
        return self._inner.open(keys, values, headers)

    def decode(self, messages: Messages) -> Decoded:
        return self._inner.decode(messages)


def _schema_id(value: bytes | None) -> int:
    return zlib.crc32(value or b"") % 97 % SCHEMAS
