"""``stepstream move-counts``."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import Progress

from stepstream.logs import configure_logging
from stepstream.settings import Settings
from stepstream.streaming.connections import Connections
from stepstream.streaming.moving import CountsMove

__all__ = ["MoveCounts"]


class MoveCounts(Settings):
    """Move step counts to where their devices are, after partitions were added to a readings topic.

    All consumers of the group have to be stopped. It takes the same settings as they.
    """

    def execute(self) -> int:
        """Move, and print for each topic how many counts were moved."""
        configure_logging(self.logging, self.hide_secrets)
        settings = self.renamed()
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("")
            done = CountsMove(
                settings,
                Connections(settings),
                lambda doing, so_far, of: progress.update(
                    task, description=doing, completed=so_far, total=of
                ),
            ).run()
        for name, moved in sorted(done.items()):
            before, now = moved.partitions
            grown = f"{before} partitions, now {now}" if before != now else f"{now} partitions"
            sys.stdout.write(
                f"{name} ({grown}): {moved.moved:,} of {moved.devices:,} counts moved\n"
            )
            if moved.unread:
                sys.stdout.write(
                    f"  {len(moved.unread):,} devices have readings in their old partition that "
                    "the group has not read: steps in these are counted from 1. When they are "
                    "read, stop the consumers and run this again, which adds them\n"
                )
        return 0
