"""The reference of all settings: ``python -m stepstream.settings_reference > docs/settings.md``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal, get_args, get_origin

from pydantic import BaseModel

from stepstream.settings import ENV_PREFIX, Settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = ["render_reference"]

INTRODUCTION = """\
# Settings

Each setting has an environment name and a flag: `STEPSTREAM_KAFKA__GROUP_ID=steps` and
`--kafka.group-id steps` do the same. A flag overrides the environment, and the environment
overrides a `.env` file in the working directory. stepstream doesn't start if a `STEPSTREAM_`
variable belongs to no setting.

For example, two consumers of a topic whose accelerations are in g, with a password from a file:

    export STEPSTREAM_KAFKA__BOOTSTRAP_SERVERS=kafka-1:9092,kafka-2:9092
    export STEPSTREAM_KAFKA__SASL_PASSWORD_FILE=/run/secrets/kafka
    stepstream run --topics.readings phones --input.accel-unit g --workers 2

This page is generated: `python -m stepstream.settings_reference > docs/settings.md`.
"""
HEADER = "| setting | default | meaning |\n| --- | --- | --- |\n"


def render_reference() -> str:
    """All settings as Markdown, a table a group, and one for those without a group."""
    parts = [INTRODUCTION]
    single = []
    for setting, info in Settings.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            parts.append(f"\n## {setting}\n\n{kind.__doc__}\n\n{HEADER}")
            parts += [
                _row((setting, field.alias or name), field)
                for name, field in kind.model_fields.items()
            ]
        else:
            single.append(_row((setting,), info))
    return "".join([*parts, f"\n## others\n\nThey are in no group.\n\n{HEADER}", *single])


def _row(path: tuple[str, ...], field: FieldInfo) -> str:
    variable = f"{ENV_PREFIX}{'__'.join(path)}".upper()
    flag = f"--{'.'.join(path).replace('_', '-')}"
    extra = field.json_schema_extra
    unit = f" {extra['unit']}" if isinstance(extra, dict) else ""
    default = field.get_default(call_default_factory=True)
    if isinstance(default, tuple):
        default = ",".join(default)
    shown = "" if default in (None, "", {}) else f"`{default}`{unit}"
    meaning = (field.description or "").replace("|", "\\|")
    choices = _choices(field.annotation)
    if choices:
        meaning += f" One of {choices}."
    return f"| `{variable}`<br>`{flag}` | {shown} | {meaning} |\n"


def _choices(annotation: object) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(annotation))
    return ""


if __name__ == "__main__":
    sys.stdout.write(render_reference())
