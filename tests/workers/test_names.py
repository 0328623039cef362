from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stepstream.errors import SettingsError
from stepstream.settings import KafkaSettings, Settings
from stepstream.workers.names import Claim, claim, name_process, runtime_folders

HOLDER = """
import sys
from pathlib import Path
from stepstream.workers.names import claim
claims = claim(sys.argv[1], int(sys.argv[2]), iter([Path(sys.argv[3])]))
print(*[one.number for one in claims], flush=True)
sys.stdin.read()
"""
ORPHAN = """
import subprocess, sys
from pathlib import Path
from stepstream.workers.names import claim
(held,) = claim("g", 1, iter([Path(sys.argv[1])]))
child = subprocess.Popen(["sleep", "60"], pass_fds=[held.lock], stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
"""


def hold(folder: Path, group: str = "g", count: int = 1) -> tuple[subprocess.Popen[str], list[int]]:
    """A process that holds numbers until it is ended, and these numbers."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, group, str(count), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, [int(number) for number in process.stdout.readline().split()]


def end(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


def release(claims: list[Claim]) -> None:
    for one in claims:
        os.close(one.lock)


def test_processes_of_a_group_take_the_first_free_numbers_and_keep_them_over_kills(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    first, numbers = hold(folder)
    assert numbers == [0]
    second, numbers = hold(folder, count=2)
    assert numbers == [1, 2]
    other, numbers = hold(folder, group="another/group with spaces")
    assert numbers == [0]
    end(first)
    again, numbers = hold(folder)
    assert numbers == [0]
    third, numbers = hold(folder)
    assert numbers == [3]
    end(second, other, again, third)


def test_processes_that_start_at_once_share_no_number(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, "g", "2", str(tmp_path / "run")]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    numbers = []
    for process in processes:
        assert process.stdout is not None
        numbers += [int(number) for number in process.stdout.readline().split()]
    assert sorted(numbers) == list(range(8))
    end(*processes)


def test_a_number_whose_owner_was_killed_is_waited_for_until_its_workers_end(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    left = subprocess.run(
        [sys.executable, "-c", ORPHAN, str(folder)], check=True, stdout=subprocess.PIPE, text=True
    )
    waiting = subprocess.Popen(
        [sys.executable, "-c", HOLDER, "g", "1", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.kill(int(left.stdout), signal.SIGKILL)
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "0\n"
    end(waiting)


def test_a_folder_that_is_not_this_users_alone_is_passed_over(tmp_path: Path) -> None:
    opened = tmp_path / "open"
    opened.mkdir(mode=0o755)
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    link = tmp_path / "link"
    link.symlink_to(target)
    good = tmp_path / "good"
    claims = claim("g", 1, iter([opened, link, tmp_path / "not" / "there", good]))
    assert claims[0].path.parent == good
    assert good.stat().st_mode & 0o777 == 0o700
    assert not list(target.iterdir())
    release(claims)


def test_a_link_in_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    claims = claim("g", 1, iter([folder]))
    path = claims[0].path
    release(claims)
    path.unlink()
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    path.symlink_to(precious)
    assert claim("g", 1, iter([folder])) == []
    assert precious.read_text() == "keep me"


def test_without_a_folder_there_is_no_number() -> None:
    assert claim("g", 1, iter([Path("/proc/nowhere")])) == []


def test_folders_are_those_of_the_service_of_the_session_and_of_the_user() -> None:
    user = os.geteuid()
    folders = list(
        runtime_folders(
            {"RUNTIME_DIRECTORY": "/run/a:/run/b", "XDG_RUNTIME_DIR": "/x", "TMPDIR": ""}
        )
    )
    assert folders[:3] == [
        Path("/run/a/stepstream"), Path("/x/stepstream"), Path(f"/run/user/{user}/stepstream"),
    ]  # fmt: skip
    assert folders[-2:] == [
        Path(f"/tmp/stepstream-{user}"), Path(f"/dev/shm/stepstream-{user}"),  # noqa: S108
    ]  # fmt: skip
    assert Path("stepstream") not in list(runtime_folders({"XDG_RUNTIME_DIR": ""}))


def test_the_name_of_the_first_process_is_that_of_an_only_one() -> None:
    settings = Settings(kafka=KafkaSettings(group_id="steps"))
    names = [name_process(settings, n).kafka.transactional_id for n in range(3)]
    host = socket.gethostname()
    assert names == [f"steps-{host}", f"steps-{host}:1", f"steps-{host}:2"]
    assert settings.kafka.effective_transactional_id() == names[0]
    named = Settings(kafka=KafkaSettings(transactional_id="mine"))
    assert name_process(named, 1).kafka.effective_transactional_id() == "mine:1"


def test_a_socket_lies_beside_its_lock_and_a_path_too_long_is_refused(tmp_path: Path) -> None:
    assert Claim(0, 0, tmp_path / "a-0.lock").socket_path == tmp_path / "a-0.sock"
    with pytest.raises(SettingsError, match="XDG_RUNTIME_DIR"):
        _ = Claim(0, 0, tmp_path / ("x" * 120)).socket_path
