"""An AsyncAPI document of the topics that are read and written, as the settings make them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stepstream.inputs import MAX_DEVICE_ID_BYTES, ErrorCode
from stepstream.inputs.layout import Layout
from stepstream.schemas.outputs import output_schema, output_schema_text
from stepstream.schemas.readings import readings_schema

if TYPE_CHECKING:
    from stepstream.settings import InputSettings, OutputKind, Settings

__all__ = ["describe_topics"]

CONTENT_TYPES = {
    "json": "application/json",
    "json-schema": "application/json",
    "avro": "application/avro",
    "protobuf": "application/x-protobuf",
    "msgpack": "application/msgpack",
    "cbor": "application/cbor",
    "senml": "application/senml+json",
}
AVRO = "application/vnd.apache.avro+json;version=1.9.0"
PROTOBUF = "application/vnd.google.protobuf;version=3"
KEYS: dict[str, dict[str, Any]] = {
    "text": {
        "type": "string",
        "minLength": 1,
        "description": (
            "The device id as plain text (not a JSON string), UTF-8, 1 to "
            f"{MAX_DEVICE_ID_BYTES} bytes."
        ),
    },
    "json": {"type": ["string", "integer"], "description": "The device id as JSON."},
    "int32": {"type": "integer", "format": "int32", "description": "The device id, big-endian."},
    "int64": {"type": "integer", "format": "int64", "description": "The device id, big-endian."},
    "uuid": {"type": "string", "format": "uuid", "description": "The device id, as 16 bytes."},
}
READINGS = (
    "Readings. All messages of a device must be in one partition: keyed by device, all producers "
    "of a topic use one partitioner."
)
READ_COMMITTED = (
    "Keyed by device with the partitioner murmur2_random, as Java's default. Subscribers must read "
    "with isolation level read_committed, which is not the default of Java's client, or they see "
    "records of aborted transactions."
)
OUTPUTS: dict[OutputKind, tuple[str, str, str]] = {
    "step": (
        "events",
        "A step",
        "One event for every step; its event_id is the key to deduplicate by.",
    ),
    "minute": (
        "minutes",
        "A minute of a device with a step in it",
        "One record for each minute with a step; of two with one minute_id, the later one counts.",
    ),
    "walk": (
        "walks",
        "A walk of a device",
        "One record for each time that a device walked; of two, the later one counts.",
    ),
    "count": (
        "counts",
        "The step count of a device",
        "The latest step count of each device; the topic is compacted.",
    ),
}
"""Name of the channel, title of its messages, and what they are."""
HEADERS = {
    "content-type": "Media type of the value.",
    "stepstream-topic": (
        "Topic of the readings; a device of two topics is two devices, each with its own steps."
    ),
}
CLOUDEVENT_HEADERS = {
    "ce_specversion": "Version of CloudEvents: 1.0.",
    "ce_id": "Names the record among those of its source; the same if it comes twice.",
    "ce_source": "The topic of the readings, as /stepstream/<topic>.",
    "ce_type": "stepstream.step, stepstream.minute, stepstream.walk or stepstream.count.",
    "ce_time": "When the step, minute or walk ended, RFC 3339.",
    "ce_subject": "The device id.",
}
DEAD_LETTERS = "Invalid messages, with their original key, value and headers."
TEXT = {"type": "string"}
DEAD_LETTER_HEADERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "stepstream-error": {"type": "string", "enum": [str(code) for code in ErrorCode]},
        "stepstream-error-detail": {**TEXT, "description": "What is wrong, as a sentence."},
        "stepstream-topic": TEXT,
        "stepstream-partition": TEXT,
        "stepstream-offset": TEXT,
        "stepstream-timestamp": {
            **TEXT,
            "description": "The record's time, milliseconds since the epoch.",
        },
        "stepstream-truncated": {
            **TEXT,
            "description": (
                "Only if the message was too large to be produced again: its original size in "
                "bytes. The value is then the first 64 KiB."
            ),
        },
    },
    "required": [
        "stepstream-error",
        "stepstream-error-detail",
        "stepstream-topic",
        "stepstream-partition",
        "stepstream-offset",
        "stepstream-timestamp",
    ],
}


def describe_topics(settings: Settings) -> dict[str, Any]:
    """The AsyncAPI document.

    Parameters
    ----------
    settings
        Names of topics, and how their messages are written.

    Raises
    ------
    OSError
        The file of an Avro schema can't be read.
    """
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}

    def add(
        name: str, address: str | None, action: str, said: str, message: dict[str, Any]
    ) -> None:
        messages[name] = message
        channels[name] = {
            "address": address,
            "description": said,
            "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        }
        operations[f"{action}{name[:1].upper()}{name[1:]}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{name}"},
        }

    topics = settings.topics
    for number, topic in enumerate(topics.readings):
        name = f"readings{number + 1}" if len(topics.readings) > 1 else "readings"
        is_pattern = topic in topics.patterns
        said = f"{READINGS} Topics that match {topic}." if is_pattern else READINGS
        message = _readings_message(settings.input_of(topic), settings)
        add(name, None if is_pattern else topic, "receive", said, message)
    framed: dict[str, Any] = {}
    if settings.output.format != "json":
        framed = {"schemaIdLocation": "payload", "schemaIdPayloadEncoding": "confluent"}
    headers = HEADERS | (CLOUDEVENT_HEADERS if settings.output.cloudevents else {})
    for kind, topic in topics.outputs.items():
        name, title, said = OUTPUTS[kind]
        record = {
            "title": title,
            "contentType": CONTENT_TYPES[settings.output.format],
            "headers": {
                "type": "object",
                "properties": {
                    name: {**TEXT, "description": meaning} for name, meaning in headers.items()
                },
                "required": [*headers],
            },
            "bindings": {"kafka": {"key": KEYS["text"], **framed}},
            "payload": _payload(kind, settings.output.format),
        }
        add(name, topic, "send", f"{said} {READ_COMMITTED}", record)
    letter = {
        "title": "A message that could not be read",
        "contentType": "application/octet-stream",
        "headers": DEAD_LETTER_HEADERS,
    }
    add("deadLetters", topics.dead_letters, "send", DEAD_LETTERS, letter)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "stepstream",
            "version": "1",
            "description": (
                "The input is readings of accelerometers and gyroscopes, the output is footstep "
                "events. Topic names and the form of readings are settings."
            ),
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    }


def _payload(kind: OutputKind, written: str) -> dict[str, Any]:
    if written == "avro":
        return {"schemaFormat": AVRO, "schema": json.loads(output_schema_text(kind, "avsc"))}
    if written == "protobuf":
        return {"schemaFormat": PROTOBUF, "schema": output_schema_text(kind, "proto")}
    return output_schema(kind)


def _readings_message(written: InputSettings, settings: Settings) -> dict[str, Any]:
    layout = Layout.of(written)
    key = KEYS[written.key]
    header = layout.device_id_header
    if written.device_id != "key":
        key = {"description": f"Any; the device id is at {written.device_id}."}
    kafka: dict[str, Any] = {"key": key}
    has_ids = written.format in {"avro", "protobuf"} and settings.registry.url
    if has_ids or written.format == "json-schema":
        kafka |= {"schemaIdLocation": "payload", "schemaIdPayloadEncoding": "confluent"}
    message: dict[str, Any] = {
        "title": "One reading, or several",
        "contentType": CONTENT_TYPES[written.format],
        "bindings": {"kafka": kafka},
        "payload": readings_schema(written),
    }
    if written.format == "avro" and written.schema_ is not None:
        message["payload"] = {
            "schemaFormat": AVRO,
            "schema": json.loads(written.schema_.read_bytes()),
        }
    if header is not None:
        properties = {header: {"type": "string", "description": "The device id."}}
        message["headers"] = {"type": "object", "properties": properties, "required": [header]}
    return message
