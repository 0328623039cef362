"""``stepstream forget``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field
from pydantic_settings import CliPositionalArg
from rich.console import Console
from rich.progress import Progress

from stepstream.errors import SettingsError, StreamError
from stepstream.inputs import InvalidMessage, decode_device_id
from stepstream.logs import configure_logging
from stepstream.settings import (
    CommandSettings,
    Into,
    KafkaSettings,
    LoggingSettings,
    Settings,
    TopicSettings,
    in_unit,
)
from stepstream.streaming.cluster import Cluster
from stepstream.streaming.forgetting import send_commands, wait_carried_out

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Forget"]


class Forget(CommandSettings):
    """Forget devices: their step counts, and what is known of their last readings."""

    devices: CliPositionalArg[list[str]] = Field(default_factory=list)
    """Ids of the devices."""
    file: Path | None = None
    """File with more of them, one in each line."""
    timeout_s: float = Field(60.0, ge=0, json_schema_extra=in_unit("s"))
    """Longest time to wait until the consumers have done it."""
    into: Into = None
    """Wait for the second group of this name."""
    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    logging: LoggingSettings = LoggingSettings()

    def execute(self) -> int:
        """Tell the consumers, and wait until they have forgotten; an error if not in time."""
        configure_logging(self.logging, self.hide_secrets)
        device_ids = self._device_ids()
        settings = Settings(kafka=self.kafka, topics=self.topics, into=self.into).renamed()
        cluster = Cluster(settings)
        offsets = send_commands(settings, cluster, device_ids)
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("partitions", total=len(offsets))
            left = wait_carried_out(
                cluster,
                offsets,
                self.timeout_s,
                lambda waiting: progress.update(task, completed=len(offsets) - waiting),
            )
        if not left:
            sys.stdout.write(f"forgotten: {len(device_ids):,}\n")
            return 0
        names = [f"{topic}-{number}" for topic, number in sorted(left)]
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise StreamError(
            f"{shown}: group {settings.kafka.group_id} has not come to the command "
            f"within {self.timeout_s:g} s. It is carried out when a consumer of the group reads "
            "it; is one running, with this group id?"
        )

    def _device_ids(self) -> list[str]:
        given = list(self.devices)
        if self.file is not None:
            given += [line for line in _lines(self.file) if line]
        if not given:
            raise SettingsError("name devices, or a file with their ids (--file)")
        for device_id in given:
            try:
                decode_device_id(device_id.encode("utf-8", "surrogateescape"))
            except InvalidMessage as error:
                raise SettingsError(f"{device_id[:80]!r} is no device id: {error.detail}") from None
        return list(dict.fromkeys(given))


def _lines(path: Path) -> Iterable[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SettingsError(f"can't read {path}: {reason}") from None
