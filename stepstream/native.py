"""The compiled decoder, `stepstream-native`, if it is installed beside this package.

It only makes decoding faster; Python decodes the same without it. One of another release is not
used.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from stepstream import __version__

__all__ = ["decoder_name", "find_native"]

_DISTRIBUTION, _MODULE = "stepstream-native", "stepstream_native"


def decoder_name() -> str:
    """What decodes JSON: ``native``, ``python``, or ``python, because ...``."""
    try:
        found = version(_DISTRIBUTION)
    except PackageNotFoundError:
        return "python"
    if found != __version__:
        return f"python, because {_DISTRIBUTION} {found} is of another release"
    return "native"


@lru_cache
def find_native() -> Any:
    """The module, or None if there is none of this release."""
    return import_module(_MODULE) if decoder_name() == "native" else None
