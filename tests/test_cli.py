from __future__ import annotations

import json
import logging

import pytest

from stepstream import __version__
from stepstream.cli import COMMANDS, main
from stepstream.logs import configure_logging
from stepstream.settings import LoggingSettings


def test_the_usage_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    usage = capsys.readouterr().out
    assert all(f"\n  {name} " in usage for name in COMMANDS)


def test_no_command_or_an_unknown_one_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["walk"]) == 2
    assert "no command walk" in capsys.readouterr().err


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"stepstream {__version__}\n"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([name, "--help"])
    assert raised.value.code == 0
    assert f"usage: stepstream {name}" in capsys.readouterr().out


def test_a_bad_value_is_named_by_its_setting_and_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPSTREAM_KAFKA__SASL_PASSWORD", "hunter2")
    assert main(["topics", "--topics.partitions", "0"]) == 2
    error = capsys.readouterr().err
    assert "topics.partitions" in error
    assert "hunter2" not in error


def test_a_misspelt_variable_stops_every_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPSTREAM_KAFKA__BOOTSTRAP", "x")
    assert main(["topics"]) == 2
    assert "STEPSTREAM_KAFKA__BOOTSTRAP_SERVERS" in capsys.readouterr().err


def test_logs_are_lines_or_json_with_their_fields(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        configure_logging(LoggingSettings(format="json"), str)
        logging.getLogger("here").warning("held %d", 3, extra={"records": 7})
        line = json.loads(capsys.readouterr().err)
        assert (line["level"], line["message"], line["records"]) == ("warning", "held 3", 7)
        configure_logging(LoggingSettings(format="text", level="error"), str)
        logging.getLogger("here").warning("quiet")
        logging.getLogger("here").error("loud", extra={"records": 7})
        text = capsys.readouterr().err
        assert "quiet" not in text
        assert "ERROR   here: loud records=7" in text
    finally:
        root.handlers[:], root.level = before
