"""Schemas from a registry: what it answers, what is kept, and what a message becomes without it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import pytest
from confluent_kafka.schema_registry import header_schema_id_serializer
from confluent_kafka.schema_registry.serde import SchemaId
from confluent_kafka.serialization import MessageField, SerializationContext
from pydantic import SecretStr

from stepstream.inputs import ErrorCode, InvalidMessage
from stepstream.inputs.framing import (
    MAX_READERS,
    UNKNOWN_S,
    FramedParser,
    frame,
    join_headers,
    read_indexes,
)
from stepstream.inputs.registry import MAX_REFERENCES, MAX_SCHEMA_BYTES, Registered, Registry
from stepstream.inputs.schemas import RegistryAwayError, SchemaError, fetch_lacking
from stepstream.settings import RegistrySettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

URL = "https://registry.example/api/"
UNKNOWN = {"error_code": 40403, "message": "Schema not found"}


def answering(*paths: Mapping[str, Any] | tuple[str, Any]) -> Callable[..., httpx.Response]:
    """Answers by path; everything else is unknown."""
    known = dict(paths)  # type: ignore[arg-type]

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode().removeprefix("/api/")
        if path in known:
            return httpx.Response(200, json=known[path])
        return httpx.Response(404, json=UNKNOWN)

    return answer


def registry(answer: Callable[[httpx.Request], httpx.Response], **settings: Any) -> Registry:
    given = RegistrySettings(**{"url": URL, **settings})
    return Registry(given, httpx.MockTransport(answer))


def test_a_schema_and_what_it_refers_to() -> None:
    asked: list[str] = []
    answers = answering(
        ("schemas/ids/7", {"schema": "A", "references": [_reference("b"), _reference("c")]}),
        ("subjects/b/versions/1", {"schema": "B", "references": [_reference("c")]}),
        ("subjects/c/versions/1", {"schema": "C"}),
    )

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return answers(request)

    one = registry(answer)
    expected = Registered("AVRO", "A", {"c.name": "C", "b.name": "B"})
    assert one.fetch(7) == one.fetch(7) == expected
    assert list(one.fetch(7).references) == ["c.name", "b.name"]
    assert asked == [
        "/api/schemas/ids/7",
        "/api/subjects/b/versions/1",
        "/api/subjects/c/versions/1",
    ]


def _reference(subject: str) -> dict[str, Any]:
    return {"name": f"{subject}.name", "subject": subject, "version": 1}


def test_a_subject_with_a_slash_is_one_part_of_the_address() -> None:
    answer = answering(
        ("schemas/ids/7", {"schema": "A", "references": [_reference("a/b ä")]}),
        ("subjects/a%2Fb%20%C3%A4/versions/1", {"schema": "B"}),
    )
    assert registry(answer).fetch(7).references == {"a/b ä.name": "B"}


def test_references_are_limited() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        number = int(request.url.path.rsplit("/", 3)[-3]) if "subjects" in str(request.url) else 0
        return httpx.Response(
            200, json={"schema": "A", "references": [_reference(str(number + 1))]}
        )

    with pytest.raises(SchemaError, match=f"over {MAX_REFERENCES} schemas"):
        registry(answer).fetch(1)


@pytest.mark.parametrize(
    ("status", "body"), [(404, UNKNOWN), (404, {"error_code": 40402}), (422, {}), (400, {})]
)
def test_only_a_registry_can_say_that_it_does_not_know_a_schema(status: int, body: Any) -> None:
    with pytest.raises(SchemaError, match="doesn't know it"):
        registry(lambda _: httpx.Response(status, json=body)).fetch(7)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, b"<html>no such page</html>", "is registry.url right"),
        (404, b'{"error_code":0}', "is registry.url right"),
        (200, b"<html>log in</html>", "is registry.url right"),
        (200, b'{"schema":7}', "is registry.url right"),
        (401, b"{}", "registry.username"),
        (403, b"", "registry.username"),
        (429, b"", "429"),
        (500, b'{"error_code":50001}', "500"),
        (503, b"", "503"),
    ],
)
def test_any_other_answer_means_that_it_is_away(status: int, body: bytes, said: str) -> None:
    with pytest.raises(RegistryAwayError, match=said):
        registry(lambda _: httpx.Response(status, content=body)).fetch(7)


@pytest.mark.parametrize(
    "error", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError]
)
def test_no_answer_means_that_it_is_away(error: type[httpx.TransportError]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error("nobody there", request=request)

    with pytest.raises(RegistryAwayError, match="nobody there"):
        registry(answer).fetch(7)


def test_an_endless_answer_is_not_read() -> None:
    with pytest.raises(SchemaError, match="bytes"):
        registry(lambda _: httpx.Response(200, content=bytes(MAX_SCHEMA_BYTES + 1))).fetch(7)


def test_the_password_is_sent_and_never_shown() -> None:
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["authorization"])
        return httpx.Response(401)

    one = registry(answer, username="house", password=SecretStr("geheim"))
    with pytest.raises(RegistryAwayError) as caught:
        one.fetch(7)
    assert sent == ["Basic aG91c2U6Z2VoZWlt"]
    assert "geheim" not in str(caught.value)
    with pytest.raises(RegistryAwayError) as caught:
        registry(lambda _: httpx.Response(500), url="https://a:geheim@registry.example").fetch(7)
    assert "geheim" not in str(caught.value)


class Upper:
    """A parser that tells which schema it was made of."""

    def __init__(self, registered: Registered) -> None:
        if registered.text == "broken":
            raise SchemaError("it is broken")
        self._text = registered.text

    def parse(self, value: bytes) -> Any:
        return {self._text: value}

    def find_layout(self, value: bytes) -> None:
        del value


def framed(schema_id: int, value: bytes = b"x") -> bytes:
    return b"\0" + schema_id.to_bytes(4) + value


def parser(clock: Callable[[], float] = lambda: 0.0) -> FramedParser:
    answer = answering(
        *((f"schemas/ids/{number}", {"schema": f"{number}"}) for number in (1, 2)),
        ("schemas/ids/3", {"schema": "broken"}),
    )
    return FramedParser(registry(answer), Upper, clock)


def test_messages_wait_for_the_schemas_that_they_name() -> None:
    one = parser()
    values = [framed(2), b"no frame", framed(1), None, framed(2), b"", framed(9)]
    assert one.lacking(values) == {2: 0, 1: 2, 9: 6}
    assert one.pending([1, 2, 9]) == [1, 2, 9]
    fetch_lacking(one, values)
    assert not one.lacking(values)
    assert not one.pending([1, 2, 9])
    assert one.parse(framed(1)) == {"1": b"x"}
    assert one.parse(framed(2, b"y")) == {"2": b"y"}


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"", ErrorCode.INVALID_ENCODING),
        (b"\0\0\0", ErrorCode.INVALID_ENCODING),
        (b'{"a": 1}', ErrorCode.INVALID_ENCODING),
        (framed(3), ErrorCode.UNKNOWN_SCHEMA),
        (framed(9), ErrorCode.UNKNOWN_SCHEMA),
        (framed((1 << 32) - 1), ErrorCode.UNKNOWN_SCHEMA),
    ],
)
def test_poison_is_refused(value: bytes, code: ErrorCode) -> None:
    one = parser()
    fetch_lacking(one, [value])
    with pytest.raises(InvalidMessage) as caught:
        one.parse(value)
    assert caught.value.code == code


def test_a_message_is_never_parsed_before_its_schema_was_asked_for() -> None:
    with pytest.raises(RuntimeError, match="schema 1 was not fetched"):
        parser().parse(framed(1))


def test_an_unknown_schema_is_asked_for_again_after_a_while() -> None:
    now_s = 0.0
    one = parser(lambda: now_s)
    fetch_lacking(one, [framed(1), framed(9)])
    now_s = UNKNOWN_S - 1
    assert not one.lacking([framed(1), framed(9)])
    now_s = UNKNOWN_S
    assert one.lacking([framed(1), framed(9)]) == {9: 1}


def test_schemas_are_registered_and_the_newest_is_found() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.raw_path == b"/api/subjects/a%2Fb-value/versions"
        assert json.loads(request.content) == {"schema": "{}", "schemaType": "AVRO"}
        return httpx.Response(200, json={"id": 7})

    assert registry(answer).register("a/b-value", Registered("AVRO", "{}", {})) == 7
    answers = answering(("subjects/b-value/versions/latest", {"schema": "B", "id": 8}))
    assert registry(answers).fetch_latest("b-value") == (8, Registered("AVRO", "B", {}))
    with pytest.raises(SchemaError, match="the registry doesn't know it"):
        registry(answers).fetch_latest("c-value")


def test_a_schema_that_is_refused_and_a_registry_that_is_away() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        return httpx.Response(409, json={"error_code": 409, "message": "not compatible"})

    schema = Registered("AVRO", "{}", {})
    with pytest.raises(SchemaError, match="the registry refuses it: not compatible"):
        registry(refuse).register("a", schema)
    with pytest.raises(RegistryAwayError, match="HTTP status 500"):
        registry(lambda _: httpx.Response(500)).register("a", schema)


def test_a_schema_that_two_register_at_once_has_one_id() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/versions"):
            return httpx.Response(409, json={"error_code": 409, "message": "already exists"})
        assert json.loads(request.content)["schema"] == "{}"
        return httpx.Response(200, json={"id": 7, "version": 1})

    assert registry(answer).register("a-value", Registered("AVRO", "{}", {})) == 7


GUID = UUID("89791762-2336-4186-9674-299b90a802e2")


def named_in_header(payload: bytes, schema: SchemaId) -> tuple[bytes, list[tuple[str, Any]]]:
    """As Confluent's serializer writes it."""
    headers: list[tuple[str, Any]] = [("other", b"x")]
    context = SerializationContext("readings", MessageField.VALUE, headers)
    return header_schema_id_serializer(payload, context, schema), headers


def test_a_schema_that_a_header_names_by_its_guid() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return answering((f"schemas/guids/{GUID}", {"schema": "A", "id": 7}))(request)

    one = FramedParser(registry(answer), Upper)
    value, headers = named_in_header(b"payload", SchemaId("AVRO", guid=str(GUID)))
    assert value == b"payload"
    # Its bytes may look like a head of their own.
    values = [value, b"\0\0\0\0\x01", None]
    joined = join_headers(values, lambda row: headers if row < 2 else [])
    assert one.lacking(joined) == {GUID: 0}
    fetch_lacking(one, joined)
    assert asked == [f"/api/schemas/guids/{GUID}"]
    assert [one.parse(each) for each in joined if each] == [{"A": each} for each in values if each]


def test_the_message_type_is_in_the_header_too() -> None:
    _, headers = named_in_header(b"", SchemaId("PROTOBUF", 1, str(GUID), [2, 1]))
    (joined,) = join_headers([b"payload"], lambda _: headers)
    assert joined == frame(GUID) + b"\x04\x04\x02payload"


@pytest.mark.parametrize("head", [b"", b"\1", frame(GUID)[:-1], b"\2" + GUID.bytes])
def test_a_header_that_names_no_schema(head: bytes) -> None:
    (joined,) = join_headers([b""], lambda _: [("__value_schema_id", head)])
    one = parser()
    assert not one.lacking([joined])
    with pytest.raises(InvalidMessage) as caught:
        one.parse(joined or b"")
    assert caught.value.code == ErrorCode.INVALID_ENCODING


def test_a_guid_that_is_unknown_or_that_the_registry_cannot_look_up() -> None:
    with pytest.raises(SchemaError, match="doesn't know it"):
        registry(answering()).fetch(GUID)

    def without_guids(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("schemas/types"):
            return httpx.Response(200, json=["AVRO"])
        return httpx.Response(404, json={"error_code": 404})

    with pytest.raises(SchemaError, match="has no schemas by GUID"):
        registry(without_guids).fetch(GUID)
    with pytest.raises(RegistryAwayError, match="with no answer of a registry"):
        registry(lambda _: httpx.Response(404)).fetch(GUID)


def test_the_schemas_that_are_kept_are_limited() -> None:
    one = parser()
    for schema_id in range(10, 10 + MAX_READERS + 5):
        one.admit(schema_id, Upper(Registered("AVRO", "A", {})))
    assert not one.pending(range(10, 16))
    one.forget()
    assert one.pending(range(10, 16)) == [10, 11, 12, 13, 14]


def test_all_schemas_of_some_messages_are_there_however_many_they_are() -> None:
    one = parser()
    values = [frame(1) + b"a", *(frame(number) for number in range(10, 10 + 2 * MAX_READERS))]
    fetch_lacking(one, values[:1])
    fetch_lacking(one, values)
    assert one.parse(values[0]) == {"1": b"a"}
    for value in values[1:]:
        with pytest.raises(InvalidMessage, match="the registry doesn't know it"):
            one.parse(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"\0rest", ((0,), 1)), (b"\x02\x04rest", ((2,), 2)), (b"\x04\x02\x00rest", ((1, 0), 3))],
)
def test_the_place_of_a_message_type(value: bytes, expected: Any) -> None:
    assert read_indexes(value) == expected


@pytest.mark.parametrize("value", [b"", b"\x02", b"\x01", b"\x7f" * 40, b"\xff" * 12, b"\x02\xff"])
def test_what_names_no_message_type(value: bytes) -> None:
    with pytest.raises(InvalidMessage) as caught:
        read_indexes(value)
    assert caught.value.code == ErrorCode.INVALID_ENCODING


def test_fields_that_are_not_needed_are_ignored() -> None:
    answer = json.dumps({"schema": "A", "schemaType": "PROTOBUF", "id": 7, "metadata": {"a": 1}})
    found = registry(lambda _: httpx.Response(200, content=answer.encode())).fetch(7)
    assert found == Registered("PROTOBUF", "A", {})
