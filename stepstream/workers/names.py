"""Numbers of processes on one machine: each holds the first free one of its group."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from stepstream.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stepstream.settings import Settings

__all__ = ["Claim", "claim", "name_process", "runtime_folders"]

logger = logging.getLogger(__name__)

FOLDER = "stepstream"
MAX_NUMBERS = 1_000
ORPHAN_TIMEOUT_S = 5.0
"""Workers whose parent was killed end by themselves; their numbers are waited for."""
LOOK_INTERVAL_S = 0.02
SOCKET_PATH_BYTES = 107
"""Longest path of a unix socket."""
SettingsT = TypeVar("SettingsT", bound="Settings")


class Claim(NamedTuple):
    """A number that is held as long as the lock's file is open in any process.

    Attributes
    ----------
    number
        It counts from 0 in each group.
    lock
        Open file that holds the lock; the kernel lets go of it when its last holder ends.
    path
        The lock's file.
    """

    number: int
    lock: int
    path: Path

    @property
    def socket_path(self) -> Path:
        """Where the holder of this number may listen.

        Raises
        ------
        SettingsError
            The folder's path is too long for a unix socket.
        """
        path = self.path.with_suffix(".sock")
        if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
            raise SettingsError(
                f"{path} is too long for a unix socket; set XDG_RUNTIME_DIR to a shorter folder"
            )
        return path


def runtime_folders(environment: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """Folders that this user's processes may share on this machine, the best first."""
    user = os.geteuid()
    for name in ("RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"):
        given = Path(environment.get(name, "").split(":")[0])
        if given.is_absolute():
            yield given / FOLDER
    # A process that no session began finds the folder of those that one did.
    yield Path(f"/run/user/{user}") / FOLDER
    if user == 0:
        yield Path("/run") / FOLDER
    for folder in (environment.get("TMPDIR") or "/tmp", "/dev/shm"):  # noqa: S108 - see `_own`
        yield Path(folder) / f"{FOLDER}-{user}"


def claim(group: str, count: int, folders: Iterator[Path] | None = None) -> list[Claim]:
    """Hold the first free numbers of a group; none if no folder can be written to.

    Parameters
    ----------
    group
        The consumer group.
    count
        How many numbers.
    folders
        Where locks may lie, the best first.
    """
    # A group's name may have characters that a file's can't.
    prefix = hashlib.sha256(group.encode()).hexdigest()[:16]
    for folder in runtime_folders() if folders is None else folders:
        claims: list[Claim] = []
        try:
            _own(folder)
            for number in range(MAX_NUMBERS):
                path = folder / f"{prefix}-{number}.lock"
                lock = _lock(path)
                lock = _inherit(path) if lock is None else lock
                if lock is not None:
                    os.ftruncate(lock, 0)
                    os.pwrite(lock, str(os.getpid()).encode(), 0)
                    claims.append(Claim(number, lock, path))
                if len(claims) == count:
                    return claims
        except OSError as error:
            logger.debug("no locks in %s: %s", folder, error)
        for held in claims:
            os.close(held.lock)
    return []


def _own(folder: Path) -> None:
    """Make a folder that is this user's alone, and hold it against those who clean up.

    Raises
    ------
    OSError
        It can't be made, or others may write there.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(handle)
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        os.close(handle)
        raise PermissionError(f"{folder} is not this user's alone")
    # systemd-tmpfiles leaves a locked folder alone. The lock is shared, and held until the end.
    fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _lock(path: Path) -> int | None:
    """Lock a file, which is made if need be; None if another process has it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        lock = os.open(path, flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        # Somebody removed the file between opening and locking it.
        os.close(lock)


def _inherit(path: Path) -> int | None:
    """Lock a file that workers hold whose parent was killed; None if its holder lives on."""
    deadline_s = time.monotonic() + ORPHAN_TIMEOUT_S
    while not _has_owner(path) and time.monotonic() < deadline_s:
        time.sleep(LOOK_INTERVAL_S)
        lock = _lock(path)
        if lock is not None:
            return lock
    return None


def _has_owner(path: Path) -> bool:
    """Whether the process lives that first locked a file, or just does so."""
    try:
        os.kill(int(path.read_bytes() or b"0"), 0)
    except (ProcessLookupError, FileNotFoundError):
        return False
    except (PermissionError, ValueError):
        return True
    return True


def name_process(settings: SettingsT, number: int) -> SettingsT:
    """The settings of one process among several: its transactional id has its number."""
    name = settings.kafka.effective_transactional_id(number)
    kafka = settings.kafka.model_copy(update={"transactional_id": name})
    return settings.model_copy(update={"kafka": kafka})
