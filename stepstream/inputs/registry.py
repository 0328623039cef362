"""A client of schema registries that have Confluent's API."""

from __future__ import annotations

import ssl
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import httpx
import msgspec

from stepstream.inputs.schemas import RegistryAwayError, SchemaError

if TYPE_CHECKING:
    from stepstream.inputs.schemas import SchemaId
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
    id: int = 0
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
        self._kept: OrderedDict[SchemaId, Registered] = OrderedDict()

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def fetch(self, schema_id: SchemaId) -> Registered:
        """The schema with an id, and those that it refers to.

        Raises
        ------
        SchemaError
            The registry has no such schema, or it can't be used.
        RegistryAwayError
            The registry can't be reached or doesn't answer as it should; this may pass.
        """
        if isinstance(schema_id, int) and schema_id > MAX_ID:
            raise SchemaError("an id of a schema has at most 31 bits")
        known = self._kept.get(schema_id)
        if known is not None:
            self._kept.move_to_end(schema_id)
            return known
        if isinstance(schema_id, UUID):
            found = self._with_references(self._get_by_guid(schema_id))
        else:
            found = self._with_references(self._get(f"schemas/ids/{schema_id}"))
        self._kept[schema_id] = found
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return found

    def fetch_latest(self, subject: str) -> tuple[int, Registered]:
        """The newest schema of a subject, and its id.

        Raises
        ------
        SchemaError, RegistryAwayError
            As with `fetch`.
        """
        answer = self._get(f"subjects/{_quote(subject)}/versions/latest")
        return answer.id, self._with_references(answer)

    def register(self, subject: str, schema: Registered) -> int:
        """Register a schema without references, unless the subject has it already; its id.

        Raises
        ------
        SchemaError
            The registry refuses it.
        RegistryAwayError
            As with `fetch`.
        """
        content = {"schema": schema.text, "schemaType": schema.kind}
        status, answer = self._ask("POST", f"subjects/{_quote(subject)}/versions", content)
        if status == httpx.codes.OK and answer is not None and answer.id:
            return answer.id
        if status in {*REFUSED_IDS, httpx.codes.CONFLICT}:
            # Another process may have registered it at the same moment.
            there, known = self._ask("POST", f"subjects/{_quote(subject)}", content)
            if there == httpx.codes.OK and known is not None and known.id:
                return known.id
            reason = answer.message[:200] if answer else ""
            raise SchemaError(f"the registry refuses it: {reason}")
        raise self._away(status)

    def _with_references(self, answer: _Answer) -> Registered:
        references: dict[str, str] = {}
        self._collect(answer, references, {})
        return Registered(answer.schemaType, answer.schema, references)

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
            subject = _quote(reference.subject)
            referred = self._get(f"subjects/{subject}/versions/{reference.version}")
            self._collect(referred, references, seen)
            references[reference.name] = referred.schema

    def _get(self, path: str) -> _Answer:
        status, answer = self._ask("GET", path)
        if status == httpx.codes.OK and answer is not None and answer.schema:
            return answer
        if status in REFUSED_IDS or (
            status == httpx.codes.NOT_FOUND
            and answer is not None
            and answer.error_code in UNKNOWN_CODES
        ):
            raise SchemaError("the registry doesn't know it")
        raise self._away(status)

    def _get_by_guid(self, guid: UUID) -> _Answer:
        try:
            return self._get(f"schemas/guids/{guid}")
        except RegistryAwayError:
            # Some registries have no GUIDs, and answer as if there were no such page.
            if self._ask("GET", "schemas/types")[0] != httpx.codes.OK:
                raise
        raise SchemaError("the registry has no schemas by GUID")

    def _ask(
        self, method: str, path: str, content: dict[str, str] | None = None
    ) -> tuple[int, _Answer | None]:
        try:
            with self._client.stream(method, path, json=content) as response:
                body = bytearray()
                for part in response.iter_bytes():
                    body += part
                    if len(body) > MAX_SCHEMA_BYTES:
                        raise SchemaError(f"the schema has over {MAX_SCHEMA_BYTES} bytes")
                return response.status_code, _parse(bytes(body))
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise RegistryAwayError(f"{self.url}: {_describe(error)}") from None

    def _away(self, status: int) -> RegistryAwayError:
        reason = f"HTTP status {status}"
        if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            reason += "; are registry.username and registry.password right?"
        elif status in {httpx.codes.NOT_FOUND, httpx.codes.OK}:
            reason += " with no answer of a registry; is registry.url right?"
        return RegistryAwayError(f"{self.url}: {reason}")


def _quote(subject: str) -> str:
    """A subject as one part of an address."""
    return httpx.URL("", path=subject).path.replace("/", "%2F")


def _parse(body: bytes) -> _Answer | None:
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _describe(error: Exception) -> str:
    name = type(error).__name__
    return f"{name}: {str(error)[:200]}" if str(error) else name
