"""A client of schema registries that have Confluent's API."""

from __future__ import annotations

import ssl
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import msgspec

from stepstream.inputs.schemas import RegistryAwayError, SchemaError

if TYPE_CHECKING:
    from stepstream.settings import RegistrySettings

__all__ = ["Registered", "Registry"]

TIMEOUT_S = 5.0
"""Of a connection, and of each wait for an answer."""
MAX_SCHEMA_BYTES = 1 << 20
MAX_REFERENCES = 100
"""Schemas that one schema may refer to, directly or not."""
MAX_ID = (1 << 31) - 1
"""Registries answer to higher ids as if they had no such page."""
MAX_KEPT = 1_000
"""Schemas that are kept as text."""
UNKNOWN_CODES = {40401, 40402, 40403}
"""What a registry answers with 404: it knows no such subject, version or schema. Any other 404 is
from something that isn't a registry."""
REFUSED_IDS = {400, 422}
"""Answers to an id that can't be one."""


@dataclass(frozen=True)
class Registered:
    """A schema of the registry.

    Attributes
    ----------
    kind
        ``AVRO``, ``PROTOBUF`` or ``JSON``.
    text
        The schema itself.
    references
        The schemas that it refers to, by the names that it uses; those that others refer to first.
    """

    kind: str
    text: str
    references: dict[str, str]


class _Reference(msgspec.Struct):
    name: str
    subject: str
    version: int


class _Answer(msgspec.Struct):
    schema: str = ""
    schemaType: str = "AVRO"  # noqa: N815 - the API's name
    references: list[_Reference] | None = None
    error_code: int = 0
    message: str = ""


_decode = msgspec.json.Decoder(_Answer).decode


class Registry:
    """Looks schemas up; every call waits for the answer.

    Parameters
    ----------
    settings
        Where the registry is, and who asks.
    transport
        Makes the requests; by default over the network.
    """

    def __init__(
        self, settings: RegistrySettings, transport: httpx.BaseTransport | None = None
    ) -> None:
        url = httpx.URL(settings.url or "")
        self.url = str(url.copy_with(username=None, password=None))
        """Its address, without what may be secret."""
        password = settings.password
        verify: ssl.SSLContext | bool = True
        if settings.ca_location is not None:
            verify = ssl.create_default_context(cafile=str(settings.ca_location))
        self._client = httpx.Client(
            base_url=url,
            auth=(settings.username or "", password.get_secret_value()) if password else None,
            verify=verify,
            timeout=TIMEOUT_S,
            headers={"accept": "application/vnd.schemaregistry.v1+json, application/json"},
            transport=transport,
        )
        self._kept: OrderedDict[int, Registered] = OrderedDict()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def fetch(self, schema_id: int) -> Registered:
        """The schema with an id, and those that it refers to.

        Raises
        ------
        SchemaError
            The registry has no such schema, or it can't be used.
        RegistryAwayError
            The registry can't be reached or doesn't answer as it should; this may pass.
        """
        if schema_id > MAX_ID:
            raise SchemaError("an id of a schema has at most 31 bits")
        known = self._kept.get(schema_id)
        if known is not None:
            self._kept.move_to_end(schema_id)
            return known
        answer = self._get(f"schemas/ids/{schema_id}")
        references: dict[str, str] = {}
        self._collect(answer, references, {})
        found = Registered(answer.schemaType, answer.schema, references)
        self._kept[schema_id] = found
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return found

    def _collect(
        self, answer: _Answer, references: dict[str, str], seen: dict[tuple[str, int], bool]
    ) -> None:
        for reference in answer.references or ():
            place = reference.subject, reference.version
            if place in seen:
                continue
            seen[place] = True
            if len(seen) > MAX_REFERENCES:
                raise SchemaError(f"it refers to over {MAX_REFERENCES} schemas")
            subject = httpx.URL("", path=reference.subject).path.replace("/", "%2F")
            referred = self._get(f"subjects/{subject}/versions/{reference.version}")
            self._collect(referred, references, seen)
            references[reference.name] = referred.schema

    def _get(self, path: str) -> _Answer:
        try:
            with self._client.stream("GET", path) as response:
                body = bytearray()
                for part in response.iter_bytes():
                    body += part
                    if len(body) > MAX_SCHEMA_BYTES:
                        raise SchemaError(f"the schema has over {MAX_SCHEMA_BYTES} bytes")
                status = response.status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise RegistryAwayError(f"{self.url}: {_describe(error)}") from None
        answer = _parse(bytes(body))
        if status == httpx.codes.OK and answer is not None and answer.schema:
            return answer
        if status in REFUSED_IDS or (
            status == httpx.codes.NOT_FOUND
            and answer is not None
            and answer.error_code in UNKNOWN_CODES
        ):
            raise SchemaError("the registry doesn't know it")
        reason = f"HTTP status {status}"
        if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            reason += "; are registry.username and registry.password right?"
        elif status in {httpx.codes.NOT_FOUND, httpx.codes.OK}:
            reason += " with no answer of a registry; is registry.url right?"
        raise RegistryAwayError(f"{self.url}: {reason}")


def _parse(body: bytes) -> _Answer | None:
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _describe(error: Exception) -> str:
    name = type(error).__name__
    return f"{name}: {str(error)[:200]}" if str(error) else name
