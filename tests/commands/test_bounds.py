"""Times and offsets on the command line."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from stepstream.cli import main
from stepstream.commands.backfill import Backfill
from stepstream.commands.tail import Tail

NOON = datetime(2030, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2030-01-31T12:00:00Z", "2030-01-31T13:00+01:00"])
def test_a_range_has_times_with_their_zones_or_offsets(text: str) -> None:
    given = Backfill.model_validate({"from": "5", "to": text})
    assert (given.begin, given.end) == (5, NOON)
    assert Tail.model_validate({"from": text}).begin == NOON


@pytest.mark.parametrize("wrong", ["yesterday", "2030-01-31T12:00:00", "2030-01-31", "1.5"])
def test_anything_else_is_one_line_that_says_what_is_right(
    wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, right in (
        (["tail", "--from", wrong], "from: expected beginning, or a time with its zone, like 2030"),
        (["backfill", "--to", wrong], "to: expected an offset, or a time with its zone, like 2030"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert right in error
        assert error.count("\n") == 1


def test_a_model_file_that_changes_changes_no_backfill() -> None:
    assert Backfill().model.watch
    assert not Backfill()._own(4).model.watch
