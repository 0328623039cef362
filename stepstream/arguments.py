"""The arguments of a command: a wrong one is an error of one line, with the nearest right name."""

from __future__ import annotations

import difflib
from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from pydantic import BaseModel, ValidationError
from pydantic_settings import CliSettingsSource
from pydantic_settings import SettingsError as SourceError

from stepstream.errors import SettingsError
from stepstream.settings import CommandSettings

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable, Sequence

__all__ = ["EXIT_CODES", "log_format", "nearest", "read_arguments"]

EXIT_CODES = """\
exit codes:
  0    done, or stopped in good order by SIGTERM or, for `run`, `serve` and `tail`, Ctrl-C
  1    failed; the last line on standard error says why
  2    an argument or a setting is wrong; nothing was started
  130  ended by Ctrl-C
"""
LIKENESS = 0.6
"""How alike two names are, from 0 to 1, for one to be suggested for the other."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Text to put behind an unknown name: a question about the likeliest right one, or nothing."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=LIKENESS)
    return f"; did you mean {found[0]}?" if found else ""


def read_arguments(
    command: type[CommandSettings], name: str, arguments: Sequence[str]
) -> CliSettingsSource[Any]:
    """What the arguments of a command set.

    Raises
    ------
    SettingsError
        An option is unknown or lacks its value, or an argument is one too many.
    """
    parser = _Parser(
        prog=f"stepstream {name}",
        description=command.__doc__,
        epilog=EXIT_CODES,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    return CliSettingsSource[Any](
        command, root_parser=parser, parse_args_method=_parse, cli_parse_args=list(arguments)
    )


class _Log(BaseModel):
    format: Literal["text", "json"] = "text"


class _LogOnly(CommandSettings):
    logging: _Log = _Log()


def log_format(arguments: Sequence[str]) -> Literal["text", "json"]:
    """The format of the log; known also if anything else in arguments or settings is wrong."""
    try:
        source = CliSettingsSource[Any](
            _LogOnly,
            root_parser=_Parser(add_help=False, allow_abbrev=False),
            parse_args_method=lambda parser, given: parser.parse_known_args(given)[0],
            cli_parse_args=list(arguments),
        )
        return _LogOnly(_cli_settings_source=source).logging.format
    except (SettingsError, SourceError, ValidationError):
        return "text"


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message} ({self.prog} --help lists all options)")

    def refuse(self, unknown: list[str]) -> NoReturn:
        """Name the first of the arguments that nothing takes.

        What follows an unknown option is its value, which may be a secret.
        """
        flag = next((argument for argument in unknown if argument.startswith("-")), None)
        if flag is None:
            self.error(f"one argument too many: {unknown[0]}")
        flag = flag.partition("=")[0]
        shown = (action for action in self._actions if action.help is not SUPPRESS)
        known = [option for action in shown for option in action.option_strings]
        self.error(f"no option {flag}{nearest(flag, known)}")


def _parse(
    parser: _Parser, arguments: Sequence[str], namespace: Namespace | None = None
) -> Namespace:
    found, unknown = parser.parse_known_args(arguments, namespace)
    if unknown:
        parser.refuse(unknown)
    return found
