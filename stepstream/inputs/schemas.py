"""Schemas of messages: where they are needed, and what can be wrong with them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from stepstream.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "RegistryAwayError",
    "SchemaError",
    "SchemaId",
    "Schemas",
    "check_packages",
    "fetch_lacking",
]

_PACKAGES = {"avro": ("fastavro",), "protobuf": ("google.protobuf", "grpc_tools")}

SchemaId = int | UUID
"""How messages name their schema."""


class SchemaError(Exception):
    """A schema can't be used, now and later; the text says why."""


class RegistryAwayError(Exception):
    """The registry can't be asked at the moment; the text says why."""


class Schemas(Protocol):
    """The schemas that the messages of a topic name by their ids."""

    def lacking(self, values: Sequence[bytes | None]) -> dict[SchemaId, int]:
        """Ids of schemas that have to be fetched before messages can be parsed.

        Parameters
        ----------
        values
            The messages, as `join_headers` gives them.

        Returns
        -------
        dict
            For each id, the row of the first message that names it; in the order of rows.
        """

    def pending(self, schema_ids: Sequence[SchemaId]) -> list[SchemaId]:
        """Those of some ids that still have to be fetched."""

    def fetch(self, schema_id: SchemaId) -> object:
        """Ask the registry for a schema, and wait; any thread may call it.

        Returns
        -------
        object
            What `admit` takes: a reader, or why there is none.

        Raises
        ------
        RegistryAwayError
            The registry can't be asked.
        """

    def admit(self, schema_id: SchemaId, fetched: object) -> bool:
        """Use what was fetched, from now on; in the thread that parses.

        Returns
        -------
        bool
            Whether there is such a schema.
        """

    def forget(self) -> None:
        """Forget the oldest schemas if there are too many: before the next messages are looked at.

        What `lacking` found to be known has to be known until those messages are parsed.
        """


def fetch_lacking(schemas: Schemas | None, values: Sequence[bytes | None]) -> None:
    """Fetch all schemas that messages need, and wait; for callers that may wait.

    Raises
    ------
    RegistryAwayError
        The registry can't be asked.
    """
    if schemas is not None:
        schemas.forget()
        for schema_id in schemas.lacking(values):
            schemas.admit(schema_id, schemas.fetch(schema_id))


def check_packages(kind: str) -> None:
    """Check that the packages of a format are there.

    Raises
    ------
    SettingsError
        One isn't.
    """
    for package in _PACKAGES.get(kind, ()):
        if not _is_installed(package):
            raise SettingsError(
                f"input.format: {kind} needs more packages: pip install 'stepstream[{kind}]'"
            )


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False
