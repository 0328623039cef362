"""Servers that all processes of a test run share; pytest-xdist makes several."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest


def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of this run; each of several processes has its own one in it."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


def share(
    config: pytest.Config,
    folder: Path,
    name: str,
    start: Callable[[Path], tuple[str, Callable[[], object]]],
) -> str:
    """The address of a server, which the first process that asks for it starts.

    The process that started it ends it, at its own end, but not before the others are at theirs.

    Parameters
    ----------
    config
        Of this process.
    folder
        Of the run.
    name
        The server's.
    start
        Starts it, with its files in a folder; returns its address and what ends it.
    """
    address = folder / f"{name}.address"
    users = (folder / f"{name}.users").open("w")
    with (folder / f"{name}.lock").open("w") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        # Held until this process ends; it waits here while another ends the server.
        fcntl.flock(users, fcntl.LOCK_SH)
        if address.exists():
            config.add_cleanup(users.close)
            return address.read_text()
        given, end = start(folder / name)

        def end_after_others() -> None:
            with users:
                fcntl.flock(users, fcntl.LOCK_EX)
                address.unlink(missing_ok=True)
                end()

        config.add_cleanup(end_after_others)
        address.write_text(given)
        return given
