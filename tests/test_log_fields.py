"""docs/logs.md names the fields of the log, all and no others."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from tests.conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator


def written() -> Iterator[str]:
    """Names in the literal dictionaries that are called ``extra``, or returned by ``_extra``."""
    for path in (ROOT / "stepstream").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            is_extra = (
                (isinstance(node, ast.keyword) and node.arg == "extra")
                or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "extra")
                or (isinstance(node, ast.FunctionDef) and node.name == "_extra")
            )
            for part in ast.walk(node) if is_extra else ():
                if isinstance(part, ast.Dict):
                    yield from (ast.literal_eval(key) for key in part.keys if key is not None)


def test_every_field_is_in_the_documentation_and_no_other() -> None:
    tables = (ROOT / "docs" / "logs.md").read_text().partition("## Fields of single messages")[2]
    rows = re.findall(r"^\| (`.*?) \|", tables, re.MULTILINE)
    documented = set(re.findall(r"`(\w+)`", " ".join(rows)))
    found = set(written())
    assert {"partition", "worker", "deaths"} <= found
    assert documented == found - {"worker"}


def test_messages_that_are_named_are_written() -> None:
    tables = (ROOT / "docs" / "logs.md").read_text().partition("## Fields of single messages")[2]
    rows = re.findall(r"^\| `.*?\| (.*?) \|", tables, re.MULTILINE)
    named = {one for row in rows for one in re.split(r", (?:of `\w+`)?", row) if one}
    texts = "\n".join(
        node.value
        for path in (ROOT / "stepstream").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    assert len(named) > 20
    assert [one for one in named if one not in texts] == []
