"""The part of the chart's schema that is made from the product's settings.

``python -m tests.helm.values_schema`` puts it into helm/stepstream/values.schema.json; everything
else there is written by hand.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from stepstream.settings import RESERVED_PROPERTIES, SECRET_PROPERTY, Settings

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = ROOT / "helm" / "stepstream" / "values.schema.json"
CHART_DECIDES = {
    ("kafka", "transactional_id"),  # it has to differ from pod to pod
    ("model", "path"),  # `model` says where the file comes from
    ("model", "watch"),  # and whether pods change it while they run
    ("http", "address"),  # probes come from outside the pod
    ("http", "tls_cert"),  # `tls` names the Secret, and probes have to know
    ("http", "tls_key"),
}


def settings_schema() -> dict[str, Any]:
    """Schema of ``settings``: names, types and bounds as the product checks them."""
    groups = {}
    single = Settings.model_json_schema()["properties"]
    for group, info in Settings.model_fields.items():
        kind = info.annotation
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            groups[group] = _field(single[group])
            continue
        described = kind.model_json_schema()
        properties = {}
        for name, field in described["properties"].items():
            is_secret = "writeOnly" in json.dumps(field)
            if (group, name) not in CHART_DECIDES and not is_secret:
                properties[name] = _field(_inlined(field, described.get("$defs", {})))
        groups[group] = {
            "type": "object",
            "description": described["description"],
            "additionalProperties": False,
            "properties": properties,
        }
    # They would be in a ConfigMap that everybody can read.
    refused = {
        "anyOf": [{"enum": sorted(RESERVED_PROPERTIES)}, {"pattern": SECRET_PROPERTY.pattern}]
    }
    groups["kafka"]["properties"]["properties"]["propertyNames"] = {"not": refused}
    # Without HTTP there are no probes.
    groups["http"]["properties"]["port"]["minimum"] = 1
    return {"type": "object", "additionalProperties": False, "properties": groups}


def _inlined(field: Any, definitions: dict[str, Any]) -> Any:
    """A part of a schema with what it refers to in it: the chart's schema has no definitions."""
    if isinstance(field, list):
        return [_inlined(one, definitions) for one in field]
    if not isinstance(field, dict):
        return field
    if "$ref" in field:
        return _inlined(definitions[field["$ref"].rpartition("/")[2]], definitions)
    return {name: _inlined(one, definitions) for name, one in field.items()}


def _field(field: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in field.items() if k not in {"title", "unit"}}


def render_schema(text: str) -> str:
    """The schema with its settings as they are now."""
    schema = json.loads(text)
    schema["properties"]["settings"] = settings_schema()
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(render_schema(SCHEMA.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{SCHEMA}\n")
