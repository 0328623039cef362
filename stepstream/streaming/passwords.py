"""The SASL password in a file that may be replaced while clients live."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from threading import Lock, Thread
from typing import TYPE_CHECKING, Protocol, TypeVar
from weakref import WeakSet

from stepstream.files import FileWatch
from stepstream.logs import hide_too
from stepstream.settings import read_secret_file

if TYPE_CHECKING:
    from pydantic import SecretStr

    from stepstream.settings import KafkaSettings

__all__ = ["Passwords"]

logger = logging.getLogger(__name__)

LOOK_INTERVAL_S = 1.0
RENEWABLE = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
"""Mechanisms whose password a client takes while it lives."""


class Client(Protocol):
    """Any client of librdkafka."""

    def set_sasl_credentials(self, username: str, password: str) -> None:
        """Use them for new connections; those that are open stay."""


ClientT = TypeVar("ClientT", bound=Client)


class Passwords:
    """Gives clients the password that its file has now; a thread looks at it once a second.

    Parameters
    ----------
    kafka
        User, password and its file; without a file nothing is done.

    Attributes
    ----------
    renewed
        The newest password of those that came later, None before the first.

    Notes
    -----
    Calls of one consumer wait for each other, and one from another thread may wait for a gap
    between two polls forever (confluent-kafka 2.16). So a consumer takes a password itself, before
    it is polled; all other clients get it from the thread that has read it.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._user = kafka.sasl_username or ""
        self._clients: WeakSet[Client] = WeakSet()
        self._lock = Lock()
        self.renewed: SecretStr | None = None
        file = kafka.sasl_password_file
        if file is not None and kafka.sasl_mechanism in RENEWABLE:
            self._file, self._watch = file, FileWatch(file)
            Thread(target=self._run, name="password", daemon=True).start()

    def give(self, client: ClientT) -> ClientT:
        """The client, no consumer, which gets passwords from now on as long as it lives."""
        with self._lock:
            self._clients.add(client)
            self.set(client)
        return client

    def set(self, client: Client) -> None:
        """Give a client the newest password, if there is another than in the settings."""
        if self.renewed is not None:
            # A client may have been closed.
            with suppress(RuntimeError):
                client.set_sasl_credentials(self._user, self.renewed.get_secret_value())

    def _run(self) -> None:
        while True:
            time.sleep(LOOK_INTERVAL_S)
            if self._watch.has_changed():
                self._renew()

    def _renew(self) -> None:
        try:
            password = read_secret_file(self._file, "kafka.sasl_password_file")
        except ValueError as error:
            logger.warning("the new password can't be used, the old one stays: %s", error)
            return
        if not password.get_secret_value():
            # It is being written.
            return
        hide_too(password.get_secret_value())
        with self._lock:
            self.renewed = password
            for client in list(self._clients):
                self.set(client)
        logger.info("new kafka.sasl_password")
