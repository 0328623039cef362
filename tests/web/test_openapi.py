"""Answers are what the OpenAPI document says, also to requests that it doesn't allow."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck
from hypothesis import settings as examples
from schemathesis.specs.openapi.checks import positive_data_acceptance

from stepstream.detection import Model, default_model_path
from tests.builders import encode, reading
from tests.conftest import ROOT
from tests.web.builders import (
    consumer_without_broker,
    own,
    request,
    serve,
    settings,
    turning,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepstream.web.server import Server

DOCUMENT = json.loads((ROOT / "stepstream/web/static/openapi.json").read_text())
READINGS = DOCUMENT["paths"]["/v1/detect"]["post"]["requestBody"]["content"]["application/json"]
STREAM = "/performance/stream"
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT).exclude(path=STREAM)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made_with = settings()
    with consumer_without_broker(made_with, Model(default_model_path())) as consumer:
        own(consumer, 0)
        consumer.membership.note_assigned()
        with turning(consumer, devices=3), serve(made_with, consumer) as started:
            yield started


@SCHEMA.parametrize()
@examples(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_answers_are_what_the_document_says(case: schemathesis.Case[Any], server: Server) -> None:
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{server.port}",
        timeout=15,
        allow_redirects=False,
        # A schema can't say that the columns of a batch have the same length.
        excluded_checks=[positive_data_acceptance] if case.path == "/v1/detect" else [],
    )


@pytest.mark.parametrize("device_id", [None, "phone", "x" * 256])
def test_a_device_id_that_the_document_allows_is_accepted(
    server: Server, device_id: str | None
) -> None:
    for body in (
        reading(device_id=device_id),
        [reading(device_id=device_id)],
        {**{name: [value] for name, value in reading().items()}, "device_id": device_id},
    ):
        jsonschema.validate(body, {**READINGS["schema"], "components": DOCUMENT["components"]})
        answer = request(server, "/v1/detect", encode(body))
        assert (answer.status, answer.json["device_id"]) == (200, device_id or "device")


def test_an_empty_device_id_is_said_to_be_wrong(server: Server) -> None:
    answer = request(server, "/v1/detect", encode(reading(device_id="")))
    assert (answer.status, answer.json["error"]) == (422, "invalid-device-id")


def test_the_stream_is_what_the_document_says(server: Server) -> None:
    for query in ("", "?device=walker-1", "?since=1.5"):
        with socket.create_connection(("127.0.0.1", server.port or 0), 10) as connection:
            target = f"{STREAM}{query}".encode()
            connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = connection.recv(500)
        assert received.startswith(b"HTTP/1.1 200")
        assert b"content-type: text/event-stream" in received
    described = DOCUMENT["paths"][STREAM]["get"]["responses"]
    assert "text/event-stream" in described["200"]["content"]
    other = request(server, STREAM, b"{}")
    assert (other.status, other.headers["allow"]) == (405, "GET")
    for query in ("?device=", f"?device={'x' * 257}", "?since=yesterday"):
        assert request(server, STREAM + query).status == 400
        assert "400" in described
