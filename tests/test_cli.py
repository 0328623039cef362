from __future__ import annotations

import json

import pytest

from stepstream import __version__
from stepstream.arguments import EXIT_CODES
from stepstream.cli import COMMANDS, main
from stepstream.native import decoder_name, find_native


def test_the_usage_names_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    usage = capsys.readouterr().out
    assert EXIT_CODES in usage
    assert all(f"\n  {name} " in usage for name in COMMANDS)


def test_no_command_or_an_unknown_one_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["walk"]) == 2
    error = capsys.readouterr().err
    assert error == "stepstream: no command walk (stepstream --help lists all)\n"
    assert main(["toppics"]) == 2
    assert "; did you mean topics?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--topcs.readings", "x"], "no option --topcs.readings; did you mean --topics.readings?"),
        (["--bootstrap-servers", "x"], "did you mean --kafka.bootstrap-servers?"),
        (["--kafka.sasl_pasword=hunter2"], "did you mean --kafka.sasl-password?"),
        (["--kafka.sasl-pasword", "hunter2"], "did you mean --kafka.sasl-password?"),
        (["--zzz"], "no option --zzz ("),
        (["--topics.partitions"], "argument --topics.partitions: expected one argument"),
        (["stray"], "one argument too many: stray"),
        (["--topics.partitions", "0"], "topics.partitions: Input should be greater than"),
    ],
)
def test_a_wrong_argument_is_one_line_that_says_what_is_right(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["topics", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("stepstream topics: ")
    assert problem in error
    assert error.count("\n") == 1
    assert "hunter2" not in error


@pytest.mark.parametrize("level", ["info", "nonsense"])
def test_errors_before_the_settings_are_known_have_the_format_of_the_log(
    level: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPSTREAM_LOGGING__LEVEL", level)
    assert main(["run", "--workers", "none", "--logging.format", "json"]) == 2
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {line["logger"] for line in lines} == {"stepstream.commands.run"}
    assert any(line["message"].startswith("workers: ") for line in lines)
    monkeypatch.setenv("STEPSTREAM_LOGGING__FORMAT", "json")
    assert main(["walk"]) == 2
    assert json.loads(capsys.readouterr().err)["message"].startswith("no command walk")
    monkeypatch.delenv("STEPSTREAM_LOGGING__FORMAT")
    assert main(["run", "--workers"]) == 2
    assert " ERROR   stepstream.commands.run: argument --workers: " in capsys.readouterr().err


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    expected = f"stepstream {__version__}, decoder: {decoder_name()}\n"
    assert capsys.readouterr().out == expected


def test_a_compiled_decoder_of_another_release_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepstream.native.version", lambda _: "0.0.9")
    assert decoder_name() == "python, because stepstream-native 0.0.9 is of another release"
    assert find_native.__wrapped__() is None
    monkeypatch.setattr("stepstream.native.version", lambda _: __version__)
    assert decoder_name() == "native"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main([name, "--help"])
    assert raised.value.code == 0
    usage = capsys.readouterr().out
    assert f"usage: stepstream {name}" in usage
    assert EXIT_CODES in usage


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


@pytest.mark.parametrize("name", ["INPUT__FIELDS", "KAFKA__PROPERTIES", "INPUTS"])
def test_a_variable_that_is_not_json_is_named_and_not_shown(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"STEPSTREAM_{name}", "password=hunter2")
    assert main(["topics"]) == 2
    error = capsys.readouterr().err
    assert f"STEPSTREAM_{name} is not JSON: Expecting value (character 1)" in error
    assert "hunter2" not in error
