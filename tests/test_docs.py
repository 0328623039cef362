"""What the documentation tells people to type is right: commands, settings, targets, code."""

from __future__ import annotations

import importlib
import json
import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

import pytest
import yaml

from stepstream.arguments import EXIT_CODES, read_arguments
from stepstream.cli import COMMANDS
from stepstream.environment import environment_names
from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")]
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^\n)((?:^    .*\n|^\n(?=    ))+)", re.MULTILINE)
# What stands for a name that the reader chooses.
PLACEHOLDERS = {"N": "1000", "HZ": "50", "...": ""}


class Block(NamedTuple):
    page: Path
    language: str
    text: str


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for language, inside in FENCE.findall(text):
            yield Block(page, language, inside)
        for inside in INDENTED.findall(FENCE.sub("", text)):
            yield Block(page, "", re.sub(r"^    ", "", inside, flags=re.MULTILINE))


BLOCKS = list(blocks())


def shell_lines() -> Iterator[tuple[str, str]]:
    """Name of the page and a command, without what precedes and follows it in its line."""
    for page, language, text in BLOCKS:
        if language not in {"", "sh", "bash"}:
            continue
        for line in text.replace("\\\n", " ").splitlines():
            yield page.name, line.removeprefix("$ ").split("  #")[0].strip()
    for row in re.findall(r"^\| `[a-z-]+` \| `(.*)` \|$", COMMANDS_PAGE, re.MULTILINE):
        yield "commands.md", row


COMMANDS_PAGE = (ROOT / "docs" / "commands.md").read_text()
CALLS = sorted({line for _, line in shell_lines() if re.match(r"stepstream [a-z]", line)})


def test_blocks_were_found() -> None:
    assert len(CALLS) > 40
    assert {line.split()[1] for line in CALLS} >= COMMANDS.keys()


@pytest.mark.parametrize("line", CALLS)
def test_a_command_has_options_that_exist(line: str) -> None:
    command = re.split(r";| [|>&] ?", line)[0]
    _, name, *arguments = shlex.split(command)
    if "--topcs.readings" in arguments:
        return
    arguments = [PLACEHOLDERS.get(argument, argument) for argument in arguments]
    module = importlib.import_module(f"stepstream.commands.{name.replace('-', '_')}")
    read_arguments(getattr(module, COMMANDS[name][0]), name, [a for a in arguments if a])


def test_variables_are_settings() -> None:
    known = set(environment_names())
    text = "".join(block.text for block in BLOCKS)
    named = set(re.findall(r"\bSTEPSTREAM_[A-Z_]+(?==)", text))
    assert len(named) > 8
    assert named <= known


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {m[1] for _, line in shell_lines() if (m := re.match(r"make ([a-z-]+)", line))}
    assert len(named) > 8
    assert named <= targets


def test_objects_are_json_and_python_compiles() -> None:
    decoder = json.JSONDecoder()
    count = 0
    for page, language, text in BLOCKS:
        if language == "python":
            compile(text, page.name, "exec")
            count += 1
        if language == "yaml":
            assert yaml.safe_load(text), page.name
        rest = text.strip()
        while rest.startswith("{") and language == "":
            _, end = decoder.raw_decode(rest)
            rest = rest[end:].strip()
            count += 1
    assert count > 9


def test_exit_codes_are_those_of_the_help() -> None:
    table = COMMANDS_PAGE.partition("## Exit codes")[2]
    documented = re.findall(r"^\| (\d+) \|", table, re.MULTILINE)
    assert documented == re.findall(r"^  (\d+) ", EXIT_CODES, re.MULTILINE)
