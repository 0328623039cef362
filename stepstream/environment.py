"""The environment variables of the settings, and a check for misspelt ones."""

from __future__ import annotations

import difflib
import json
import os
from typing import TYPE_CHECKING

from dotenv import dotenv_values
from pydantic import BaseModel

from stepstream.errors import SettingsError
from stepstream.settings import ENV_FILE, ENV_PREFIX, Settings

if TYPE_CHECKING:
    from pydantic_settings import SettingsError as SourceError

__all__ = ["check_environment", "environment_names", "explain_source"]


def environment_names() -> list[str]:
    """Names of all environment variables that stepstream reads, in the order of the settings."""
    names = []
    for setting, info in Settings.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            names += [
                f"{ENV_PREFIX}{setting}__{field.alias or name}".upper()
                for name, field in kind.model_fields.items()
            ]
        else:
            names.append(f"{ENV_PREFIX}{setting}".upper())
    return names


def check_environment() -> None:
    """Refuse ``STEPSTREAM_`` variables, in the environment or ``.env``, that no setting reads.

    Raises
    ------
    SettingsError
        A name is unknown; the message gives the nearest right one.
    """
    known = environment_names()
    given = {**dict.fromkeys(dotenv_values(ENV_FILE), ENV_FILE), **dict.fromkeys(os.environ, "")}
    for name, source in given.items():
        upper = name.upper()
        if not upper.startswith(ENV_PREFIX) or upper in known:
            continue
        nearest = difflib.get_close_matches(upper, known, n=1, cutoff=0.0)
        where = f" in {source}" if source else ""
        raise SettingsError(f"{name}{where} is not a setting; did you mean {nearest[0]}?")


def explain_source(error: SourceError) -> str:
    """What is wrong with the value of a variable, without the value, which may be a secret."""
    cause = error.__cause__
    if isinstance(cause, json.JSONDecodeError):
        known = environment_names()
        for name, value in {**dotenv_values(ENV_FILE), **os.environ}.items():
            if value == cause.doc and name.upper() in known:
                return f"{name} is not JSON: {cause.msg} (character {cause.pos + 1})"
    return str(error)
