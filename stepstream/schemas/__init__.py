"""Descriptions of messages for other programs: JSON Schema and AsyncAPI."""

from stepstream.schemas.asyncapi import describe_topics
from stepstream.schemas.outputs import output_schema, output_schema_text
from stepstream.schemas.readings import readings_schema

__all__ = ["describe_topics", "output_schema", "output_schema_text", "readings_schema"]
